// Package mounts has the mounts that drivers make: read-only ones, the ends of mounts, and those
// that other processes see.
package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BindReadOnly shows the folder src, without what is mounted below it, at the folder dst,
// read-only.
func BindReadOnly(src, dst string) error {
	if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
		return wrapPath("bind mount", src, err)
	}
	// In a user namespace a flag that the mount was given outside cannot be dropped; the call has
	// to repeat it.
	const lockable = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	var st unix.Statfs_t
	err := unix.Statfs(dst, &st)
	if err == nil {
		flags := uintptr(st.Flags)&lockable | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
		err = unix.Mount("", dst, "", flags, "")
	}
	if err != nil {
		_ = unix.Unmount(dst, unix.MNT_DETACH)
		return wrapPath("remount read-only", dst, err)
	}
	return nil
}

// MakeMountpoint makes an empty folder for a tree to be mounted at. Where files have been put into
// the one that is there, as after a restart of the machine, the error is ENOTEMPTY: the mount would
// hide them, and the end of the tree delete them.
func MakeMountpoint(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("%s has files from a time when the tree was not mounted there; move them elsewhere: %w", dir, unix.ENOTEMPTY)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

// Unmount unmounts what is at path. A file that is open below, or a folder that someone stands in,
// gives EBUSY; but a process that is just being started holds copies of all open files up to its
// exec, so this is tried for a second.
func Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	for wait := time.Millisecond; err == unix.EBUSY && wait < time.Second; wait *= 2 {
		time.Sleep(wait)
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	}
	return wrapPath("unmount", path, err)
}

// Detach unmounts what is at path, at the latest when it is no longer in use; no path leads there
// from now on.
func Detach(path string) error {
	err := Unmount(path)
	if errors.Is(err, unix.EBUSY) {
		err = wrapPath("unmount", path, unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH))
	}
	return err
}

// IsMountpoint reports whether something is mounted at path; where path is not there, nothing is.
func IsMountpoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, wrapPath("statx", path, err)
}

// Below returns what is mounted below the folder dir, as paths relative to it.
func Below(dir string) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	// proc_pid_mountinfo(5): in paths, these are octal numbers.
	escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(real) + "/"
	var all []string
	for line := range strings.Lines(string(data)) {
		if below, ok := strings.CutPrefix(strings.Fields(line)[4], escaped); ok {
			all = append(all, below)
		}
	}
	return all, nil
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
