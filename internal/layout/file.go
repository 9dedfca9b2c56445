package layout

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of temporary files.
const tempPrefix = ".genoci-"

// createTemp makes a temporary file in the folder dir. It is locked until it is closed: so GC knows that it is alive.
func createTemp(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, tempPrefix+"*")
		if err != nil {
			return nil, err
		}
		err = errors.Join(f.Chmod(0o644), flock(f, unix.LOCK_EX|unix.LOCK_NB))
		if err == nil && isLinked(f) {
			return f, nil
		}
		if dropErr := dropTemp(f); dropErr != nil {
			return nil, dropErr
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &os.PathError{Op: "create", Path: f.Name(), Err: err}
		}
		// GC came between, and took a file without a lock for a dead one. It is gone by now.
	}
}

// isLinked reports whether an open file still has a name.
func isLinked(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// dropTemp closes and removes a temporary file, which GC may have removed already.
func dropTemp(f *os.File) error {
	err := os.Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// maxFile bounds the size of the files of a layout that are no blobs: an index.json of a million tags is as large.
const maxFile = 256 << 20

// readOwn returns the content of a file of the layout itself. A foreign layout may have a fifo there, or a link to a device without end.
func readOwn(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !st.Mode().IsRegular():
		return "", &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case st.Size() > maxFile:
		return "", &os.PathError{Op: "read", Path: path, Err: unix.EFBIG}
	}
	var b strings.Builder
	b.Grow(int(st.Size()))
	_, err = io.Copy(&b, io.LimitReader(f, maxFile))
	return b.String(), err
}

// replaceFile gives the file at path the content data, in one atomic and durable step.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := createTemp(dir)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, dropTemp(f))
	}
	return errors.Join(f.Close(), syncDir(dir))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
