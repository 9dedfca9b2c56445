package main

import (
	"context"
	"slices"
	"time"

	"genoci/internal/build"
	"genoci/internal/snapshot"
)

// place is a storage driver and the folder of its files.
type place struct {
	driver
	folder string
	trees  []string // that are kept there
}

// places returns the storage drivers that can be used, with the trees that they keep, as a look into their folders tells.
func (s *storageFlags) places() ([]place, error) {
	var all []place
	for _, d := range s.drivers() {
		if s.driver != "auto" && s.driver != d.name {
			continue
		}
		dir, _ := d.dir()
		trees, err := snapshot.KeptNames(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, place{d, dir, trees})
	}
	return all, nil
}

// keeping returns the places that keep a tree of the name.
func (s *storageFlags) keeping(tree string) ([]place, error) {
	all, err := s.places()
	return slices.DeleteFunc(all, func(p place) bool { return !slices.Contains(p.trees, tree) }), err
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
	all, err := s.places()
	var refs []string
	for _, p := range all {
		for _, name := range p.trees {
			if target, ok := build.FailedTreeTarget(name); ok {
				refs = append(refs, build.FailedRef(target))
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), err
}
