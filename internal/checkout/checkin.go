package checkout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
)

// Changes are what was changed in a checkout. Close gives the tree back; until then files of the
// changes can be opened.
type Changes struct {
	All  []layer.Change
	base layer.View
	tree snapshot.Tree
}

// Own returns those that are more than the way to another one, or the time of a folder in which
// something was changed.
func (c *Changes) Own() ([]layer.Change, error) { return own(c.base, c.All) }

func own(base layer.View, changes []layer.Change) ([]layer.Change, error) {
	var all []layer.Change
	for _, c := range changes {
		if c.Type == layer.TypeDir {
			below, had, err := base.Lookup(c.Path)
			if err != nil {
				return nil, err
			}
			if had && sameFolder(c.Entry, below) {
				continue
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// sameFolder reports whether two folders have the same attributes, but for the time.
func sameFolder(a, b layer.Entry) bool {
	return b.Type == layer.TypeDir && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && maps.Equal(a.Xattrs, b.Xattrs)
}

// Count returns how many changes there are that count, as Own returns them, and the bytes of their
// files. images are those of the checkout's layout.
func (c *Checkout) Count(ctx context.Context, images imagefs.Store) (n int, bytes int64, err error) {
	changes, err := c.Changes(ctx, images, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, changes.Close()) }()
	all, err := changes.Own()
	for _, change := range all {
		bytes += change.Size
	}
	return len(all), bytes, err
}

// Close gives the tree back.
func (c *Changes) Close() error { return c.tree.Close() }

// Changes finds what differs from the image. images are those of the checkout's layout. warn is
// told what a layer cannot hold.
func (c *Checkout) Changes(ctx context.Context, images imagefs.Store, warn func(path, what string)) (*Changes, error) {
	img, err := c.image(images)
	if err != nil {
		return nil, err
	}
	tree, err := c.Resume(ctx)
	if err != nil {
		return nil, err
	}
	base, err := images.View(ctx, img)
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	changes, err := c.Diff(ctx, base, tree, layer.DiffOptions{Warn: warn})
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return &Changes{changes, base, tree}, nil
}

// image returns the image that the checkout was made of.
func (c *Checkout) image(images imagefs.Store) (image.Image, error) {
	img, err := images.Layout.Image(c.Image.String(), image.Host())
	if err != nil {
		return img, fmt.Errorf("the image %s that %s was checked out from: %w", c.Tag, c.Dir, err)
	}
	return img, nil
}

// Diff compares the tree, which has been resumed, with that of its image. It sets where o says to
// look.
func (c *Checkout) Diff(ctx context.Context, base layer.View, tree snapshot.Tree, o layer.DiffOptions) ([]layer.Change, error) {
	touched, err := snapshot.Touched(ctx, tree)
	if err != nil {
		return nil, err
	}
	o.Touched, o.Splits = touched, snapshot.Splits(tree)
	if later, err := now(); err == nil {
		o.Since = c.Begun.since(later)
	}
	return layer.Diff(ctx, tree.Dir(), base, o)
}

// CheckinOptions are those of Checkin.
type CheckinOptions struct {
	Tag         string // of the new image; "": a dated one of the tag that was checked out
	Compression layer.Compression
	Now         time.Time
	Warn        func(path, what string)
}

// Checkin is the result of checking in.
type Checkin struct {
	Tag     string        // "" where nothing changed and no tag was asked for
	Image   digest.Digest // manifest
	Size    int64         // bytes of the new layer's blob
	Changed int           // paths
}

// Checkin makes an image of what was changed, in one layer on the one that was checked out, and
// ends the checkout. When it fails, the checkout is as it was. The error wraps unix.EBUSY or
// snapshot.ErrHeld where somebody is in it.
func (c *Checkout) Checkin(ctx context.Context, images imagefs.Store, o CheckinOptions) (res Checkin, err error) {
	if err := images.Layout.Use(ctx); err != nil {
		return res, err
	}
	img, err := c.image(images)
	if err != nil {
		return res, err
	}
	err = c.hidden(ctx, func() error {
		res, err = c.checkin(ctx, images, img, o)
		return err
	})
	return res, err
}

// checkin is Checkin of a tree that is not visible, where the driver can hide it. One that still is
// can be written to after its changes were read, by whoever has a file of it open: it must not
// become the tree of the new image.
func (c *Checkout) checkin(ctx context.Context, images imagefs.Store, img image.Image, o CheckinOptions) (res Checkin, err error) {
	visible, err := c.visible(ctx)
	if err != nil {
		return res, err
	}
	tree, err := c.Resume(ctx)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	base, err := images.View(ctx, img)
	if err != nil {
		return res, err
	}
	changes, err := c.Diff(ctx, base, tree, layer.DiffOptions{Strict: true, Warn: o.Warn})
	if err != nil {
		return res, err
	}
	counted, err := own(base, changes)
	if err != nil {
		return res, err
	}
	res.Changed = len(counted)
	name := c.Tree
	if len(changes) > 0 {
		if img, name, err = c.pack(ctx, images, img, changes, o); err != nil {
			return res, err
		}
		res.Size = img.Manifest.Layers[len(img.Manifest.Layers)-1].Size
	}
	res.Image = img.Descriptor.Digest
	if res.Tag, err = c.tag(ctx, images.Layout, img, o, len(changes) > 0); err != nil {
		return res, err
	}
	if err := c.unlink(); err != nil {
		return res, err
	}
	if visible || name == "" { // of an image without layers
		return res, c.dropAfter(ctx, tree)
	}
	// Only now that nothing can fail for want of a layer: a checkout that is not checked in stays
	// as it is.
	if _, err := c.Diff(ctx, base, tree, layer.DiffOptions{Settle: true}); err != nil {
		return res, errors.Join(err, c.dropAfter(ctx, tree))
	}
	return res, tree.Commit(ctx, name)
}

// visible reports whether the tree can be seen by all.
func (c *Checkout) visible(ctx context.Context) (bool, error) {
	kept, err := c.Store.Driver.Kept(ctx)
	return slices.ContainsFunc(kept, func(k snapshot.Kept) bool { return k.Name == c.Kept.Name && k.Shown }), err
}

// dropAfter drops the tree, which this process has.
func (c *Checkout) dropAfter(ctx context.Context, tree snapshot.Tree) error {
	return errors.Join(tree.Close(), c.Store.Driver.Drop(ctx, c.Kept.Name))
}

// pack adds a layer of changes to img, and returns the image and the name of its tree.
func (c *Checkout) pack(ctx context.Context, images imagefs.Store, img image.Image, changes []layer.Change, o CheckinOptions) (image.Image, string, error) {
	blob, err := images.Layout.NewBlob()
	if err != nil {
		return img, "", err
	}
	defer blob.Close()
	z, err := o.Compression.NewWriter(blob, io.Discard)
	if err != nil {
		return img, "", err
	}
	toc, diffID, err := layer.Pack(ctx, z, changes)
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return img, "", err
	}
	desc, err := blob.Commit(o.Compression.MediaType)
	if err != nil {
		return img, "", err
	}
	if err := images.SaveTOC(diffID, toc); err != nil {
		return img, "", err
	}
	images.Vouch(imagefs.Layer{Descriptor: desc, DiffID: diffID})
	next := image.Extend(img, image.Extension{
		Layers:  []image.Layer{{Descriptor: desc, DiffID: diffID, CreatedBy: "genoci checkin"}},
		Created: o.Now.UTC().Truncate(time.Second), Platform: image.Host(), BaseName: c.Tag, BaseDigest: img.Descriptor.Digest,
	})
	if next, err = images.Layout.WriteImage(next); err != nil {
		return img, "", err
	}
	chain := image.ChainIDs(next.Config.RootFS.DiffIDs)
	return next, string(chain[len(chain)-1]), nil
}

// tag gives the image its tag.
func (c *Checkout) tag(ctx context.Context, l *layout.Layout, img image.Image, o CheckinOptions, changed bool) (string, error) {
	if o.Tag == "" && !changed {
		return "", nil
	}
	tag := o.Tag
	err := l.Update(ctx, func(x *layout.Index) error {
		if o.Tag == "" {
			tag = layout.NextDated(x.Tags(), o.Now)(c.stem()).String()
		}
		x.Set(tag, img.Descriptor)
		return nil
	})
	return tag, err
}

// stem is the name of which a dated tag is made: that of a dated tag is its own name, and a digest,
// in full or in part, has none.
func (c *Checkout) stem() string {
	if d, ok := layout.ParseDated(c.Tag); ok {
		return d.Name
	}
	if strings.HasPrefix(c.Tag, digest.Canonical.String()+":") {
		return "checkin"
	}
	return c.Tag
}
