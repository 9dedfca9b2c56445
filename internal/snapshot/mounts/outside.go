package mounts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// Outside calls f in the mount namespace in which the mounts of trees that are shown are to be
// (sandbox.Outside). nil: nothing can be shown. Its methods are for drivers that mount.
type Outside func(f func() error) error

// Mount calls mount there, for a tree that is to be shown.
func (o Outside) Mount(mount func() error) error {
	if o == nil {
		return fmt.Errorf("%w: mounts of an ordinary user end with the process", snapshot.ErrUnsupported)
	}
	return o(mount)
}

// IsMountpoint reports whether something is mounted at path there: a tree that is shown.
func (o Outside) IsMountpoint(path string) (is bool, err error) {
	if o == nil {
		return false, nil
	}
	err = o(func() error {
		is, err = IsMountpoint(path)
		return err
	})
	return is, err
}

// Borrow mounts here what is mounted there at path, unless it is seen here anyway. mounted: the
// mount is this namespace's own.
func (o Outside) Borrow(path string) (mounted bool, err error) {
	if here, err := IsMountpoint(path); here || err != nil {
		return false, err
	}
	mount := -1
	err = o(func() (err error) {
		mount, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return os.NewSyscallError("open_tree", err)
	})
	if err != nil {
		return false, err
	}
	defer unix.Close(mount)
	err = unix.MoveMount(mount, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return err == nil, os.NewSyscallError("move_mount", err)
}

// Unmount unmounts what is at path there, and here, if anything is.
func (o Outside) Unmount(path string) error {
	shown, err := o.IsMountpoint(path)
	if !shown || err != nil {
		return err
	}
	if err := o(func() error { return Unmount(path) }); err != nil {
		return err
	}
	// What was outside may have been seen here too, and stays where the outside does not share its
	// mounts.
	if here, err := IsMountpoint(path); !here || err != nil {
		return err
	}
	return Unmount(path)
}
