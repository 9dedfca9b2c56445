package layout

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds the size of the files of a layout that are no blobs: an index.json of a million
// tags is as large.
const maxFile = 256 << 20

// readOwn returns the content of a file of the layout itself. A foreign layout may have a fifo
// there, or a link to a device without end.
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
