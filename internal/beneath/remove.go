package beneath

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Remove removes the file, symlink or empty folder called name, a path beneath root. The error wraps ErrElsewhere where a folder on the way to it is a
// symlink or a mount, and fs.ErrNotExist where nothing is there.
func Remove(root, name string) error {
	parent, err := openParent(root, name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	isDir, err := unlink(parent, filepath.Base(name))
	if isDir {
		err = unix.Unlinkat(parent, filepath.Base(name), unix.AT_REMOVEDIR)
	}
	return wrapPath("remove", filepath.Join(root, name), err)
}

// RemoveAll deletes what is called name, a path beneath root, and all below. It follows no symlink and crosses no mount (the error wraps ErrElsewhere,
// or is EBUSY), gets into folders without permissions, and read-only subvolumes of a btrfs, as far as the process may change those,
// and copes with any depth. What is not there is no error.
func RemoveAll(root, name string) error {
	parent, err := openParent(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	path, name := filepath.Join(root, name), filepath.Base(name)
	isDir, err := unlink(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !isDir {
		return wrapPath("remove", path, err)
	}
	top, err := openToEmpty(parent, name)
	if err != nil {
		return wrapPath("remove", path, err)
	}
	defer top.Close()
	if err := emptyTop(top); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return wrapPath("remove", path, rmdir(parent, name))
}

// emptyTop deletes all that is in top and below.
func emptyTop(top *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Ino == subvolumeRoot {
		makeWritable(top)
	}
	r := remover{top: top, dev: st.Dev}
	if err := r.empty(top, 0); err != nil {
		return err
	}
	for len(r.raised) > 0 {
		name := r.raised[0]
		r.raised = r.raised[1:]
		if err := r.dir(top, name, 0); err != nil {
			return err
		}
	}
	return nil
}

// Of the kernel's include/uapi/linux/btrfs.h and btrfs_tree.h.
const (
	subvolumeRoot  = 256        // BTRFS_FIRST_FREE_OBJECTID: the inode number
	getFlags       = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	setFlags       = 0x4008941a // BTRFS_IOC_SUBVOL_SETFLAGS
	subvolReadOnly = 1 << 1     // BTRFS_SUBVOL_RDONLY
)

// makeWritable makes a subvolume of a btrfs writable, in which else nothing could be removed. A folder that is none stays as it is.
func makeWritable(dir *os.File) {
	var flags uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), getFlags, uintptr(unsafe.Pointer(&flags))); errno != 0 || flags&subvolReadOnly == 0 {
		return
	}
	flags &^= subvolReadOnly
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, dir.Fd(), setFlags, uintptr(unsafe.Pointer(&flags))) // where this fails, so does removing
}

// remover deletes one tree. Each level costs an open folder, so what lies deeper than maxDepth is first raised to the top.
type remover struct {
	top    *os.File
	dev    uint64   // of top
	raised []string // names in top
}

const maxDepth = 200

// empty deletes all that is in dir.
func (r *remover) empty(dir *os.File, depth int) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		isDir, err := unlink(int(dir.Fd()), name)
		if isDir {
			err = r.dir(dir, name, depth)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// dir deletes the folder name in parent.
func (r *remover) dir(parent *os.File, name string, depth int) error {
	dir, err := openToEmpty(int(parent.Fd()), name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if st.Dev != r.dev { // a subvolume of a btrfs: nothing can be raised out of it
		if err := emptyTop(dir); err != nil {
			return err
		}
		return rmdir(int(parent.Fd()), name)
	}
	if depth == maxDepth {
		unique := rand.Text()
		r.raised = append(r.raised, unique)
		return unix.Renameat(int(parent.Fd()), name, int(r.top.Fd()), unique)
	}
	if err := r.empty(dir, depth+1); err != nil {
		return err
	}
	return rmdir(int(parent.Fd()), name)
}

// unlink deletes name in the folder parent, unless it is a folder.
func unlink(parent int, name string) (isDir bool, err error) {
	err = unix.Unlinkat(parent, name, 0)
	if err == unix.EISDIR {
		return true, nil
	}
	return false, err
}

func rmdir(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// openToEmpty opens the folder name in parent: readable and writable for its owner, and on the same mount.
func openToEmpty(parent int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	fd, err := Open(parent, name, flags, OnMount)
	if errors.Is(err, unix.EACCES) {
		if err = permit(parent, name, flags); err == nil {
			fd, err = Open(parent, name, flags, OnMount)
		}
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&0o700 != 0o700 {
		_ = unix.Fchmod(fd, 0o700) // where this fails, root does not need it, and others get the error of what needs it
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
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700)
}
