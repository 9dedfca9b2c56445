package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
)

const (
	batchSize  = 512 << 10      // bytes of a tar from which on a batch is full
	largeFile  = maxKept        // bytes: files that are larger are in no batch. No file in Kept is
	maxReaders = 8              // goroutines that read files ahead: more than cores, as some may wait for a disk
	maxAhead   = maxReaders + 2 // batches that may be read before it is their turn
)

// batch is a run of changes, as the bytes of the tar that stand for them.
type batch struct {
	list       []Change // of the whole layer
	begin, end int      // of the run in list
	large      bool     // the run ends before a large file, list[end], which is not read with it
	data       []byte
	entries    []packedEntry
	err        error         // of the change behind entries
	done       chan struct{} // closed when data, entries and err are there
}

// packedEntry is an entry as it stands in the TOC.
type packedEntry struct {
	Entry
	offset int64  // of the content in the batch's data
	body   []byte // the content of files in Kept; else nil
}

// batchReader makes batches of changes, some ahead of the one that is asked for.
type batchReader struct {
	ctx     context.Context
	cancel  context.CancelFunc
	list    []Change
	begin   int      // of what is in no batch yet
	queue   []*batch // those that come next
	spare   []*batch // for reuse
	work    chan *batch
	readers int
	running sync.WaitGroup
}

func newBatchReader(ctx context.Context, list []Change) *batchReader {
	r := &batchReader{list: list, work: make(chan *batch, maxAhead)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// next returns the batch that comes next, nil at the end.
func (r *batchReader) next() *batch {
	for len(r.queue) < maxAhead && r.begin < len(r.list) {
		b := r.cut()
		r.queue = append(r.queue, b)
		if b.begin == 0 && r.begin == len(r.list) {
			b.read(r.ctx) // nothing to do beside it
			continue
		}
		r.work <- b
		if r.readers < maxReaders {
			r.readers++
			r.running.Go(r.readAll)
		}
	}
	if len(r.queue) == 0 {
		return nil
	}
	b := r.queue[0]
	r.queue = slices.Delete(r.queue, 0, 1)
	<-b.done
	return b
}

func (r *batchReader) readAll() {
	for b := range r.work {
		b.read(r.ctx)
	}
}

// cut takes the changes of the next batch from the list.
func (r *batchReader) cut() *batch {
	b := &batch{}
	if n := len(r.spare); n > 0 {
		b, r.spare = r.spare[n-1], r.spare[:n-1]
	}
	*b = batch{list: r.list, begin: r.begin, data: b.data[:0], entries: b.entries[:0], done: make(chan struct{})}
	size := 0
	for b.end = b.begin; b.end < len(r.list) && size < batchSize; b.end++ {
		if e := &r.list[b.end].Entry; e.Type == TypeFile && !isLink(e) {
			if e.Size > largeFile {
				b.large = true
				break
			}
			size += int(e.Size) + padding(e.Size)
		}
		size += tarBlock
	}
	b.data = slices.Grow(b.data, size)
	r.begin = b.end
	if b.large {
		r.begin++
	}
	return b
}

// release takes back a batch that is written.
func (r *batchReader) release(b *batch) {
	clear(b.entries)
	r.spare = append(r.spare, b)
}

// close ends all goroutines.
func (r *batchReader) close() {
	r.cancel()
	close(r.work)
	r.running.Wait()
}

// read fills in the batch.
func (b *batch) read(ctx context.Context) {
	defer close(b.done)
	for i := b.begin; i < b.end && b.err == nil; i++ {
		err := ctx.Err()
		if err == nil {
			err = checkOrder(b.list, i)
		}
		if err == nil {
			err = b.add(b.list[i])
		}
		if err != nil {
			b.err = packError(b.list[i].Path, err)
		}
	}
	if b.large && b.err == nil {
		if err := checkOrder(b.list, b.end); err != nil {
			b.err = packError(b.list[b.end].Path, err)
		}
	}
}

// checkOrder makes sure that change i comes behind the one before.
func checkOrder(list []Change, i int) error {
	if i > 0 && compareChanges(list[i-1], list[i]) >= 0 {
		return fmt.Errorf("out of order after %s", list[i-1].Path)
	}
	return nil
}

// add appends a change.
func (b *batch) add(ch Change) error {
	e, err := checkedEntry(ch)
	if err != nil {
		return err
	}
	if b.data, err = appendHeader(b.data, e); err != nil {
		return err
	}
	p := packedEntry{Entry: e, offset: int64(len(b.data))}
	if e.Type == TypeFile && !isLink(&e) {
		if err := b.content(&p, ch.Open); err != nil {
			return err
		}
	}
	b.entries = append(b.entries, p)
	return nil
}

// content appends the content of a file, checks it, and completes the entry.
func (b *batch) content(p *packedEntry, open Opener) error {
	n := len(b.data)
	b.data = slices.Grow(b.data, int(p.Size)+max(1, padding(p.Size)))[:n+int(p.Size)]
	content := b.data[n:]
	switch {
	case open != nil:
		if err := readFile(open, content); err != nil {
			return err
		}
	case p.Size > 0:
		return errNoContent
	}
	digest := sha256.Sum256(content)
	if err := sameDigest(p.Digest, digest); err != nil {
		return err
	}
	p.Digest = digest
	if slices.Contains(Kept, p.Path) {
		p.body = bytes.Clone(content)
	}
	b.data = append(b.data, make([]byte, padding(p.Size))...)
	return nil
}

// readFile reads a file that must have the size of buf, which has room for a byte more: a file that
// gives less than it is asked for is at its end, and knows it.
func readFile(open Opener, buf []byte) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	for len(buf) > 0 {
		n, err := r.Read(buf[:len(buf)+1])
		if n > len(buf) {
			return errChanged
		}
		buf = buf[n:]
		if err := short(err, int64(len(buf))); err != nil {
			return err
		}
	}
	return atEnd(r)
}
