package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
)

// mountpoint returns the folder in a part's folder at which its tree is mounted.
func mountpoint(part string) string { return filepath.Join(part, "root") }

// Kept implements snapshot.Driver.
func (d *Driver) Kept(ctx context.Context) ([]snapshot.Kept, error) {
	return d.store.Kept(ctx, func(part string) (string, bool) {
		if lowers, err := os.Stat(filepath.Join(part, "lowers")); err == nil && lowers.Size() == 0 {
			return diff(part), true
		}
		shown, err := d.shown(part)
		return mountpoint(part), err == nil && shown
	})
}

// shown reports whether the tree in a part's folder is mounted where all can see it.
func (d *Driver) shown(part string) (bool, error) { return d.outside.IsMountpoint(mountpoint(part)) }

// Resume implements snapshot.Driver. A tree that is shown is seen through the same mount: two of
// one upper folder would not know of each other's changes.
func (d *Driver) Resume(ctx context.Context, name string) (snapshot.Tree, error) {
	t, err := d.take(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := t.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("kept tree %s: %w", name, err), t.Close())
	}
	return t, nil
}

// take holds a kept tree.
func (d *Driver) take(ctx context.Context, name string) (working, error) {
	part, err := d.store.Resume(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.tree(part), nil
}

func (t *mounted) resume() error {
	t.kept = true
	shown, err := t.driver.shown(t.part.Dir())
	if err != nil {
		return err
	}
	if !shown {
		if err := mounts.MakeMountpoint(t.Dir()); err != nil {
			return err
		}
		return t.mount()
	}
	t.shown = true
	t.live, err = t.driver.outside.Borrow(t.Dir())
	return err
}

// Show implements snapshot.Driver.
func (d *Driver) Show(ctx context.Context, name string) (string, error) {
	t, err := d.take(ctx, name)
	if err != nil {
		return "", err
	}
	if err := t.show(); err != nil {
		return "", errors.Join(fmt.Errorf("show kept tree %s: %w", name, err), t.Close())
	}
	return t.Dir(), t.Close()
}

func (t *plain) show() error { return nil }

// show mounts the tree outside. From then on it is no longer of this process.
func (t *mounted) show() error {
	shown, err := t.driver.shown(t.part.Dir())
	if shown || err != nil {
		return err
	}
	t.kept = true
	if err := mounts.MakeMountpoint(t.Dir()); err != nil {
		return err
	}
	err = t.driver.outside.Mount(t.mount)
	t.live = false
	return err
}

// Hide implements snapshot.Driver.
func (d *Driver) Hide(ctx context.Context, name string) error {
	t, err := d.take(ctx, name)
	if err != nil {
		return err
	}
	if err := t.hide(); err != nil {
		return errors.Join(fmt.Errorf("hide kept tree %s: %w", name, err), t.Close())
	}
	return t.Close()
}

func (t *plain) hide() error { return nil }

func (t *mounted) hide() error { return t.driver.outside.Unmount(t.Dir()) }

// Drop implements snapshot.Driver.
func (d *Driver) Drop(ctx context.Context, name string) error {
	return d.store.DropHidden(ctx, name, d.shown)
}
