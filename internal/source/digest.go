package source

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// digestAll digests the regular files of all matches whose digest is not known yet, several at
// once. The error is the first in the order of the matches of those that were found.
func (s *Source) digestAll(ctx context.Context, matches []Match) error {
	var todo []*Node
	for _, m := range matches {
		for i := range m.Nodes {
			if m.Nodes[i].stat != nil {
				todo = append(todo, &m.Nodes[i])
			}
		}
	}
	if len(todo) == 0 {
		return ctx.Err()
	}
	errs := make([]error, len(todo))
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range min(2*runtime.GOMAXPROCS(0), len(todo)) {
		wg.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return
				}
				n := todo[i]
				if n.Digest, errs[i] = s.digest(ctx, n.Path, unix.O_NOFOLLOW, n.stat, n.Xattrs == nil); errs[i] != nil {
					failed.Store(true)
				}
				n.stat = nil
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readSize is how much of a file is read at once.
const readSize = 256 << 10

// digest returns the SHA-256 of the file at path, which st describes and which is opened with
// flags, and remembers it, with bare as Stats.put has it.
func (s *Source) digest(ctx context.Context, path string, flags int, st *unix.Stat_t, bare bool) (sum [32]byte, err error) {
	now := time.Now()
	fd, err := open(unix.AT_FDCWD, path, flags)
	if err != nil {
		return sum, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := s.buffer()
	defer s.buffers.Put(buf)
	h := sha256.New()
	_, was := statOf(st)
	for left := st.Size; ; {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n := 0
		err := ignoringEINTR(func() (err error) {
			n, err = unix.Read(fd, *buf)
			return err
		})
		if err != nil {
			return sum, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		h.Write((*buf)[:n])
		if left -= int64(n); left < 0 || n == 0 && left > 0 {
			return sum, wrongSize(path, fd, st)
		}
		// What is shorter than was asked for ends there, or with the next read.
		if left == 0 && n < len(*buf) {
			break
		}
	}
	var after unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(fd, &after) }); err != nil {
		return sum, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if _, is := statOf(&after); is != was {
		return sum, changed(path)
	}
	h.Sum(sum[:0])
	s.Stats.put(st, sum, bare, now)
	return sum, nil
}

// wrongSize is the error of the open file fd, which st described, when it did not hold as many
// bytes as st says.
func wrongSize(path string, fd int, st *unix.Stat_t) error {
	var now unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstat(fd, &now) })
	_, was := statOf(st)
	if _, is := statOf(&now); err != nil || is != was {
		return changed(path)
	}
	return falseSize(path)
}

// buffer returns a buffer of readSize bytes, to be put back into s.buffers.
func (s *Source) buffer() *[]byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, readSize)
	return &b
}
