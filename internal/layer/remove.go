package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// RemoveAll deletes what is at path and below, following no symlink and crossing no mount (EBUSY then).
// Unlike os.RemoveAll it copes with folders without write permission, as far as the process may, and
// with trees of any depth. Nothing at path is no error; "/", and what ends in "." or "..", is.
func RemoveAll(path string) error {
	path = filepath.Clean(path)
	switch filepath.Base(path) {
	case ".", "..", "/":
		return &fs.PathError{Op: "remove", Path: path, Err: unix.EINVAL}
	}
	dir, err := openRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := removeAt(dir, filepath.Base(path)); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// removeAt deletes name in the folder dir, with everything below it. Nothing there is no error.
func removeAt(dir int, name string) error {
	switch err := unix.Unlinkat(dir, name, 0); {
	case err == nil, err == unix.ENOENT:
		return nil
	case err != unix.EISDIR:
		return err
	}
	r := &remover{}
	err := r.remove(dir, name)
	if r.at != nil {
		r.at.Close()
	}
	return err
}

// remover goes through a tree that it deletes, with the descriptor of one folder at a time: trees may be deeper
// than any limit of open files or of paths.
type remover struct {
	at    *os.File  // the folder that it is in
	above []leaving // the folders around that, outermost first
}

// leaving is a folder on the way down: what it is, so that ".." is known to lead back to it, and what is left to do in it.
type leaving struct {
	inode inode
	name  string // of the folder that was entered
	dirs  []string
}

// remove deletes the folder called name in dir.
func (r *remover) remove(dir int, name string) error {
	dirs, err := r.enter(dir, name)
	if err != nil {
		return err
	}
	for {
		if n := len(dirs); n > 0 {
			next := dirs[n-1]
			st, err := statFD(int(r.at.Fd()))
			if err != nil {
				return err
			}
			r.above = append(r.above, leaving{inodeOf(&st), next, dirs[:n-1]})
			if dirs, err = r.enter(int(r.at.Fd()), next); err != nil {
				return err
			}
			continue
		}
		n := len(r.above)
		if n == 0 {
			return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		}
		up := r.above[n-1]
		r.above = r.above[:n-1]
		if err := r.leave(up); err != nil {
			return err
		}
		dirs = up.dirs
	}
}

// enter makes the folder called name in dir the current one, deletes all in it that are no folders, and returns the names of those.
func (r *remover) enter(dir int, name string) (dirs []string, err error) {
	f, err := openForRemoval(dir, name)
	if err != nil {
		return nil, err
	}
	if r.at != nil {
		r.at.Close()
	}
	r.at = f
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		switch err := unix.Unlinkat(int(f.Fd()), name, 0); err {
		case nil, unix.ENOENT:
		case unix.EISDIR:
			dirs = append(dirs, name)
		default:
			return nil, &fs.PathError{Op: "unlink", Path: name, Err: err}
		}
	}
	return dirs, nil
}

// leave goes back to the folder above and deletes the empty one that was left.
func (r *remover) leave(up leaving) error {
	fd, err := unix.Openat(int(r.at.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.at.Close()
	r.at = os.NewFile(uintptr(fd), "..")
	st, err := statFD(fd)
	if err != nil {
		return err
	}
	if inodeOf(&st) != up.inode {
		return fmt.Errorf("%s was moved while it was removed", up.name)
	}
	return unix.Unlinkat(fd, up.name, unix.AT_REMOVEDIR)
}

// openForRemoval opens a folder to delete what is in it, and gives its owner the permissions for that.
func openForRemoval(dir int, name string) (*os.File, error) {
	fd, err := open(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath.OnMount)
	if errors.Is(err, unix.EXDEV) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EBUSY}
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	makeAccessible(fd)
	readable, err := open(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, beneath.OnMount)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(readable), name), nil
}

// makeAccessible tries to give the owner of the folder that the O_PATH descriptor fd stands for all permissions in
// it, where they lack. Where that does not help, what is tried next fails.
func makeAccessible(fd int) {
	st, err := statFD(fd)
	if err == nil && st.Mode&0o700 != 0o700 {
		_ = chmodFD(fd, uint32(st.Mode)&0o7777|0o700)
	}
}

// chmodFD is fchmod(2) for O_PATH descriptors, which that call does not take.
func chmodFD(fd int, mode uint32) error {
	return unix.Chmod(fdPath(fd), mode)
}
