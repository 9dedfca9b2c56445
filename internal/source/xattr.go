package source

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrs returns those extended attributes of a file that keeps says yes to; nil where there are
// none. The file is called name in the folder fd, and path is its absolute path; neither is
// followed.
func xattrs(fd int, name, path string, keeps func(name string) bool) (map[string]string, error) {
	if keeps == nil {
		return nil, nil
	}
	var small [256]byte
	names, err := growing(small[:], func(b []byte) (int, error) { return listxattrAt(fd, name, path, b) })
	if err != nil {
		return nil, &fs.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	var kept map[string]string
	for len(names) > 0 {
		name, rest, _ := strings.Cut(string(names), "\x00")
		names = names[len(names)-len(rest):]
		if !keeps(name) {
			continue
		}
		value, err := growing(nil, func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		switch {
		case errors.Is(err, unix.ENODATA): // removed since it was listed
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		case name == "security.capability":
			value = portableCapability(value)
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = string(value)
	}
	return kept, nil
}

// listxattrAt is llistxattr(2). Where the kernel has listxattrat (Linux 6.13), the folders of path
// are not looked up again: of many small files, that is half of what it takes.
func listxattrAt(fd int, name, path string, b []byte) (int, error) {
	if noListxattrAt.Load() {
		return unix.Llistxattr(path, b)
	}
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(fd), uintptr(unsafe.Pointer(text)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS, unix.EPERM: // EPERM: a seccomp filter that does not know it
		noListxattrAt.Store(true)
		return unix.Llistxattr(path, b)
	}
	return 0, errno
}

// noListxattrAt: the kernel has no listxattrat.
var noListxattrAt atomic.Bool

// growing calls a system call that fills a buffer, first with buf, then with larger ones while it
// finds them too small. Where the file system knows no extended attributes, there are none.
func growing(buf []byte, call func([]byte) (int, error)) ([]byte, error) {
	const most = 64 << 10 // XATTR_LIST_MAX and XATTR_SIZE_MAX, <linux/limits.h>
	if buf == nil {
		buf = make([]byte, 256)
	}
	for {
		n := 0
		err := ignoringEINTR(func() (err error) {
			n, err = call(buf)
			return err
		})
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case !errors.Is(err, unix.ERANGE) || len(buf) >= most:
			return nil, err
		}
		buf = make([]byte, most)
	}
}

// portableCapability returns a file capability without the root user of the user namespace that it
// was set in (capabilities(7), "Namespaced file capabilities"): inside such a namespace the kernel
// leaves that out itself, and an image is for any.
func portableCapability(value []byte) []byte {
	const version, version2, version3 = 0xff000000, 0x02000000, 0x03000000 // VFS_CAP_REVISION_MASK and so on, <linux/capability.h>
	if len(value) != 24 {
		return value
	}
	magic := binary.LittleEndian.Uint32(value)
	if magic&version != version3 {
		return value
	}
	return append(binary.LittleEndian.AppendUint32(nil, magic&^version|version2), value[4:20]...)
}
