package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/build"
	"genoci/internal/cache"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/rootfs"
	"genoci/internal/sandbox"
)

// openRoot finds the root filesystem that ref names: what a failed step of TARGET left for
// TARGET@failed, else the image of a tag or digest, else the tree of a checkout in that folder.
// release is due when it is not needed any more. The program may begin anew, where trees can be
// looked at.
func (f *storageFlags) openRoot(ctx context.Context, stderr io.Writer, ref string) (root *rootfs.Root, release func(), err error) {
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
func (f *storageFlags) openRootIn(ctx context.Context, state *cache.Cache, stderr io.Writer, ref string) (*rootfs.Root, func(), error) {
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
	return rootfs.OfImage(imagesOf(state, l, stderr), opened), func() { l.Close() }, nil
}

// openCheckout opens the tree of the checkout in the folder dir.
func (f *storageFlags) openCheckout(ctx context.Context, state *cache.Cache, stderr io.Writer, dir string) (*rootfs.Root, func(), error) {
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
	root := rootfs.OfTree(rootfs.Tree{
		Dir: tree.Dir(), Warn: warn,
		Origin: rootfs.Origin{Kind: rootfs.CheckedOut, Name: c.Tag},
		Base:   func(ctx context.Context) (rootfs.Stack, error) { return rootfs.OpenStack(ctx, store, img) },
		Diff: func(ctx context.Context, base layer.View) ([]layer.Change, error) {
			return c.Diff(ctx, base, tree, layer.DiffOptions{Warn: warn})
		},
	})
	return root, func() { tree.Close(); store.Layout.Close() }, nil
}

// openFailedStep opens what a failed step of the target left.
func (f *storageFlags) openFailedStep(ctx context.Context, state *cache.Cache, stderr io.Writer, target string) (*rootfs.Root, func(), error) {
	tree, note, _, err := f.openFailed(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	warn := warnAbout(stderr)
	root := rootfs.OfTree(rootfs.Tree{
		Dir: tree.Dir(), Warn: warn,
		Origin: rootfs.Origin{Kind: rootfs.StepBegin, Name: note.Step},
		Base: func(ctx context.Context) (rootfs.Stack, error) {
			return stackBelow(ctx, imagefs.Store{Cache: state}, note)
		},
		Diff: func(ctx context.Context, base layer.View) ([]layer.Change, error) {
			return build.DiffFailed(ctx, base, tree, warn)
		},
	})
	return root, func() { tree.Close() }, nil
}

// stackBelow returns what a failed step began with, which the cache knows the indexes of.
func stackBelow(ctx context.Context, store imagefs.Store, note *build.FailedNote) (rootfs.Stack, error) {
	s, err := rootfs.StackOfLayers(ctx, store, note.Layers)
	if unknown := (*rootfs.IndexError)(nil); errors.As(err, &unknown) {
		err = withHint(err, "build %s again", note.Target)
	}
	return s, err
}

// originText says what a root filesystem was made from.
func originText(o rootfs.Origin) string {
	switch o.Kind {
	case rootfs.BaseImage:
		if o.Name != "" {
			return "its base (" + o.Name + ", " + short(o.Digest) + ")"
		}
		return "its base (" + short(o.Digest) + ")"
	case rootfs.WithoutLastLayer:
		return "the image without its last layer"
	case rootfs.CheckedOut:
		return "the image that was checked out (" + o.Name + ")"
	case rootfs.StepBegin:
		return "what the step began with (" + o.Name + ")"
	}
	return ""
}

// warnAbout returns how a thing that no layer can hold is told.
func warnAbout(w io.Writer) func(path, what string) {
	return func(path, what string) { say(w, "warning: /%s: %s\n", quoted(path), what) }
}
