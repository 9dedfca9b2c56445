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
	"github.com/spf13/pflag"

	"genoci/internal/cache"
	"genoci/internal/checkout"
	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// rootfs is a root filesystem to look into: that of an image, or a tree.
type rootfs interface {
	filesystem
	layered
}

// stack is a root filesystem as layers, lowest first.
type stack struct {
	view    *layer.Merged
	diffIDs []digest.Digest // of the layers; shorter than these where the upmost one is no layer of an image
	image   image.Image     // whose config it has
}

// lookFlags are the flags of commands that look into root filesystems.
type lookFlags struct {
	storageFlags
	layout string
}

func (f *lookFlags) add(fs *pflag.FlagSet) {
	layoutVar(fs, &f.layout)
	cacheDirVar(fs, &f.cacheDir)
	f.addHidden(fs)
}

// open finds the root filesystem that ref names: the image of a tag or digest, or else the tree of a checkout in that folder. release is due when it
// is not needed any more. The program may begin anew, where trees can be looked at.
func (f *lookFlags) open(ctx context.Context, stderr io.Writer, ref string) (root rootfs, release func(), err error) {
	if err := f.resolve(); err != nil {
		return nil, nil, err
	}
	state, err := cache.Open(f.cacheDir)
	if err != nil {
		return nil, nil, err
	}
	l, img, err := openImage(f.layout, ref)
	if errors.Is(err, layout.ErrNotExist) {
		if _, statErr := os.Stat(ref); statErr == nil {
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
func (f *lookFlags) openCheckout(ctx context.Context, state *cache.Cache, stderr io.Writer, dir string) (rootfs, func(), error) {
	if err := sandbox.Enter(); err != nil {
		return nil, nil, err
	}
	all, err := f.checkouts(ctx, stderr)
	if err != nil {
		return nil, nil, err
	}
	c, err := pick(all, dir)
	if err != nil {
		return nil, nil, err
	}
	store, err := images(state, c.Layout, stderr)
	if err != nil {
		return nil, nil, err
	}
	release := func() { store.Layout.Close() }
	img, err := store.Layout.Image(c.Image.String(), v1.Platform{})
	if err != nil {
		release()
		return nil, nil, err
	}
	tree, err := c.Resume(ctx)
	if err != nil {
		release()
		return nil, nil, inUse(err, c)
	}
	return &checkoutRoot{layer.Dir(tree.Dir()), c, tree, store, img, warnAbout(stderr)}, func() { tree.Close(); release() }, nil
}

// warnAbout returns how a thing that no layer can hold is told.
func warnAbout(w io.Writer) func(path, what string) {
	return func(path, what string) { fmt.Fprintf(w, "warning: /%s: %s\n", quoted(path), what) }
}

// imageRoot is the root filesystem of an image.
type imageRoot struct {
	*imagefs.Image
	layout *layout.Layout
	store  imagefs.Store
}

// Stack implements rootfs.
func (r *imageRoot) Stack(context.Context) (stack, error) { return stackOf(r.Image), nil }

func stackOf(i *imagefs.Image) stack { return stack{i.Merged, i.Config.RootFS.DiffIDs, i.Image} }

// Base implements rootfs. It is the image that this one says to be made from, if that is there and has its lower layers; else this one
// without its last layer.
func (r *imageRoot) Base(ctx context.Context) (stack, string, error) {
	ids := r.Config.RootFS.DiffIDs
	if d := r.Manifest.Annotations[v1.AnnotationBaseImageDigest]; d != "" {
		img, err := r.layout.Image(d, r.Config.Platform)
		if below := img.Config.RootFS.DiffIDs; err == nil && len(below) <= len(ids) && slices.Equal(below, ids[:len(below)]) {
			base, err := r.store.Open(ctx, img)
			if err != nil {
				return stack{}, "", err
			}
			what := short(digest.Digest(d))
			if name := r.Manifest.Annotations[v1.AnnotationBaseImageName]; name != "" {
				what = fmt.Sprintf("%s, %s", printable(name), what)
			}
			return stackOf(base), "its base (" + what + ")", nil
		}
	}
	img := r.Image.Image
	n := max(len(ids)-1, 0)
	img.Config.RootFS.DiffIDs, img.Manifest.Layers = ids[:n], img.Manifest.Layers[:n]
	base, err := r.store.Open(ctx, img)
	if err != nil {
		return stack{}, "", err
	}
	return stackOf(base), "the image without its last layer", nil
}

// checkoutRoot is the tree of a checkout.
type checkoutRoot struct {
	layer.View
	checkout *checkout.Checkout
	tree     snapshot.Tree
	store    imagefs.Store
	image    image.Image // that was checked out
	warn     func(path, what string)
}

// Subtree implements rootfs.
func (r *checkoutRoot) Subtree(ctx context.Context, path string) ([]layer.Change, func() error, error) {
	changes, err := layer.Subtree(ctx, r.tree.Dir(), path, r.warn)
	return changes, func() error { return nil }, err
}

// Stack implements rootfs. What was changed is the upmost layer.
func (r *checkoutRoot) Stack(ctx context.Context) (stack, error) {
	base, err := r.store.Open(ctx, r.image)
	if err != nil {
		return stack{}, err
	}
	changes, err := r.checkout.Diff(ctx, base, r.tree, r.warn)
	if err != nil {
		return stack{}, err
	}
	top, _, err := layer.Pack(ctx, io.Discard, changes)
	if err != nil {
		return stack{}, err
	}
	s := stackOf(base)
	s.view = s.view.With(top)
	return s, nil
}

// Base implements rootfs.
func (r *checkoutRoot) Base(ctx context.Context) (stack, string, error) {
	base, err := r.store.Open(ctx, r.image)
	if err != nil {
		return stack{}, "", err
	}
	return stackOf(base), "the image that was checked out (" + r.checkout.Tag + ")", nil
}
