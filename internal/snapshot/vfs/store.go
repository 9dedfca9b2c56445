package vfs

import (
	"context"
)

// What the store alone does.

// Has implements snapshot.Driver.
func (d *Driver) Has(name string) bool { return d.store.Has(name) }

// Names implements snapshot.Driver.
func (d *Driver) Names(ctx context.Context) ([]string, error) { return d.store.Names(ctx) }

// Remove implements snapshot.Driver.
func (d *Driver) Remove(ctx context.Context, names ...string) error {
	return d.store.Remove(ctx, names...)
}

// Busy implements snapshot.Driver.
func (d *Driver) Busy() (bool, error) { return d.store.Busy() }

// Drop implements snapshot.Driver.
func (d *Driver) Drop(ctx context.Context, name string) error { return d.store.Drop(ctx, name) }

// Discard implements snapshot.Driver.
func (d *Driver) Discard() error { return d.store.Discard() }

// FlushOld implements snapshot.Flusher.
func (d *Driver) FlushOld() error { return d.store.FlushOld() }
