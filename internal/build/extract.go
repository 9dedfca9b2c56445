package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layer"
)

// extraction takes the content of chosen files out of an image's layers.
type extraction struct {
	b     *Builder
	view  *layer.Merged
	descs []v1.Descriptor // of the layers of view
	spool *os.File
	size  int64
	wants []want
}

// want is the content of one file: where it is, and where it goes.
type want struct {
	layer.Entry
	layer  int
	offset int64 // in the layer's uncompressed tar, as layer.Content wants it
	to     int64 // in the spool
}

// place is where the layer has to be read from, in bytes of the uncompressed tar.
func (w want) place() int64 { return max(w.offset, ^w.offset) }

// item makes an item of an entry. Its content can be opened once extract has been called.
func (x *extraction) item(e layer.Entry, rel string) item {
	it := item{Change: layer.Change{Entry: e}}
	it.Path, it.Group = rel, ""
	if e.Type != layer.TypeFile {
		return it
	}
	i, offset, ok := x.view.Locate(e.Path)
	if e.Group != "" {
		it.inode = fmt.Sprintf("%d:%s", i, e.Group)
	}
	if e.Size == 0 {
		return it
	}
	if !ok {
		it.Open = func() (io.ReadCloser, error) { return nil, fmt.Errorf("%s: no layer holds its content", e.Path) }
		return it
	}
	to, n := x.size, e.Size
	x.size += n
	x.wants = append(x.wants, want{Entry: e, layer: i, offset: offset, to: to})
	it.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(x.spool, to, n)), nil }
	return it
}

// extract reads each layer that holds something once, no further than it has to.
func (x *extraction) extract(ctx context.Context) error {
	slices.SortFunc(x.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.place(), b.place()))
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

func (x *extraction) fromLayer(ctx context.Context, wants []want) (err error) {
	desc := x.descs[wants[0].layer]
	r, err := x.b.openLayer(desc, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &countingReader{r: r}
	for i, w := range wants {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i > 0 && w.place() == wants[i-1].place() { // another name of the same content
			if err := x.again(wants[i-1], w); err != nil {
				return err
			}
			continue
		}
		skip := w.place() - in.n
		if w.offset < 0 {
			skip = ^skip
		}
		content, err := layer.Content(in, w.Entry, skip)
		if err == nil {
			_, err = io.CopyN(io.NewOffsetWriter(x.spool, w.to), content, w.Size)
		}
		if err != nil {
			return fmt.Errorf("read layer %s: %w", desc.Digest, err)
		}
	}
	return nil
}

// again copies content that an earlier want put into the spool.
func (x *extraction) again(earlier, w want) error {
	_, err := io.Copy(io.NewOffsetWriter(x.spool, w.to), io.NewSectionReader(x.spool, earlier.to, w.Size))
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
