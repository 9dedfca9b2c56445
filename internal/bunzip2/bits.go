package bunzip2

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	bufSize = 64 << 10
	slack   = 256 // zeros that follow the end of the data
)

// bitReader reads bits, the highest of each byte first. Behind the end of the data come zeros; failed tells whether any were taken.
type bitReader struct {
	r   io.Reader
	err error // of r, which is not read any more
	buf [bufSize + slack]byte
	end int // of the data in buf

	cursor
}

// cursor is the place in buf. The hot loops have their own copy.
type cursor struct {
	pos  int    // of the next byte that is not counted in n
	bits uint64 // what comes next, from the highest bit on
	n    uint   // how many of bits count; what is below may be there already
}

// need makes sure that n bytes, of at most slack-8, can be taken behind pos, and 8 more be read.
func (b *bitReader) need(n int) {
	n += 8
	if b.end-b.pos >= n {
		return
	}
	if b.err == nil {
		b.end = copy(b.buf[:], b.buf[b.pos:b.end])
		b.pos = 0
		for b.err == nil && b.end < n {
			var m int
			m, b.err = b.r.Read(b.buf[b.end:bufSize])
			b.end += m
		}
		clear(b.buf[b.end:])
	}
	// However far one reads behind the end, it stays in reach.
	b.pos = min(b.pos, b.end+8)
}

// refill makes at least 56 bits count.
func (c *cursor) refill(buf []byte) {
	c.bits |= binary.BigEndian.Uint64(buf[c.pos:]) >> c.n
	c.pos += int(63-c.n) >> 3
	c.n |= 56
}

// take returns the next k bits, at most 48.
func (b *bitReader) take(k uint) uint64 {
	if b.n < k {
		b.need(8)
		b.refill(b.buf[:])
	}
	v := b.bits >> (64 - k)
	b.bits <<= k
	b.n -= k
	return v
}

// align drops what is left of a byte.
func (b *bitReader) align() {
	b.bits <<= b.n & 7
	b.n &^= 7
}

// left is how many bytes of the data in buf were not taken; less than 0 where zeros were.
func (b *bitReader) left() int { return b.end - b.pos + int(b.n)>>3 }

// failed returns what is wrong if more was taken than there is.
func (b *bitReader) failed() error {
	switch {
	case b.left() >= 0:
		return nil
	case errors.Is(b.err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return b.err
}

// more returns nil if something is left, and io.EOF or what is wrong with r if not.
func (b *bitReader) more() error {
	b.need(8)
	if b.left() > 0 {
		return nil
	}
	return b.err
}
