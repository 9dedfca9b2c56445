package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Index reads a layer's uncompressed tar to the end of the stream (trailing bytes
// too), and returns its TOC and its DiffID: the SHA-256 of all bytes read.
// Unlike Pack's own, foreign layers may be unsorted and may hold anything that
// the image-spec's layer.md allows; what no tool could unpack is an error that names the entry.
func Index(ctx context.Context, tar io.Reader) (*TOC, digest.Digest, error) { panic("stub") }

// Limits of names, from limits.h of Linux. What exceeds them cannot be unpacked.
const (
	maxPath  = 4095     // PATH_MAX without the final NUL
	maxName  = 255      // NAME_MAX
	maxXattr = 64 << 10 // XATTR_SIZE_MAX
)

// cleanPath makes a name in a tar a path as Entry has it: relative, without "." and ".." elements, which
// do not lead out of the root ("." is the root).
func cleanPath(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("name with a NUL byte")
	}
	p := path.Clean("/" + name)[1:]
	if p == "" {
		return ".", nil
	}
	if len(p) > maxPath {
		return "", fmt.Errorf("name of %d bytes", len(p))
	}
	for elem := range strings.SplitSeq(p, "/") {
		if len(elem) > maxName {
			return "", fmt.Errorf("name with an element of %d bytes", len(elem))
		}
	}
	return p, nil
}

// entryFromHeader makes a tar header an Entry, with the extended attributes that images keep. Whiteouts and hard links are
// not interpreted: both are regular files as far as their entry says.
func entryFromHeader(h *tar.Header) (Entry, error) {
	p, err := cleanPath(h.Name)
	if err != nil {
		return Entry{}, err
	}
	typ, err := typeOf(h.Typeflag)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Path:  p,
		Type:  typ,
		Mode:  uint32(h.Mode & 0o7777),
		UID:   h.Uid,
		GID:   h.Gid,
		MTime: h.ModTime.Unix(),
	}
	if !validID(h.Uid) || !validID(h.Gid) {
		return Entry{}, fmt.Errorf("owner %d:%d", h.Uid, h.Gid)
	}
	switch typ {
	case TypeFile:
		e.Size = h.Size
	case TypeSymlink:
		// Linux has no modes of symlinks; what some tools write there means nothing.
		e.Link, e.Mode = h.Linkname, 0o777
		if e.Link == "" || len(e.Link) > maxPath || strings.IndexByte(e.Link, 0) >= 0 {
			return Entry{}, errors.New("symlink to an impossible name")
		}
	case TypeChar, TypeBlock:
		if !validDevice(h.Devmajor, h.Devminor) {
			return Entry{}, fmt.Errorf("device %d:%d", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			if err := e.setXattr(name, value); err != nil {
				return Entry{}, err
			}
		}
	}
	return e, nil
}

// setXattr adds an extended attribute if images keep it.
func (e *Entry) setXattr(name, value string) error {
	if !KeepXattr(name) {
		return nil
	}
	if len(name) > maxName || len(value) > maxXattr {
		return fmt.Errorf("extended attribute of %d bytes", len(name)+len(value))
	}
	if e.Xattrs == nil {
		e.Xattrs = make(map[string]string)
	}
	e.Xattrs[name] = value
	return nil
}

// typeOf tells the type of an entry by its type flag in the tar.
func typeOf(flag byte) (Type, error) {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeLink, tar.TypeCont, tar.TypeGNUSparse:
		return TypeFile, nil
	case tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return Type(flag), nil
	case gnuDumpDir:
		return TypeDir, nil
	}
	return 0, fmt.Errorf("entry of unknown type %q", flag)
}

// Type flags of GNU tar that archive/tar has no name for (GNU tar manual, "Basic Tar Format").
const (
	gnuDumpDir = 'D' // a folder in an incremental archive; its content lists names
	gnuVolume  = 'V' // the label of a volume, no entry
)

// validID reports whether id is a user or group id of Linux; the last one means "none" to chown(2).
func validID(id int) bool { return id >= 0 && int64(id) < 1<<32-1 }

// validDevice reports whether Linux has such device numbers (12 and 20 bits).
func validDevice(major, minor int64) bool {
	return major >= 0 && major < 1<<12 && minor >= 0 && minor < 1<<20
}
