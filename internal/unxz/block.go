package unxz

import (
	"bytes"
	"errors"
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
	b.header, b.total, b.sum = h, 0, h.make()
	b.out, b.start = 0, 0
	b.lzma2.begin(h.dictSize)
}

// step decodes a chunk, and returns what it gives, which is valid up to the next step. io.EOF is
// the end of the block.
func (b *block) step(r source) ([]byte, error) {
	n, err := b.open(r)
	if err != nil {
		return nil, err
	}
	if err := b.makeRoom(n, b.uncompressed); err != nil {
		return nil, err
	}
	if err := b.take(r, n); err != nil {
		return nil, err
	}
	return b.buf[b.out-n : b.out], nil
}

// open reads the header of a chunk, and returns what size it decompresses to.
func (b *block) open(r source) (int, error) {
	n, err := b.next(r)
	b.total += int64(n)
	if err == nil && b.uncompressed >= 0 && b.total > b.uncompressed {
		err = errSize
	}
	return n, err
}

// take decodes the chunk that was opened, of n bytes.
func (b *block) take(r source, n int) error {
	if err := b.decode(r); err != nil {
		return err
	}
	b.sum.Write(b.buf[b.out-n : b.out])
	return nil
}

// verify compares what was decoded with the block's check.
func (b *block) verify(sum []byte) error {
	if !bytes.Equal(b.sum.Sum(nil), sum) {
		return errChecksum
	}
	return nil
}

// flight is a block that is decoded by a goroutine. It needs little more memory than the block
// takes decompressed: what is compressed lies at the end of buf, and what is decompressed grows
// towards it.
type flight struct {
	block
	rest  *bytes.Reader // what is left of the compressed data
	moved bool          // it does not lie in buf any more
	want  []byte        // the block's check
	given int           // bytes that were read

	mu      sync.Mutex
	changed sync.Cond
	decoded int   // bytes that can be read
	end     error // io.EOF once all is decoded
	stop    bool
}

// margin is how much larger than the block buf is. An encoder makes a chunk no larger than it is
// uncompressed, but for its header; compressed data for which the margin is too small is moved out
// of the way.
func margin(uncompressed int64) int64 { return 64<<10 + uncompressed>>13 }

// read reads a block whose header is h, and says how large it is, from c.
func (f *flight) read(c *container, h header) (err error) {
	f.changed.L = &f.mu
	f.given, f.moved, f.decoded, f.end = 0, false, 0, nil
	size := int(h.uncompressed + margin(h.uncompressed))
	if len(f.buf) < size {
		free(f.buf)
		if f.buf, err = allocate(size); err != nil {
			return err
		}
	}
	packed := f.buf[len(f.buf)-int(h.packed):]
	if _, err := io.ReadFull(c, packed); err != nil {
		return noEOF(err)
	}
	if f.want, err = c.endBlock(h, h.uncompressed); err != nil {
		return err
	}
	f.rest = bytes.NewReader(packed)
	f.begin(h)
	return nil
}

// run decodes.
func (f *flight) run() {
	for err := error(nil); err == nil; {
		var n int
		n, err = f.open(f.rest)
		if err == nil {
			f.keepClear(n)
			err = f.take(f.rest, n)
		}
		switch {
		case errors.Is(err, io.EOF):
			err = f.landed()
		case errors.Is(err, io.ErrUnexpectedEOF): // not of what is read from
			err = errSize
		}
		err = f.tell(err)
	}
}

// keepClear moves the compressed data, if the chunk that was opened, of n bytes, is going to
// overwrite what is behind it.
func (f *flight) keepClear(n int) {
	chunk := f.now.packed
	if chunk == 0 {
		chunk = n
	}
	if f.moved || f.out+n+wordSize <= len(f.buf)-(f.rest.Len()-chunk) {
		return
	}
	f.rest.Reset(bytes.Clone(f.buf[len(f.buf)-f.rest.Len():]))
	f.moved = true
}

// landed checks the block at its end, and returns io.EOF if all is well.
func (f *flight) landed() error {
	if f.rest.Len() > 0 || f.total != f.uncompressed {
		return errSize
	}
	if err := f.verify(f.want); err != nil {
		return err
	}
	return io.EOF
}

// tell lets what is decoded be read, with err behind it. It returns an error when nothing more is
// wanted.
func (f *flight) tell(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop && err == nil {
		err = io.ErrClosedPipe
	}
	if err == nil || errors.Is(err, io.EOF) {
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
