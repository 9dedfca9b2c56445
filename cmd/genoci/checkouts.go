package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/checkout"
	"genoci/internal/command"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// use holds off gc and clean, until release or the end of the process. The layout may be nil.
func use(ctx context.Context, l *layout.Layout, c *cache.Cache) (release func(), err error) {
	if l != nil {
		if err := l.Use(ctx); err != nil {
			return nil, err
		}
	}
	return c.Use(ctx)
}

// openShared opens the storage driver for trees that outlive the process. What differs from a build
// is said on w.
func (f *storageFlags) openShared(w io.Writer) (checkout.Store, error) {
	opened, err := f.drivers.OpenShared()
	if err != nil {
		return checkout.Store{}, err
	}
	for _, text := range passedOver(opened) {
		say(w, "warning: %s\n", text)
	}
	if len(opened.Private) > 0 {
		say(w, "note: not root: an overlay would end with this command; the tree is a plain folder (driver %s)\n", opened.Driver)
	}
	return checkoutsOf(opened.Driver), nil
}

func checkoutsOf(drv snapshot.Driver) checkout.Store {
	return checkout.Store{
		Driver: drv, Unpack: layer.UnpackOptions{Placeholders: sandbox.Rootless(), KeepOwner: true}, Tidy: command.RemoveLent,
	}
}

// checkouts returns all checkouts there are.
func (f *storageFlags) checkouts(ctx context.Context, w io.Writer) ([]*checkout.Checkout, error) {
	drvs, err := f.openKeeping(w)
	if err != nil {
		return nil, err
	}
	var all []*checkout.Checkout
	for _, drv := range drvs {
		some, err := checkoutsOf(drv).List(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// pick returns the checkout that a command is about, as pickFrom does.
func (f *storageFlags) pick(all []*checkout.Checkout, dir string) (*checkout.Checkout, error) {
	c, err := pickFrom(all, dir)
	if err == nil {
		return c, nil
	}
	if b, st := f.drivers.Detached(); b != nil {
		err = withHint(err, "the storage in %s is not attached, and may have it: %s attaches it", quoted(st.File), storageCommand("setup", b))
	}
	return nil, err
}

// pickFrom returns the checkout at dir; the only one, or the one in which the caller stands, where
// dir is "".
func pickFrom(all []*checkout.Checkout, dir string) (*checkout.Checkout, error) {
	if dir != "" {
		if c := checkoutAt(all, dir); c != nil {
			return c, nil
		}
		return nil, withHint(usagef("%s: not a checkout", dir), "genoci status lists the checkouts")
	}
	switch len(all) {
	case 0:
		return nil, withHint(usagef("nothing is checked out"), "genoci checkout TAG")
	case 1:
		return all[0], nil
	}
	if wd, err := os.Getwd(); err == nil { // the path by which the caller came there, or else that of the tree
		for ; wd != "/"; wd = filepath.Dir(wd) {
			if c := checkoutAt(all, wd); c != nil {
				return c, nil
			}
		}
	}
	return nil, withHint(usagef("%d images are checked out: which one?", len(all)), "name its folder; genoci status lists them")
}

// checkoutAt returns the checkout that has its symlink, or its tree, at dir. A symlink that
// somebody has moved there is the checkout's from then on.
func checkoutAt(all []*checkout.Checkout, dir string) *checkout.Checkout {
	if dir == "" {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	for _, c := range all {
		if c.Dir == abs || c.Kept.Dir == abs {
			return c
		}
	}
	target, err := os.Readlink(abs)
	for _, c := range all {
		if err == nil && c.Kept.Dir == target {
			c.Dir = abs
			return c
		}
	}
	return nil
}

// imagesBelow opens the layout that a checkout was made from.
func imagesBelow(state *cache.Cache, c *checkout.Checkout, w io.Writer) (imagefs.Store, error) {
	l, err := layout.Open(c.Layout)
	if errors.Is(err, layout.ErrNotExist) {
		err = withHint(err, "%s was checked out from there: put the layout back, or drop the checkout: %s",
			quoted(c.Dir), words([]string{"genoci", "abort", c.Dir}))
	}
	if err != nil {
		return imagefs.Store{}, err
	}
	return imagesOf(state, l, w), nil
}

func imagesOf(c *cache.Cache, l *layout.Layout, w io.Writer) imagefs.Store {
	return imagefs.Store{Layout: l, Cache: c, Warn: func(text string) { say(w, "warning: %s\n", text) }}
}

// inUse says of which checkout somebody is in it, and adds a hint.
func inUse(err error, c *checkout.Checkout) error {
	switch {
	case errors.Is(err, snapshot.ErrHeld):
		return withHint(fmt.Errorf("%s: %w", quoted(c.Dir), snapshot.ErrHeld), "another genoci command has it: wait for that to end")
	case errors.Is(err, checkout.ErrMounted):
		return withHint(err, "umount it first; genoci chroot has all mounts that commands need, and ends them")
	case errors.Is(err, unix.EBUSY):
		return withHint(fmt.Errorf("%s: %w", quoted(c.Dir), unix.EBUSY), "close what is open below %s, and leave the folder; fuser -vm %s lists who is there", quoted(c.Dir), shellQuote(c.Dir))
	}
	return err
}

// now is the time of checkins and of their dated tags: SOURCE_DATE_EPOCH, or the clock's.
func now() (time.Time, error) {
	epoch, err := sourceEpoch()
	if err != nil || epoch == nil {
		return time.Now(), err
	}
	return time.Unix(*epoch, 0).UTC(), nil
}
