package imagefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layer"
)

// Extraction takes the content of chosen files out of an image's layers into a temporary file.
type Extraction struct {
	Store  Store
	View   *layer.Merged   // the tree of the image
	Layers []v1.Descriptor // of View
	Spool  *os.File

	size  int64
	wants []want
	known map[source]int64 // where content that is wanted goes, however many names it has
}

// source is where content is.
type source struct {
	layer  int
	offset int64 // in the layer's uncompressed tar, as layer.Content wants it
}

// want is the content of one file: where it is, and where it goes.
type want struct {
	layer.Entry
	source
	to int64 // in the spool
}

// start is where the layer has to be read from, in bytes of the uncompressed tar.
func (w want) start() int64 { return max(w.offset, ^w.offset) }

// Want chooses an entry of the tree, and returns the opener of its content, which can be called
// once Extract has been; nil where it has none. inode is what its hard links have in common, ""
// where it is no regular file or has one name.
func (x *Extraction) Want(e layer.Entry) (open layer.Opener, inode string) {
	if e.Type != layer.TypeFile {
		return nil, ""
	}
	i, offset, ok := x.View.Locate(e.Path)
	if e.Group != "" {
		inode = fmt.Sprintf("%d:%s", i, e.Group)
	}
	switch {
	case e.Size == 0:
		return nil, inode
	case !ok:
		return func() (io.ReadCloser, error) { return nil, fmt.Errorf("%s: no layer holds its content", e.Path) }, inode
	}
	from, n := source{i, offset}, e.Size
	to, known := x.known[from]
	if !known {
		if x.known == nil {
			x.known = map[source]int64{}
		}
		to = x.size
		x.known[from] = to
		x.size += n
		x.wants = append(x.wants, want{Entry: e, source: from, to: to})
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(x.Spool, to, n)), nil }, inode
}

// Extract reads each layer that holds something once, no further than it has to. Content that is
// not what the index of its layer says is an error.
func (x *Extraction) Extract(ctx context.Context) error {
	slices.SortFunc(x.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.start(), b.start()))
	})
	for len(x.wants) > 0 {
		n := 1
		for n < len(x.wants) && x.wants[n].layer == x.wants[0].layer {
			n++
		}
		if err := x.fromLayer(ctx, x.wants[:n]); err != nil {
			return err
		}
		x.wants = x.wants[n:]
	}
	return nil
}

func (x *Extraction) fromLayer(ctx context.Context, wants []want) (err error) {
	desc := x.Layers[wants[0].layer]
	if !x.Store.Layout.Has(desc) {
		tar, err := x.Store.Layout.Scratch(desc.Digest)
		if err == nil {
			return errors.Join(x.fromTar(ctx, tar, wants), tar.Close())
		}
	}
	r, err := x.Store.OpenLayer(desc, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &countingReader{r: r}
	for _, w := range wants {
		if err := ctx.Err(); err != nil {
			return err
		}
		skip := w.start() - in.n
		if w.offset < 0 {
			skip = ^skip
		}
		if err := x.take(in, skip, w); err != nil {
			return fmt.Errorf("read layer %s: %w", desc.Digest, err)
		}
	}
	return nil
}

// fromTar takes content out of a scratch layer, of which nothing else is read.
func (x *Extraction) fromTar(ctx context.Context, tar *os.File, wants []want) error {
	for _, w := range wants {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := int64(0)
		if w.offset < 0 {
			at = ^at
		}
		if err := x.take(io.NewSectionReader(tar, w.start(), math.MaxInt64-w.start()), at, w); err != nil {
			return fmt.Errorf("read layer %s: %w", tar.Name(), err)
		}
	}
	return nil
}

// take puts content, which begins at an offset of tar, into the spool. It is held against its
// digest: nobody reads the layer to the end, where that of all of it is known.
func (x *Extraction) take(tar io.Reader, offset int64, w want) error {
	content, err := layer.Content(tar, w.Entry, offset)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.NewOffsetWriter(x.Spool, w.to), checked(w.Entry, content), w.Size)
	return err
}

// countingReader counts the bytes that were read from r.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
