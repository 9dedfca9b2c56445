package storage

import (
	"fmt"
	"path/filepath"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
	"genoci/internal/snapshot/overlay"
	"genoci/internal/snapshot/vfs"
)

// driver is what a storage driver declares of itself.
type driver struct {
	name   string
	folder func() folder
	open   func(dir string) (snapshot.Driver, error)
	remedy Remedy // what the user can do where the driver does not work
	// backing returns what root sets up for the driver. nil: nothing.
	backing func() (Backing, error)
	// private: its trees can only be seen by the process that made them, and by those that it
	// starts.
	private bool
}

// folder is where a driver keeps its files.
type folder struct {
	dir string
	// expected: the driver can be expected to work there. Otherwise Auto does not try it.
	expected bool
	// setUp is the folder above dir, where that was set up for the driver; "" where dir is in the
	// cache folder.
	setUp string
}

// dirName is the name of a driver's folder where that is not in the cache.
const dirName = "genoci"

// below returns the folder of a driver in one that was set up for it.
func below(dir string) folder { return folder{filepath.Join(dir, dirName), true, dir} }

// inCache returns the folder of a driver that works anywhere.
func (c Config) inCache(name string) func() folder {
	return func() folder { return folder{dir: filepath.Join(c.CacheDir, name), expected: true} }
}

// drivers lists all storage drivers, in the order in which Auto tries them: the fastest first, and
// last the one that works everywhere.
func (c Config) drivers() []driver {
	return []driver{
		{
			name: "overlay", folder: c.inCache("overlay"), open: openOverlay, remedy: LocalCache, private: sandbox.Rootless(),
		},
		{
			name: "btrfs", folder: c.btrfsFolder, open: openBtrfs, remedy: SetUpOrFolder, backing: c.btrfsBacking,
		},
		{
			name: "lvm", folder: c.lvmFolder, open: c.openLVM, remedy: SetUpOrPool, backing: c.lvmBacking,
		},
		{
			name: "vfs", folder: c.inCache("vfs"), open: openVFS, remedy: WritableCache,
		},
	}
}

func openOverlay(dir string) (snapshot.Driver, error) {
	o := overlay.Options{Rootless: sandbox.Rootless()}
	if !o.Rootless {
		o.Outside = sandbox.Outside
	}
	return overlay.Open(dir, o)
}

func openBtrfs(dir string) (snapshot.Driver, error) { return btrfs.Open(dir) }

func openVFS(dir string) (snapshot.Driver, error) { return vfs.Open(dir) }

// openIn opens the driver with its files in dir.
func (d driver) openIn(dir string) (snapshot.Driver, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	opened, err := d.open(dir)
	if err != nil {
		return nil, fmt.Errorf("driver %s: %w", d.name, err)
	}
	return opened, nil
}
