// Package gunzip decompresses gzip streams (RFC 1952), on one core about three times as fast as
// other Go code does. It takes and refuses what compress/gzip of the standard library takes and
// refuses.
package gunzip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

var (
	// ErrHeader is returned where no gzip header is.
	ErrHeader = errors.New("gzip: invalid header")
	// ErrCorrupt is returned for compressed data that means nothing.
	ErrCorrupt = errors.New("gzip: corrupt data")
	// ErrChecksum is returned at the end of a member whose data is not what was compressed.
	ErrChecksum = errors.New("gzip: invalid checksum")

	errGarbage = errors.New("garbage after the end of the gzip stream")
)

const (
	// ownSize is how much a Reader decodes at a time into its own memory.
	ownSize = 128 << 10
	// directSize is what the caller has to have room for at least to have it decoded there.
	directSize = 2 * window
)

// Reader reads what the members of a gzip stream hold. It reads its source ahead.
type Reader struct {
	inflater
	padded bool
	inside bool // it is inside a member

	crc    uint32 // of what the member holds (RFC 1952, section 8)
	size   uint32 // of that
	summed int    // how much of out is in crc and size

	own  []byte // up to next the last of what was read, a window at most that is not dropped; up to end what is to be read
	next int
	end  int
	base int // what low is for own
}

// NewReader returns a Reader for the concatenated members that r yields. It reads the first header:
// io.EOF says that r is empty.
func NewReader(r io.Reader) (*Reader, error) {
	return newReader(r, false, hasAssembly(), new([inSize]byte), new([window + ownSize]byte))
}

// NewPaddedReader is NewReader for a stream that zero bytes may follow, which are skipped.
func NewPaddedReader(r io.Reader) (*Reader, error) {
	return newReader(r, true, hasAssembly(), new([inSize]byte), new([window + ownSize]byte))
}

func newReader(r io.Reader, padded, assembly bool, in *[inSize]byte, own *[window + ownSize]byte) (*Reader, error) {
	z := &Reader{own: own[:]}
	z.src, z.in, z.assembly = r, in[:0], assembly
	if z.nextMember(); z.err != nil {
		return nil, z.err
	}
	z.padded = padded
	return z, nil
}

// Read implements io.Reader. It fills p unless the stream ends, and decodes right into it where it
// holds 64 KiB or more; the memory behind what it returns is scratch space then.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if z.next == z.end && len(p) >= directSize {
		if n := z.decodeInto(p); n > 0 {
			return n, nil
		}
	}
	if z.next == z.end {
		z.decodeOwn(ownSize)
	}
	if z.next == z.end {
		return 0, z.err
	}
	n := copy(p, z.own[z.next:z.end])
	z.next += n
	return n, nil
}

// WriteTo implements io.WriterTo.
func (z *Reader) WriteTo(w io.Writer) (int64, error) {
	written := int64(0)
	for {
		if z.next == z.end {
			z.decodeOwn(ownSize)
		}
		if z.next == z.end {
			if errors.Is(z.err, io.EOF) {
				return written, nil
			}
			return written, z.err
		}
		b := z.own[z.next:z.end]
		n, err := w.Write(b)
		z.next += n
		written += int64(n)
		switch {
		case err != nil:
			return written, err
		case n < len(b):
			return written, io.ErrShortWrite
		}
	}
}

// Close implements io.Closer. It does not close the source.
func (z *Reader) Close() error { return nil }

// decodeOwn decodes up to n bytes into own, all of which has been read.
func (z *Reader) decodeOwn(n int) {
	if z.end > window {
		dropped := z.end - window
		copy(z.own, z.own[dropped:z.end])
		z.end, z.base = window, max(0, z.base-dropped)
	}
	z.next = z.end
	z.low = z.base
	z.end = z.decode(z.own[:z.end+n], z.end)
	z.base = z.low
}

// decodeInto decodes into p, which has room for two windows or more. What matches reach back to has
// to stand in p, so the first window is decoded into own, which has what is before it; the last one
// is put there for the next time.
func (z *Reader) decodeInto(p []byte) int {
	z.decodeOwn(window)
	n := copy(p, z.own[z.next:z.end])
	if n == window {
		z.low = max(0, z.base-z.next)
		n = z.decode(p, n)
		copy(z.own, p[n-window:n])
		z.end, z.base = window, max(0, z.low-(n-window))
	}
	z.next = z.end
	return n
}

// decode decodes into out behind pos, up to its end if nothing happens, and returns up to where.
func (z *Reader) decode(out []byte, pos int) int {
	z.out, z.pos, z.summed = out, pos, pos
	for z.err == nil && z.pos < len(out) {
		if !z.inside {
			z.nextMember()
			continue
		}
		z.inflate()
		if z.step == stepEnd {
			z.trailer()
		}
	}
	z.sum()
	z.out = nil
	return z.pos
}

// sum adds to the checksum what has been decoded since the last time.
func (z *Reader) sum() {
	b := z.out[z.summed:z.pos]
	z.crc = crc32.Update(z.crc, crc32.IEEETable, b)
	z.size += uint32(len(b))
	z.summed = z.pos
}

// trailer checks what stands behind the data of a member (RFC 1952, section 2.3.1).
func (z *Reader) trailer() {
	z.sum()
	b := z.readFull(8)
	if z.err != nil {
		return
	}
	if binary.LittleEndian.Uint32(b) != z.crc || binary.LittleEndian.Uint32(b[4:]) != z.size {
		z.err = ErrChecksum
	}
	z.inside = false
}

// nextMember reads the header of the next member. err is io.EOF when there is none.
func (z *Reader) nextMember() {
	if z.at == len(z.in) && !z.more() {
		z.err = z.srcErr
		return
	}
	if z.padded && z.in[z.at] != magic1 {
		z.skipPadding()
		return
	}
	z.header()
	if z.padded && z.err != nil {
		z.err = fmt.Errorf("after the end of the gzip stream: %w", z.err)
	}
	z.inside, z.crc, z.size = true, 0, 0
	z.start()
}

// skipPadding skips zero bytes up to the end.
func (z *Reader) skipPadding() {
	for z.err == nil {
		for _, c := range z.in[z.at:] {
			if c != 0 {
				z.err = errGarbage
				return
			}
		}
		z.at = len(z.in)
		if !z.more() {
			z.err = z.srcErr
		}
	}
}

// The first bytes of a member, and the flags that matter (RFC 1952, section 2.3.1).
const (
	magic1  = 0x1f
	magic2  = 0x8b
	deflate = 8

	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
)

// maxString is the longest name or comment, its end included, that is read, as in the standard
// library.
const maxString = 512

// header reads the header of a member.
func (z *Reader) header() {
	b := z.readFull(10)
	if z.err != nil {
		return
	}
	if b[0] != magic1 || b[1] != magic2 || b[2] != deflate {
		z.err = ErrHeader
		return
	}
	flags := b[3]
	crc := crc32.ChecksumIEEE(b)
	if flags&flagExtra != 0 {
		size := z.readFull(2)
		crc = crc32.Update(crc, crc32.IEEETable, size)
		crc = crc32.Update(crc, crc32.IEEETable, z.readFull(int(binary.LittleEndian.Uint16(size))))
	}
	for _, flag := range [...]byte{flagName, flagComment} {
		if flags&flag != 0 {
			crc = crc32.Update(crc, crc32.IEEETable, z.readString())
		}
	}
	if flags&flagHeaderCRC != 0 {
		if want := binary.LittleEndian.Uint16(z.readFull(2)); z.err == nil && want != uint16(crc) {
			z.err = ErrHeader
		}
	}
}

// readString reads up to a zero byte. After an error it returns nothing of use.
func (z *Reader) readString() []byte {
	var s []byte
	for z.err == nil {
		c := z.readFull(1)[0]
		if s = append(s, c); c == 0 {
			break
		}
		if len(s) == maxString && z.err == nil {
			z.err = ErrHeader
		}
	}
	return s
}

// readFull reads n bytes. After an error they are zero bytes, or some of them.
func (z *Reader) readFull(n int) []byte {
	b := make([]byte, n)
	for rest := b; len(rest) > 0 && z.err == nil; {
		if z.at == len(z.in) && !z.more() {
			z.truncated()
			break
		}
		k := copy(rest, z.in[z.at:])
		z.at += k
		rest = rest[k:]
	}
	return b
}
