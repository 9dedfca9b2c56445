package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"time"
)

// Pack writes changes as a layer's uncompressed tar to w, and returns its TOC. Changes must be in canonical order: by
// Compare, but a folder's whiteouts stand right behind it. Bytes depend on the changes alone: PAX
// format, whole seconds, no user names, no access times, numeric owners (image-spec, layer.md).
// Content that no longer has the size or the digest that its entry says is an error ("changed while it was read").
func Pack(ctx context.Context, w io.Writer, changes []Change) (*TOC, error) {
	out := &counter{w: w}
	p := &packer{
		tar:     tar.NewWriter(out),
		written: out,
		hash:    sha256.New(),
		buf:     make([]byte, bufferSize),
		packed:  make(map[string]packedFile),
	}
	for i, ch := range changes {
		if i > 0 && compareChanges(changes[i-1], ch) >= 0 {
			return nil, &fs.PathError{Op: "pack", Path: ch.Path, Err: fmt.Errorf("out of order after %s", changes[i-1].Path)}
		}
		if err := p.add(ctx, ch); err != nil {
			return nil, &fs.PathError{Op: "pack", Path: ch.Path, Err: err}
		}
	}
	if err := p.tar.Close(); err != nil {
		return nil, err
	}
	return p.toc.finish(), nil
}

// Sort brings changes into the order that Pack wants.
func Sort(changes []Change) { slices.SortFunc(changes, compareChanges) }

// compareChanges orders by Compare, but the whiteouts in a folder come before all else in it.
func compareChanges(a, b Change) int {
	aFirst, bFirst := whiteoutBeside(a, b.Path), whiteoutBeside(b, a.Path)
	switch {
	case aFirst && !bFirst:
		return -1
	case bFirst && !aFirst:
		return 1
	}
	return Compare(a.Path, b.Path)
}

// whiteoutBeside reports whether ch is a whiteout in a folder that path lies below.
func whiteoutBeside(ch Change, path string) bool {
	if ch.Type != TypeWhiteout {
		return false
	}
	dir, _ := split(ch.Path)
	return path != dir && Below(path, dir)
}

// packer is the state of one Pack.
type packer struct {
	tar     *tar.Writer
	written *counter
	toc     tocBuilder
	hash    hash.Hash
	buf     []byte
	packed  map[string]packedFile // what the further names of hard link groups refer to
}

// packedFile is where the content of a hard link group is, and its digest.
type packedFile struct {
	digest [32]byte
	offset int64
}

// add writes one entry and its content.
func (p *packer) add(ctx context.Context, ch Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ch.Opaque {
		return errors.New("opaque folders are written as whiteouts")
	}
	if hasWhiteout(ch.Path) {
		return errReserved
	}
	e := canonical(ch.Entry)
	e.Group = ch.Group
	first, linked := p.packed[e.Group]
	if e.Group != "" && e.Group != e.Path && !linked {
		return fmt.Errorf("hard link to %s, which the layer does not have", e.Group)
	}
	if err := p.tar.WriteHeader(headerOf(e)); err != nil {
		return err
	}
	switch {
	case linked:
		e.Digest = first.digest
		p.toc.add(e, first.offset)
		return nil
	case e.Type != TypeFile:
		p.toc.add(e, 0)
	default:
		offset := p.written.n
		body, err := p.copy(ctx, &e, ch.Open)
		if err != nil {
			return err
		}
		p.toc.add(e, offset)
		first = packedFile{e.Digest, offset}
		if body != nil {
			p.toc.keep(e.Path, body)
		}
	}
	if e.Group != "" {
		p.packed[e.Path] = first
	}
	return nil
}

// copy writes the content of a regular file, checks it, and completes the entry's digest. It returns the content of files in Kept.
func (p *packer) copy(ctx context.Context, e *Entry, open Opener) (body []byte, err error) {
	keep := e.Size <= maxKept && slices.Contains(Kept, e.Path)
	kept := bytes.NewBuffer([]byte{})
	p.hash.Reset()
	dst := io.MultiWriter(p.tar, p.hash)
	if keep {
		dst = io.MultiWriter(dst, kept)
	}
	if err := copyContent(ctx, dst, e.Size, open, p.buf); err != nil {
		return nil, err
	}
	digest := [32]byte(p.hash.Sum(nil))
	if e.Digest != ([32]byte{}) && e.Digest != digest {
		return nil, errChanged
	}
	e.Digest = digest
	if keep {
		body = kept.Bytes()
	}
	return body, nil
}

// errChanged means that content is no longer what it was when it was looked at.
var errChanged = errors.New("changed while it was read")

// copyContent copies the content of a file, which must have size bytes, through buf to w.
func copyContent(ctx context.Context, w io.Writer, size int64, open Opener, buf []byte) error {
	if open == nil {
		if size != 0 {
			return errNoContent
		}
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.CopyBuffer(w, contextReader{ctx, io.LimitReader(r, size)}, buf)
	if err != nil {
		return err
	}
	if n == size {
		switch _, err = io.ReadFull(r, buf[:1]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return errChanged
}

// counter counts the bytes that it passes on.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

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
