package btrfs

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot/treecopy"
)

// openDir opens a folder, and no symlink to one.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// openBelow opens the folder path below an open one, through no symlink and no mount.
func openBelow(dir int, path string) (*os.File, error) {
	fd, err := beneath.Open(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath.OnMount)
	if err != nil {
		return nil, wrapPath("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// inParent calls f with the open folder that holds the path.
func inParent(op, path string, f func(parent int, name string) error) error {
	parent, err := openDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return wrapPath(op, path, f(int(parent.Fd()), filepath.Base(path)))
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// procPath is a path of name in an open folder.
func procPath(parent int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", parent, name)
}

// isSubvolume reports whether the open folder is the root of a subvolume.
func isSubvolume(dir int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	return fs.Type == unix.BTRFS_SUPER_MAGIC && st.Ino == firstObject, nil
}

// remove removes the subvolume called name in an open folder, and first those that lie in it. Where
// the process may not do that in one call, the subvolume is emptied: the folder of an empty one is
// removed like any other.
func remove(parent int, name string) error {
	dir, err := openBelow(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	nested, err := subvolumesIn(fd)
	if err != nil {
		return err
	}
	if len(nested) == 0 && destroySubvolume(parent, name) == nil {
		return nil
	}
	if err := setReadOnly(fd, false); err != nil { // it lets nobody else remove it, and nothing in it
		return wrapPath("make writable", name, err)
	}
	for _, path := range nested {
		if err := below(fd, path, remove); err != nil {
			return err
		}
	}
	if destroySubvolume(parent, name) == nil {
		return nil
	}
	return beneath.RemovePath(procPath(parent, name))
}

// below calls f with the open folder that holds the path below dir.
func below(dir int, name string, f func(parent int, name string) error) error {
	parent, err := openBelow(dir, path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return wrapPath("subvolume", name, f(int(parent.Fd()), path.Base(name)))
}

// flatten makes an open subvolume writable, and turns those that lie in it into plain folders:
// those that a command made in a tree, which would neither be in a snapshot of it nor in what is
// sent.
func flatten(ctx context.Context, dir int) error {
	if err := setReadOnly(dir, false); err != nil {
		return os.NewSyscallError("make writable", err)
	}
	nested, err := subvolumesIn(dir)
	if err != nil {
		return err
	}
	for _, path := range nested {
		err := below(dir, path, func(parent int, name string) error { return flattenOne(ctx, parent, name) })
		if err != nil {
			return err
		}
	}
	return nil
}

// flattenOne puts a copy, which shares its blocks, in the place of the subvolume called name in an
// open folder.
func flattenOne(ctx context.Context, parent int, name string) error {
	var before unix.Stat_t
	if err := unix.Fstat(parent, &before); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	dir, err := openBelow(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := flatten(ctx, int(dir.Fd())); err != nil {
		return err
	}
	copied := rand.Text()
	if err := unix.Mkdirat(parent, copied, 0o700); err != nil {
		return wrapPath("mkdir", copied, err)
	}
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} { // which it may have got from its parent
		if err := unix.Removexattr(procPath(parent, copied), acl); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return wrapPath("removexattr", copied, err)
		}
	}
	if err := treecopy.Copy(ctx, procPath(parent, copied), []string{procPath(parent, name)}, treecopy.Options{}); err != nil {
		return err
	}
	if err := remove(parent, name); err != nil {
		return err
	}
	if err := unix.Renameat2(parent, copied, parent, name, unix.RENAME_NOREPLACE); err != nil {
		return wrapPath("rename", copied, err)
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(parent, ".", []unix.Timespec{before.Atim, before.Mtim}, 0))
}
