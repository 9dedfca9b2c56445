package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// Dir returns the view of a folder on disk, as it is at each call. Digests are not computed and
// hard link groups not looked for. What no layer can hold (sockets, names like .wh.x) is left out.
func Dir(dir string) View { return folder(dir) }

// folder is the path of a folder on disk. Nothing below it is ever reached through a symlink.
type folder string

// Lookup implements View.
func (f folder) Lookup(path string) (Entry, bool, error) {
	dir, name := split(path)
	fd, err := f.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if missing(err) || hasWhiteout(path) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, err
	}
	defer unix.Close(fd)
	e, err := lookupAt(fd, name, path)
	if missing(err) {
		return Entry{}, false, nil
	}
	return e, err == nil && e.Type != typeSocket, err
}

// Children implements View.
func (f folder) Children(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		d, err := f.openDir(path)
		if missing(err) {
			return
		}
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer d.Close()
		names, err := d.Readdirnames(-1)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		slices.Sort(names)
		for _, name := range names {
			e, err := lookupAt(int(d.Fd()), name, join(path, name))
			if err == nil && (e.Type == typeSocket || hasWhiteout(name)) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// ReadFile implements View.
func (f folder) ReadFile(path string) ([]byte, error) {
	e, ok, err := f.Lookup(path)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	return readSmall(e, f.opener(path))
}

// open opens what is at path below the folder.
func (f folder) open(path string, flags int) (int, error) {
	root, err := openRoot(string(f))
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return openBelow(root, path, flags)
}

// openDir opens a folder for reading the names in it.
func (f folder) openDir(path string) (*os.File, error) {
	fd, err := f.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// opener returns the opener of the regular file at path. It holds no descriptor.
func (f folder) opener(path string) Opener {
	return func() (io.ReadCloser, error) {
		fd, err := f.open(path, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// missing reports whether an error of openBelow or lookupAt says that there is nothing at the
// canonical path.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// openRoot opens the folder dir itself, as the place that other paths are relative to.
func openRoot(dir string) (int, error) {
	return open(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, beneath.Anywhere)
}

// openBelow opens what is at path below the folder root. A symlink anywhere in path is an error
// (ELOOP).
func openBelow(root int, path string, flags int) (int, error) {
	return open(root, path, flags, beneath.NoSymlinks)
}

// openInside opens the folder at path as if root were "/": symlinks are followed, but none leads
// out of root.
func openInside(root int, path string, flags int) (int, error) {
	return open(root, path, flags, beneath.InRoot)
}

// open is beneath.Open, with an error that names the path.
func open(dir int, path string, flags int, lead uint64) (int, error) {
	fd, err := beneath.Open(dir, path, flags, lead)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// typeSocket is the type that lookupAt and entryAt give to sockets; layers have none.
const typeSocket Type = 0

// inode identifies a file while it exists.
type inode struct {
	major, minor uint32
	ino          uint64
}

func inodeOf(st *unix.Statx_t) inode { return inode{st.Dev_major, st.Dev_minor, st.Ino} }

// isDir reports whether st is that of a folder.
func isDir(st *unix.Statx_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// isMount reports whether something is mounted here (Linux 5.8).
func isMount(st *unix.Statx_t) bool { return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 }

// statAt looks at name in the folder fd, not following it if it is a symlink. "." is the folder
// itself.
func statAt(fd int, name string) (unix.Statx_t, error) {
	return statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

// statFD looks at what fd is open on. Unlike statAt of "." it needs no permissions in a folder.
func statFD(fd int) (unix.Statx_t, error) { return statx(fd, "", unix.AT_EMPTY_PATH) }

func statx(fd int, name string, flags int) (st unix.Statx_t, err error) {
	for {
		err = unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS, &st)
		if err != unix.EINTR {
			return st, err
		}
	}
}

// lookupAt returns the entry of name in the folder fd; path is its path in the tree.
func lookupAt(fd int, name, path string) (Entry, error) {
	st, err := statAt(fd, name)
	if err != nil {
		return Entry{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	e, _, err := entryAt(fd, name, path, &st)
	return e, err
}

// entryAt is lookupAt for what statAt has looked at already. others are the names of extended
// attributes that no layer keeps.
func entryAt(fd int, name, path string, st *unix.Statx_t) (e Entry, others []string, err error) {
	e = Entry{
		Path:  path,
		Mode:  uint32(st.Mode) & 0o7777,
		UID:   int(st.Uid),
		GID:   int(st.Gid),
		MTime: st.Mtime.Sec,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = TypeFile, int64(st.Size)
	case unix.S_IFDIR:
		e.Type = TypeDir
	case unix.S_IFLNK:
		e.Type = TypeSymlink
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = TypeChar, st.Rdev_major, st.Rdev_minor
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = TypeBlock, st.Rdev_major, st.Rdev_minor
	case unix.S_IFIFO:
		e.Type = TypeFIFO
	case unix.S_IFSOCK:
		return Entry{Path: path, Type: typeSocket}, nil, nil
	default:
		return Entry{}, nil, &fs.PathError{Op: "stat", Path: path, Err: fmt.Errorf("file of unknown type %#o", st.Mode)}
	}
	if e.Type == TypeSymlink {
		if e.Link, err = readlinkAt(fd, name); err != nil {
			return Entry{}, nil, &fs.PathError{Op: "readlink", Path: path, Err: err}
		}
	}
	var device string
	if e.Xattrs, device, others, err = xattrsAt(fd, name); err != nil {
		return Entry{}, nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if e.Type == TypeFile && e.Size == 0 && device != "" {
		if t, major, minor, ok := parseNode(device); ok {
			e.Type, e.Major, e.Minor = t, major, minor
		}
	}
	return e, others, nil
}

// readlinkAt returns the text of the symlink called name in the folder fd.
func readlinkAt(fd int, name string) (string, error) {
	for buf := make([]byte, 256); ; buf = make([]byte, 4*len(buf)) {
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
	}
}
