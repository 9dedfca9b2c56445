package lvm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fileSystem is a kind of file system that volumes can have.
type fileSystem struct {
	name    string
	pkg     string   // the package with its commands, on most distributions
	make    []string // the command that makes one on a device, which follows
	repair  []string // the command that mends one that a crash of the machine has left; nil: mounting does
	mend    int      // the exit code of repair when it has mended something
	options string   // of a mount
}

// fileSystems are all kinds, the default first. Their commands write as little as can be to a new
// volume, and what they write later, they write once: each block that is written is one that is no
// longer shared with the parent.
func fileSystems() []fileSystem {
	return []fileSystem{{
		// No journal: after a crash of the machine, trees are made anew, and those that were kept
		// are mended. As many inodes as blocks: an image may be of small files only, and what is
		// not used takes no space.
		name: "ext4",
		pkg:  "e2fsprogs",
		make: []string{
			"mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-i", "4096", "-m", "0",
			"-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard",
		},
		repair:  []string{"e2fsck", "-p"},
		mend:    1,
		options: "noinit_itable",
	}, {
		name:    "xfs",
		pkg:     "xfsprogs",
		make:    []string{"mkfs.xfs", "-q", "-f", "-K"},
		options: "nouuid", // a snapshot has that of its parent
	}}
}

func fileSystemOf(name string) (fileSystem, error) {
	for _, f := range fileSystems() {
		if f.name == name || name == "" {
			return f, nil
		}
	}
	return fileSystem{}, fmt.Errorf("invalid filesystem %q: expected ext4 or xfs", name)
}

// format makes an empty file system on a device.
func (f fileSystem) format(device string) error {
	_, err := command(nil, f.make[0], append(f.make[1:], device)...)
	return err
}

// mended mends what a crash of the machine may have left on a device.
func (f fileSystem) mended(device string) error {
	if f.repair == nil {
		return nil
	}
	_, err := command(nil, f.repair[0], append(f.repair[1:], device)...)
	if exit := new(commandError); errors.As(err, &exit) && exit.code == f.mend {
		return nil
	}
	return err
}

const (
	readWrite = 0
	readOnly  = unix.MS_RDONLY
)

// mount mounts the file system that is on a device at the folder dir.
func (f fileSystem) mount(device, dir string, flags uintptr) error {
	if err := unix.Mount(device, dir, f.name, flags|unix.MS_NOATIME, f.options); err != nil {
		return &fs.PathError{Op: "mount " + f.name, Path: device, Err: err}
	}
	return nil
}

// empty makes a new, mounted file system look like a new tree.
func (f fileSystem) empty(dir string) error {
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}
