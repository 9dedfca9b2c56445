package gunzip

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	window = 32 << 10 // how far back a match may reach (RFC 1951, section 2)

	inSize = 128 << 10 // how much of the source is in memory at most
	undo   = 8         // how many of the bytes before at stay there, for giveBack
)

// state is what the fast loop works on, in Go or in assembly.
type state struct {
	in   []byte // of the source
	at   int    // where what is not yet in bits begins
	bits uint64 // the next bits, the first of them lowest; above them there are only bits that in has there, too, or zeros
	have uint   // how many of bits have been counted as taken out of in; less than 64

	out []byte // where what is decoded goes
	pos int    // how much of that is there
	low int    // where in out the stream begins: no match reaches farther back

	lits  litTable
	dists distTable
}

// inflater decodes streams of RFC 1951.
type inflater struct {
	state
	src      io.Reader
	srcErr   error // what src said at last
	err      error // why decoding does not go on
	assembly bool  // the fast loop is that in assembly

	step   step
	final  bool // the block is the last one of the stream
	fixed  bool // lits and dists are those of the fixed codes
	length int  // how much of a stored block or of a match is still to be copied
	dist   int  // how far back that match reaches

	code  code // of which a table is being made
	codes codeTable
}

// step is what comes next in a stream.
type step uint8

const (
	stepBlock  step = iota // a block
	stepStored             // what is left of a stored block
	stepCodes              // the codes of a compressed block
	stepEnd                // nothing; bits is empty
)

// start begins a stream at the next byte of the source.
func (d *inflater) start() {
	d.step, d.low, d.length = stepBlock, d.pos, 0
}

// inflate decodes until out is full, the stream has ended, or err says why not.
func (d *inflater) inflate() {
	for d.err == nil && d.step != stepEnd && d.pos < len(d.out) {
		switch d.step {
		case stepBlock:
			d.block()
		case stepStored:
			d.stored()
		default:
			d.symbols()
		}
	}
}

// block reads the header of a block.
func (d *inflater) block() {
	d.final = d.take(1) == 1
	kind := d.take(2)
	if d.err != nil {
		return
	}
	d.step = stepCodes
	switch kind {
	case 0:
		d.storedBlock()
	case 1:
		d.fixedCodes()
	case 2:
		d.readCodes()
	default:
		d.corrupt()
	}
}

// storedBlock reads the size of a stored block (RFC 1951, section 3.2.4).
func (d *inflater) storedBlock() {
	d.giveBack() // up to the next byte
	n, inverse := d.take(16), d.take(16)
	if n^inverse != 0xffff {
		d.corrupt()
		return
	}
	d.giveBack()
	d.step, d.length = stepStored, n
	d.stored()
}

// stored copies what is left of a stored block, as far as there is room.
func (d *inflater) stored() {
	for d.length > 0 && d.pos < len(d.out) {
		if d.at == len(d.in) && !d.more() {
			d.truncated()
			return
		}
		n := copy(d.out[d.pos:], d.in[d.at:min(len(d.in), d.at+d.length)])
		d.at += n
		d.pos += n
		d.length -= n
	}
	if d.length == 0 {
		d.endBlock()
	}
}

// endBlock goes on behind a block.
func (d *inflater) endBlock() {
	d.step = stepBlock
	if d.final {
		d.step = stepEnd
		d.giveBack()
	}
}

// fixedCodes makes the tables of the fixed codes (RFC 1951, section 3.2.6).
func (d *inflater) fixedCodes() {
	if d.fixed {
		return
	}
	d.fixed = d.setCodes(fixedLengths())
}

// fixedLengths returns the lengths of the fixed codes.
func fixedLengths() (lits, dists []uint8) {
	lengths := make([]uint8, maxLits+maxDists)
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		case i < maxLits:
			lengths[i] = 8
		default:
			lengths[i] = 5
		}
	}
	return lengths[:maxLits], lengths[maxLits:]
}

// setCodes makes the tables of the codes of the given lengths. It reports whether there are such
// codes.
func (d *inflater) setCodes(lits, dists []uint8) bool {
	if !d.code.set(lits) {
		return false
	}
	d.lits.build(&d.code)
	if !d.code.set(dists) {
		return false
	}
	d.dists.build(&d.code)
	return true
}

// codeOrder is the order in which the lengths of the codes for lengths of codes come (RFC 1951,
// section 3.2.7).
var codeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block, and makes their tables (RFC 1951, section 3.2.7).
func (d *inflater) readCodes() {
	lits, dists, n := d.take(5)+257, d.take(5)+1, d.take(4)+4
	if lits > 286 || dists > 30 {
		d.corrupt()
		return
	}
	var order [len(codeOrder)]uint8
	for _, symbol := range codeOrder[:n] {
		order[symbol] = uint8(d.take(3))
	}
	if !d.code.set(order[:]) {
		d.corrupt()
		return
	}
	d.codes.build(&d.code)
	var lengths [maxLits + maxDists]uint8
	d.readLengths(lengths[:lits+dists])
	d.fixed = false
	if d.err == nil && !d.setCodes(lengths[:lits], lengths[lits:lits+dists]) {
		d.corrupt()
	}
}

// readLengths reads the lengths of codes.
func (d *inflater) readLengths(lengths []uint8) {
	for i := 0; i < len(lengths) && d.err == nil; {
		d.fill(codeBits + 7) // or fewer at the end of the source
		e := d.codes[d.bits&(1<<codeBits-1)]
		if e.size() > d.have {
			d.truncated()
			return
		}
		d.drop(e.size())
		var n int
		switch symbol := e.symbol(); {
		case e.size() == 0, symbol == 16 && i == 0:
			d.corrupt()
		case symbol < 16:
			lengths[i] = uint8(symbol)
			i++
			continue
		case symbol == 16:
			n = 3 + d.take(2)
			lengths[i] = lengths[i-1]
		case symbol == 17:
			n = 3 + d.take(3)
		default:
			n = 11 + d.take(7)
		}
		if n > len(lengths)-i {
			d.corrupt()
			return
		}
		for j := 1; j < n; j++ { // all others are 0
			lengths[i+j] = lengths[i]
		}
		i += n
	}
}

// symbols decodes a block that has codes.
func (d *inflater) symbols() {
	for d.err == nil && d.step == stepCodes && d.pos < len(d.out) {
		if len(d.in)-d.at < fastIn {
			d.more()
		}
		if d.length == 0 && !d.fast() {
			d.corrupt()
			return
		}
		d.symbol()
	}
}

// symbol decodes one literal, match or end of a block, or finishes a match, with care for the ends
// of in and out.
func (d *inflater) symbol() {
	if d.length > 0 {
		d.copyMatch()
		return
	}
	d.fill(48) // the longest length and distance; or less at the end of the source
	e := d.lits[d.bits&(litSize-1)]
	if e.isLink() {
		e = d.lits[e.link()+uint(d.bits>>litBits)&(litSub-1)]
	}
	size := e.size()
	if e.isLiteral() {
		size = e.skip()
	}
	if size > d.have {
		d.truncated()
		return
	}
	bits := d.bits
	d.drop(size)
	switch {
	case e.isLiteral():
		d.out[d.pos] = e.literal()
		d.pos++
	case !e.isOther():
		d.match(e.length(bits))
	case size > 0:
		d.endBlock()
	default:
		d.corrupt()
	}
}

// match decodes the distance of a match, and copies it, as far as there is room.
func (d *inflater) match(length int) {
	e := d.dists[d.bits&(distSize-1)]
	if e.isLink() {
		e = d.dists[e.link()+uint(d.bits>>distBits)&(distSub-1)]
	}
	switch {
	case e.size() > d.have:
		d.truncated()
	case e.isOther() || e.distance(d.bits) > d.pos-d.low:
		d.corrupt()
	default:
		d.length, d.dist = length, e.distance(d.bits)
		d.drop(e.size())
		d.copyMatch()
	}
}

// copyMatch copies what is left of a match, as far as there is room.
func (d *inflater) copyMatch() {
	n := min(d.length, len(d.out)-d.pos)
	for range n {
		d.out[d.pos] = d.out[d.pos-d.dist]
		d.pos++
	}
	d.length -= n
}

// take returns the next n bits, 16 at most. After an error they are 0.
func (d *inflater) take(n uint) int {
	if !d.fill(n) {
		d.truncated()
		return 0
	}
	v := d.bits & (1<<n - 1)
	d.drop(n)
	return int(v)
}

// drop goes on by n bits, which there are.
func (d *inflater) drop(n uint) {
	d.bits >>= n
	d.have -= n
}

// fill makes have n or more, where n is at most 56. It reports false where the source ends before
// that.
func (d *inflater) fill(n uint) bool {
	for d.have < n {
		if len(d.in)-d.at >= 8 {
			d.bits |= binary.LittleEndian.Uint64(d.in[d.at:]) << d.have
			d.at += int(63-d.have) / 8
			d.have |= 56
			break
		}
		if d.at == len(d.in) && !d.more() {
			return false
		}
		d.bits |= uint64(d.in[d.at]) << d.have
		d.at++
		d.have += 8
	}
	return true
}

// giveBack empties bits: whole bytes go back to in.
func (d *inflater) giveBack() {
	d.at -= int(d.have / 8)
	d.bits, d.have = 0, 0
}

// more reads more of the source into in, of which little is left. It reports false at the end of
// the source, why is in srcErr.
func (d *inflater) more() bool {
	if d.srcErr != nil {
		return false
	}
	if d.at >= 64 { // sources that give little at a time do not make it copy each time
		n := copy(d.in, d.in[d.at-undo:])
		d.in, d.at = d.in[:n], undo
	}
	for tries := 0; d.srcErr == nil; tries++ {
		var n int
		n, d.srcErr = d.src.Read(d.in[len(d.in):cap(d.in)])
		d.in = d.in[:len(d.in)+n]
		if n > 0 {
			return true
		}
		if d.srcErr == nil && tries == 100 {
			d.srcErr = io.ErrNoProgress
		}
	}
	return false
}

// truncated is called where the source ends too early.
func (d *inflater) truncated() {
	switch {
	case d.err != nil:
	case errors.Is(d.srcErr, io.EOF):
		d.err = io.ErrUnexpectedEOF
	default:
		d.err = d.srcErr
	}
}

// corrupt is called where the stream is wrong. An error that came before stays.
func (d *inflater) corrupt() {
	if d.err == nil {
		d.err = ErrCorrupt
	}
}
