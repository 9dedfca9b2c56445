package layer

import (
	"archive/tar"
	"strings"
	"time"
)

// whiteoutPrefix marks removed names (image-spec, layer.md).
const whiteoutPrefix = ".wh."

// tarBlock is what the length of all in a tar is a multiple of.
const tarBlock = 512

// appendHeader appends the tar header of an entry to dst: of ustar format where that can say it
// all, else with PAX records before it. The bytes are those of archive/tar, which makes all but the
// plain ones.
func appendHeader(dst []byte, e Entry) ([]byte, error) {
	if n := len(dst); isPlain(&e) {
		dst = append(dst, make([]byte, tarBlock)...)
		putHeader((*[tarBlock]byte)(dst[n:]), &e)
		return dst, nil
	}
	w := byteWriter{dst}
	err := tar.NewWriter(&w).WriteHeader(headerOf(e))
	return w.b, err
}

// byteWriter appends what is written to it.
type byteWriter struct{ b []byte }

func (w *byteWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// The greatest numbers that the fields of a ustar header hold, in octal digits.
const (
	max7  = 1<<21 - 1
	max11 = 1<<33 - 1
)

// isPlain reports whether a ustar header holds all that an entry says.
func isPlain(e *Entry) bool {
	name := len(e.Path)
	switch e.Type {
	case TypeDir:
		name++
	case TypeWhiteout:
		name += len(whiteoutPrefix)
	}
	return name <= 100 && len(e.Link) <= 100 && len(e.Group) <= 100 && len(e.Xattrs) == 0 &&
		isPlainText(e.Path) && isPlainText(e.Link) && isPlainText(e.Group) && !strings.HasSuffix(e.Path, "/") &&
		fits(int64(e.UID), max7) && fits(int64(e.GID), max7) && fits(e.Size, max11) && fits(e.MTime, max11) &&
		e.Major <= max7 && e.Minor <= max7
}

func fits(n, most int64) bool { return 0 <= n && n <= most }

// isPlainText reports whether s is ASCII without NUL.
func isPlainText(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// putHeader fills in the zero bytes of a ustar header (POSIX.1-1988, section 10.1.1). It is written
// once for each file of a layer, and archive/tar takes ten times as long.
func putHeader(h *[tarBlock]byte, e *Entry) {
	dir, name := split(e.Path)
	n := 0
	if e.Type == TypeWhiteout {
		if dir != "." {
			n = copy(h[:], dir)
			n += copy(h[n:], "/")
		}
		n += copy(h[n:], whiteoutPrefix)
		copy(h[n:], name)
	} else if n = copy(h[:], e.Path); e.Type == TypeDir && !isLink(e) {
		h[n] = '/'
	}
	typ, size, link := byte(e.Type), int64(0), ""
	switch {
	case e.Type == TypeWhiteout:
		typ = tar.TypeReg
	case isLink(e):
		typ, link = tar.TypeLink, e.Group
	case e.Type == TypeFile:
		size = e.Size
	case e.Type == TypeSymlink:
		link = e.Link
	}
	var mode, uid, gid, mtime, major, minor int64
	if e.Type != TypeWhiteout {
		mode, uid, gid, mtime = int64(e.Mode), int64(e.UID), int64(e.GID), e.MTime
	}
	if typ == tar.TypeChar || typ == tar.TypeBlock {
		major, minor = int64(e.Major), int64(e.Minor)
	}
	putOctal(h[100:107], mode)
	putOctal(h[108:115], uid)
	putOctal(h[116:123], gid)
	putOctal(h[124:135], size)
	putOctal(h[136:147], mtime)
	h[156] = typ
	copy(h[157:257], link)
	copy(h[257:], "ustar\x0000")
	putOctal(h[329:336], major)
	putOctal(h[337:344], minor)
	putSum(h)
}

// putOctal fills field with the octal digits of n. The byte behind it stays zero.
func putOctal(field []byte, n int64) {
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}

// putSum fills in the checksum of a header.
func putSum(h *[tarBlock]byte) {
	putOctal(h[148:154], headerSum(h))
	h[154], h[155] = 0, ' '
}

// headerSum returns the checksum of a header: the sum of its bytes, those of the checksum taken as
// spaces.
func headerSum(h *[tarBlock]byte) (sum int64) {
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	return sum
}

// isLink reports whether e is a further name of a hard link group, which stands in the tar as a
// link to the first.
func isLink(e *Entry) bool { return e.Group != "" && e.Group != e.Path }

// headerOf returns the tar header of an entry. It is filled in by hand: tar.FileInfoHeader would
// look up user names on the host and take access times, and the bytes have to depend on the entry
// alone. Names of a hard link group after its first are links to that. They repeat the metadata, as
// tools that unpack them set owner and mode anew, which clears capabilities that do not follow.
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
		h.PAXRecords[xattrRecord(name)] = value
	}
	if isLink(&e) {
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
