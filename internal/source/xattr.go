package source

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrs returns those extended attributes of the file at path, which is not followed, that keeps says yes to; nil where there are none.
func xattrs(path string, keeps func(name string) bool) (map[string]string, error) {
	if keeps == nil {
		return nil, nil
	}
	var small [256]byte
	names, err := growing(small[:], func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
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

// growing calls a system call that fills a buffer, first with buf, then with larger ones while it finds them too small. Where the
// file system knows no extended attributes, there are none.
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

// portableCapability returns a file capability without the root user of the user namespace that it was set in (capabilities(7),
// "Namespaced file capabilities"): inside such a namespace the kernel leaves that out itself, and an image is for any.
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
