package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"genoci/internal/build"
	"genoci/internal/kept"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/store"
)

// place is a storage driver and a folder of its files.
type place struct {
	driver
	folder string
	trees  []string // that are kept there
}

// keeping returns the places where trees are kept, as a look into the drivers' folders tells. Those of other users are left out.
func (s *storageFlags) keeping() ([]place, error) {
	var all []place
	for _, d := range s.drivers() {
		dirs, err := d.stores(s.cacheDir)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			trees, err := store.KeptNames(dir)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
			if len(trees) > 0 {
				all = append(all, place{d, dir, trees})
			}
		}
	}
	return all, nil
}

// newest opens the driver in that of the places where the tree was kept last; nil where it is not kept any more.
func newest(ctx context.Context, places []place, tree string) (found snapshot.Driver, err error) {
	var since time.Time
	for _, p := range places {
		drv, err := p.openIn(p.folder)
		if err != nil {
			return nil, err
		}
		all, err := drv.Kept(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			if k.Name == tree && (found == nil || k.Since.After(since)) {
				found, since = drv, k.Since
			}
		}
	}
	return found, nil
}

// failedRefs returns what users call the trees that failed steps left, sorted.
func (s *storageFlags) failedRefs() ([]string, error) {
	all, err := s.keeping()
	var refs []string
	for _, p := range all {
		for _, name := range p.trees {
			if target, ok := kept.FailedTarget(name); ok {
				refs = append(refs, build.FailedRef(target))
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), err
}
