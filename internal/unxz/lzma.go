package unxz

import (
	"encoding/binary"
	"errors"
)

// What follows is LZMA as the specification of the LZMA SDK (lzma-specification.txt, by Igor
// Pavlov) describes it, in the names that it uses.
const (
	probBits  = 11           // a probability is a fraction of 1<<probBits
	probInit  = 1 << 10      // the probability of a bit of which nothing is known: one half
	moveBits  = 5            // each bit moves its probability by 1/32 of the way
	topValue  = 1 << 24      // the range is kept at least as large
	minMatch  = 2            // length of the shortest match
	litStates = 7            // in states below, the last was a literal
	inSize    = 1 << 17      // a power of two, larger than a chunk and what one symbol may read beyond it
	wordSize  = 8            // bytes that a match is copied by; so many behind its end may be overwritten
	towards0  = 1<<64 - 2017 // -(1<<probBits - 1<<moveBits + 1), see rangeDecoder.bit
)

var errData = errors.New("the compressed data is damaged")

// rangeDecoder reads bits, each with its probability. It is passed and returned by value, so that
// it stays in registers.
//
// Both numbers fit into 32 bits. code is less than rng: a decoder that begins so keeps it so.
type rangeDecoder struct {
	rng, code uint64
	pos       int           // of the next byte of in
	in        *[inSize]byte // pos is checked after each symbol; in between, reading beyond the data gives garbage
}

// normalize makes the range large enough for the next bit.
func (rc rangeDecoder) normalize() rangeDecoder {
	if rc.rng < topValue {
		rc.rng <<= 8
		rc.code = rc.code<<8 | uint64(rc.in[rc.pos&(inSize-1)])
		rc.pos++
	}
	return rc
}

// bit decodes a bit whose value nothing predicts, without a branch: zero is all ones where the bit
// is 0, and 0 where it is 1.
func (rc rangeDecoder) bit(p uint64) (next rangeDecoder, prob uint16, zero uint64) {
	bound := rc.rng >> probBits * p
	rest := rc.rng - bound
	code := rc.code - bound
	zero = uint64(int64(code) >> 63)
	rc.code = code + bound&zero
	rc.rng = rest ^ (rest^bound)&zero
	// The probability of 0 grows by (1<<probBits - p) >> moveBits, or shrinks by p >> moveBits.
	prob = uint16(p - uint64(int64(p+towards0&zero)>>moveBits))
	return rc, prob, zero
}

// test decodes a bit that decides what comes next, and reports whether it is 1.
func (rc rangeDecoder) test(p *uint16) (rangeDecoder, bool) {
	v := *p
	bound := rc.rng >> probBits * uint64(v)
	if rc.code < bound {
		rc.rng = bound
		*p = v + (1<<probBits-v)>>moveBits
		return rc, false
	}
	rc.rng -= bound
	rc.code -= bound
	*p = v - v>>moveBits
	return rc, true
}

// model is all that is learned while decoding. The arrays are as large as the masks of their
// indexes.
type model struct {
	match, rep0Long        [16][16]uint16 // by state and position
	rep, rep0, rep1, rep2  [16]uint16     // by state
	slot                   [4][64]uint16  // by length
	special                [16][32]uint16 // by slot
	align                  [16]uint16
	matchLength, repLength lengths
	literal                [16][0x300]uint16 // by position and the previous byte
}

// lengths is the part of the model that lengths of matches are decoded with.
type lengths struct {
	choice, choice2 uint16
	low, mid        [16][8]uint16 // by position
	high            [256]uint16
}

// reset forgets all that was learned.
func (m *model) reset() {
	fill := func(probs []uint16) {
		for i := range probs {
			probs[i] = probInit
		}
	}
	for i := range 16 {
		fill(m.match[i][:])
		fill(m.rep0Long[i][:])
		fill(m.special[i][:])
		fill(m.literal[i][:])
	}
	for i := range m.slot {
		fill(m.slot[i][:])
	}
	for _, p := range []*[16]uint16{&m.rep, &m.rep0, &m.rep1, &m.rep2, &m.align} {
		fill(p[:])
	}
	for _, l := range []*lengths{&m.matchLength, &m.repLength} {
		l.choice, l.choice2 = probInit, probInit
		for i := range l.low {
			fill(l.low[i][:])
			fill(l.mid[i][:])
		}
		fill(l.high[:])
	}
}

// literal decodes a byte.
func literal(rc rangeDecoder, probs *[0x300]uint16) (rangeDecoder, uint64) {
	sym := uint64(1)
	p := uint64(probs[1])
	for sym < 0x100 {
		// Both probabilities that may be the next are read before it is known which.
		p0, p1 := uint64(probs[sym<<1&0x1ff]), uint64(probs[sym<<1&0x1ff|1])
		var zero uint64
		var prob uint16
		rc = rc.normalize()
		rc, prob, zero = rc.bit(p)
		probs[sym&0xff] = prob
		sym = sym<<1 + 1 + zero
		p = p1 ^ (p0^p1)&zero
	}
	return rc, sym
}

// matchedLiteral decodes a byte behind a match: that it differs from the byte behind the match's
// source is what is known.
func matchedLiteral(rc rangeDecoder, probs *[0x300]uint16, match uint64) (rangeDecoder, uint64) {
	sym, offset := uint64(1), uint64(0x100)
	for sym < 0x100 {
		match <<= 1
		i := offset + match&offset + sym // at most 0x2ff
		var zero uint64
		var prob uint16
		rc = rc.normalize()
		rc, prob, zero = rc.bit(uint64(probs[i]))
		probs[i] = prob
		sym = sym<<1 + 1 + zero
		offset &= match ^ zero
	}
	return rc, sym
}

// tree decodes a number of some bits, the highest first, with a 1 in front of it.
func tree(rc rangeDecoder, probs []uint16) (rangeDecoder, uint64) {
	sym := uint64(1)
	for sym < uint64(len(probs)) {
		var zero uint64
		var prob uint16
		rc = rc.normalize()
		rc, prob, zero = rc.bit(uint64(probs[sym]))
		probs[sym] = prob
		sym = sym<<1 + 1 + zero
	}
	return rc, sym
}

// reverseTree decodes a number of n bits, the lowest first.
func reverseTree(rc rangeDecoder, probs *[32]uint16, n uint64) (rangeDecoder, uint64) {
	sym, value := uint64(1), uint64(0)
	for i := range n {
		var zero uint64
		var prob uint16
		rc = rc.normalize()
		rc, prob, zero = rc.bit(uint64(probs[sym&31]))
		probs[sym&31] = prob
		sym = sym<<1 + 1 + zero
		value |= (1 + zero) << i
	}
	return rc, value
}

// length decodes the length of a match.
func (l *lengths) length(rc rangeDecoder, position uint) (rangeDecoder, int) {
	var one bool
	var sym uint64
	if rc, one = rc.normalize().test(&l.choice); !one {
		rc, sym = tree(rc, l.low[position&15][:])
		return rc, int(sym) - 8 + minMatch
	}
	if rc, one = rc.normalize().test(&l.choice2); !one {
		rc, sym = tree(rc, l.mid[position&15][:])
		return rc, int(sym) + minMatch
	}
	rc, sym = tree(rc, l.high[:])
	return rc, int(sym) - 256 + 16 + minMatch
}

// distance decodes how far back the source of a match of that length is, less one.
func (m *model) distance(rc rangeDecoder, length int) (rangeDecoder, uint64) {
	rc, slot := tree(rc, m.slot[min(length-minMatch, 3)&3][:])
	slot -= 64
	if slot < 4 {
		return rc, slot
	}
	bits := slot>>1 - 1
	dist := (2 | slot&1) << bits
	var low uint64
	if slot < 14 {
		rc, low = reverseTree(rc, &m.special[slot&15], bits)
		return rc, dist + low
	}
	high := uint64(0)
	for range bits - 4 {
		rc = rc.normalize()
		rc.rng >>= 1
		code := rc.code - rc.rng
		zero := uint64(int64(code) >> 63)
		rc.code = code + rc.rng&zero
		high = high<<1 + 1 + zero
	}
	sym := uint64(1)
	for i := range 4 {
		var zero uint64
		var prob uint16
		rc = rc.normalize()
		rc, prob, zero = rc.bit(uint64(m.align[sym&15]))
		m.align[sym&15] = prob
		sym = sym<<1 + 1 + zero
		low |= (1 + zero) << i
	}
	return rc, dist + high<<4 + low
}

// properties are what the encoder chose, the same for one or more chunks.
type properties struct {
	lc, lp uint // how many high bits of the previous byte, and low bits of the position, a literal's model depends on
	pb     uint // how many low bits of the position all else depends on
}

// lzma decodes LZMA into a window.
type lzma struct {
	model
	properties
	state uint
	reps  [4]uint64 // distances of the last matches, less one

	// buf holds what is decoded, wordSize bytes longer than may be decoded into it. What is before
	// out is decoded.
	buf []byte
	out int
	// start is where in buf the dictionary began; before buf, where it has been shifted out.
	// dictSize is the greatest distance.
	start, dictSize int

	in [inSize]byte // one chunk of compressed data
}

// resetState begins anew, but for the window.
func (d *lzma) resetState() {
	d.state, d.reps = 0, [4]uint64{}
	d.reset()
}

// afterLiteral is the state that follows each state when a literal is decoded.
var afterLiteral = [16]uint8{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}

// decode decodes the first n bytes of in, which must give just what buf takes up to end.
func (d *lzma) decode(n, end int) error {
	rc := rangeDecoder{rng: 0xffffffff, code: uint64(binary.BigEndian.Uint32(d.in[1:])), pos: 5, in: &d.in}
	if d.in[0] != 0 || n < 5 || rc.code == rc.rng {
		return errData
	}
	buf, out, state := d.buf[:end+wordSize], d.out, d.state
	rep0, rep1, rep2, rep3 := d.reps[0], d.reps[1], d.reps[2], d.reps[3]
	literalMask, positionMask := uint(1)<<d.lp-1, uint(1)<<d.pb-1
	m := &d.model
	previous := uint(0)
	if out > d.start {
		previous = uint(buf[out-1])
	}
	var one bool
	for out < end {
		position := uint(out - d.start)
		if rc, one = rc.normalize().test(&m.match[state&15][position&positionMask&15]); !one {
			var sym uint64
			probs := &m.literal[((position&literalMask)<<d.lc|previous>>(8-d.lc))&15]
			if state < litStates {
				rc, sym = literal(rc, probs)
			} else {
				// The distance is checked: a match was decoded with it.
				rc, sym = matchedLiteral(rc, probs, uint64(buf[out-int(rep0)-1]))
			}
			state = uint(afterLiteral[state&15])
			previous = uint(sym) & 0xff
			buf[out] = byte(sym)
			out++
			if rc.pos > n {
				return errData
			}
			continue
		}
		length := 1
		if rc, one = rc.normalize().test(&m.rep[state&15]); !one {
			rep1, rep2, rep3 = rep0, rep1, rep2
			rc, length = m.matchLength.length(rc, position&positionMask)
			rc, rep0 = m.distance(rc, length)
			state = after(state, 7, 10)
		} else {
			if rc, one = rc.normalize().test(&m.rep0[state&15]); !one {
				rc, one = rc.normalize().test(&m.rep0Long[state&15][position&positionMask&15])
			} else {
				dist := rep1
				if rc, one = rc.normalize().test(&m.rep1[state&15]); one {
					dist = rep2
					if rc, one = rc.normalize().test(&m.rep2[state&15]); one {
						dist, rep3 = rep3, rep2
					}
					rep2 = rep1
				}
				rep0, rep1 = dist, rep0
				one = true
			}
			if one {
				rc, length = m.repLength.length(rc, position&positionMask)
				state = after(state, 8, 11)
			} else {
				state = after(state, 9, 11)
			}
		}
		if rep0 >= uint64(min(out-d.start, d.dictSize)) || length > end-out || rc.pos > n {
			return errData
		}
		if dist := int(rep0) + 1; dist >= wordSize {
			src, dst := buf[out-dist:], buf[out:out+length+wordSize]
			for i := 0; i < length; i += wordSize {
				binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:]))
			}
			out += length
		} else {
			// What was copied is copied again, so that each copy is twice as long.
			src := out - dist
			for to := out + length; out < to; {
				out += copy(buf[out:to], buf[src:out])
			}
		}
		previous = uint(buf[out-1])
	}
	rc = rc.normalize()
	if rc.pos != n || rc.code != 0 {
		return errData
	}
	d.out, d.state = out, state
	d.reps = [4]uint64{rep0, rep1, rep2, rep3}
	return nil
}

// after is the state that follows a match.
func after(state, literal, match uint) uint {
	if state < litStates {
		return literal
	}
	return match
}
