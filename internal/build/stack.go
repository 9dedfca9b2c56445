package build

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layer"
)

// builtLayer is a layer of an image that is being built. What it holds is known from the start
// (DiffID); its blob may come later, since a tree is of use before anybody has compressed it.
// Images may share it, so it holds nothing that is told of one of them.
type builtLayer struct {
	DiffID     digest.Digest
	Descriptor v1.Descriptor // of the blob, once ready is closed
	toc        *layer.TOC    // of a layer that this build made
	gone       bool          // the layout does not have it: only what it holds is known
	scratch    bool          // no tag needed it: it is in the layout as its tar, and no manifest may name it (layout.Scratch)
	ready      chan struct{} // closed when the blob is in the layout, or when err says why it will not be; nil: it was from the start
	err        error

	chain atomic.Pointer[digest.Digest] // chain ID of the stack up to here, once somebody asked
}

// wait returns the descriptor of the layer's blob, when that is in the layout.
func (l *builtLayer) wait(ctx context.Context) (v1.Descriptor, error) {
	if l.ready != nil {
		select {
		case <-l.ready:
		case <-ctx.Done():
			return v1.Descriptor{}, ctx.Err()
		}
	}
	return l.Descriptor, l.err
}

// isReady reports whether wait would not wait.
func (l *builtLayer) isReady() bool {
	if l.ready == nil {
		return true
	}
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// stack is the layers that make a tree, lowest first.
type stack []*builtLayer

// stackOf returns the layers of an image that is complete.
func stackOf(img image.Image) stack {
	s := make(stack, len(img.Manifest.Layers))
	for i, desc := range img.Manifest.Layers {
		s[i] = &builtLayer{Descriptor: desc, DiffID: img.Config.RootFS.DiffIDs[i]}
	}
	return s
}

// wait waits for all blobs.
func (s stack) wait(ctx context.Context) error {
	for _, l := range s {
		if _, err := l.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// failed reports whether the blob of a layer could not be made.
func (s stack) failed() bool {
	return slices.ContainsFunc(s, func(l *builtLayer) bool { return l.isReady() && l.err != nil })
}

// chainID names the tree (image-spec, config.md, "Layer ChainID"); "" for an empty one.
func (s stack) chainID() digest.Digest {
	known, below := len(s), digest.Digest("") // of the layers below known
	for ; known > 0; known-- {
		if p := s[known-1].chain.Load(); p != nil {
			below = *p
			break
		}
	}
	for _, l := range s[known:] {
		id := image.ChainID(below, l.DiffID) // one for each layer, which keeps it
		l.chain.Store(&id)
		below = id
	}
	return below
}

// on returns the stack with l on top; without l where the step that should have made it changed
// nothing.
func (s stack) on(l *builtLayer) stack {
	if l == nil {
		return s
	}
	return append(s[:len(s):len(s)], l)
}
