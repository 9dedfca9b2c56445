// Package history says what each dated build of a name changed.
package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layout"
	"genoci/internal/rootfs"
)

// Build is a dated build of a name.
type Build struct {
	Tag     layout.Build
	Current bool        // the name stands for it now
	Known   bool        // the image could be read
	Image   image.Image // none where it is not known
	Added   int64       // bytes of blobs that the build before does not have
	// Changes are from the build before. nil: there is none, or they are not known.
	Changes *rootfs.Diff
}

// Size returns the size of all blobs of the build's image.
func (b Build) Size() (n int64) {
	for _, d := range blobsOf(b.Image) {
		n += d.Size
	}
	return n
}

// List describes builds, which are sorted, newest first. now is what the name stands for. Of those
// that cannot be read, the list has what the index says, and the error says why.
func List(ctx context.Context, store imagefs.Store, builds []layout.Build, now digest.Digest) ([]Build, error) {
	list := make([]Build, len(builds))
	var failed []error
	var before *imagefs.Image
	for i, b := range slices.Backward(builds) {
		list[i] = Build{Tag: b, Current: b.Descriptor.Digest == now}
		img, err := store.Layout.ImageAt(b.Descriptor, v1.Platform{})
		var opened *imagefs.Image
		if err == nil {
			list[i].Known, list[i].Image = true, img
			opened, err = store.Open(ctx, img)
		}
		if err == nil {
			err = list[i].compare(ctx, before, opened)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("tag %s: %w", b, err))
		}
		before = opened
	}
	slices.Reverse(failed)
	return list, errors.Join(failed...)
}

// compare finds what is new in a build. before is nil for the first.
func (b *Build) compare(ctx context.Context, before, now *imagefs.Image) error {
	if before == nil {
		b.Added = b.Size()
		return nil
	}
	b.Added = newBytes(before.Image, now.Image)
	if before.Image.Descriptor.Digest == now.Image.Descriptor.Digest {
		b.Changes = &rootfs.Diff{}
		return nil
	}
	d, err := rootfs.Compare(ctx, rootfs.StackOf(before), rootfs.StackOf(now), false)
	b.Changes = &d
	return err
}

// newBytes returns the size of those blobs of an image that another one does not have.
func newBytes(old, now image.Image) int64 {
	have := map[digest.Digest]bool{}
	for _, d := range blobsOf(old) {
		have[d.Digest] = true
	}
	var n int64
	for _, d := range blobsOf(now) {
		if !have[d.Digest] {
			n += d.Size
			have[d.Digest] = true
		}
	}
	return n
}

// blobsOf returns manifest, config and layers of an image.
func blobsOf(img image.Image) []v1.Descriptor {
	return append([]v1.Descriptor{img.Descriptor, img.Manifest.Config}, img.Manifest.Layers...)
}
