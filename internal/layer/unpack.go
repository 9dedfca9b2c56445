package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// UnpackOptions says what the process may do in the folder.
type UnpackOptions struct {
	// Placeholders: device nodes are made as empty files with the extended attribute
	// user.genoci.node ("c 1 3"), since mknod(2) is refused outside the initial user namespace.
	// Dir and Diff read them as the devices that they stand for.
	Placeholders bool
	// KeepOwner false leaves all files owned by the caller, for ordinary users without a user
	// namespace; extended attributes that need privileges are then dropped as well, and so are
	// device nodes without Placeholders.
	KeepOwner bool
	// KeepRoot leaves the folder itself the owner, mode and attributes that it has, whatever the
	// layer says of it.
	KeepRoot bool
}

// Unpack applies a layer's uncompressed tar to the folder dir, whiteouts and opaque folders
// included. Every path is resolved as if dir were the root (openat2 RESOLVE_IN_ROOT); nothing
// outside dir is ever touched, mounts below dir are not crossed when something is removed. Times of
// folders are set last, deepest first. tar is read to the end of the stream.
//
// The tree is then as Merge says of it: whiteouts concern lower layers only, folders that the layer
// has no entry for keep their times or are made 0755 root of 1970, and so is the root where dir was
// empty.
func Unpack(ctx context.Context, dir string, tar io.Reader, o UnpackOptions) error {
	return extract(dir, o, func(x *extractor) error { return x.tar(ctx, tar) })
}

// Apply puts changes, sorted as Pack wants them, into the folder dir: the same as Unpack of Pack's
// tar. Contents are opened one after the other, when earlier changes may be in place already, so
// that none may be read from dir.
func Apply(ctx context.Context, dir string, changes []Change, o UnpackOptions) error {
	return extract(dir, o, func(x *extractor) error {
		for i := range changes {
			if x.failed() {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			ch := &changes[i]
			target := ch.Group
			if target == ch.Path {
				target = ""
			}
			if err := x.put(ch.Entry, target, changeContent{ctx, ch, x.buf}, ch.Path); err != nil {
				return &fs.PathError{Op: "unpack", Path: ch.Path, Err: err}
			}
		}
		return nil
	})
}

// changeContent is the content of a change, copied through buf.
type changeContent struct {
	ctx context.Context
	ch  *Change
	buf []byte
}

func (c changeContent) writeTo(w io.Writer) error {
	return copyContent(c.ctx, w, c.ch.Size, c.ch.Open, c.buf)
}

func (c changeContent) read(b []byte) error { return c.writeTo(&sliceWriter{b}) }

// sliceWriter fills a slice. There must be room for all that is written.
type sliceWriter struct{ left []byte }

func (s *sliceWriter) Write(p []byte) (int, error) {
	n := copy(s.left, p)
	s.left = s.left[n:]
	return n, nil
}

// tar puts all entries of a tar.
func (x *extractor) tar(ctx context.Context, r io.Reader) error {
	s := newScanner(ctx, r, defaultLimits)
	for !x.failed() {
		h, err := s.next()
		if errors.Is(err, io.EOF) {
			return s.drain()
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if err := x.header(h, tarContent{s}); err != nil {
			return &fs.PathError{Op: "unpack", Path: h.Name, Err: err}
		}
		if len(x.ours) > s.limits.entries {
			return fmt.Errorf("unpack: %w", errTooMuch)
		}
	}
	return nil
}

// tarContent is the content of the entry that a scanner is at.
type tarContent struct{ s *scanner }

func (c tarContent) writeTo(w io.Writer) error {
	_, err := c.s.copyContent(w)
	return err
}

func (c tarContent) read(b []byte) error { return c.s.readContent(b) }

// header puts the entry that h is the header of. What Index refuses is refused.
func (x *extractor) header(h *tar.Header, c fileContent) error {
	e, err := entryFromHeader(h)
	if err != nil {
		return err
	}
	dir, name := split(e.Path)
	switch {
	case isAufs(e.Path):
		return nil
	case hasWhiteout(dir):
		return errors.New("below a whiteout")
	case name == whiteoutOpaque:
		return x.hideChildren(dir)
	case strings.HasPrefix(name, whiteoutPrefix):
		return x.whiteout(dir, name[len(whiteoutPrefix):])
	case h.Typeflag != tar.TypeLink:
		return x.put(e, "", c, h.Name)
	}
	target, err := cleanPath(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	return x.put(e, target, nil, h.Name)
}

func (x *extractor) whiteout(dir, name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("whiteout without a name")
	}
	return x.hide(join(dir, name))
}
