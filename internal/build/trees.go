package build

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/imagefs"
	"genoci/internal/layer"
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
	r, err := b.images().OpenLayer(desc, func(r io.Reader) io.Reader {
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

// images looks into the layers of the layout.
func (b *Builder) images() imagefs.Store {
	return imagefs.Store{Layout: b.Layout, Cache: b.Cache, Warn: func(text string) { b.report(Event{Kind: Warning, Text: text}) }}
}

// toc returns the index of a layer, made from its blob where it is not known.
func (b *Builder) toc(ctx context.Context, l *builtLayer) (*layer.TOC, error) {
	return b.tocs.get(string(l.DiffID), func() (*layer.TOC, error) { return b.images().TOC(ctx, l.DiffID, l.wait) })
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
