package layer

import (
	"archive/tar"
	"context"
	"io"
	"time"
)

// Pack writes changes as a layer's uncompressed tar to w, and returns its TOC. Changes must be in canonical order: by
// Compare, but a folder's whiteouts stand right behind it. Bytes depend on the changes alone: PAX
// format, whole seconds, no user names, no access times, numeric owners (image-spec, layer.md).
// Content that no longer has the size or the digest that its entry says is an error ("changed while it was read").
func Pack(ctx context.Context, w io.Writer, changes []Change) (*TOC, error) { panic("stub") }

// Sort brings changes into the order that Pack wants.
func Sort(changes []Change) { panic("stub") }

// whiteoutPrefix marks removed names (image-spec, layer.md).
const whiteoutPrefix = ".wh."

// headerOf returns the tar header of an entry. It is filled in by hand: tar.FileInfoHeader would look up user names on
// the host and take access times, and the bytes have to depend on the entry alone.
// Names of a hard link group after its first are links to that. They repeat the metadata, as tools that
// unpack them set owner and mode anew, which clears capabilities that do not follow.
func headerOf(e Entry) *tar.Header {
	h := &tar.Header{Format: tar.FormatPAX, ModTime: time.Unix(e.MTime, 0), Name: e.Path}
	if e.Type == TypeWhiteout {
		dir, name := split(e.Path)
		h.Typeflag, h.Name, h.ModTime = tar.TypeReg, join(dir, whiteoutPrefix+name), time.Unix(0, 0)
		return h
	}
	h.Typeflag, h.Mode, h.Uid, h.Gid = byte(e.Type), int64(e.Mode), e.UID, e.GID
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(e.Xattrs))
		}
		h.PAXRecords[paxXattr+name] = value
	}
	if e.Group != "" && e.Group != e.Path {
		h.Typeflag, h.Linkname = tar.TypeLink, e.Group
		return h
	}
	switch e.Type {
	case TypeFile:
		h.Size = e.Size
	case TypeDir:
		h.Name += "/"
	case TypeSymlink:
		h.Linkname = e.Link
	case TypeChar, TypeBlock:
		h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
	}
	return h
}

// split cuts a canonical path into its folder and its name; "." has the folder "." itself.
func split(path string) (dir, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return ".", path
}

// join is the reverse of split.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
