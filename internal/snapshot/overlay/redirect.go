package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot/treecopy"
)

// expandRedirects puts in place of each redirect in the upper folder all that it stands for, as an
// opaque folder. It costs as much as the layer that is made of such a tree, since that has all of a
// renamed folder too.
func (t *mounted) expandRedirects(ctx context.Context) error {
	return t.expandIn(ctx, ".", ".")
}

// expandIn expands the redirects in a folder of the upper folder, which is merged with the path
// lower of the lowers; "": with nothing.
func (t *mounted) expandIn(ctx context.Context, dir, lower string) error {
	entries, err := os.ReadDir(filepath.Join(t.diff(), dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub := path.Join(dir, e.Name())
		r, err := t.driver.attrs.record(filepath.Join(t.diff(), sub), true)
		if err != nil {
			return fmt.Errorf("%s: %w", sub, err)
		}
		from := r.from(lower, e.Name())
		if err := t.expandIn(ctx, sub, from); err != nil { // first what is in it: that is merged with other paths
			return err
		}
		if r.redirect == "" {
			continue
		}
		if err := t.expandRedirect(ctx, sub, from); err != nil {
			return fmt.Errorf("%s, renamed from %s: %w", sub, from, err)
		}
	}
	return nil
}

// from returns the path of the lowers that a folder is merged with, which is called name in one
// that is merged with parent; "" for nothing.
func (r record) from(parent, name string) string {
	switch {
	case r.opaque:
		return ""
	case r.redirect != "" && r.redirect[0] == '/':
		return r.redirect[1:]
	case parent == "":
		return ""
	case r.redirect != "":
		return path.Join(parent, r.redirect)
	default:
		return path.Join(parent, name)
	}
}

// expandRedirect replaces the folder dir of the upper folder by what it shows when it is merged
// with the path from of the lowers. Files of the upper folder keep all of their names.
func (t *mounted) expandRedirect(ctx context.Context, dir, from string) error {
	at, expanded := filepath.Join(t.diff(), dir), filepath.Join(t.part.Dir(), "settled")
	stack := []string{at}
	if from != "" {
		below, err := t.lowersAt(from)
		if err != nil {
			return err
		}
		stack = append(stack, below...)
	}
	if err := makeEmpty(expanded); err != nil {
		return err
	}
	options := t.driver.attrs.copyOptions()
	options.Link = true
	if err := treecopy.Copy(ctx, expanded, stack, options); err != nil {
		return err
	}
	if err := unix.Setxattr(expanded, t.driver.attrs.opaque(), []byte("y"), 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: expanded, Err: err}
	}
	var times [2]unix.Timespec // are not to change: that of the folder, which xfs changes when it gets another parent, and that of its parent
	for i, dir := range []string{expanded, filepath.Dir(at)} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		times[i] = st.Mtim
	}
	if err := exchange(at, expanded); err != nil {
		return err
	}
	for i, dir := range []string{at, filepath.Dir(at)} {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, times[i]}, 0); err != nil {
			return &os.PathError{Op: "set time of", Path: dir, Err: err}
		}
	}
	return beneath.RemovePath(expanded)
}

// lowersAt returns the folders that the lowers, which have no redirects, show merged at a path, top
// first.
func (t *mounted) lowersAt(from string) (dirs []string, err error) {
	for _, lower := range diffs(t.part.Lowers()) {
		found, hides, err := t.driver.attrs.folderAt(lower, from)
		if err != nil {
			return nil, err
		}
		if found {
			dirs = append(dirs, filepath.Join(lower, from))
		}
		if hides {
			break
		}
	}
	return dirs, nil
}

// folderAt reports whether there is a folder at a path of a lower, and whether something there or
// on the way hides what is further down.
func (a attributes) folderAt(lower, from string) (found, hides bool, err error) {
	at := lower
	for name := range strings.SplitSeq(from, "/") {
		at = filepath.Join(at, name)
		var st unix.Stat_t
		switch err := unix.Lstat(at, &st); {
		case errors.Is(err, fs.ErrNotExist):
			return false, hides, nil
		case err != nil:
			return false, false, &os.PathError{Op: "lstat", Path: at, Err: err}
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return false, true, nil
		}
		r, err := a.record(at, true)
		if err != nil {
			return false, false, fmt.Errorf("%s: %w", at, err)
		}
		hides = hides || r.opaque
	}
	return true, hides, nil
}
