package layer

import "io"

// aheadSize and aheadCount are the size and the number of the blocks that ReadAhead reads before they are asked for.
const (
	aheadSize  = 256 << 10
	aheadCount = 8
)

// ReadAhead reads r in a goroutine of its own, some blocks before they are asked for, so that what r does (decompressing) and what is
// done with it (hashing, unpacking) go on at the same time. Close waits for the last read of r to return, and does not close r.
func ReadAhead(r io.Reader) io.ReadCloser {
	a := &readAhead{full: make(chan block, aheadCount), empty: make(chan []byte, aheadCount), stop: make(chan struct{})}
	for range aheadCount {
		a.empty <- make([]byte, aheadSize)
	}
	go a.fill(r)
	return a
}

type readAhead struct {
	full  chan block
	empty chan []byte
	stop  chan struct{}

	now    block // what is left of the current block
	whole  []byte
	closed bool
}

// block is what one or more reads gave; err belongs behind data.
type block struct {
	data []byte
	err  error
}

// fill reads r block by block until its end, or until stop.
func (a *readAhead) fill(r io.Reader) {
	defer close(a.full)
	for {
		var buf []byte
		select {
		case <-a.stop:
			return
		case buf = <-a.empty:
		}
		n, err := io.ReadFull(r, buf)
		if err == io.ErrUnexpectedEOF && n > 0 {
			err = nil // the next read tells whether that was the end, or the error of r itself
		}
		select {
		case <-a.stop:
			return
		case a.full <- block{buf[:n], err}:
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.now.data) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.whole != nil {
			a.empty <- a.whole
			a.whole = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, io.ErrClosedPipe
		}
		a.now, a.whole = b, b.data[:cap(b.data)]
	}
	n := copy(p, a.now.data)
	a.now.data = a.now.data[n:]
	return n, nil
}

// Close ends the goroutine.
func (a *readAhead) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	close(a.stop)
	for range a.full {
		// Until fill has seen stop.
	}
	a.now = block{err: io.ErrClosedPipe}
	return nil
}
