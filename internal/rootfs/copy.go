package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/layer"
)

// Found is what stands at a path, with symlinks followed.
type Found struct {
	Path  string // canonical
	Entry layer.Entry
	Named string // the canonical path of the symlink that was named; "" where none was
	Link  string // where that leads
}

// NotFoundError says that there is nothing at a path. It wraps fs.ErrNotExist.
type NotFoundError struct {
	Path  string   // canonical
	Names []string // of what else is in its folder
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("/%s: %v", e.Path, fs.ErrNotExist) }
func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }

// DanglingError says that a symlink leads to nothing.
type DanglingError struct{ Named, Link, Path string }

func (e *DanglingError) Error() string {
	return fmt.Sprintf("/%s is a symlink to %s, and there is no /%s", e.Named, e.Link, e.Path)
}

// Find looks up a path as programs in the root filesystem would. The error is a *NotFoundError or a
// *DanglingError where there is nothing.
func Find(view layer.View, at string) (Found, error) {
	named, err := layer.Resolve(view, at, false)
	if err != nil {
		return Found{}, err
	}
	real, err := layer.Resolve(view, at, true)
	if err != nil {
		return Found{}, err
	}
	e, ok, err := view.Lookup(named)
	switch {
	case err != nil:
		return Found{}, err
	case !ok:
		return Found{}, notFound(view, named)
	}
	f := Found{Path: real, Entry: e}
	if e.Type == layer.TypeSymlink {
		f.Named, f.Link = named, e.Link
	}
	f.Entry, ok, err = view.Lookup(real)
	if f.Named != "" && (err != nil || !ok) {
		err = errors.Join(err, &DanglingError{named, e.Link, real})
	}
	return f, err
}

func notFound(view layer.View, at string) error {
	e := &NotFoundError{Path: at}
	for child, err := range view.Children(path.Dir(at)) {
		if err != nil {
			return err
		}
		e.Names = append(e.Names, path.Base(child.Path))
	}
	return e
}

// IsDevice reports whether an entry is a device node, which is not copied.
func IsDevice(e layer.Entry) bool { return e.Type == layer.TypeChar || e.Type == layer.TypeBlock }

// Content opens the content of a file. release is due after it was read.
func Content(ctx context.Context, root *Root, f Found) (r io.ReadCloser, release func() error, err error) {
	changes, release, err := root.Subtree(ctx, f.Path)
	if err != nil {
		return nil, nil, err
	}
	if changes[0].Open == nil {
		return io.NopCloser(strings.NewReader("")), release, nil
	}
	r, err = changes[0].Open()
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return r, release, nil
}

// CopyOptions say how files are copied. The zero value gives them to the caller, and replaces
// nothing.
type CopyOptions struct {
	KeepOwner bool // files keep their owners, and their setuid and setgid bits
	Replace   bool // a file at the destination is replaced; never a folder
}

// Copy copies what was found, with all that is below it, to dest, in a folder that exists. It makes
// all or nothing. A killed copy leaves a folder that the next one into the same folder removes.
// Devices are left out, and their paths returned, with an error too.
func Copy(ctx context.Context, root *Root, f Found, dest string, o CopyOptions) (leftOut []string, err error) {
	changes, release, err := root.Subtree(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	changes = slices.DeleteFunc(changes, func(ch layer.Change) bool {
		if IsDevice(ch.Entry) {
			leftOut = append(leftOut, ch.Path)
		}
		return IsDevice(ch.Entry)
	})
	for i := range changes {
		if !o.KeepOwner && changes[i].Type != layer.TypeDir {
			changes[i].Mode &^= 0o6000
		}
	}
	return leftOut, install(ctx, changes, dest, o)
}

// install puts changes, the first of which is the copy itself, to dest: all or nothing. They are
// made in a folder beside it that nobody else can enter.
func install(ctx context.Context, changes []layer.Change, dest string, o CopyOptions) (err error) {
	temp, err := newUnfinished(filepath.Dir(dest))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.remove()) }()
	made := filepath.Join(temp.dir, "copy")
	unpack := layer.UnpackOptions{KeepOwner: o.KeepOwner}
	if changes[0].Type != layer.TypeDir {
		changes[0].Path, changes[0].Group = "copy", ""
		err = layer.Apply(ctx, temp.dir, changes, unpack)
	} else {
		made = temp.dir // this is renamed itself: a folder that its owner may not write to could not be moved
		if err = layer.Apply(ctx, made, changes[1:], unpack); err == nil {
			err = temp.unmark()
		}
		if err == nil {
			err = layer.Apply(ctx, made, changes[:1], unpack)
		}
	}
	if err != nil {
		return err
	}
	if o.Replace && changes[0].Type != layer.TypeDir {
		return os.Rename(made, dest)
	}
	err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, dest, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot do that
		if _, err := os.Lstat(dest); err == nil {
			return &fs.PathError{Op: "make", Path: dest, Err: fs.ErrExist}
		}
		return os.Rename(made, dest)
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: dest, Err: err}
	}
	return nil
}
