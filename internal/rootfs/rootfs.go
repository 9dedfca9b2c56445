// Package rootfs looks into root filesystems without mounting them: into that of an image, of a
// checkout, or of a failed step. It says how two of them differ, and copies files and folders out
// of one.
package rootfs

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
)

// Root is a root filesystem to look into.
type Root struct {
	// View is its tree.
	View layer.View
	// Subtree returns what stands at the canonical path and below it, as layer.Apply takes it, with
	// paths relative to path. release is due when nothing is read any more.
	Subtree func(ctx context.Context, path string) (changes []layer.Change, release func() error, err error)
	// Stack returns it as layers.
	Stack func(ctx context.Context) (Stack, error)
	// Base returns what it was made from, and what that is.
	Base func(ctx context.Context) (Stack, Origin, error)
}

// Stack is a root filesystem as layers, lowest first.
type Stack struct {
	View    *layer.Merged
	DiffIDs []digest.Digest // of the layers; shorter than these where the upmost one is no layer of an image
	Image   *image.Image    // whose config it has; nil where none is known
}

// OriginKind says what a root filesystem was made from.
type OriginKind int

// The kinds of origins.
const (
	BaseImage        OriginKind = iota // the image that the manifest names as its base
	WithoutLastLayer                   // the same image, without its last layer
	CheckedOut                         // the image that was checked out
	StepBegin                          // the tree that a step began with
)

// Origin is what a root filesystem was made from.
type Origin struct {
	Kind   OriginKind
	Name   string        // of the base; the tag that was checked out; the step. "" for none
	Digest digest.Digest // of the base
}

// OfImage returns the root filesystem of an image, which was opened from the store. Its base is the
// image that it says to be made from, if that is there and has its lower layers, and otherwise the
// image without its last layer.
func OfImage(store imagefs.Store, img *imagefs.Image) *Root {
	return &Root{
		View:    img.Tree,
		Subtree: img.Subtree,
		Stack:   func(context.Context) (Stack, error) { return StackOf(img), nil },
		Base:    func(ctx context.Context) (Stack, Origin, error) { return baseOf(ctx, store, img.Image) },
	}
}

// StackOf returns the layers of an image.
func StackOf(img *imagefs.Image) Stack {
	return Stack{img.Tree, img.Image.Config.RootFS.DiffIDs, &img.Image}
}

// OpenStack returns the layers of an image of the store.
func OpenStack(ctx context.Context, store imagefs.Store, img image.Image) (Stack, error) {
	opened, err := store.Open(ctx, img)
	if err != nil {
		return Stack{}, err
	}
	return StackOf(opened), nil
}

func baseOf(ctx context.Context, store imagefs.Store, img image.Image) (Stack, Origin, error) {
	ids := img.Config.RootFS.DiffIDs
	if d := img.Manifest.Annotations[v1.AnnotationBaseImageDigest]; d != "" {
		base, err := store.Layout.Image(d, img.Config.Platform)
		if below := base.Config.RootFS.DiffIDs; err == nil && len(below) <= len(ids) && slices.Equal(below, ids[:len(below)]) {
			stack, err := OpenStack(ctx, store, base)
			return stack, Origin{BaseImage, img.Manifest.Annotations[v1.AnnotationBaseImageName], digest.Digest(d)}, err
		}
	}
	n := max(len(ids)-1, 0)
	img.Config.RootFS.DiffIDs, img.Manifest.Layers = ids[:n], img.Manifest.Layers[:n]
	stack, err := OpenStack(ctx, store, img)
	return stack, Origin{Kind: WithoutLastLayer}, err
}

// IndexError says that nobody knows the index of a layer.
type IndexError struct{ DiffID digest.Digest }

func (e *IndexError) Error() string {
	return fmt.Sprintf("layer %s: its index is not in the cache any more", e.DiffID)
}

// StackOfLayers returns layers that the cache of the store knows the indexes of. The error wraps an
// *IndexError where it does not.
func StackOfLayers(ctx context.Context, store imagefs.Store, diffIDs []digest.Digest) (Stack, error) {
	s := Stack{View: layer.Merge(), DiffIDs: diffIDs}
	for _, id := range diffIDs {
		toc, err := store.TOC(ctx, id, func(context.Context) (v1.Descriptor, error) { return v1.Descriptor{}, &IndexError{id} })
		if err != nil {
			return Stack{}, err
		}
		s.View = s.View.With(toc)
	}
	return s, nil
}

// Tree is the folder of a root filesystem that somebody works in, or has worked in.
type Tree struct {
	Dir    string
	Base   func(ctx context.Context) (Stack, error) // what the tree was made from
	Origin Origin                                   // what that is
	// Diff returns how the tree differs from its base.
	Diff func(ctx context.Context, base layer.View) ([]layer.Change, error)
	Warn func(path, what string) // told of what no layer can hold
}

// OfTree returns the root filesystem in a folder. What was changed there is its upmost layer.
func OfTree(t Tree) *Root {
	return &Root{
		View: layer.Dir(t.Dir),
		Subtree: func(ctx context.Context, path string) ([]layer.Change, func() error, error) {
			changes, err := layer.Subtree(ctx, t.Dir, path, t.Warn)
			return changes, func() error { return nil }, err
		},
		Stack: t.stack,
		Base: func(ctx context.Context) (Stack, Origin, error) {
			base, err := t.Base(ctx)
			return base, t.Origin, err
		},
	}
}

func (t Tree) stack(ctx context.Context) (Stack, error) {
	s, err := t.Base(ctx)
	if err != nil {
		return Stack{}, err
	}
	changes, err := t.Diff(ctx, s.View)
	if err != nil {
		return Stack{}, err
	}
	top, _, err := layer.Pack(ctx, io.Discard, changes)
	if err != nil {
		return Stack{}, err
	}
	s.View = s.View.With(top)
	return s, nil
}
