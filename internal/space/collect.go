package space

import (
	"context"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/checkout"
	"genoci/internal/layout"
)

// Collect begins a garbage collection of the layout of the places, in which tags go that keep lets expire. Images stay that are checked
// out: what was changed by hand is of no use without them. nil where there is no layout.
func Collect(ctx context.Context, p Places, keep Keep, now time.Time) (*layout.Collection, error) {
	if p.Layout == nil {
		return nil, nil
	}
	dir, err := filepath.Abs(p.Layout.Dir())
	if err != nil {
		return nil, err
	}
	return p.Layout.Collect(ctx, func(tags []layout.Tag) (layout.Choice, error) {
		used, err := p.checkedOut(ctx, dir)
		return layout.Choice{Drop: keep.Expired(tags, now), Keep: used}, err
	})
}

// checkedOut returns the images of a layout that are checked out.
func (p Places) checkedOut(ctx context.Context, layoutDir string) ([]digest.Digest, error) {
	var used []digest.Digest
	for _, s := range p.Stores {
		if s.Driver == nil {
			continue
		}
		all, err := checkout.Desk{Driver: s.Driver}.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if c.Layout == layoutDir {
				used = append(used, c.Image)
			}
		}
	}
	return used, nil
}
