package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// paxXattr is the prefix of PAX records that hold extended attributes, as star, GNU tar and all
	// image tools write them.
	paxXattr = "SCHILY.xattr."

	// nodeXattr marks an empty file that stands for a device, see UnpackOptions.Placeholders.
	nodeXattr = "user.genoci.node"

	// The POSIX ACLs of a file, and those that a folder hands down to what is made in it; see
	// acl(5).
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// KeepXattr reports whether a layer keeps the extended attribute: security.capability, POSIX ACLs
// and user.*, but not user.overlay.* and user.genoci.*, which belong to storage drivers, nor
// security.selinux, security.ima, trusted.* and all else, which belong to the host.
func KeepXattr(name string) bool {
	switch name {
	case capabilityXattr, accessACL, defaultACL:
		return true
	}
	return len(name) > len("user.") && strings.HasPrefix(name, "user.") &&
		!strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, "user.genoci.")
}

// The keyword of a PAX record ends at its first "=", so a name that has one is written with codes,
// as GNU tar writes it (xheader.c, xattr_encode_keyword). Tools that do not know these codes, as
// those for images, take them for part of the name. Therefore names have codes only where they
// must, or where they would look as if they had.
var (
	xattrEncoder = sync.OnceValue(func() *strings.Replacer { return strings.NewReplacer("%", "%25", "=", "%3D") })
	xattrDecoder = sync.OnceValue(func() *strings.Replacer { return strings.NewReplacer("%25", "%", "%3D", "=") })
)

// xattrRecord returns the keyword of the PAX record for an extended attribute.
func xattrRecord(name string) string {
	if strings.Contains(name, "=") || strings.Contains(name, "%25") || strings.Contains(name, "%3D") {
		name = xattrEncoder().Replace(name)
	}
	return paxXattr + name
}

// recordedXattr returns the name of an extended attribute from what follows paxXattr in the keyword
// of its PAX record.
func recordedXattr(name string) string {
	if strings.Contains(name, "%") {
		name = xattrDecoder().Replace(name)
	}
	return name
}

// privilegedXattr reports whether only a process with capabilities may set the extended attribute.
func privilegedXattr(name string) bool { return strings.HasPrefix(name, "security.") }

// procPath names the file called name in the folder that fd is open on, for system calls that take
// no descriptor of a folder. The path never gets too long, and only its last element can be a
// symlink that somebody else made.
func procPath(fd int, name string) string {
	return fdPath(fd) + "/" + name
}

// fdPath names what fd is open on, for system calls that do not take O_PATH descriptors.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// xattrsAt reads the extended attributes of name in the folder fd, without following it if it is a
// symlink: those that layers keep (nil when there are none), the text of nodeXattr, and the names
// of those that are neither. Capabilities must be read in the user namespace in which the tree is
// used: the kernel then gives them without the root user of that namespace (capabilities(7),
// "Namespaced file capabilities").
func xattrsAt(fd int, name string) (kept map[string]string, node string, others []string, err error) {
	path := procPath(fd, name)
	names, err := growing(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil {
		return nil, "", nil, fmt.Errorf("llistxattr: %w", err)
	}
	for n := range strings.SplitSeq(string(names), "\x00") {
		if n == "" {
			continue
		}
		if n != nodeXattr && !KeepXattr(n) {
			others = append(others, n)
			continue
		}
		value, err := growing(func(buf []byte) (int, error) { return unix.Lgetxattr(path, n, buf) })
		switch {
		case errors.Is(err, unix.ENODATA): // removed since it was listed
		case err != nil:
			return nil, "", nil, fmt.Errorf("lgetxattr %s: %w", n, err)
		case n == nodeXattr:
			node = string(value)
		default:
			if kept == nil {
				kept = make(map[string]string)
			}
			kept[n] = string(value)
		}
	}
	return kept, node, others, nil
}

// removeXattrs removes those of the extended attributes of name in the folder fd that the host's
// own security modules do not give to every file.
func removeXattrs(fd int, name string, attrs []string) error {
	path := procPath(fd, name)
	for _, n := range attrs {
		if !strings.HasPrefix(n, "user.") && !strings.HasPrefix(n, "trusted.") {
			continue
		}
		if err := unix.Lremovexattr(path, n); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("removexattr %s: %w", n, err)
		}
	}
	return nil
}

// growing calls a system call that fills a buffer, with larger ones while it finds them too small.
// Where the file system knows no extended attributes, there are none.
func growing(call func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	for buf := small[:]; ; buf = make([]byte, 4*len(buf)) {
		n, err := call(buf)
		switch {
		case err == nil:
			return bytes.Clone(buf[:n]), nil
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case !errors.Is(err, unix.ERANGE) || len(buf) > 1<<20: // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB
			return nil, err
		}
	}
}

// formatNode and parseNode write and read the text of nodeXattr: "c 1 3" is character device 1, 3.
func formatNode(e Entry) string {
	letter := "c"
	if e.Type == TypeBlock {
		letter = "b"
	}
	return fmt.Sprintf("%s %d %d", letter, e.Major, e.Minor)
}

func parseNode(s string) (t Type, major, minor uint32, ok bool) {
	f := strings.Split(s, " ")
	if len(f) != 3 {
		return 0, 0, 0, false
	}
	switch f[0] {
	case "c":
		t = TypeChar
	case "b":
		t = TypeBlock
	default:
		return 0, 0, 0, false
	}
	ma, err1 := strconv.ParseUint(f[1], 10, 12) // the kernel's dev_t: 12 bits and 20 bits
	mi, err2 := strconv.ParseUint(f[2], 10, 20)
	return t, uint32(ma), uint32(mi), err1 == nil && err2 == nil
}
