package layer

import (
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
)

// What makers are given at a time. The buffers of all batches are most of the memory that unpacking
// needs, whatever the layer.
const (
	fileBatchSize = 512 << 10 // bytes of content, and so of the largest file that makers make
	batchFiles    = 64
	batchCount    = 16
	maxMakers     = 8
)

// makers make small regular files, of which the content is in memory, while the extractor goes on
// with what comes behind them. All methods but work and fail are for the extractor's goroutine.
type makers struct {
	nodes *nodeMaker
	now   *fileBatch // the one that is being filled; nil: none
	made  int        // batches that there are
	given int        // batches that were handed over
	empty chan *fileBatch
	full  chan *fileBatch

	running sync.WaitGroup // the goroutines
	pending sync.WaitGroup // batches that were handed over and are not done

	failed atomic.Bool
	mu     sync.Mutex // of the two below
	err    error      // of the first file in the archive's order that could not be made
	number int        // of its batch
}

// fileBatch is some files that a maker makes one after the other.
type fileBatch struct {
	number int // in the archive's order
	buf    []byte
	used   int // bytes of buf
	files  []newFile
}

// newFile is a regular file that is to be made where nothing is.
type newFile struct {
	in      *openFolder // held for it
	name    string
	entry   Entry
	content []byte // lies in the buf of the batch
	said    string // what the archive calls it, for errors
}

// newMakers starts no goroutine yet: most layers of a build are small.
func newMakers(n *nodeMaker) *makers {
	return &makers{nodes: n, empty: make(chan *fileBatch, batchCount), full: make(chan *fileBatch, batchCount)}
}

// takes reports whether makers make what e is.
func (m *makers) takes(e *Entry) bool { return e.Type == TypeFile && e.Size <= fileBatchSize }

// add has a file of at most fileBatchSize bytes made, at the latest when wait returns. read, which
// gives its content, is called at once.
func (m *makers) add(f newFile, read func([]byte) error) error {
	size := int(f.entry.Size)
	if m.now != nil && (m.now.used+size > fileBatchSize || len(m.now.files) == batchFiles) {
		m.flush()
	}
	if m.now == nil {
		m.now = m.emptyBatch()
	}
	b := m.now
	f.content = b.buf[b.used : b.used+size]
	if err := read(f.content); err != nil {
		return err
	}
	f.in.hold()
	b.used += size
	b.files = append(b.files, f)
	return nil
}

// emptyBatch waits for a batch when there are as many as may be.
func (m *makers) emptyBatch() *fileBatch {
	select {
	case b := <-m.empty:
		return b
	default:
	}
	if m.made == batchCount {
		return <-m.empty
	}
	if m.made < min(max(2, runtime.GOMAXPROCS(0)), maxMakers) {
		m.running.Go(m.work)
	}
	m.made++
	return &fileBatch{buf: make([]byte, fileBatchSize), files: make([]newFile, 0, batchFiles)}
}

// flush hands over the files that were added.
func (m *makers) flush() {
	if m.now == nil {
		return
	}
	m.now.number = m.given
	m.given++
	m.pending.Add(1)
	m.full <- m.now
	m.now = nil
}

// wait returns when all files that were added are there, or could not be made.
func (m *makers) wait() {
	m.flush()
	m.pending.Wait()
}

// close waits and ends the goroutines. It returns the error of the first file, in the archive's
// order, that could not be made.
func (m *makers) close() error {
	m.wait()
	close(m.full)
	m.running.Wait()
	return m.err
}

// work makes the files of batches, until close.
func (m *makers) work() {
	for b := range m.full {
		for i := range b.files {
			f := &b.files[i]
			if err := m.nodes.newFile(f); err != nil {
				m.fail(b.number, &fs.PathError{Op: "unpack", Path: f.said, Err: err})
			}
			f.in.release()
		}
		clear(b.files)
		b.files, b.used = b.files[:0], 0
		m.empty <- b
		m.pending.Done()
	}
}

// fail notes an error of the batch with that number.
func (m *makers) fail(number int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil || number < m.number {
		m.err, m.number = err, number
	}
	m.failed.Store(true)
}
