package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot/treecopy"
)

// random makes random changes to trees, the same to several at once. The seed is fixed: a failure
// comes back.
type random struct {
	*rand.Rand
	s     *suite
	count int
}

func newRandom(s *suite) *random {
	return &random{Rand: rand.New(rand.NewPCG(1, 2)), s: s}
}

// path returns a path of at most three names, out of few, so that changes meet.
func (r *random) path() string {
	path := ""
	for range 1 + r.IntN(3) {
		path = filepath.Join(path, string(rune('a'+r.IntN(4))))
	}
	return path
}

// change makes n random changes. What cannot be done is not done in any of the trees.
func (r *random) change(n int, dirs ...string) {
	r.s.Helper()
	for range n {
		r.count++
		op := r.operation()
		errs := make([]error, len(dirs))
		for i, dir := range dirs {
			errs[i] = op(dir)
		}
		for _, err := range errs {
			if (err == nil) != (errs[0] == nil) {
				r.s.Fatalf("change %d differs between the trees: %v", r.count, errs)
			}
		}
	}
}

// operation chooses an operation, whose outcome depends on the tree alone.
func (r *random) operation() func(dir string) error {
	path, other, kind, count := r.path(), r.path(), r.IntN(14), r.count
	return func(dir string) error {
		path, other := filepath.Join(dir, path), filepath.Join(dir, other)
		switch kind {
		case 0, 1, 2: // write, making the folders on the way
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.WriteFile(path, fmt.Appendf(nil, "content %d", count), 0o644)
		case 3, 4:
			return os.RemoveAll(path)
		case 5:
			return os.MkdirAll(path, 0o755)
		case 6: // a folder removed and made again
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(path, "a"), 0o755)
		case 7:
			return os.Symlink("target", path)
		case 8:
			return renameFile(path, other)
		case 9:
			return chmodNew(path, os.FileMode(0o600+count%64))
		case 10:
			return unix.Lsetxattr(path, "user.count", fmt.Append(nil, count), 0)
		case 11, 12:
			return moveFolder(path, other)
		default: // a file in place of whatever there is
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		}
	}
}

// moveFolder renames a folder, or does what programs do where a driver cannot: it copies it, and
// removes the old one.
func moveFolder(path, other string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New("no folder")
	}
	if err := unix.Rename(path, other); !errors.Is(err, unix.EXDEV) { // os.Rename replaces no folder
		return err
	}
	if strings.HasPrefix(other+"/", path+"/") {
		return unix.EINVAL
	}
	if err := os.Mkdir(other, 0o700); err != nil { // rename(2) replaces an empty folder
		if unix.Rmdir(other) != nil {
			return err
		}
		if err := os.Mkdir(other, 0o700); err != nil {
			return err
		}
	}
	if err := treecopy.Copy(context.Background(), other, []string{path}, treecopy.Options{Keep: func(string) bool { return true }}); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// renameFile renames what is no folder.
func renameFile(path, other string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return errors.New("a folder")
	}
	return os.Rename(path, other)
}

// chmodNew changes the mode of what is no symlink, keeping folders usable.
func chmodNew(path string, mode os.FileMode) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch {
	case fi.Mode()&os.ModeSymlink != 0:
		return errors.New("a symlink")
	case fi.IsDir():
		mode |= 0o700
	}
	return os.Chmod(path, mode)
}
