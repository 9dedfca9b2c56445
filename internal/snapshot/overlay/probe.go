package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
)

// probe tries a small tree in the driver's folder: whether it can be mounted, and whether a rename,
// a removed file, a replaced folder and an extended attribute end up in the upper folder as they
// should.
func (d *Driver) probe(dir string) error {
	_, err := d.store.Probe(func(part string) (string, error) {
		if err := d.try(part); err != nil {
			return "", fmt.Errorf("overlay in %s%s: %w: %w%s", dir, onFileSystem(dir), snapshot.ErrUnsupported, err, advice(err))
		}
		return "works", nil
	})
	return err
}

// try does what probe is for, in an empty folder.
func (d *Driver) try(dir string) (err error) {
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	for _, name := range []string{"lower/folder/old", "lower2", "diff", "work", "root"} {
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("lower/file"), nil, 0o644); err != nil {
		return err
	}
	o := overlay{lowers: []string{at("lower"), at("lower2")}, upper: at("diff"), work: at("work")}
	if err := d.mount(o, at("root")); err != nil {
		return err
	}
	err = change(at("root"))
	if unmountErr := mounts.Detach(at("root")); err == nil {
		err = unmountErr
	}
	if err != nil {
		return err
	}
	return d.checkChange(at("diff"))
}

// change changes the tree in root.
func change(root string) error {
	at := func(name string) string { return filepath.Join(root, name) }
	if err := os.Rename(at("file"), at("renamed")); err != nil {
		return err
	}
	if err := unix.Setxattr(at("renamed"), "user.genoci.probe", []byte("x"), 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: at("renamed"), Err: err}
	}
	if err := os.RemoveAll(at("folder")); err != nil {
		return err
	}
	return os.Mkdir(at("folder"), 0o755)
}

// checkChange looks at the upper folder after change.
func (d *Driver) checkChange(upper string) error {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(upper, "file"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		return errors.New("a removed file leaves no whiteout")
	}
	if _, err := unix.Getxattr(filepath.Join(upper, "renamed"), "user.genoci.probe", nil); err != nil {
		return fmt.Errorf("extended attributes are lost: %w", err)
	}
	r, err := d.attrs.record(filepath.Join(upper, "folder"), true)
	if err == nil && !r.opaque {
		err = errors.New("a replaced folder is not marked opaque")
	}
	return err
}

// advice says what the user can do about err.
func advice(err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return "; the kernel has no overlay file system (modprobe overlay)"
	case errors.Is(err, unix.EPERM):
		return "; mounting an overlay takes root, or Linux 5.11 and a user namespace"
	default:
		return "; use a folder on ext4, xfs, btrfs or tmpfs, or the driver vfs"
	}
}

// onFileSystem names the file system that holds dir, where it is one known not to serve.
func onFileSystem(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	switch int64(st.Type) {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return " (itself on an overlay, as in a container)"
	case unix.NFS_SUPER_MAGIC:
		return " (on NFS)"
	case unix.FUSE_SUPER_MAGIC:
		return " (on FUSE)"
	case unix.V9FS_MAGIC:
		return " (on 9p)"
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return " (on SMB)"
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		return " (on FAT)"
	}
	return ""
}
