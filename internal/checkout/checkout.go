// Package checkout keeps trees of images for people to change by hand, and makes images of what
// they changed. A checkout is a kept tree of a storage driver with a note, and a symlink to it
// where its user wanted to have it. It never decides what changed itself (layer.Diff does), and
// removes nothing but its own tree and its own symlink.
package checkout

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/kept"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
)

// ErrTaken is wrapped where the folder of a checkout exists already, and is something else.
var ErrTaken = errors.New("exists already")

// ErrMounted is wrapped where something is mounted in the tree of a checkout, which therefore
// cannot end.
var ErrMounted = errors.New("something is mounted here")

// Store is where checkouts are kept: a storage driver, and how trees are unpacked for this process.
type Store struct {
	Driver snapshot.Driver
	Unpack layer.UnpackOptions
	Tidy   func(dir string) error // removes from a tree what is nobody's work; nil: nothing
}

// Checkout is a tree that somebody works in.
type Checkout struct {
	Store Store
	Note
	Kept snapshot.Kept
}

// Note is what is known of a checkout besides its tree. It is kept with that as JSON.
type Note struct {
	Tag    string        `json:"tag"`    // as it was named, a tag or a digest
	Image  digest.Digest `json:"image"`  // manifest
	Layout string        `json:"layout"` // absolute path
	Dir    string        `json:"dir"`    // absolute path of the symlink to the tree
	Tree   string        `json:"tree"`   // snapshot that the tree was made from
	Begun  clock         `json:"begun"`  // when the tree was as the image is
}

// Open checks an image out: it makes a tree of it that can be changed, and the symlink dir to that.
// Where that is a checkout of the same image already, it is shown again, as after a restart of the
// machine, and again is true. The error wraps ErrTaken where dir is something else, and
// snapshot.ErrUnsupported where the driver cannot show trees that outlive the process.
func (s Store) Open(ctx context.Context, images imagefs.Store, img image.Image, tag, dir string) (c *Checkout, again bool, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, false, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, c := range all {
		if c.Dir != dir {
			continue
		}
		if c.Image != img.Descriptor.Digest {
			return nil, false, fmt.Errorf("%s: a checkout of %s %w", dir, c.Tag, ErrTaken)
		}
		return c, true, c.show(ctx)
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, false, fmt.Errorf("%s %w", dir, ErrTaken)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	layoutDir, err := filepath.Abs(images.Layout.Dir())
	if err != nil {
		return nil, false, err
	}
	c = &Checkout{Store: s, Note: Note{Tag: tag, Image: img.Descriptor.Digest, Layout: layoutDir, Dir: dir}}
	if err := c.make(ctx, images, img); err != nil {
		return nil, false, err
	}
	if err := c.show(ctx); err != nil {
		return nil, false, errors.Join(err, c.Abort(context.WithoutCancel(ctx)))
	}
	return c, false, nil
}

// make makes the tree, and keeps it.
func (c *Checkout) make(ctx context.Context, images imagefs.Store, img image.Image) error {
	var err error
	if c.Tree, err = images.Snapshot(ctx, c.Store.Driver, img, c.Store.Unpack); err != nil {
		return err
	}
	tree, err := c.Store.Driver.New(ctx, c.Tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	if c.Begun, err = now(); err != nil {
		return err
	}
	c.Kept = snapshot.Kept{Name: kept.Checkout(rand.Text())}
	note, err := json.Marshal(c.Note)
	if err != nil {
		return err
	}
	return tree.Keep(ctx, c.Kept.Name, note)
}

// show makes the tree visible, and the symlink.
func (c *Checkout) show(ctx context.Context) error {
	dir, err := c.Store.Driver.Show(ctx, c.Kept.Name)
	if err != nil {
		return err
	}
	c.Kept.Dir, c.Kept.Shown = dir, true
	if c.linked() {
		return nil
	}
	if err := os.Symlink(dir, c.Dir); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", c.Dir, ErrTaken)
	} else if err != nil {
		return err
	}
	return nil
}

// linked reports whether the symlink is there, and leads to the tree.
func (c *Checkout) linked() bool {
	target, err := os.Readlink(c.Dir)
	return err == nil && target == c.Kept.Dir
}

// Linked reports whether the symlink is there, and leads to the tree, and the tree can be seen
// there.
func (c *Checkout) Linked() bool { return c.Kept.Shown && c.linked() }

// Sight says whether a checkout can be seen where its user wanted to have it, and otherwise why
// not.
type Sight int

// The reasons.
const (
	Visible    Sight = iota
	NotMounted       // the machine was started anew
	LinkGone         // the symlink is gone
	LinkTaken        // something else is where the symlink was
)

// Sight says whether the checkout can be seen.
func (c *Checkout) Sight() Sight {
	if c.Linked() {
		return Visible
	}
	if _, err := os.Lstat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return LinkGone
	}
	if !c.Kept.Shown {
		return NotMounted
	}
	return LinkTaken
}

// List returns all checkouts of the store's driver.
func (s Store) List(ctx context.Context) ([]*Checkout, error) {
	trees, err := s.Driver.Kept(ctx)
	if err != nil {
		return nil, err
	}
	var all []*Checkout
	for _, k := range trees {
		if !kept.IsCheckout(k.Name) {
			continue
		}
		c := &Checkout{Store: s, Kept: k}
		if err := json.Unmarshal(k.Note, &c.Note); err != nil {
			return nil, fmt.Errorf("note of %s: %w", k.Name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// TagNow returns a tag that the image has now in its layout: the one that was checked out, unless
// that is gone, or another image by now; "" for none.
func (c *Checkout) TagNow(l *layout.Layout) (string, error) {
	tags, err := l.Tags()
	found := ""
	for _, t := range tags {
		is := t.Descriptor.Digest == c.Image
		if t.Name == c.Tag && !is { // perhaps an index, which has the image
			img, err := l.Image(t.Name, image.Host())
			is = err == nil && img.Descriptor.Digest == c.Image
		}
		if is && (found == "" || t.Name == c.Tag) {
			found = t.Name
		}
	}
	return found, err
}

// Abort drops the checkout with all that was changed in it. The error wraps unix.EBUSY or
// snapshot.ErrHeld where somebody is in it, and ErrMounted.
func (c *Checkout) Abort(ctx context.Context) error {
	return c.hidden(ctx, func() error {
		if err := c.unlink(); err != nil {
			return err
		}
		return patiently(ctx, func() error { return c.Store.Driver.Drop(ctx, c.Kept.Name) })
	})
}

// hidden calls end when the tree is not visible any more. Where that fails, tree and symlink are
// shown again.
func (c *Checkout) hidden(ctx context.Context, end func() error) error {
	mounts, err := mounts.Below(c.Kept.Dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s: %w", filepath.Join(c.Dir, mounts[0]), ErrMounted)
	}
	err = patiently(ctx, func() error { return c.Store.Driver.Hide(ctx, c.Kept.Name) })
	if err != nil && !errors.Is(err, snapshot.ErrNotExist) {
		return err
	}
	if err = end(); err == nil || !c.Kept.Shown {
		return err
	}
	showErr := c.show(context.WithoutCancel(ctx))
	if errors.Is(showErr, snapshot.ErrNotExist) { // somebody else has ended the checkout
		return err
	}
	return errors.Join(err, showErr)
}

// unlink removes the symlink, if it is still ours.
func (c *Checkout) unlink() error {
	if !c.linked() {
		return nil
	}
	return os.Remove(c.Dir)
}

// Resume gives the tree to this process, until it is closed, committed or kept.
func (c *Checkout) Resume(ctx context.Context) (tree snapshot.Tree, err error) {
	err = patiently(ctx, func() error {
		tree, err = c.Store.Driver.Resume(ctx, c.Kept.Name)
		return err
	})
	if err != nil || c.Store.Tidy == nil {
		return tree, err
	}
	if err := c.Store.Tidy(tree.Dir()); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

// patiently calls do until no other process has the tree, for a second at most: so long do those
// have it that only count what was changed.
func patiently(ctx context.Context, do func() error) error {
	for end := time.Now().Add(time.Second); ; {
		err := do()
		if !errors.Is(err, snapshot.ErrHeld) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Began returns when the tree was as the image is.
func (c *Checkout) Began() time.Time { return time.Unix(0, c.Begun.Wall) }
