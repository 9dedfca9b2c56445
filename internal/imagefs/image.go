package imagefs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"genoci/internal/image"
	"genoci/internal/layer"
)

// Image is an image that can be looked into.
type Image struct {
	Image image.Image
	Tree  *layer.Merged

	store Store
}

// Open returns the image to look into. Layers whose index is not known are read once for it.
func (s Store) Open(ctx context.Context, img image.Image) (*Image, error) {
	view, err := s.View(ctx, img)
	if err != nil {
		return nil, err
	}
	return &Image{Image: img, Tree: view, store: s}, nil
}

// Subtree returns what stands at the canonical path and below it, sorted as layer.Apply wants it;
// paths are relative to path, which is ".". Content is held against the digests of the index while
// it is read. release is due when nothing is read any more.
func (i *Image) Subtree(ctx context.Context, path string) (changes []layer.Change, release func() error, err error) {
	x := &Extraction{Store: i.store, View: i.Tree, Layers: i.Image.Manifest.Layers}
	first := map[string]string{} // of each file with several names
	err = layer.Walk(i.Tree, path, func(e layer.Entry) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		open, inode := x.Want(e)
		ch := layer.Change{Entry: e, Open: open}
		ch.Path, ch.Group = layer.Rel(path, e.Path), ""
		if leader, ok := first[inode]; ok && inode != "" {
			ch.Group, ch.Open = leader, nil
		} else if inode != "" {
			first[inode], ch.Group = ch.Path, ch.Path
		}
		changes = append(changes, ch)
		return true, nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(changes) == 1 && changes[0].Open != nil { // straight from its layer
		e := x.wants[0]
		changes[0].Open = func() (io.ReadCloser, error) { return i.store.openWant(x, e) }
		return changes, func() error { return nil }, nil
	}
	if x.Spool, err = i.store.Cache.Temp(); err != nil {
		return nil, nil, err
	}
	if err := x.Extract(ctx); err != nil {
		return nil, nil, errors.Join(err, x.Spool.Close())
	}
	return changes, x.Spool.Close, nil
}

// openWant opens the content of one file where it is.
func (s Store) openWant(x *Extraction, w want) (io.ReadCloser, error) {
	desc := x.Layers[w.layer]
	r, err := s.OpenLayer(desc, nil)
	if err != nil {
		return nil, err
	}
	content, err := layer.Content(r, w.Entry, w.offset)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read layer %s: %w", desc.Digest, err), r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{checked(w.Entry, content), r}, nil
}

// checked makes the end of a content an error where it is not what its entry says.
func checked(e layer.Entry, content io.Reader) io.Reader {
	return &checkedReader{r: content, want: e, sum: sha256.New()}
}

type checkedReader struct {
	r    io.Reader
	want layer.Entry
	sum  hash.Hash
	n    int64
}

// Read implements io.Reader. Content is checked when the last of its bytes has been read: nobody
// has to read on to the end.
func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	if (c.n >= c.want.Size || errors.Is(err, io.EOF)) && (c.n != c.want.Size || [32]byte(c.sum.Sum(nil)) != c.want.Digest) {
		return 0, fmt.Errorf("%s: the content is not what the index of its layer says: the layer is damaged", c.want.Path)
	}
	return n, err
}
