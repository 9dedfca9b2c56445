package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Remove removes the file, symlink or empty folder called name, a path beneath root. The error
// wraps ErrElsewhere where a folder on the way to it is a symlink or a mount, and fs.ErrNotExist
// where nothing is there.
func Remove(root, name string) error {
	parent, err := openParent(root, name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	err = unix.Unlinkat(parent, filepath.Base(name), 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(parent, filepath.Base(name), unix.AT_REMOVEDIR)
	}
	return wrapPath("remove", filepath.Join(root, name), err)
}

// RemoveAll deletes what is called name, a path beneath root, and all below, as RemoveAt does. The
// error wraps ErrElsewhere where a folder on the way to it is a symlink or a mount. What is not
// there is no error.
func RemoveAll(root, name string) error {
	parent, err := openParent(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return wrapPath("remove", filepath.Join(root, name), RemoveAt(parent, filepath.Base(name)))
}

// RemovePath deletes what is at path and below, as RemoveAt does; the folder that it lies in may be
// reached through symlinks. Nothing at path is no error; "/", and what ends in "." or "..", is
// (EINVAL).
func RemovePath(path string) error {
	path = filepath.Clean(path)
	switch filepath.Base(path) {
	case ".", "..", "/":
		return wrapPath("remove", path, unix.EINVAL)
	}
	return RemoveAll(filepath.Dir(path), filepath.Base(path))
}

// RemoveAt deletes what is called name in the open folder dir, and all below. It follows no symlink
// and crosses no mount (EBUSY), gets into folders without permissions, and read-only subvolumes of
// a btrfs, as far as the process may change those, and copes with any depth. What is not there, or
// goes meanwhile, is no error. An error in a folder below name begins with its path.
func RemoveAt(dir int, name string) error {
	switch err := unix.Unlinkat(dir, name, 0); err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR:
	default:
		return err
	}
	if emptied(dir, name) {
		return nil
	}
	r := &remover{}
	defer r.close()
	return r.remove(dir, name)
}

// remover goes through a tree that it deletes, with the descriptor of one folder at a time: trees
// may be deeper than any limit of open files or of paths.
type remover struct {
	at    *os.File  // the folder that it is in
	above []leaving // the folders around that, outermost first
}

// leaving is a folder on the way down: what it is, so that ".." is known to lead back to it, and
// what is left to do in it.
type leaving struct {
	dev, ino uint64
	name     string // of the folder that was entered
	dirs     []string
}

func (r *remover) close() {
	if r.at != nil {
		r.at.Close()
	}
}

// remove deletes the folder called name in dir.
func (r *remover) remove(dir int, name string) error {
	dirs, err := r.enter(dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	for err == nil {
		if n := len(dirs); n > 0 {
			dirs, err = r.down(dirs[n-1], dirs[:n-1])
			continue
		}
		n := len(r.above)
		if n == 0 {
			return rmdir(dir, name)
		}
		up := r.above[n-1]
		if err = r.leave(up); err == nil {
			r.above, dirs = r.above[:n-1], up.dirs
		}
	}
	return r.place(err)
}

// place says in which folder something failed.
func (r *remover) place(err error) error {
	var names []string
	for _, l := range r.above {
		names = append(names, l.name)
	}
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", path.Join(names...), err)
}

// down enters the folder called name in the current one, in which rest is left to do.
func (r *remover) down(name string, rest []string) (dirs []string, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.at.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	r.above = append(r.above, leaving{st.Dev, st.Ino, name, rest})
	dirs, err = r.enter(int(r.at.Fd()), name)
	if errors.Is(err, unix.ENOENT) { // it is gone
		r.above = r.above[:len(r.above)-1]
		return rest, nil
	}
	return dirs, err
}

// enter makes the folder called name in dir the current one, deletes all in it that are no folders,
// and returns the names of those. Where there is no such folder, the error is ENOENT itself, and
// the current one stays.
func (r *remover) enter(dir int, name string) (dirs []string, err error) {
	f, err := openToEmpty(dir, name)
	if err != nil {
		return nil, err
	}
	r.close()
	r.at = f
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, unix.ENOENT) { // that, where somebody removes the folder meanwhile
		return nil, err
	}
	for _, name := range names {
		switch err := unix.Unlinkat(int(f.Fd()), name, 0); err {
		case nil, unix.ENOENT:
		case unix.EISDIR:
			if !emptied(int(f.Fd()), name) {
				dirs = append(dirs, name)
			}
		default:
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return dirs, nil
}

// leave goes back to the folder above and deletes the empty one that was left.
func (r *remover) leave(up leaving) error {
	fd, err := Open(int(r.at.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY, Anywhere)
	if err != nil {
		return err
	}
	r.close()
	r.at = os.NewFile(uintptr(fd), "..")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Dev != up.dev || st.Ino != up.ino {
		return errors.New("moved during its removal")
	}
	return rmdir(fd, up.name)
}

// emptied removes the folder called name in parent if nothing is in it, which saves opening it. It
// reports whether the folder is gone. What does not let itself be removed is for remove to look at.
func emptied(parent int, name string) bool { return rmdir(parent, name) == nil }

func rmdir(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// openToEmpty opens the folder name in parent: readable and writable for its owner, and on the same
// mount (else EBUSY). The error is an errno.
func openToEmpty(parent int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	fd, err := Open(parent, name, flags, OnMount)
	if errors.Is(err, unix.EACCES) {
		if err = permit(parent, name, flags); err == nil {
			fd, err = Open(parent, name, flags, OnMount)
		}
	}
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, unix.EBUSY
	case err != nil:
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if st.Ino == subvolumeRoot {
		makeWritable(fd)
	}
	if st.Mode&0o700 != 0o700 {
		_ = unix.Fchmod(fd, st.Mode&0o7777|0o700) // where this fails, root does not need it, and others get the error of what needs it
	}
	return os.NewFile(uintptr(fd), name), nil
}

// permit gives the owner of a folder all permissions, though it cannot be opened yet.
func permit(parent int, name string, flags int) error {
	fd, err := Open(parent, name, flags|unix.O_PATH, OnMount)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o7777|0o700)
}

// Of the kernel's include/uapi/linux/btrfs.h and btrfs_tree.h.
const (
	subvolumeRoot  = 256        // BTRFS_FIRST_FREE_OBJECTID: the inode number
	getFlags       = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	setFlags       = 0x4008941a // BTRFS_IOC_SUBVOL_SETFLAGS
	subvolReadOnly = 1 << 1     // BTRFS_SUBVOL_RDONLY
)

// makeWritable makes a subvolume of a btrfs writable, in which else nothing could be removed. A
// folder that is none stays as it is.
func makeWritable(dir int) {
	var flags uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dir), getFlags, uintptr(unsafe.Pointer(&flags))); errno != 0 || flags&subvolReadOnly == 0 {
		return
	}
	flags &^= subvolReadOnly
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(dir), setFlags, uintptr(unsafe.Pointer(&flags))) // where this fails, so does removing
}
