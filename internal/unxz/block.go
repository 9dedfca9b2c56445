package unxz

import (
	"bytes"
	"hash"
	"io"
	"sync"
)

// block decodes the content of a block.
type block struct {
	lzma2
	header
	sum   hash.Hash
	total int64 // bytes so far
}

// begin makes b ready for another block.
func (b *block) begin(h header) {
	b.header, b.total, b.sum = h, 0, h.check.make()
	b.out, b.start = 0, 0
	b.lzma2.begin(h.dictSize)
}

// step decodes a chunk, and returns what it gives, which is valid up to the next step. io.EOF is the end of the block.
func (b *block) step(r source) ([]byte, error) {
	n, err := b.next(r)
	if err != nil {
		return nil, err
	}
	b.total += int64(n)
	if b.uncompressed >= 0 && b.total > b.uncompressed {
		return nil, errSize
	}
	b.makeRoom(n, b.uncompressed)
	if err := b.decode(r); err != nil {
		return nil, err
	}
	data := b.buf[b.out-n : b.out]
	b.sum.Write(data)
	return data, nil
}

// verify compares what was decoded with the block's check.
func (b *block) verify(sum []byte) error {
	if !bytes.Equal(b.sum.Sum(nil), sum) {
		return errChecksum
	}
	return nil
}

// flight is a block that is decoded by a goroutine, from memory to memory.
type flight struct {
	block
	content []byte // compressed
	want    []byte // the block's check
	given   int    // bytes that were read

	mu      sync.Mutex
	changed sync.Cond
	decoded int   // bytes that can be read
	end     error // io.EOF once all is decoded
	stop    bool
}

// read reads a block whose header is h, and says how large it is, from c.
func (f *flight) read(c *container, h header) (err error) {
	f.changed.L = &f.mu
	f.given, f.decoded, f.end = 0, 0, nil
	f.content = sized(f.content, int(h.packed))
	if _, err := io.ReadFull(c, f.content); err != nil {
		return noEOF(err)
	}
	if f.want, err = c.endBlock(h, h.uncompressed); err != nil {
		return err
	}
	f.buf = sized(f.buf, int(h.uncompressed)+wordSize)
	f.begin(h)
	return nil
}

// sized returns n bytes, those of b if it is large enough.
func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// run decodes.
func (f *flight) run() {
	r := bytes.NewReader(f.content)
	for err := error(nil); err == nil; {
		_, err = f.step(r)
		switch err {
		case io.EOF:
			err = f.landed(r)
		case io.ErrUnexpectedEOF: // not of what is read from
			err = errSize
		}
		err = f.tell(err)
	}
}

// landed checks the block at its end, and returns io.EOF if all is well.
func (f *flight) landed(r *bytes.Reader) error {
	if r.Len() > 0 || f.total != f.uncompressed {
		return errSize
	}
	if err := f.verify(f.want); err != nil {
		return err
	}
	return io.EOF
}

// tell lets what is decoded be read, with err behind it. It returns an error when nothing more is wanted.
func (f *flight) tell(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop && err == nil {
		err = io.ErrClosedPipe
	}
	if err == nil || err == io.EOF {
		f.decoded = f.out
	}
	f.end = err
	f.changed.Signal()
	return err
}

// more waits for something decoded, and returns it; io.EOF is the end of the block.
func (f *flight) more() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.decoded == f.given && f.end == nil {
		f.changed.Wait()
	}
	data := f.buf[f.given:f.decoded]
	f.given = f.decoded
	if len(data) > 0 {
		return data, nil
	}
	return nil, f.end
}

// abort makes run end, and waits for it.
func (f *flight) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop = true
	for f.end == nil {
		f.changed.Wait()
	}
}
