package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"genoci/internal/beneath"
)

// Remove carries the plan out. Nobody may use the layout (Layout.Collect) or the cache
// (Cache.Exclude) meanwhile. Tags go first, and the names of trees before their content: whatever
// ends the process, what is still there is whole. What cannot be removed is told of in the error,
// and does not keep the rest.
func (p *Plan) Remove(ctx context.Context) error {
	var errs []error
	if g := p.inv.gone; g != nil {
		if err := g.Remove(ctx); err != nil {
			return err
		}
	}
	if err := p.removeSnapshots(ctx); err != nil {
		errs = append(errs, err)
	}
	for _, i := range p.Items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i.Kind == Snapshots {
			continue
		}
		if err := p.inv.remove(ctx, i); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", i.Name, err))
		}
	}
	for _, dir := range p.folders {
		if err := p.inv.within(dir, beneath.Remove); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeSnapshots removes all snapshots, those of each driver at once.
func (p *Plan) removeSnapshots(ctx context.Context) error {
	names := map[*Store][]string{}
	for _, i := range p.Items {
		if i.Kind == Snapshots {
			names[i.tree.Store] = append(names[i.tree.Store], i.tree.Name)
		}
	}
	var errs []error
	for s, list := range names {
		errs = append(errs, s.Driver.Remove(ctx, list...))
	}
	return errors.Join(errs...)
}

// Carry is Remove, and then a look at what is left: where that is more than was foreseen, and than
// the limit, more goes, which is added to the plan.
func (p *Plan) Carry(ctx context.Context) error {
	if err := p.Remove(ctx); err != nil {
		return err
	}
	for range 3 {
		if p.Limit == nil {
			break
		}
		inv, err := Survey(ctx, p.remaining(), nil, p.inv.excluded)
		if err != nil {
			return err
		}
		left := inv.Kept()
		if left <= *p.Limit {
			return nil
		}
		p.Left = left
		more := inv.Plan(Policy{Limit: p.Limit}, p.now)
		if len(more.Items) == 0 {
			return nil
		}
		if err := more.Remove(ctx); err != nil {
			return err
		}
		p.Items = append(p.Items, more.Items...)
	}
	return nil
}

// remaining returns the locations that are left.
func (p *Plan) remaining() Locations {
	left := p.inv.locations
	left.Stores = slices.DeleteFunc(slices.Clone(left.Stores), func(s Store) bool {
		return slices.ContainsFunc(p.Items, func(i Item) bool { return i.store != nil && i.store.Dir == s.Dir })
	})
	return left
}

// within calls remove for a path in the cache folder.
func (inv *Inventory) within(path string, remove func(root, name string) error) error {
	name, err := filepath.Rel(inv.Cache, path)
	if err != nil {
		return err
	}
	return remove(inv.Cache, name)
}

// remove removes what is no snapshot.
func (inv *Inventory) remove(ctx context.Context, i Item) error {
	switch {
	case i.store != nil:
		return i.store.Driver.Discard()
	case i.tree == nil:
		for _, path := range append([]string{i.file.Path}, i.file.more...) {
			if err := inv.within(path, beneath.RemoveAll); err != nil {
				return err
			}
		}
		return nil
	}
	if i.tree.Work != nil {
		return i.tree.Work.Abort(ctx)
	}
	return i.tree.Store.Driver.Drop(ctx, i.tree.Name)
}
