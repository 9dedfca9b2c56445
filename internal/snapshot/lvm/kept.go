package lvm

import (
	"context"
	"errors"
	"fmt"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
)

// Kept implements snapshot.Driver.
func (d *Driver) Kept(ctx context.Context) ([]snapshot.Kept, error) {
	return d.store.Kept(ctx, func(part string) (string, bool) {
		shown, err := d.shown(part)
		return root(part), err == nil && shown
	})
}

// shown reports whether the tree in a part's folder is mounted where all can see it.
func (d *Driver) shown(part string) (bool, error) { return d.outside.IsMountpoint(root(part)) }

// take holds a kept tree.
func (d *Driver) take(ctx context.Context, name string) (*tree, error) {
	part, err := d.store.Resume(ctx, name)
	if err != nil {
		return nil, err
	}
	t := &tree{driver: d, part: part, kept: true}
	t.shown, err = d.shown(part.Dir())
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Resume implements snapshot.Driver. A tree that is shown is seen through the same mount.
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

func (t *tree) resume() (err error) {
	if t.shown {
		if t.live, err = t.driver.outside.Borrow(t.Dir()); err != nil {
			return err
		}
		return t.watch()
	}
	if err := t.prepare(); err != nil {
		return err
	}
	return t.mount()
}

// prepare makes a kept tree ready to be mounted.
func (t *tree) prepare() error {
	if err := mounts.MakeMountpoint(t.Dir()); err != nil {
		return err
	}
	v, err := volumeOf(t.part.Dir())
	if err != nil {
		return err
	}
	if err := v.activate(); err != nil {
		return err
	}
	return t.driver.system.mended(v.device())
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

// show mounts the tree outside. From then on it is no longer of this process.
func (t *tree) show() error {
	if t.shown {
		return nil
	}
	if err := t.prepare(); err != nil {
		return err
	}
	return t.driver.outside.Mount(func() error { return t.driver.mount(t.part.Dir(), t.Dir(), readWrite) })
}

// Hide implements snapshot.Driver.
func (d *Driver) Hide(ctx context.Context, name string) error {
	t, err := d.take(ctx, name)
	if err != nil {
		return err
	}
	if err := d.outside.Unmount(t.Dir()); err != nil {
		return errors.Join(fmt.Errorf("hide kept tree %s: %w", name, err), t.Close())
	}
	return t.Close()
}

// Drop implements snapshot.Driver.
func (d *Driver) Drop(ctx context.Context, name string) error {
	return d.store.DropHidden(ctx, name, d.shown)
}
