package durable

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sync says what of a new file is on the disk when it has got its name.
type Sync int

// What is on the disk. A file that is not may be empty, or hold zeros, after a power cut.
const (
	NoSync   Sync = iota
	SyncFile      // the content, if the name is
	SyncName      // the content and the name
)

// TempPrefix begins the temporary names of the files that this package makes.
const TempPrefix = ".genoci-"

// IsTemp reports whether this package gives files such names. A file of CreateTemp belongs to a live
// process as long as it is locked. One of WriteFile is not locked, and WriteFile copes with its loss.
func IsTemp(name string) bool { return strings.HasPrefix(name, TempPrefix) }

// Temp is a new file that has no name of its own yet.
type Temp struct{ *os.File }

// CreateTemp makes a file with that mode in the folder dir, whatever the umask. It is locked until
// it is closed: whoever removes what processes have left that were killed finds that it is alive.
func CreateTemp(dir string, mode fs.FileMode) (*Temp, error) {
	for {
		t, err := create(dir, mode)
		if err != nil {
			return nil, err
		}
		err = TryLock(t.File, Exclusive)
		if err == nil && Linked(t.File) {
			return t, nil
		}
		if dropErr := t.Drop(); dropErr != nil {
			return nil, dropErr
		}
		if err != nil && !errors.Is(err, ErrLocked) {
			return nil, err
		}
		// Somebody came between, and took a file without a lock for that of a dead process. It is
		// gone by now.
	}
}

// create makes the file of CreateTemp, without a lock. A file of package os would be offered to the
// poller first: five system calls for a regular file, which it refuses.
func create(dir string, mode fs.FileMode) (*Temp, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	for {
		name := filepath.Join(dir, TempPrefix+strconv.FormatUint(rand.Uint64(), 36))
		fd, err := unix.Open(name, flags, 0o600)
		switch {
		case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "create", Path: name, Err: err}
		}
		t := &Temp{os.NewFile(uintptr(fd), name)}
		if mode != 0o600 {
			if err := t.Chmod(mode); err != nil {
				return nil, errors.Join(err, t.Drop())
			}
		}
		return t, nil
	}
}

// Linked reports whether an open file still has a name.
func Linked(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// Rename gives the file the name path, in the place of what has that name, and closes it. When it
// fails, Drop is still due.
func (t *Temp) Rename(path string, sync Sync) error {
	if sync != NoSync {
		if err := t.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	err := t.Close()
	if sync == SyncName {
		err = errors.Join(err, SyncDir(filepath.Dir(path)))
	}
	return err
}

// Drop closes and removes the file, which somebody may have removed already.
func (t *Temp) Drop() error {
	err := os.Remove(t.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, t.Close())
}

// WriteFile gives the file at path, in a folder that exists, the content data in one step: a reader
// sees what was there, or all of data. Several processes may do so at the same time.
func WriteFile(path string, data []byte, mode fs.FileMode, sync Sync) error {
	err := writeFile(path, data, mode, sync)
	if errors.Is(err, fs.ErrNotExist) { // somebody has taken the new file, which is not locked, for that of a dead process
		err = writeFile(path, data, mode, sync)
	}
	return err
}

func writeFile(path string, data []byte, mode fs.FileMode, sync Sync) error {
	t, err := create(filepath.Dir(path), mode)
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	if err == nil {
		err = t.Rename(path, sync)
	}
	if err != nil {
		return errors.Join(err, t.Drop())
	}
	return nil
}

// Replace is WriteFile, without a sync, for a file that only one process at a time writes, as under
// a lock: what a killed one leaves is path.new, which the next one takes.
func Replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// SyncDir writes the names in a folder to the disk.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncFileSystem writes the file system that holds path to the disk: one call, where a tree may
// have 100,000 files.
func SyncFileSystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return pathError("syncfs", path, unix.Syncfs(int(f.Fd())))
}
