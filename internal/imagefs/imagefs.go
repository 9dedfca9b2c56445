// Package imagefs gives the file system that the layers of an image make. It is looked into without
// unpacking it: what stands at a path is known from the indexes of the layers, which the cache
// keeps, and the content of a file is read out of the blob of its layer, no further than it has to
// be. Or it becomes a snapshot of a storage driver.
package imagefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
)

// Store is the layers of a layout, with their indexes.
type Store struct {
	Layout *layout.Layout
	Cache  *cache.Cache
	Warn   func(text string) // told of an index that has to be made anew; nil: dropped
}

// OpenLayer opens the uncompressed tar of a layer. Its end is an error where the blob is not what
// desc says. wrap, which may be nil, sees the compressed bytes.
func (s Store) OpenLayer(desc v1.Descriptor, wrap func(io.Reader) io.Reader) (io.ReadCloser, error) {
	return s.openLayer(desc, wrap, fmt.Sprintf("layer %s: ", desc.Digest))
}

// openLayer is OpenLayer. prefix begins what it says about compressions.
func (s Store) openLayer(desc v1.Descriptor, wrap func(io.Reader) io.Reader, prefix string) (io.ReadCloser, error) {
	c, err := layer.CompressionByMediaType(desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s%w", prefix, err)
	}
	f, err := s.Layout.Blob(desc.Digest)
	if errors.Is(err, layout.ErrNotExist) && c.Name == "none" {
		f, err = s.Layout.Scratch(desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	blob := layout.Verified(f, desc)
	if wrap != nil {
		blob = wrap(blob)
	}
	tar, err := c.NewReader(blob)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s%w", prefix, err), f.Close())
	}
	return &layerReader{ReadCloser: tar, blob: blob, f: f}, nil
}

// layerReader reads a layer's tar, and at its end the rest of the blob, so that all of it is
// checked.
type layerReader struct {
	io.ReadCloser
	blob io.Reader
	f    io.Closer
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		if _, e := io.Copy(io.Discard, r.blob); e != nil {
			err = e
		}
	}
	return n, err
}

func (r *layerReader) Close() error { return errors.Join(r.ReadCloser.Close(), r.f.Close()) }

// tocPath is where the index of a layer is kept.
func (s Store) tocPath(diffID digest.Digest) (string, error) {
	dir, err := s.Cache.Dir(cache.TOCDir)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, diffID.Encoded()), nil
}

// SaveTOC keeps the index of a layer.
func (s Store) SaveTOC(diffID digest.Digest, t *layer.TOC) error {
	path, err := s.tocPath(diffID)
	if err != nil {
		return err
	}
	return t.Save(path)
}

// HasTOC reports whether the index of a layer is kept.
func (s Store) HasTOC(diffID digest.Digest) bool {
	path, err := s.tocPath(diffID)
	if err == nil {
		_, err = os.Stat(path)
	}
	return err == nil
}

// TOC returns the index of a layer. Where it is not known it is made, and kept: from the blob that
// blob returns.
func (s Store) TOC(ctx context.Context, diffID digest.Digest, blob func(context.Context) (v1.Descriptor, error)) (*layer.TOC, error) {
	path, err := s.tocPath(diffID)
	if err != nil {
		return nil, err
	}
	if t, err := layer.OpenTOC(path); err == nil {
		return t, nil
	} else if !errors.Is(err, fs.ErrNotExist) && s.Warn != nil {
		s.Warn(fmt.Sprintf("%v; it is made anew", err))
	}
	desc, err := blob(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.OpenLayer(desc, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	t, got, err := layer.Index(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("index layer %s: %w", desc.Digest, err)
	}
	l := Layer{desc, diffID}
	if err := l.holds(got); err != nil {
		return nil, err
	}
	s.Vouch(l)
	return t, t.Save(path)
}

// View returns the tree of an image. What Check refuses is refused.
func (s Store) View(ctx context.Context, img image.Image) (*layer.Merged, error) {
	if err := s.Check(ctx, img); err != nil {
		return nil, err
	}
	tocs := make([]*layer.TOC, len(img.Manifest.Layers))
	for i, desc := range img.Manifest.Layers {
		t, err := s.TOC(ctx, img.Config.RootFS.DiffIDs[i], func(context.Context) (v1.Descriptor, error) { return desc, nil })
		if err != nil {
			return nil, err
		}
		tocs[i] = t
	}
	return layer.Merge(tocs...), nil
}
