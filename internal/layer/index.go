package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Index reads a layer's uncompressed tar to the end of the stream (trailing bytes
// too), and returns its TOC and its DiffID: the SHA-256 of all bytes read.
//
// Unlike Pack's own, foreign layers may be unsorted and may hold anything that the image-spec's
// layer.md allows. The TOC says what unpacking the entries in their order gives:
//
//   - A later entry of the same path replaces the earlier, with what is in it unless both are
//     folders.
//   - A path through a symlink that stands earlier in the same layer is where the symlink leads.
//   - A hard link gets the metadata and content of its target; both are then of one Group. If no
//     entry before it is the target, that is a file of a lower layer: the entry is a TypeFile that
//     has it as Link, and no other metadata.
//   - Whiteouts concern lower layers only: ".wh.NAME" is a TypeWhiteout at NAME, ".wh..wh..opq"
//     makes its folder Opaque, as does a folder together with a whiteout of its name. Other names
//     that begin with ".wh..wh." are aufs's own, and left out.
//   - Folders that have no header of their own are Implied.
//
// What no tool could unpack is an error that names the entry: a path below a file, a hard link to a
// folder, names and numbers beyond what Linux has. So is what exceeds the limits, which are far
// beyond those of real layers: 2 Mi entries with implied folders, 1 GiB of names, links and
// extended attributes in all, 64 GiB of holes in sparse files. Headers are limited to 1 MiB each by
// archive/tar.
func Index(ctx context.Context, tar io.Reader) (*TOC, digest.Digest, error) {
	ix := indexer{scanner: newSummingScanner(ctx, tar, defaultLimits)}
	if err := ix.run(); err != nil {
		return nil, "", fmt.Errorf("index: %w", err)
	}
	return ix.toc.finish(), ix.whole.digest(), nil
}

// indexer builds the TOC of a layer, entry by entry.
type indexer struct {
	*scanner
	toc    tocBuilder
	groups int                                // number of hard link groups so far
	check  func(h *tar.Header, e Entry) error // of each entry before it is added; nil: none
}

func (ix *indexer) run() error {
	for {
		h, err := ix.next()
		if errors.Is(err, io.EOF) {
			return ix.drain()
		}
		if err != nil {
			return err
		}
		if err := ix.add(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if ix.toc.count > ix.limits.entries || ix.toc.text > ix.limits.text {
			return errTooMuch
		}
	}
}

// add adds the entry that h is the header of.
func (ix *indexer) add(h *tar.Header) error {
	e, err := entryFromHeader(h)
	if err != nil {
		return err
	}
	if ix.check != nil {
		if err := ix.check(h, e); err != nil {
			return err
		}
	}
	if e.Path, err = ix.resolve(e.Path); err != nil {
		return err
	}
	dir, name := split(e.Path)
	switch {
	case e.Path == ".":
		if e.Type != TypeDir {
			return errNoRoot
		}
	case isAufs(e.Path):
		return nil
	case hasWhiteout(dir):
		return errors.New("below a whiteout")
	case name == whiteoutOpaque:
		ix.toc.folder(dir).Opaque = true
		return nil
	case strings.HasPrefix(name, whiteoutPrefix):
		return ix.addWhiteout(dir, name[len(whiteoutPrefix):])
	case h.Typeflag == tar.TypeLink:
		return ix.addLink(e, h.Linkname)
	}
	if e.Type != TypeFile {
		ix.toc.add(e, 0)
		return nil
	}
	return ix.addFile(e, h)
}

func (ix *indexer) addFile(e Entry, h *tar.Header) (err error) {
	var body bytes.Buffer
	var also io.Writer
	if slices.Contains(Kept, e.Path) && e.Size <= maxKept {
		also = &body
	}
	offset := ix.contentOffset(h)
	if e.Digest, err = ix.digest(h, also); err != nil {
		return err
	}
	ix.toc.add(e, offset)
	if also != nil {
		ix.toc.keep(e.Path, body.Bytes())
	}
	return nil
}

// addLink adds a hard link.
func (ix *indexer) addLink(e Entry, linkname string) error {
	name, err := cleanPath(linkname)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	name, err = ix.resolve(name)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	target := ix.toc.lookup(name)
	switch {
	case target == nil || target.Type == TypeWhiteout:
		ix.toc.add(Entry{Path: e.Path, Type: TypeFile, Link: name}, 0)
		return nil
	case target.Type == TypeDir:
		return fmt.Errorf("hard link to the folder %s", name)
	case name == e.Path:
		return nil
	}
	if target.Group == "" && !isLowerLink(target.Entry) {
		ix.groups++
		target.Group = strconv.Itoa(ix.groups) // finish gives it its name
	}
	path := e.Path
	e = target.Entry
	e.Path = path
	ix.toc.add(e, target.offset)
	if target.kept {
		ix.toc.keep(path, target.body)
	}
	return nil
}

// isLowerLink reports whether an entry of a TOC stands for a file of a lower layer; its Link says
// which.
func isLowerLink(e Entry) bool { return e.Type == TypeFile && e.Link != "" }

// addWhiteout adds the removal of a name in dir.
func (ix *indexer) addWhiteout(dir, name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("whiteout without a name")
	}
	ix.toc.add(Entry{Path: join(dir, name), Type: TypeWhiteout}, 0)
	return nil
}

// resolve returns where path leads through the symlinks of this layer so far. Its last element is
// not followed.
func (ix *indexer) resolve(path string) (string, error) {
	dir, _ := split(path)
	if n := ix.toc.lookup(dir); n != nil && n.Type == TypeDir {
		return path, nil // and so are all folders on the way
	}
	return resolve(path, false, func(p string) (string, error) {
		n := ix.toc.lookup(p)
		switch {
		case n == nil || n.Type == TypeDir || n.Type == TypeWhiteout:
			return "", nil
		case n.Type == TypeSymlink:
			return n.Link, nil
		}
		return "", fmt.Errorf("%s is not a folder", p)
	})
}

// whiteoutOpaque is the name that makes its folder opaque (image-spec, layer.md), and aufsPrefix
// that of what aufs wrote into its branches for itself, as very old images still have it.
const (
	whiteoutOpaque = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh."
)

// hasWhiteout reports whether an element of path is the name of a whiteout.
func hasWhiteout(path string) bool {
	return strings.HasPrefix(path, whiteoutPrefix) || strings.Contains(path, "/"+whiteoutPrefix)
}

// isAufs reports whether path is, or lies in, what aufs wrote for itself.
func isAufs(path string) bool {
	dir, name := split(path)
	return strings.HasPrefix(name, aufsPrefix) && name != whiteoutOpaque ||
		strings.HasPrefix(dir, aufsPrefix) || strings.Contains(dir, "/"+aufsPrefix)
}

// Limits of names, from limits.h of Linux. What exceeds them cannot be unpacked.
const (
	maxPath  = 4095     // PATH_MAX without the final NUL
	maxName  = 255      // NAME_MAX
	maxXattr = 64 << 10 // XATTR_SIZE_MAX
)

// cleanPath makes a name in a tar a path as Entry has it: relative, without "." and ".." elements,
// which do not lead out of the root ("." is the root).
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

// entryFromHeader makes a tar header an Entry, with the extended attributes that images keep.
// Whiteouts and hard links are not interpreted: both are regular files as far as their entry says.
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
		if h.Typeflag != tar.TypeLink {
			e.Size = h.Size
		}
	case TypeSymlink:
		// Linux has no modes of symlinks; what some tools write there means nothing.
		e.Link, e.Mode = h.Linkname, 0o777
		if e.Link == "" || len(e.Link) > maxPath || strings.IndexByte(e.Link, 0) >= 0 {
			return Entry{}, errors.New("symlink with an invalid target")
		}
	case TypeChar, TypeBlock:
		if !validDevice(h.Devmajor, h.Devminor) {
			return Entry{}, fmt.Errorf("device %d:%d", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			if err := e.setXattr(recordedXattr(name), value); err != nil {
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
