package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// probe tries a small tree in the driver's folder: whether it can be mounted, and whether a rename, a removed file, a
// replaced folder and an extended attribute end up in the upper folder as they should. What worked is noted down, and not
// tried again on the same file system before the next start of the machine.
func (d *Driver) probe(dir string) (err error) {
	note := filepath.Join(dir, "probed")
	now, err := circumstances(dir)
	if err != nil {
		return err
	}
	if before, err := os.ReadFile(note); err == nil && string(before) == now {
		return nil
	}
	part, err := d.Store.New(context.Background(), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	if err := d.try(part.Dir()); err != nil {
		return fmt.Errorf("overlay in %s%s: %w: %w%s", dir, onFileSystem(dir), snapshot.ErrUnsupported, err, advice(err))
	}
	return os.WriteFile(note, []byte(now), 0o600) // half of it is not taken for the whole
}

// circumstances returns what decides about the outcome of a probe in dir: this start of the machine (random(4)), and
// the file system.
func circumstances(dir string) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return fmt.Sprintf("boot %s\ndevice %d:%d\n", strings.TrimSpace(string(boot)), unix.Major(st.Dev), unix.Minor(st.Dev)), nil
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
	if unmountErr := snapshot.Detach(at("root")); err == nil {
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
	opaque, err := d.attrs.isOpaque(filepath.Join(upper, "folder"))
	if err == nil && !opaque {
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
