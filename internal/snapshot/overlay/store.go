package overlay

import (
	"context"

	"genoci/internal/snapshot"
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

// Space implements snapshot.Driver.
func (d *Driver) Space(ctx context.Context) (snapshot.Space, error) { return d.store.Space(ctx) }

// Discard implements snapshot.Driver.
func (d *Driver) Discard() error { return d.store.Discard() }

// FlushOld implements snapshot.Flusher.
func (d *Driver) FlushOld() error { return d.store.FlushOld() }
