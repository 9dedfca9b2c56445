package source

import (
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Taking is one reading of a file by somebody who computes its digest on the way, so that it is not
// read twice.
type Taking struct {
	*os.File
	s     *Source
	f     *File
	info  *unix.Stat_t // when it was opened
	begun time.Time
}

// Take opens f, to be read to its end. Close it in any case.
func (s *Source) Take(f *File) (*Taking, error) {
	t := &Taking{s: s, f: f, begun: time.Now()}
	var err error
	if t.File, err = os.Open(f.Path); err != nil {
		return nil, err
	}
	if t.info, err = statFile(t.File); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Size is how long the file was when it was opened.
func (t *Taking) Size() int64 { return t.info.Size }

// Done says that the file was read to its end, and what the SHA-256 of all bytes was. It is an
// error if that is not what was known before; where nothing was known, if the file changed
// meanwhile. Else f knows the digest from now on, as do later builds.
func (t *Taking) Done(sum [32]byte) error {
	if t.f.Known() {
		if sum != t.f.Digest {
			return changed(t.f.Path)
		}
		return nil
	}
	if err := unchanged(t.File, t.info); err != nil {
		return err
	}
	t.f.Size, t.f.Digest = t.info.Size, sum
	t.s.Stats.put(t.info, sum, false, t.begun)
	return nil
}

// unchanged returns an error if an open file is not, or not any more, what was.
func unchanged(f *os.File, was *unix.Stat_t) error {
	now, err := statFile(f)
	if err != nil {
		return err
	}
	wasKey, before := statOf(was)
	if key, is := statOf(now); key != wasKey || is != before {
		return changed(f.Name())
	}
	return nil
}

// unchangedReader reads a file, and gives an error instead of its end if that is not what was, or
// not where its size says. An os.File would take a system call more.
type unchangedReader struct {
	fd   int
	path string
	was  *unix.Stat_t
	n    int64
	done bool // the last read gave less than it was asked for: a regular file ends there
}

// openUnchanged opens the file at path, which is to be what was when it has been read.
func openUnchanged(path string, was *unix.Stat_t) (io.ReadCloser, error) {
	fd, err := open(unix.AT_FDCWD, path, unix.O_NOFOLLOW)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &unchangedReader{fd: fd, path: path, was: was}, nil
}

func (r *unchangedReader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.done {
		return 0, r.end(nil)
	}
	err = ignoringEINTR(func() (err error) {
		n, err = unix.Read(r.fd, p)
		return err
	})
	if err == nil && n > 0 {
		r.n += int64(n)
		r.done = n < len(p)
		return n, nil
	}
	return 0, r.end(err)
}

// end returns what a read that gave nothing is to return: io.EOF where all is well.
func (r *unchangedReader) end(err error) error {
	var now unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(r.fd, &now) }); err != nil {
		return &fs.PathError{Op: "stat", Path: r.path, Err: err}
	}
	wasKey, was := statOf(r.was)
	switch key, is := statOf(&now); {
	case key != wasKey || is != was:
		return changed(r.path)
	case err != nil:
		return &fs.PathError{Op: "read", Path: r.path, Err: err}
	case r.n != r.was.Size:
		return falseSize(r.path)
	}
	return io.EOF
}

func (r *unchangedReader) Close() error {
	fd := r.fd
	r.fd = -1
	return unix.Close(fd)
}

// statFile describes an open file.
func statFile(f *os.File) (*unix.Stat_t, error) {
	st := &unix.Stat_t{}
	if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), st) }); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}
