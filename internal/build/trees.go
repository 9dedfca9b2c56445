package build

import (
	"context"
	"io"

	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/snapshot"
)

// trees makes snapshots of layer chains, each once.
type trees struct {
	open   func() (snapshot.Driver, error) // once
	opened snapshot.Driver                 // nil while it is not
	made   memo[string, struct{}]
}

// driver returns the storage driver, opened at the first call.
func (t *trees) driver() (snapshot.Driver, error) { return t.open() }

// ensureTree makes sure that the driver has a snapshot of the tree that the layers make, for a
// target, and returns its name; "" for no layers.
func (b *Builder) ensureTree(ctx context.Context, target string, layers stack) (string, error) {
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
		parent, err := b.ensureTree(ctx, target, layers[:top])
		if err != nil {
			return struct{}{}, err
		}
		desc, err := layers[top].wait(ctx)
		if err != nil {
			return struct{}{}, err
		}
		l := imagefs.Layer{Descriptor: desc, DiffID: layers[top].DiffID}
		return struct{}{}, b.images().Unpack(ctx, drv, parent, name, []imagefs.Layer{l}, b.unpackOptions(), func(r io.Reader) io.Reader {
			return b.progress(ctx, target, "", "unpack base", desc.Size, r)
		})
	})
	return name, err
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
