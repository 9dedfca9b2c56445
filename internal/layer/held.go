package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"
)

// An archive, or a layer of another tool, may say what no file system of Linux holds. It must not
// matter whether that passes through a file system on its way into a layer (executed) or not
// (composed): held makes of it what a tree would have, and holdable refuses it where a tree would.

// Bounds of what all file systems hold.
const (
	maxHeldPath = maxPath - 255     // room for the folder that the tree is in
	minMTime    = -1 << 31          // 1901: ext4 and xfs; the kernel takes the nearest time that there is
	maxMTime    = 1<<34 - 1<<31 - 1 // 2446: ext4
	maxNames    = 65_000            // of one file: ext4
	maxXattrs   = 4096 - 32 - 4     // of one file, as ext4 stores them in their own block
	xattrSize   = 16                // what ext4 takes for each, besides its name and value, which are padded
	xattrPad    = 4                 //
)

func clampMTime(t int64) int64 { return min(max(t, minMTime), maxMTime) }

// held returns the attributes that a tree keeps of an entry, and their values there; nil for none.
// The map may be that of the entry.
func held(e *Entry) map[string]string {
	if len(e.Xattrs) == 0 {
		return nil
	}
	kept := make(map[string]string, len(e.Xattrs))
	for name, value := range e.Xattrs {
		if value, ok := heldXattr(e, name, value); ok {
			kept[name] = value
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// heldXattr returns the value that a tree has of an extended attribute, if it has it.
func heldXattr(e *Entry, name, value string) (string, bool) {
	switch {
	case !KeepXattr(name):
		return "", false
	case strings.HasPrefix(name, "user."): // xattr(7)
		return value, e.Type == TypeFile || e.Type == TypeDir
	case name == accessACL:
		value = aclOfMode(value, e.Mode)
		return value, e.Type != TypeSymlink && value != ""
	case name == defaultACL:
		return value, e.Type == TypeDir && len(value) != posixACLHeader
	}
	return plainCapability(value), true
}

// holdable returns an error where no tree can hold what an entry says.
func holdable(e *Entry) error {
	if len(e.Path) > maxHeldPath {
		return fmt.Errorf("the path has %d bytes; the limit is %d: %w", len(e.Path), maxHeldPath, unix.ENAMETOOLONG)
	}
	if e.Type == TypeChar && e.Major == 0 && e.Minor == 0 {
		return errors.New("is the device 0:0, which means a removed file in an overlay filesystem")
	}
	size := 0
	for name, value := range held(e) {
		switch {
		case strings.HasSuffix(name, "acl_access"), strings.HasSuffix(name, "acl_default"):
			if !validACL(value) {
				return fmt.Errorf("extended attribute %s: invalid access control list", name)
			}
		case name == capabilityXattr:
			if !validCapability(value) {
				return fmt.Errorf("extended attribute %s: invalid file capabilities", name)
			}
		}
		_, short, _ := strings.Cut(name, ".")
		size += xattrSize + padded(len(short)) + padded(len(value))
	}
	if size > maxXattrs {
		return fmt.Errorf("its extended attributes have %d bytes; filesystems such as ext4 hold %d", size, maxXattrs)
	}
	return nil
}

func padded(n int) int { return (n + xattrPad - 1) / xattrPad * xattrPad }

// isHeld reports whether a tree has all that an entry says, as it says it.
func isHeld(e *Entry) bool {
	return e.MTime == clampMTime(e.MTime) && (len(e.Xattrs) == 0 || maps.Equal(held(e), e.Xattrs))
}

// The form of POSIX ACLs in extended attributes (linux/posix_acl_xattr.h): a version, then tag,
// permissions and id of each entry.
const (
	posixACLHeader  = 4
	posixACLEntry   = 8
	posixACLVersion = 2

	aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

	noID = 1<<32 - 1
)

// validACL reports whether the kernel takes an ACL (posix_acl_valid): the owner, users, the owning
// group, groups, the mask, which may be missing only where there are no other users or groups, and
// all others, in this order.
func validACL(acl string) bool {
	b := []byte(acl)
	if len(b) < posixACLHeader || len(b)%posixACLEntry != posixACLHeader || binary.LittleEndian.Uint32(b) != posixACLVersion {
		return false
	}
	last, named := 0, false
	for b = b[posixACLHeader:]; len(b) > 0; b = b[posixACLEntry:] {
		tag, perm, id := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		isNamed := tag == aclUser || tag == aclGroup
		named = named || isNamed
		ok := perm <= 7 && (!isNamed || id != noID)
		switch tag {
		case aclUserObj:
			ok = ok && last == 0
		case aclUser:
			ok = ok && (last == aclUserObj || last == aclUser)
		case aclGroupObj:
			ok = ok && (last == aclUserObj || last == aclUser)
		case aclGroup, aclMask:
			ok = ok && (last == aclGroupObj || last == aclGroup)
		case aclOther:
			ok = ok && (last == aclMask || !named && last == aclGroupObj)
		default:
			ok = false
		}
		if !ok {
			return false
		}
		last = tag
	}
	return last == aclOther
}

// aclOfMode returns an ACL as the kernel has it once the file has got its mode, "" where it says no
// more than that. What is not valid stays.
func aclOfMode(acl string, mode uint32) string {
	if len(acl) == posixACLHeader || validACL(acl) && len(acl) == posixACLHeader+3*posixACLEntry {
		return ""
	}
	if !validACL(acl) {
		return acl
	}
	b := []byte(acl)
	for e := b[posixACLHeader:]; len(e) > 0; e = e[posixACLEntry:] {
		perm := -1
		switch binary.LittleEndian.Uint16(e) {
		case aclUserObj:
			perm = int(mode >> 6 & 7)
		case aclMask:
			perm = int(mode >> 3 & 7)
		case aclOther:
			perm = int(mode & 7)
		case aclUser, aclGroup:
			continue
		}
		if perm >= 0 {
			binary.LittleEndian.PutUint16(e[2:], uint16(perm))
		}
		binary.LittleEndian.PutUint32(e[4:], noID)
	}
	return string(b)
}

// capabilityXattr holds the capabilities of a file (capabilities(7), linux/capability.h): of
// revision 2, or 3, which has the id of the root user whose they are as well.
const (
	capabilityXattr = "security.capability"
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capSize2        = 20
	capSize3        = 24
	capEffective    = 1
)

func validCapability(value string) bool {
	if len(value) < capSize2 {
		return false
	}
	magic := binary.LittleEndian.Uint32([]byte(value)) &^ capEffective
	return magic == capRevision2 && len(value) == capSize2 || magic == capRevision3 && len(value) == capSize3
}

// plainCapability returns capabilities of user 0 in revision 2, as the kernel gives them.
func plainCapability(value string) string {
	if len(value) != capSize3 || !validCapability(value) || value[capSize2:] != "\x00\x00\x00\x00" {
		return value
	}
	return value[:3] + "\x02" + value[4:capSize2]
}
