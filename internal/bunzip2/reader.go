// Package bunzip2 decompresses bzip2, on several cores: the bits of a stream are decoded one block after the other, and what is then
// to be done with a block, about half of the work, for several blocks at once.
package bunzip2

import (
	"errors"
	"io"
	"math/bits"
	"runtime"
)

// The format has no specification but its decoder, decompress.c of bzip2.
const (
	headerMagic = 0x425a68 // "BZh", which a digit follows: the level
	blockMagic  = 0x314159265359
	endMagic    = 0x177245385090
	levelSize   = 100_000 // bytes of a block, for each level

	maxWorkers = 8
	outSize    = 256 << 10 // what is expanded of a block at a time: it may be 50 times as large as a block
)

// Reader decompresses bzip2 streams, one behind the other. That the content of a block is right is only known when the block has been read
// to its end.
type Reader struct {
	d    decoder
	size int    // of the blocks of the stream
	sum  uint32 // of the blocks of the stream so far
	end  error  // instead of a block that comes next: io.EOF, or what is wrong

	flights []*block // on their way, in their order
	idle    []*block // that may be used again
	atOnce  int      // most flights
	err     error    // comes behind what is in the first of flights
}

// NewReader reads the header of the first stream. r may be read further than the streams go; it is only read while
// NewReader and Read are called.
func NewReader(r io.Reader) (*Reader, error) {
	x := &Reader{atOnce: min(runtime.GOMAXPROCS(0), maxWorkers) + 1}
	x.d.r = r
	if err := x.header(); err != nil {
		return nil, err
	}
	return x, nil
}

// Read implements io.Reader.
func (x *Reader) Read(p []byte) (int, error) {
	for x.err == nil {
		x.launch()
		if len(x.flights) == 0 {
			x.err = x.end
			break
		}
		b := x.flights[0]
		<-b.done
		if n := copy(p, b.out); n > 0 || len(p) == 0 {
			b.out = b.out[n:]
			return n, nil
		}
		if b.out = b.expand(b.buf); len(b.out) == 0 {
			x.err = x.land()
		}
	}
	return 0, x.err
}

// launch decodes the bits of the next blocks, and begins what is to be done with them.
func (x *Reader) launch() {
	for x.end == nil && len(x.flights) < x.atOnce {
		b := &block{buf: make([]byte, outSize)}
		if n := len(x.idle); n > 0 {
			b, x.idle = x.idle[n-1], x.idle[:n-1]
		}
		if x.end = x.next(b); x.end != nil {
			return
		}
		b.done = make(chan struct{})
		go func() {
			b.begin()
			b.out = b.expand(b.buf)
			close(b.done)
		}()
		x.flights = append(x.flights, b)
	}
}

// land ends the first of the flights.
func (x *Reader) land() error {
	b := x.flights[0]
	x.flights, x.idle = x.flights[1:], append(x.idle, b)
	if b.sum != b.want {
		return errChecksum
	}
	return nil
}

// Close ends what goes on in the background. It does not close what is read from.
func (x *Reader) Close() error {
	for _, b := range x.flights {
		<-b.done
	}
	*x = Reader{err: io.ErrClosedPipe}
	return nil
}

// next decodes the bits of the next block; behind the last of the last stream it is io.EOF.
func (x *Reader) next(b *block) error {
	for {
		magic := x.d.take(48)
		if err := x.d.failed(); err != nil {
			return err
		}
		switch magic {
		case blockMagic:
			err := x.d.decode(b, x.size)
			if cut := x.d.failed(); cut != nil {
				return cut
			}
			x.sum = bits.RotateLeft32(x.sum, 1) ^ b.want
			return err
		case endMagic:
		default:
			return errData
		}
		sum := uint32(x.d.take(32))
		if err := x.d.failed(); err != nil {
			return err
		}
		if sum != x.sum {
			return errChecksum
		}
		x.d.align()
		if err := x.d.more(); err != nil {
			return err
		}
		if err := x.header(); err != nil {
			return err
		}
	}
}

// header begins a stream.
func (x *Reader) header() error {
	magic, level := x.d.take(24), x.d.take(8)-'0'
	if err := x.d.failed(); err != nil {
		return err
	}
	if magic != headerMagic || level-1 > 8 {
		return errors.New("not a bzip2 stream")
	}
	x.size, x.sum = int(level)*levelSize, 0
	return nil
}
