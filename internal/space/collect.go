package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/checkout"
	"genoci/internal/layout"
	"genoci/internal/snapshot/store"
)

// Collect begins a garbage collection of the layout of the locations, in which tags go that keep
// lets expire. Images stay that are checked out: what was changed by hand is of no use without
// them. nil where there is no layout.
func Collect(ctx context.Context, p Locations, keep Keep, now time.Time) (*layout.Collection, error) {
	if p.Layout == nil {
		return nil, nil
	}
	return p.Layout.Collect(ctx, func(tags []layout.Tag) (layout.Choice, error) {
		used, err := p.checkedOut(ctx)
		return layout.Choice{Drop: keep.Expired(tags, now), Keep: used}, err
	})
}

// checkedOut returns the images of the layout that are checked out. Where a driver that keeps
// checkouts cannot be opened, nobody knows.
func (p Locations) checkedOut(ctx context.Context) ([]digest.Digest, error) {
	dir, err := os.Stat(p.Layout.Dir())
	if err != nil {
		return nil, err
	}
	var used []digest.Digest
	for _, s := range p.Stores {
		if s.Driver == nil {
			if err := s.withoutCheckouts(); err != nil {
				return nil, err
			}
			continue
		}
		all, err := checkout.Store{Driver: s.Driver}.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if other, err := os.Stat(c.Layout); err == nil && os.SameFile(dir, other) {
				used = append(used, c.Image)
			}
		}
	}
	return used, nil
}

// withoutCheckouts returns an error where images are checked out in a folder whose driver cannot be
// opened. What belongs to another user is like that user's cache, which nobody looks into.
func (s Store) withoutCheckouts() error {
	kept, err := store.KeptNames(s.Dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(kept, func(name string) bool { return keptKind(name) == Checkouts }) {
		return fmt.Errorf("%s: images are checked out there, which have to stay: %w", s.Dir, s.Err)
	}
	return nil
}
