package storage

import (
	"os"

	"golang.org/x/sys/unix"
)

// Disk is what a file system can do for a folder.
type Disk struct {
	Type     int64 // the number of the kind of file system (statfs(2))
	Free     int64 // bytes
	Writable bool  // by the caller
	Reflink  bool  // copies can share their blocks
}

// DiskOf looks at the file system that the folder is on, or would be on. If reflink is set, it
// tries whether copies can share their blocks, in a file of its own that it removes.
func DiskOf(dir string, reflink bool) (Disk, error) {
	dir = existing(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Disk{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	d := Disk{Type: fs.Type, Free: int64(fs.Bavail) * fs.Bsize, Writable: unix.Access(dir, unix.W_OK) == nil}
	d.Reflink = d.Writable && reflink && reflinks(dir)
	return d, nil
}

// reflinks reports whether files in dir can share blocks (FICLONE, ioctl_ficlone(2)).
func reflinks(dir string) bool {
	from, err := os.CreateTemp(dir, ".genoci-doctor-")
	if err != nil {
		return false
	}
	defer os.Remove(from.Name())
	defer from.Close()
	to, err := os.CreateTemp(dir, ".genoci-doctor-")
	if err != nil {
		return false
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil
}
