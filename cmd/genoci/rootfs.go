package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/build"
	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
)

// rootfs is a root filesystem to look into: that of an image, of a checkout, or of what a failed step left.
type rootfs interface {
	filesystem
	layered
}

// stack is a root filesystem as layers, lowest first.
type stack struct {
	view    *layer.Merged
	diffIDs []digest.Digest // of the layers; shorter than these where the upmost one is no layer of an image
	image   *image.Image    // whose config it has; nil where none is known
}

// openRoot finds the root filesystem that ref names: what a failed step of TARGET left for TARGET@failed, else the image of a tag or digest, else
// the tree of a checkout in that folder. release is due when it is not needed any more. The program may begin anew, where trees can be looked at.
func (f *storageFlags) openRoot(ctx context.Context, stderr io.Writer, ref string) (root rootfs, release func(), err error) {
	if err := f.resolve(); err != nil {
		return nil, nil, err
	}
	state, err := openCache(f.config.CacheDir)
	if err != nil {
		return nil, nil, err
	}
	unuse, err := state.Use(ctx) // the indexes of layers stay until release
	if err != nil {
		return nil, nil, err
	}
	root, done, err := f.openRootIn(ctx, state, stderr, ref)
	if err != nil {
		unuse()
		return nil, nil, err
	}
	return root, func() { done(); unuse() }, nil
}

// openRootIn is openRoot with the cache, which is in use.
func (f *storageFlags) openRootIn(ctx context.Context, state *cache.Cache, stderr io.Writer, ref string) (rootfs, func(), error) {
	if target, ok := build.FailedTarget(ref); ok {
		return f.openFailedStep(ctx, state, stderr, target)
	}
	l, img, err := openImage(ctx, f.layout, ref)
	if errors.Is(err, layout.ErrNotExist) {
		if _, statErr := os.Lstat(ref); statErr == nil {
			return f.openCheckout(ctx, state, stderr, ref)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	opened, err := imagesOf(state, l, stderr).Open(ctx, img)
	if err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("look into %s: %w", ref, err)
	}
	return &imageRoot{opened, l, imagesOf(state, l, stderr)}, func() { l.Close() }, nil
}

// openCheckout opens the tree of the checkout in the folder dir.
func (f *storageFlags) openCheckout(ctx context.Context, state *cache.Cache, stderr io.Writer, dir string) (rootfs, func(), error) {
	if err := sandbox.Enter(); err != nil {
		return nil, nil, err
	}
	all, err := f.checkouts(ctx, stderr)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.pick(all, dir)
	if err != nil {
		return nil, nil, err
	}
	store, err := imagesBelow(state, c, stderr)
	if err != nil {
		return nil, nil, err
	}
	img, err := store.Layout.Image(c.Image.String(), v1.Platform{})
	if err != nil {
		store.Layout.Close()
		return nil, nil, err
	}
	tree, err := c.Resume(ctx)
	if err != nil {
		store.Layout.Close()
		return nil, nil, inUse(err, c)
	}
	warn := warnAbout(stderr)
	root := &treeRoot{
		View: layer.Dir(tree.Dir()), dir: tree.Dir(), warn: warn,
		what: "the image that was checked out (" + c.Tag + ")",
		base: func(ctx context.Context) (stack, error) { return openStack(ctx, store, img) },
		diff: func(ctx context.Context, base layer.View) ([]layer.Change, error) {
			return c.Diff(ctx, base, tree, layer.DiffOptions{Warn: warn})
		},
	}
	return root, func() { tree.Close(); store.Layout.Close() }, nil
}

// openFailedStep opens what a failed step of the target left.
func (f *storageFlags) openFailedStep(ctx context.Context, state *cache.Cache, stderr io.Writer, target string) (rootfs, func(), error) {
	tree, note, _, err := f.openFailed(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	warn := warnAbout(stderr)
	root := &treeRoot{
		View: layer.Dir(tree.Dir()), dir: tree.Dir(), warn: warn,
		what: "what the step began with (" + note.Step + ")",
		base: func(ctx context.Context) (stack, error) { return stackBelow(ctx, imagefs.Store{Cache: state}, note) },
		diff: func(ctx context.Context, base layer.View) ([]layer.Change, error) {
			return build.DiffFailed(ctx, base, tree, warn)
		},
	}
	return root, func() { tree.Close() }, nil
}

// stackBelow returns what a failed step began with, which the cache knows the indexes of.
func stackBelow(ctx context.Context, store imagefs.Store, note *build.FailedNote) (stack, error) {
	s := stack{view: layer.Merge(), diffIDs: note.Layers}
	for _, id := range note.Layers {
		toc, err := store.TOC(ctx, id, func(context.Context) (v1.Descriptor, error) {
			return v1.Descriptor{}, withHint(fmt.Errorf("layer %s: its index is not in the cache any more", id), "build %s again", note.Target)
		})
		if err != nil {
			return stack{}, err
		}
		s.view = s.view.With(toc)
	}
	return s, nil
}

// warnAbout returns how a thing that no layer can hold is told.
func warnAbout(w io.Writer) func(path, what string) {
	return func(path, what string) { say(w, "warning: /%s: %s\n", quoted(path), what) }
}

// imageRoot is the root filesystem of an image.
type imageRoot struct {
	*imagefs.Image
	layout *layout.Layout
	store  imagefs.Store
}

// Stack implements rootfs.
func (r *imageRoot) Stack(context.Context) (stack, error) { return stackOf(r.Image), nil }

func stackOf(i *imagefs.Image) stack { return stack{i.Merged, i.Config.RootFS.DiffIDs, &i.Image} }

func openStack(ctx context.Context, store imagefs.Store, img image.Image) (stack, error) {
	i, err := store.Open(ctx, img)
	if err != nil {
		return stack{}, err
	}
	return stackOf(i), nil
}

// Base implements rootfs. It is the image that this one says to be made from, if that is there and has its lower layers; else this one
// without its last layer.
func (r *imageRoot) Base(ctx context.Context) (stack, string, error) {
	ids := r.Config.RootFS.DiffIDs
	if d := r.Manifest.Annotations[v1.AnnotationBaseImageDigest]; d != "" {
		img, err := r.layout.Image(d, r.Config.Platform)
		if below := img.Config.RootFS.DiffIDs; err == nil && len(below) <= len(ids) && slices.Equal(below, ids[:len(below)]) {
			what := short(digest.Digest(d))
			if name := r.Manifest.Annotations[v1.AnnotationBaseImageName]; name != "" {
				what = fmt.Sprintf("%s, %s", name, what)
			}
			base, err := openStack(ctx, r.store, img)
			return base, "its base (" + what + ")", err
		}
	}
	img := r.Image.Image
	n := max(len(ids)-1, 0)
	img.Config.RootFS.DiffIDs, img.Manifest.Layers = ids[:n], img.Manifest.Layers[:n]
	base, err := openStack(ctx, r.store, img)
	return base, "the image without its last layer", err
}

// treeRoot is a tree that was kept.
type treeRoot struct {
	layer.View
	dir  string
	base func(ctx context.Context) (stack, error)                           // what the tree was made from
	what string                                                             // that is
	diff func(ctx context.Context, base layer.View) ([]layer.Change, error) // how the tree differs from it
	warn func(path, what string)
}

// Subtree implements rootfs.
func (r *treeRoot) Subtree(ctx context.Context, path string) ([]layer.Change, func() error, error) {
	changes, err := layer.Subtree(ctx, r.dir, path, r.warn)
	return changes, func() error { return nil }, err
}

// Stack implements rootfs. What was changed is the upmost layer.
func (r *treeRoot) Stack(ctx context.Context) (stack, error) {
	s, err := r.base(ctx)
	if err != nil {
		return stack{}, err
	}
	changes, err := r.diff(ctx, s.view)
	if err != nil {
		return stack{}, err
	}
	top, _, err := layer.Pack(ctx, io.Discard, changes)
	if err != nil {
		return stack{}, err
	}
	s.view = s.view.With(top)
	return s, nil
}

// Base implements rootfs.
func (r *treeRoot) Base(ctx context.Context) (stack, string, error) {
	base, err := r.base(ctx)
	return base, r.what, err
}
