package treecopy

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is a name that is copied from one open folder to another.
type entry struct {
	src, dst int
	name     string
	st       unix.Stat_t // of the source
}

func (e *entry) isDir() bool { return e.st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (e *entry) isWhiteout() bool { return e.st.Mode&unix.S_IFMT == unix.S_IFCHR && e.st.Rdev == 0 }

// entry copies e, which is in the folder f; a folder is made only.
func (c *copier) entry(e *entry, f *folder) error {
	if err := unix.Fstatat(e.src, e.name, &e.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch {
	case e.isDir():
		return unix.Mkdirat(e.dst, e.name, 0o700)
	case c.options.Opaque != "" && e.isWhiteout() && len(f.below) == 0:
		return nil
	case f.link && e.src == int(f.stack[0].Fd()):
		return unix.Linkat(e.src, e.name, e.dst, e.name, 0)
	case e.st.Nlink > 1:
		return c.linked(e, f.rel+"/"+e.name)
	default:
		return c.file(e)
	}
}

// file copies what is no folder.
func (c *copier) file(e *entry) error {
	var err error
	switch format := e.st.Mode & unix.S_IFMT; format {
	case unix.S_IFREG:
		err = c.regular(e)
	case unix.S_IFLNK:
		err = c.symlink(e)
	default:
		err = c.special(e)
	}
	if err != nil {
		return err
	}
	return setTime(e.dst, e.name, &e.st)
}

func (c *copier) regular(e *entry) error {
	src, err := unix.Openat(e.src, e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(e.dst, e.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := c.content(dst, src, &e.st); err != nil {
		return err
	}
	return c.options.attributes(dst, src, &e.st)
}

// content copies the bytes of a file, or shares them.
func (c *copier) content(dst, src int, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if !c.noClone.Load() {
		err := unix.IoctlFileClone(dst, src)
		if err == nil {
			return nil
		}
		c.noClone.Store(err == unix.EOPNOTSUPP || err == unix.ENOTTY || err == unix.EXDEV)
	}
	if st.Blocks*512 >= st.Size {
		return c.bytes(dst, src, 0, st.Size)
	}
	for offset := int64(0); offset < st.Size; {
		start, err := unix.Seek(src, offset, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err != nil {
			return err
		}
		if offset, err = unix.Seek(src, start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := c.bytes(dst, src, start, offset); err != nil {
			return err
		}
	}
	return unix.Ftruncate(dst, st.Size)
}

// bytes copies the bytes of a file from start to end.
func (c *copier) bytes(dst, src int, start, end int64) error {
	buffer := c.buffers.Get().(*[bufferSize]byte)
	defer c.buffers.Put(buffer)
	for start < end {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Pread(src, buffer[:min(bufferSize, end-start)], start)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		for data := buffer[:n]; len(data) > 0; {
			n, err := unix.Pwrite(dst, data, start)
			if err != nil {
				return err
			}
			data = data[n:]
			start += int64(n)
		}
	}
	return nil
}

func (c *copier) symlink(e *entry) error {
	target := make([]byte, e.st.Size+1)
	n, err := unix.Readlinkat(e.src, e.name, target)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(target[:n]), e.dst, e.name); err != nil {
		return err
	}
	if err := unix.Fchownat(e.dst, e.name, int(e.st.Uid), int(e.st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return c.options.copyXattrs(pathXattrs(procPath(e.dst, e.name)), pathXattrs(procPath(e.src, e.name)))
}

// special copies a device, fifo or socket.
func (c *copier) special(e *entry) error {
	if err := unix.Mknodat(e.dst, e.name, e.st.Mode&unix.S_IFMT|0o600, int(e.st.Rdev)); err != nil {
		return err
	}
	if err := unix.Fchownat(e.dst, e.name, int(e.st.Uid), int(e.st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(e.dst, e.name, e.st.Mode&0o7777, 0); err != nil {
		return err
	}
	return c.options.copyXattrs(pathXattrs(procPath(e.dst, e.name)), pathXattrs(procPath(e.src, e.name)))
}

// attributes sets owner, mode and extended attributes, in this order: chown(2) clears set-id bits
// and capabilities.
func (o *Options) attributes(dst, src int, st *unix.Stat_t) error {
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	return o.copyXattrs(fdXattrs(dst), fdXattrs(src))
}

func setTime(dir int, name string, st *unix.Stat_t) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// xattrs are the extended attributes of a file that is open, or that no one may open.
type xattrs interface {
	list(buf []byte) (int, error)
	get(name string, buf []byte) (int, error)
	set(name string, value []byte) error
}

type fdXattrs int

func (fd fdXattrs) list(buf []byte) (int, error) { return unix.Flistxattr(int(fd), buf) }
func (fd fdXattrs) get(name string, buf []byte) (int, error) {
	return unix.Fgetxattr(int(fd), name, buf)
}
func (fd fdXattrs) set(name string, value []byte) error {
	return unix.Fsetxattr(int(fd), name, value, 0)
}

type pathXattrs string

func (p pathXattrs) list(buf []byte) (int, error) { return unix.Llistxattr(string(p), buf) }
func (p pathXattrs) get(name string, buf []byte) (int, error) {
	return unix.Lgetxattr(string(p), name, buf)
}
func (p pathXattrs) set(name string, value []byte) error {
	return unix.Lsetxattr(string(p), name, value, 0)
}

// procPath returns a path of name in an open folder: there are no calls for extended attributes
// that take a folder and a name before Linux 6.13.
func procPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

// copyXattrs copies all extended attributes but those that o leaves out and the label that SELinux
// gives every file.
func (o *Options) copyXattrs(dst, src xattrs) error {
	names, err := XattrNames(src.list)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == "security.selinux" || name != o.Opaque && o.Keep != nil && !o.Keep(name) {
			continue
		}
		value, err := readXattr(func(buf []byte) (int, error) { return src.get(name, buf) })
		if err != nil {
			return err
		}
		if err := dst.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// XattrNames returns the names of the extended attributes of a file that list, a call like
// listxattr(2), lists.
func XattrNames(list func(buf []byte) (int, error)) ([]string, error) {
	names, err := readXattr(list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	return strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00"), nil
}

// readXattr calls read with a buffer that is long enough.
func readXattr(read func(buf []byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 128)
	for {
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) {
			return nil, err
		}
		if n, err = read(nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n)
	}
}
