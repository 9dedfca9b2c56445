package layer

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// aheadSize and aheadCount are the size and the number of the blocks that Fork reads before they
// are asked for.
const (
	aheadSize  = 256 << 10
	aheadCount = 8
)

// ReadAhead reads r in a goroutine of its own, some blocks before they are asked for, so that what
// r does (decompressing) and what is done with it (hashing, unpacking) go on at the same time.
// Close waits for the last read of r to return, and does not close r.
func ReadAhead(r io.Reader) io.ReadCloser { return Fork(r, 1)[0] }

// Fork is ReadAhead for n readers that all get what r yields, its error included, from one read of
// it. Each reader is for one goroutine. The slowest holds up the others, by some blocks; one that
// is closed holds up nobody. The last Close waits for the last read of r to return. r is not
// closed.
func Fork(r io.Reader, n int) []io.ReadCloser {
	f := &fork{empty: make(chan *block, aheadCount), stop: make(chan struct{}), done: make(chan struct{})}
	for range aheadCount {
		f.empty <- &block{buf: make([]byte, aheadSize)}
	}
	readers := make([]io.ReadCloser, n)
	for i := range readers {
		side := &forkSide{fork: f, full: make(chan *block, aheadCount)}
		f.sides = append(f.sides, side)
		readers[i] = side
	}
	f.open.Store(int32(n))
	go f.fill(r)
	return readers
}

// TeeAhead is ReadAhead that also writes to w all that r yields, in another goroutine, for hashing
// it. At the end that Read tells w has got all; an error of w comes instead of that end. When it is
// closed earlier, or r fails, w may have got more or less than was read.
func TeeAhead(r io.Reader, w io.Writer) io.ReadCloser {
	sides := Fork(r, 2)
	t := &teeAhead{ReadCloser: sides[0], written: make(chan error, 1)}
	go func() {
		_, err := io.Copy(teeWriter{t, w}, sides[1])
		sides[1].Close()
		t.written <- err
		close(t.written)
	}()
	return t
}

type teeAhead struct {
	io.ReadCloser
	closed  atomic.Bool
	written chan error // gets what writing ended with, once
	err     error      // what that was
}

// Read implements io.Reader.
func (t *teeAhead) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if err, ok := <-t.written; ok {
		t.err = err
	}
	if t.err != nil {
		return n, t.err
	}
	return n, io.EOF
}

// Close implements io.Closer. It waits for both goroutines.
func (t *teeAhead) Close() error {
	t.closed.Store(true)
	err := t.ReadCloser.Close()
	for range t.written {
		// Until it is closed.
	}
	return err
}

// teeWriter writes to w until the tee is closed.
type teeWriter struct {
	tee *teeAhead
	w   io.Writer
}

func (t teeWriter) Write(p []byte) (int, error) {
	if t.tee.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	return t.w.Write(p)
}

// fork is what reads for its sides.
type fork struct {
	sides []*forkSide
	open  atomic.Int32  // sides that are not closed
	empty chan *block   // blocks that nobody needs
	stop  chan struct{} // closed when all sides are
	done  chan struct{} // closed when r is not read any more
}

// block is what one or more reads gave; err belongs behind data.
type block struct {
	buf  []byte
	data []byte // the part of buf that was read
	err  error
	need atomic.Int32 // sides that have not read it
}

// fill reads r block by block until its end, or until stop.
func (f *fork) fill(r io.Reader) {
	defer close(f.done)
	for {
		var b *block
		select {
		case <-f.stop:
			return
		case b = <-f.empty:
		}
		n, err := io.ReadFull(r, b.buf)
		if err == io.ErrUnexpectedEOF && n > 0 {
			err = nil // the next read tells whether that was the end, or the error of r itself
		}
		b.data, b.err = b.buf[:n], err
		b.need.Store(int32(len(f.sides)))
		for _, side := range f.sides {
			side.give(b)
		}
		if err != nil {
			return
		}
	}
}

// release says that one side more does not need b.
func (f *fork) release(b *block) {
	if b.need.Add(-1) == 0 {
		f.empty <- b
	}
}

// forkSide is one reader of a fork.
type forkSide struct {
	fork *fork
	full chan *block // has room for all blocks

	mu     sync.Mutex // of closed, and of sending to full
	closed bool

	now  *block // nil: none
	data []byte // what is left of it
	err  error  // what Read returns when nothing is left
}

// give hands b to the side, which releases it. It never waits.
func (s *forkSide) give(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.fork.release(b)
		return
	}
	s.full <- b
}

// next makes the next block with data the current one.
func (s *forkSide) next() error {
	for len(s.data) == 0 {
		if s.now != nil {
			s.fork.release(s.now)
			s.now = nil
		}
		if s.err != nil {
			return s.err
		}
		s.now = <-s.full
		s.data, s.err = s.now.data, s.now.err
	}
	return nil
}

// Read implements io.Reader.
func (s *forkSide) Read(p []byte) (int, error) {
	if err := s.next(); err != nil {
		return 0, err
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: what io.Copy copies passes without a buffer between.
func (s *forkSide) WriteTo(w io.Writer) (n int64, err error) {
	for {
		switch err := s.next(); {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
		m, err := w.Write(s.data)
		n += int64(m)
		if err != nil {
			return n, err
		}
		s.data = nil
	}
}

// Close ends the side, and with the last one the goroutine. What is read from it later is an error.
func (s *forkSide) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.full)
	s.mu.Unlock()

	if s.now != nil {
		s.fork.release(s.now)
	}
	for b := range s.full {
		s.fork.release(b)
	}
	s.now, s.data, s.err = nil, nil, io.ErrClosedPipe
	if s.fork.open.Add(-1) == 0 {
		close(s.fork.stop)
		<-s.fork.done
	}
	return nil
}
