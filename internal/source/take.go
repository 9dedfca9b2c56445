package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Taking is one reading of a file by somebody who computes its digest on the way, so that it is not read twice.
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

// Done says that the file was read to its end, and what the SHA-256 of all bytes was. It is an error if that is not what was known
// before; where nothing was known, if the file changed meanwhile. Else f knows the digest from now on, as do later builds.
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
	t.s.Stats.put(t.info, sum, t.begun)
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

// unchangedReader reads a file, and gives an error instead of its end if that changed meanwhile, or is not where its size says.
type unchangedReader struct {
	f   *os.File
	was *unix.Stat_t
	n   int64
}

// openUnchanged opens the file at path if it is what was.
func openUnchanged(path string, was *unix.Stat_t) (io.ReadCloser, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unchanged(f, was); err != nil {
		f.Close()
		return nil, err
	}
	return &unchangedReader{f: f, was: was}, nil
}

func (r *unchangedReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.n += int64(n)
	if errors.Is(err, io.EOF) {
		if changed := unchanged(r.f, r.was); changed != nil {
			err = changed
		} else if r.n < r.was.Size {
			err = falseSize(r.f.Name())
		}
	}
	return n, err
}

func (r *unchangedReader) Close() error { return r.f.Close() }

// statFile describes an open file.
func statFile(f *os.File) (*unix.Stat_t, error) {
	st := &unix.Stat_t{}
	if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), st) }); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}
