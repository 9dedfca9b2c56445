// Package unxz decompresses xz, about as fast as liblzma does, and on several cores where the file
// consists of blocks whose headers say how large they are: xz(1) makes such files when it works
// with more than one thread.
package unxz

import (
	"bufio"
	"errors"
	"io"
	"runtime"
)

// What is decoded in parallel. xz -6 makes blocks of 24 MiB.
const (
	maxFlight  = 32 << 20 // bytes of a block, decompressed
	maxFlights = 8        // blocks at once
)

// Reader decompresses xz streams, one behind the other, and the padding between and behind them.
// LZMA2 is the only filter that it knows. All checksums and sizes that the format has are verified;
// that the content of a block is right is only known when the block has been read to its end.
type Reader struct {
	c    container
	head header // of the block that comes next
	end  error  // instead of that block: io.EOF, or what is wrong

	ready []byte // decompressed, not yet read
	err   error  // comes behind ready

	serial  *block    // that is being decoded, or nil
	idle    *block    // that serial may become
	flights []*flight // blocks that are being decoded at the same time, in their order
	hangar  []*flight // that flights may become
	atOnce  int       // most flights
}

// NewReader reads up to the content of the first block. Blocks that want a window of more than
// maxWindow bytes are refused before memory is taken for it. r may be read further than the streams
// go; it is only read while NewReader and Read are called.
func NewReader(r io.Reader, maxWindow int) (*Reader, error) {
	x := &Reader{atOnce: min(runtime.GOMAXPROCS(0), maxFlights)}
	x.c = container{r: bufio.NewReaderSize(r, 64<<10), maxWindow: maxWindow}
	if err := x.c.streamHeader(); err != nil {
		return nil, err
	}
	x.head, x.end = x.c.next()
	if x.end != nil && !errors.Is(x.end, io.EOF) {
		return nil, x.end
	}
	return x, nil
}

// Read implements io.Reader.
func (x *Reader) Read(p []byte) (int, error) {
	for len(x.ready) == 0 {
		if x.err != nil {
			return 0, x.err
		}
		x.ready, x.err = x.more()
	}
	n := copy(p, x.ready)
	x.ready = x.ready[n:]
	return n, nil
}

// Close ends what goes on in the background, and gives memory back. It has to be called in any
// case. It does not close what is read from.
func (x *Reader) Close() error {
	for _, f := range x.flights {
		f.abort()
		free(f.buf)
	}
	for _, f := range x.hangar {
		free(f.buf)
	}
	if x.idle != nil {
		free(x.idle.buf)
	}
	*x = Reader{err: io.ErrClosedPipe}
	return nil
}

// more returns what is decompressed next, which is valid up to the next call. It may be nothing.
func (x *Reader) more() ([]byte, error) {
	if x.serial != nil {
		return x.step()
	}
	x.launch()
	if len(x.flights) > 0 {
		f := x.flights[0]
		data, err := f.more()
		if errors.Is(err, io.EOF) {
			x.flights, x.hangar, err = x.flights[1:], append(x.hangar, f), nil
		}
		return data, err
	}
	if x.end != nil {
		return nil, x.end
	}
	x.beginSerial()
	return x.step()
}

// launch begins with as many of the next blocks as can be decoded at the same time.
func (x *Reader) launch() {
	for x.end == nil && len(x.flights) < x.atOnce && x.canFly() {
		f := &flight{}
		if n := len(x.hangar); n > 0 {
			f, x.hangar = x.hangar[n-1], x.hangar[:n-1]
		}
		if x.end = f.read(&x.c, x.head); x.end != nil {
			x.hangar = append(x.hangar, f)
			return
		}
		go f.run()
		x.flights = append(x.flights, f)
		x.head, x.end = x.c.next()
	}
}

// canFly reports whether the next block can be decoded beside others.
func (x *Reader) canFly() bool {
	h := x.head
	return x.atOnce > 1 && h.packed >= 0 && h.uncompressed >= 0 &&
		h.uncompressed <= maxFlight && h.packed <= h.uncompressed+margin(h.uncompressed)
}

// beginSerial begins with the next block.
func (x *Reader) beginSerial() {
	if x.idle == nil {
		x.idle = &block{}
	}
	x.serial = x.idle
	x.serial.begin(x.head)
}

// step decodes some of the block that was begun, and at its end goes on to the next.
func (x *Reader) step() ([]byte, error) {
	data, err := x.serial.step(&x.c)
	if !errors.Is(err, io.EOF) {
		return data, err
	}
	sum, err := x.c.endBlock(x.serial.header, x.serial.total)
	if err != nil {
		return nil, err
	}
	if err := x.serial.verify(sum); err != nil {
		return nil, err
	}
	x.serial = nil
	x.head, x.end = x.c.next()
	return nil, nil
}
