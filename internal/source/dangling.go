package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DanglingError is the error of a path of the host that leads through a symlink to nothing. It
// wraps fs.ErrNotExist.
type DanglingError struct {
	Path   string // of the symlink, absolute
	Link   string // its text
	Target string // absolute path that the symlink, and those that it leads to, end at
}

func (e *DanglingError) Error() string {
	if e.Link == e.Target {
		return fmt.Sprintf("%s is a symlink to %s, which does not exist", e.Path, e.Link)
	}
	return fmt.Sprintf("%s is a symlink to %s, and %s does not exist", e.Path, e.Link, e.Target)
}

// Unwrap returns fs.ErrNotExist.
func (e *DanglingError) Unwrap() error { return fs.ErrNotExist }

// Dangling returns a *DanglingError where the path, as Find returns it, leads through a symlink to
// nothing; else nil.
func Dangling(path string) error {
	_, err := os.Stat(path)
	if d := (*DanglingError)(nil); errors.As(dangling(path, err), &d) {
		return d
	}
	return nil
}

// dangling returns a *DanglingError in place of err, which is the error of a stat of the absolute
// path, where a symlink is why.
func dangling(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for p := path; ; p = filepath.Dir(p) {
		_, e := os.Lstat(p)
		if errors.Is(e, fs.ErrNotExist) && p != filepath.Dir(p) {
			continue
		}
		if _, there := os.Stat(p); there == nil {
			return err
		}
		link, e := os.Readlink(p)
		if e != nil {
			return err
		}
		d := &DanglingError{Path: p, Link: link, Target: p}
		for e == nil {
			if !filepath.IsAbs(link) {
				link = filepath.Join(filepath.Dir(d.Target), link)
			}
			d.Target = filepath.Clean(link)
			link, e = os.Readlink(d.Target)
		}
		return d
	}
}
