// Package beneath opens, removes and measures what lies beneath a folder, and is the one caller of
// openat2(2). Somebody may have put a symlink in the place of a folder there, or mounted something:
// a path then leads as far as its caller says, and what is not genoci's stays.
package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where a path may lead, for Open.
const (
	Anywhere      = 0                                                 // as for open(2)
	NoSymlinks    = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS   // beneath the folder; a symlink is ELOOP
	OnMount       = NoSymlinks | unix.RESOLVE_NO_XDEV                 // so too, and a mount is EXDEV
	InRoot        = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS // as if the folder were "/": symlinks are followed, and none leads out
	InRootNoLinks = InRoot | unix.RESOLVE_NO_SYMLINKS                 // "/" and ".." are the folder's, a symlink is ELOOP
)

// Open opens path, relative to the open folder dir (or unix.AT_FDCWD). The flags are those of
// open(2), to which O_CLOEXEC is added; lead is one of the constants above. It returns the
// descriptor, or the error of openat2(2), an errno, which Linux has since 5.6.
func Open(dir int, path string, flags int, lead uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: lead}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: something was renamed or mounted meanwhile, anywhere in the system, and ".."
		// could not be resolved safely.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// ErrElsewhere is wrapped where a folder beneath another is a symlink, or a mount.
var ErrElsewhere = errors.New("nothing was removed there")

// Check returns an error, which wraps ErrElsewhere and names the place, where one of the folders
// beneath root is a symlink or a mount, or lies behind one. A folder that is missing is no error.
// root itself may be a symlink: somebody has named it.
func Check(root string, folders ...string) error {
	top, err := openRoot(root)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	for _, name := range folders {
		fd, err := openFolder(top, root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// openRoot opens the folder that paths are relative to, for what is done in it by name.
func openRoot(root string) (int, error) {
	fd, err := Open(unix.AT_FDCWD, root, unix.O_PATH|unix.O_DIRECTORY, Anywhere)
	return fd, wrapPath("open", root, err)
}

// openParent opens the folder in which name, a path beneath root, lies.
func openParent(root, name string) (int, error) {
	top, err := openRoot(root)
	if err != nil {
		return -1, err
	}
	folder := filepath.Dir(name)
	if folder == "." {
		return top, nil
	}
	defer unix.Close(top)
	return openFolder(top, root, folder)
}

// openFolder opens the folder called name beneath top, which is open, and whose path is root.
func openFolder(top int, root, name string) (int, error) {
	fd, err := Open(top, name, unix.O_PATH|unix.O_DIRECTORY, OnMount)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return -1, elsewhere(root, name, err)
	}
	return -1, wrapPath("open", filepath.Join(root, name), err)
}

// elsewhere says which folder on the way from root to name is not what it should be: err is what
// opening it gave.
func elsewhere(root, name string, err error) error {
	at := root
	for part := range strings.SplitSeq(name, "/") {
		at = filepath.Join(at, part)
		if target, err := os.Readlink(at); err == nil {
			return fmt.Errorf("%s: a symlink to %s: %w", at, target, ErrElsewhere)
		}
		if errors.Is(err, unix.EXDEV) && openMount(root, at) {
			return fmt.Errorf("%s: another file system is mounted there: %w", at, ErrElsewhere)
		}
	}
	return wrapPath("open", at, err)
}

// openMount reports whether a mount lies between the folders root and at.
func openMount(root, at string) bool {
	rel, err := filepath.Rel(root, at)
	if err != nil {
		return false
	}
	top, err := openRoot(root)
	if err != nil {
		return false
	}
	defer unix.Close(top)
	fd, err := Open(top, rel, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_XDEV)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EXDEV)
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
