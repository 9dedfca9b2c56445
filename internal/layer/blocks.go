package layer

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// blockCoding is a way of compressing in blocks that are compressed apart from each other. The
// bytes depend on what is written alone: blocks are cut where they have size bytes, whatever the
// sizes of writes and the number of cores.
type blockCoding struct {
	size     int // bytes of a block
	history  int // bytes before a block that its coder may look at
	header   []byte
	newCoder func() (blockCoder, error) // nil: blocks are written as they are
	trailer  func(size int64) []byte    // what stands behind the last block of size bytes in all; nil for nothing
}

// maxCoders is how many goroutines of a blockWriter compress, at most: each takes memory for two
// blocks, and there may be a blockWriter for each core.
const maxCoders = 16

// blockCoder compresses one block after another. Each goroutine has its own.
type blockCoder interface {
	// code appends the block, compressed, to dst.
	code(dst []byte, b *codedBlock) ([]byte, error)
}

// codedBlock is a block on its way through a blockWriter.
type codedBlock struct {
	buf         []byte // the history, then the data
	start       int    // of the data in buf
	first, last bool
	out         []byte         // the data, compressed
	pending     sync.WaitGroup // compressing, and the taps
}

// data is what the block is about.
func (b *codedBlock) data() []byte { return b.buf[b.start:] }

// before is what was written before the block, as far as coders look.
func (b *codedBlock) before() []byte { return b.buf[:b.start] }

// blockWriter compresses what is written to it block by block: as many at the same time as there
// are cores, while the next is filled and what is done is written. What has less than one block is
// compressed by Close, without any goroutine.
type blockWriter struct {
	blockCoding
	w    io.Writer
	taps []io.Writer // get all that is written to the blockWriter, in order

	now    *codedBlock // that is filled
	size   int64       // of the blocks before it
	count  int         // of all blocks that were made
	closed bool

	// Once there are goroutines.
	free, order, work, tapped chan *codedBlock
	running                   sync.WaitGroup

	failing sync.Mutex
	err     error // the first one
}

// newBlockWriter returns a writer to w. Each of taps gets the uncompressed bytes, in order, from
// one other goroutine; they are complete when Close has returned. Close has to be called in any
// case.
func newBlockWriter(w io.Writer, c blockCoding, taps ...io.Writer) *blockWriter {
	return &blockWriter{blockCoding: c, w: w, taps: taps}
}

// Write implements io.Writer. An error may be that of an earlier Write.
func (w *blockWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := w.room()
		part = part[:min(cap(part), len(rest))]
		if &part[0] != &rest[0] {
			copy(part, rest)
		}
		rest = rest[len(part):]
		if err := w.filled(len(part)); err != nil {
			return len(p) - len(rest), err
		}
	}
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: io.Copy reads into the blocks.
func (w *blockWriter) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		part := w.room()
		m, rerr := r.Read(part[:cap(part)])
		n += int64(m)
		if err := w.filled(m); err != nil {
			return n, err
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return n, nil
		case rerr != nil:
			return n, rerr
		}
	}
}

// filled says that n bytes more are in the block that is filled, and passes it on if it is full.
func (w *blockWriter) filled(n int) error {
	w.now.buf = w.now.buf[:len(w.now.buf)+n]
	if len(w.now.data()) < w.blockCoding.size {
		return nil
	}
	return w.next()
}

// room returns an empty buffer with room for at least a byte. What is put there and written right
// then is not copied.
func (w *blockWriter) room() []byte {
	if w.now == nil {
		w.count++
		w.now = &codedBlock{buf: make([]byte, 0, firstRoom), first: true}
	}
	b := w.now
	n := len(b.buf)
	if n == cap(b.buf) {
		b.buf = append(make([]byte, 0, min(growth*cap(b.buf), w.history+w.blockCoding.size)), b.buf...)
	}
	return b.buf[n:n:min(cap(b.buf), b.start+w.blockCoding.size)]
}

// The first block begins with firstRoom bytes, and gets growth times as much each time when that is
// full: most layers are small, and memory costs time.
const (
	firstRoom = 16 << 10
	growth    = 8
)

// newBlock makes an empty block.
func (w *blockWriter) newBlock() *codedBlock {
	w.count++
	return &codedBlock{buf: make([]byte, 0, w.history+w.blockCoding.size)}
}

// next passes on the block that is full, and begins another.
func (w *blockWriter) next() error {
	if w.free == nil {
		if err := w.start(); err != nil {
			w.fail(err)
		}
	}
	if err := w.failed(); err != nil {
		return err
	}
	full := w.now
	w.size += int64(len(full.data()))
	b := w.empty()
	b.buf = append(b.buf[:0], full.buf[max(0, len(full.buf)-w.history):]...)
	b.start = len(b.buf)
	w.now = b
	w.pass(full)
	return nil
}

// empty returns a block for reuse, or a new one as long as there may be more.
func (w *blockWriter) empty() *codedBlock {
	if w.count < cap(w.free) {
		select {
		case b := <-w.free:
			return b
		default:
			return w.newBlock()
		}
	}
	return <-w.free
}

// pass gives a block to the goroutines. No channel can be full: each has room for all blocks.
func (w *blockWriter) pass(b *codedBlock) {
	if w.newCoder != nil {
		b.pending.Add(1)
		w.work <- b
	}
	if len(w.taps) > 0 {
		b.pending.Add(1)
		w.tapped <- b
	}
	w.order <- b
}

// start starts the goroutines: one for each core, one for the taps, one for writing.
func (w *blockWriter) start() error {
	procs := min(runtime.GOMAXPROCS(0), maxCoders)
	var coders []blockCoder
	for len(coders) < procs && w.newCoder != nil {
		c, err := w.newCoder()
		if err != nil {
			return err
		}
		coders = append(coders, c)
	}
	most := procs + 3 // one is filled, one is written, one waits
	w.free, w.order = make(chan *codedBlock, most), make(chan *codedBlock, most)
	w.work, w.tapped = make(chan *codedBlock, most), make(chan *codedBlock, most)
	for _, c := range coders {
		w.running.Go(func() {
			for b := range w.work {
				w.code(c, b)
				b.pending.Done()
			}
		})
	}
	w.running.Go(func() {
		for b := range w.tapped {
			w.tap(b)
			b.pending.Done()
		}
	})
	w.emit(w.header)
	w.running.Go(func() {
		for b := range w.order {
			b.pending.Wait()
			w.write(b)
			b.first = false
			w.free <- b
		}
	})
	return nil
}

// code compresses a block, unless something has failed.
func (w *blockWriter) code(c blockCoder, b *codedBlock) {
	if w.failed() != nil {
		return
	}
	var err error
	if b.out, err = c.code(b.out[:0], b); err != nil {
		w.fail(err)
	}
}

// tap gives a block to the taps.
func (w *blockWriter) tap(b *codedBlock) {
	for _, t := range w.taps {
		if _, err := t.Write(b.data()); err != nil {
			w.fail(err)
		}
	}
}

// write writes a block that is done.
func (w *blockWriter) write(b *codedBlock) {
	if w.newCoder == nil {
		w.emit(b.data())
		return
	}
	w.emit(b.out)
}

// emit writes compressed bytes, unless something has failed.
func (w *blockWriter) emit(p []byte) {
	if len(p) == 0 || w.failed() != nil {
		return
	}
	if _, err := w.w.Write(p); err != nil {
		w.fail(err)
	}
}

// fail keeps the first error.
func (w *blockWriter) fail(err error) {
	w.failing.Lock()
	defer w.failing.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *blockWriter) failed() error {
	w.failing.Lock()
	defer w.failing.Unlock()
	return w.err
}

// Close writes what is left, ends all goroutines, and returns the first error that there was. It
// does not close what the blockWriter writes to.
func (w *blockWriter) Close() error {
	if w.closed {
		return w.failed()
	}
	w.closed = true
	w.room() // nothing may have been written
	last := w.now
	last.last = true
	w.size += int64(len(last.data()))
	if w.free == nil {
		w.whole(last)
	} else {
		w.pass(last)
		close(w.order)
		close(w.work)
		close(w.tapped)
		w.running.Wait()
	}
	if w.trailer != nil {
		w.emit(w.trailer(w.size))
	}
	w.now = nil
	return w.failed()
}

// whole writes all there is, the only block.
func (w *blockWriter) whole(b *codedBlock) {
	if w.newCoder != nil {
		c, err := w.newCoder()
		if err != nil {
			w.fail(err)
			return
		}
		w.code(c, b)
	}
	w.tap(b)
	w.emit(w.header)
	w.write(b)
}
