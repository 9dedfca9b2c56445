package layer

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// nodeMaker makes what is no folder. Several goroutines may use it at once.
type nodeMaker struct {
	options UnpackOptions
}

// newFile makes a small regular file where nothing may be.
func (n *nodeMaker) newFile(f *newFile) error {
	fd, err := n.create(f.in, f.name, &f.entry)
	if err != nil {
		return err
	}
	err = writeAt(fd, f.content, 0)
	if err != nil {
		err = &fs.PathError{Op: "write", Path: f.entry.Path, Err: err}
	} else {
		err = n.complete(fd, f.in, f.name, &f.entry)
	}
	return closeAfter(fd, err)
}

// file gives fd, which create made at name in a folder, what write writes, and its metadata, and
// closes it.
func (n *nodeMaker) file(fd int, in *openFolder, name string, e *Entry, write func(io.Writer) error) error {
	w := &fileWriter{fd: fd, path: e.Path}
	err := write(w)
	if err == nil {
		err = w.end()
	}
	if err == nil {
		err = n.complete(fd, in, name, e)
	}
	return closeAfter(fd, err)
}

// placeholder gives fd, which create made at name in a folder, the note of the device that it
// stands for, and its metadata, and closes it.
func (n *nodeMaker) placeholder(fd int, in *openFolder, name string, e *Entry) error {
	err := unix.Fsetxattr(fd, nodeXattr, []byte(formatNode(*e)), 0)
	if err != nil {
		err = fmt.Errorf("setxattr %s: %w", nodeXattr, err)
	} else {
		err = n.complete(fd, in, name, e)
	}
	return closeAfter(fd, err)
}

// closeAfter closes fd after something that gave err.
func closeAfter(fd int, err error) error {
	if closeErr := unix.Close(fd); err == nil && closeErr != nil {
		return fmt.Errorf("close: %w", closeErr)
	}
	return err
}

// create makes an empty file where nothing may be (EEXIST).
func (n *nodeMaker) create(in *openFolder, name string, e *Entry) (fd int, err error) {
	mode := uint32(0o600)
	if n.modeStays(in, e) {
		mode = e.Mode
	}
	return unix.Openat(in.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
}

// modeStays reports whether a file can be made with the mode of its entry: nobody gets at it then
// who may not in the end, and nothing that is done to it later wants another mode, or changes it.
func (n *nodeMaker) modeStays(in *openFolder, e *Entry) bool {
	return e.Type == TypeFile && e.Mode&^0o777 == 0 && len(e.Xattrs) == 0 && !in.inherits && (!n.options.KeepOwner || in.gives(e))
}

// complete gives fd, which create made at name in a folder, its metadata.
func (n *nodeMaker) complete(fd int, in *openFolder, name string, e *Entry) error {
	return n.setMetadata(in, name, e, func() error {
		var st unix.Stat_t
		if n.modeStays(in, e) && unix.Fstat(fd, &st) == nil && st.Mode&0o7777 == e.Mode {
			return nil // the umask took nothing from it
		}
		return unix.Fchmod(fd, e.Mode)
	})
}

// setMetadata sets owner, extended attributes, mode and time of what is no folder and was made in
// one just now, in the order in which one does not clear or forbid another: a new owner clears
// capabilities and setuid, and user attributes want a writable file. chmod sets the mode.
func (n *nodeMaker) setMetadata(in *openFolder, name string, e *Entry, chmod func() error) error {
	if n.options.KeepOwner && !in.gives(e) {
		if err := unix.Fchownat(in.fd, name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &OwnerError{e.UID, e.GID, err}
		}
	}
	if err := n.setXattrs(in.fd, name, e, !in.inherits); err != nil {
		return err
	}
	if err := chmod(); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	t := unix.Timespec{Sec: e.MTime}
	if err := unix.UtimesNanoAt(in.fd, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// setXattrs gives name in the folder fd the extended attributes of its entry; clean says that it
// can have no others.
func (n *nodeMaker) setXattrs(fd int, name string, e *Entry, clean bool) error {
	if clean && len(e.Xattrs) == 0 {
		return nil
	}
	path := procPath(fd, name)
	if !clean {
		have, _, _, err := xattrsAt(fd, name)
		if err != nil {
			return err
		}
		for attr := range have {
			if _, keep := e.Xattrs[attr]; keep || !n.maySet(attr) {
				continue
			}
			if err := unix.Lremovexattr(path, attr); err != nil {
				return fmt.Errorf("removexattr %s: %w", attr, err)
			}
		}
	}
	for attr, value := range e.Xattrs {
		if !KeepXattr(attr) || !n.maySet(attr) {
			continue
		}
		if err := unix.Lsetxattr(path, attr, []byte(value), 0); err != nil {
			return fmt.Errorf("setxattr %s: %w", attr, err)
		}
	}
	return nil
}

// maySet reports whether the process is expected to be able to set the extended attribute.
func (n *nodeMaker) maySet(attr string) bool { return n.options.KeepOwner || !privilegedXattr(attr) }

// chmodAt sets the mode of name in the folder fd. Symlinks have none of their own.
func chmodAt(fd int, name string, e *Entry) error {
	if e.Type == TypeSymlink {
		return nil
	}
	file, err := openBelow(fd, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	return chmodFD(file, e.Mode)
}

// fileWriter writes to a new file from its start. What is nothing but zeros it leaves out: such a
// hole costs neither time nor room.
type fileWriter struct {
	fd   int
	path string
	at   int64 // where the next piece goes
	hole bool  // the last piece was left out
}

// minHole is the least number of zeros that are left out.
const minHole = 4096

// Write implements io.Writer.
func (w *fileWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.hole = len(p) >= minHole && isZero(p)
	if !w.hole {
		if err := writeAt(w.fd, p, w.at); err != nil {
			return 0, &fs.PathError{Op: "write", Path: w.path, Err: err}
		}
	}
	w.at += int64(len(p))
	return len(p), nil
}

// isZero reports whether all bytes of p, which has some, are zero.
func isZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }

// end gives the file its size where the last piece was left out.
func (w *fileWriter) end() error {
	if !w.hole {
		return nil
	}
	if err := unix.Ftruncate(w.fd, w.at); err != nil {
		return &fs.PathError{Op: "truncate", Path: w.path, Err: err}
	}
	return nil
}

// writeAt writes all of p at an offset.
func writeAt(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// OwnerError is the error of giving a file to an owner that this process cannot give files to: its
// user namespace may have no such id.
type OwnerError struct {
	UID, GID int
	Err      error
}

func (e *OwnerError) Error() string { return fmt.Sprintf("chown %d:%d: %v", e.UID, e.GID, e.Err) }
func (e *OwnerError) Unwrap() error { return e.Err }
