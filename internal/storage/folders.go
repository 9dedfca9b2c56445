package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/store"
)

// Folder is a folder in which a driver has begun to keep things.
type Folder struct {
	Driver string   // its name
	Dir    string   // absolute
	Trees  []string // that are kept there; what Folders returns has none

	open func(dir string) (snapshot.Driver, error)
}

// Open opens the driver in the folder.
func (f Folder) Open() (snapshot.Driver, error) { return f.open(f.Dir) }

// Folders returns the folders in which drivers have begun to keep things.
func (s *Storage) Folders() ([]Folder, error) {
	var all []Folder
	for _, d := range s.config.drivers() {
		dirs, err := d.used(s.config.CacheDir)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			all = append(all, Folder{Driver: d.name, Dir: dir, open: d.openIn})
		}
	}
	return all, nil
}

// used returns the folders in which the driver keeps things: the one that it would be opened in,
// and that in the cache, in which it was before somebody named another.
func (d driver) used(cacheDir string) ([]string, error) {
	now, err := filepath.Abs(d.folder().dir)
	if err != nil {
		return nil, err
	}
	dirs := []string{now}
	if before := filepath.Join(cacheDir, d.name); before != now {
		dirs = append(dirs, before)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return !isUsed(dir) }), nil
}

// isUsed reports whether a driver has begun to keep things in the folder.
func isUsed(dir string) bool {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// Keeping returns the folders in which trees are kept, with their names. It opens no driver.
// Folders of other users are left out.
func (s *Storage) Keeping() ([]Folder, error) {
	folders, err := s.Folders()
	if err != nil {
		return nil, err
	}
	var all []Folder
	for _, f := range folders {
		f.Trees, err = store.KeptNames(f.Dir)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if len(f.Trees) > 0 {
			all = append(all, f)
		}
	}
	return all, nil
}

// Holding returns the folders in which a tree of that name is kept, of the driver of the
// configuration, for Auto of any.
func (s *Storage) Holding(tree string) ([]Folder, error) {
	all, err := s.Keeping()
	return slices.DeleteFunc(all, func(f Folder) bool {
		return !s.config.isAuto() && s.config.Driver != f.Driver || !slices.Contains(f.Trees, tree)
	}), err
}

// Newest opens the driver in that of the folders where the tree was kept last; nil where it is not
// kept any more.
func Newest(ctx context.Context, folders []Folder, tree string) (found snapshot.Driver, err error) {
	var since time.Time
	for _, f := range folders {
		drv, err := f.Open()
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
