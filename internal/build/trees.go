package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

// trees makes snapshots of layer chains, each once.
type trees struct {
	open func() (snapshot.Driver, error)
	made memo[string, struct{}]
}

// driver returns the storage driver, opened at the first call.
func (t *trees) driver() (snapshot.Driver, error) { return t.open() }

// ensureTree makes sure that the driver has a snapshot of the tree that the layers make, and returns
// its name; "" for no layers.
func (b *Builder) ensureTree(ctx context.Context, n *node, layers stack) (string, error) {
	if len(layers) == 0 {
		return "", nil
	}
	name := string(layers.chainID())
	_, err := b.trees.made.get(name, func() (struct{}, error) {
		drv, err := b.trees.driver()
		if err != nil || drv.Has(name) {
			return struct{}{}, err
		}
		top := len(layers) - 1
		parent, err := b.ensureTree(ctx, n, layers[:top])
		if err != nil {
			return struct{}{}, err
		}
		desc, err := layers[top].wait(ctx)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, b.unpackLayer(ctx, n, drv, parent, name, layers[top].DiffID, desc)
	})
	return name, err
}

// unpackLayer makes the snapshot name from parent and one layer. A layer whose content is not what the config of
// its image says is refused: its snapshot would stand for another tree, in every later build.
func (b *Builder) unpackLayer(ctx context.Context, n *node, drv snapshot.Driver, parent, name string, diffID digest.Digest, desc v1.Descriptor) error {
	tree, err := drv.New(ctx, parent)
	if err != nil {
		return err
	}
	defer tree.Close()
	r, err := b.openLayer(desc, func(r io.Reader) io.Reader {
		return b.progress(ctx, n.String(), "", "unpack base", desc.Size, r)
	})
	if err != nil {
		return err
	}
	defer r.Close()
	sum := diffID.Verifier()
	tar := layer.TeeAhead(r, sum)
	defer tar.Close()
	err = layer.Unpack(ctx, tree.Dir(), tar, b.unpackOptions())
	if err == nil {
		_, err = io.Copy(io.Discard, tar) // to the end, where the digests are checked
	}
	if err == nil && !sum.Verified() {
		err = fmt.Errorf("its content is not %s as the config says", diffID)
	}
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", desc.Digest, err)
	}
	return tree.Commit(ctx, name)
}

func (b *Builder) unpackOptions() layer.UnpackOptions {
	return layer.UnpackOptions{Placeholders: b.Rootless, KeepOwner: true}
}

// openLayer opens the uncompressed tar of a layer in the layout. Its end is an error where the blob
// is not what desc says. wrap, which may be nil, sees the compressed bytes.
func (b *Builder) openLayer(desc v1.Descriptor, wrap func(io.Reader) io.Reader) (io.ReadCloser, error) {
	c, err := layer.CompressionByMediaType(desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	f, err := b.Layout.Blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	blob := layout.Verified(f, desc)
	if wrap != nil {
		blob = wrap(blob)
	}
	tar, err := c.NewReader(blob)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: %w", desc.Digest, err), f.Close())
	}
	return &layerReader{ReadCloser: tar, blob: blob, f: f}, nil
}

// layerReader reads a layer's tar, and at its end the rest of the blob, so that all of it is checked.
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
func (b *Builder) tocPath(diffID digest.Digest) (string, error) {
	dir, err := b.Cache.Dir("toc")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, diffID.Encoded()), nil
}

// toc returns the index of a layer, made from its blob where it is not known.
func (b *Builder) toc(ctx context.Context, l *builtLayer) (*layer.TOC, error) {
	diffID := l.DiffID
	return b.tocs.get(string(diffID), func() (*layer.TOC, error) {
		path, err := b.tocPath(diffID)
		if err != nil {
			return nil, err
		}
		if t, err := layer.OpenTOC(path); err == nil {
			return t, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			b.report(Event{Kind: Warning, Text: fmt.Sprintf("%v; it is made anew", err)})
		}
		desc, err := l.wait(ctx)
		if err != nil {
			return nil, err
		}
		r, err := b.openLayer(desc, nil)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		t, got, err := layer.Index(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("index layer %s: %w", desc.Digest, err)
		}
		if got != diffID {
			return nil, fmt.Errorf("index layer %s: its content is %s, and not %s as the config says", desc.Digest, got, diffID)
		}
		return t, t.Save(path)
	})
}

// view returns the tree that layers make, as it can be looked up without being unpacked.
func (b *Builder) view(ctx context.Context, layers stack) (*layer.Merged, error) {
	tocs := make([]*layer.TOC, len(layers))
	for i, l := range layers {
		t, err := b.toc(ctx, l)
		if err != nil {
			return nil, err
		}
		tocs[i] = t
	}
	return layer.Merge(tocs...), nil
}
