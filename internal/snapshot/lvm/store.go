package lvm

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

// Discard implements snapshot.Driver.
func (d *Driver) Discard() error { return d.store.Discard() }
