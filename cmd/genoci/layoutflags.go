package main

import (
	"context"
	"errors"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/build"
	"genoci/internal/image"
	"genoci/internal/layout"
)

// openLayout opens the layout in dir for a command that needs one, and holds off gc until it is
// closed. It waits for a gc that is running.
func openLayout(ctx context.Context, dir string) (*layout.Layout, error) {
	l, err := layout.Open(dir)
	if err != nil {
		return nil, noLayout(err)
	}
	if err := l.Use(ctx); err != nil && ctx.Err() != nil { // where there can be no lock, what is read tells why
		l.Close()
		return nil, context.Cause(ctx)
	}
	return l, nil
}

// noLayout adds a hint to an error about a layout that does not exist.
func noLayout(err error) error {
	if errors.Is(err, layout.ErrNotExist) {
		return withHint(err, "genoci build makes it; --layout DIR names another one")
	}
	return err
}

// openImage reads the image that ref, a tag or digest, names in the layout in dir. The layout is
// due to be closed.
func openImage(ctx context.Context, dir, ref string) (*layout.Layout, image.Image, error) {
	l, err := openLayout(ctx, dir)
	if err != nil {
		return nil, image.Image{}, err
	}
	img, err := l.Image(ref, v1.Platform{})
	if err != nil {
		l.Close()
		return nil, image.Image{}, noImage(ref, err)
	}
	return l, img, nil
}

// noImage adds a hint to an error about what ref names.
func noImage(ref string, err error) error {
	if _, ok := build.FailedTarget(ref); ok {
		return withHint(err, "a failed step leaves a tree, not an image; genoci shell %s opens a shell in it", ref)
	}
	return noSuchTag(err)
}

// noSuchTag adds a hint to an error about a tag that does not exist.
func noSuchTag(err error) error {
	if errors.Is(err, layout.ErrNotExist) && !errors.Is(err, layout.ErrNoImage) {
		return withHint(err, "genoci ls lists the tags")
	}
	return err
}

// imageSize returns the size of all blobs of an image.
func imageSize(img image.Image) int64 {
	total := img.Descriptor.Size + img.Manifest.Config.Size
	for _, l := range img.Manifest.Layers {
		total += l.Size
	}
	return total
}

// created returns when an image was made, as text.
func created(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// checkTagName returns an error when name can be no tag (distribution-spec v1.1, "Pulling
// manifests").
func checkTagName(name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.' && name[0] != '-'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}
	if !ok {
		return withHint(usagef("tag %q: not a name that tags can have", name),
			"letters, digits, and ._- (not first, but _ may be), at most 128")
	}
	return nil
}

// descriptorOf returns what ref names in the index: a tag's own entry, else the manifest or index
// of a digest.
func descriptorOf(l *layout.Layout, tags []layout.Tag, ref string) (v1.Descriptor, error) {
	for _, t := range tags {
		if t.Name == ref {
			return t.Descriptor, nil
		}
	}
	desc, err := l.Describe(ref)
	return desc, noSuchTag(err)
}
