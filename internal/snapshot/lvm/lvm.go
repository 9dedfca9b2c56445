// Package lvm is the storage driver that stands on the kernel's device mapper: a tree is a file
// system on a thin volume, made as a snapshot of its parent's volume, so that making and committing
// one costs what was changed, whatever the size of the parent. It needs root, a thin pool, and the
// lvm command (lvmthin(7)).
//
// Each part of the store has one volume, of the part's name, and the tree is mounted in the part's
// folder. All volumes have the tag "genoci" and one that names the store's folder; other volumes
// are never touched. A volume takes kernel memory while it is active, and a command costs more than
// most steps change. So those at rest are deactivated some at a time, when there are many.
//
// A [Loopback] is a thin pool in a file, for machines that have none.
package lvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
)

// Options of Open.
type Options struct {
	Group string // the volume group
	Pool  string // a thin pool in it
	// FileSystem is that of new volumes: "ext4", the default, or "xfs".
	FileSystem string
	// Outside is where trees are shown.
	Outside mounts.Outside
}

// Driver keeps snapshots as thin volumes.
type Driver struct {
	store   *store.Store
	pool    pool
	tag     string // of the volumes of this store
	system  fileSystem
	outside mounts.Outside

	resting   sync.Mutex // held while volumes are deactivated
	maxActive int
}

var _ snapshot.Driver = (*Driver)(nil)

// Open opens the driver's folder dir, and makes it if there is none. Trees that ended processes
// left behind are removed. The error wraps snapshot.ErrUnsupported where the machine has no device
// mapper, the process may not use it, or there is no such pool.
func Open(dir string, o Options) (*Driver, error) {
	d := &Driver{outside: o.Outside, maxActive: defaultMaxActive}
	var err error
	if d.system, err = fileSystemOf(o.FileSystem); err != nil {
		return nil, err
	}
	if err := check(d.system); err != nil {
		return nil, err
	}
	if d.pool, err = openPool(o.Group, o.Pool); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	d.tag = storeTag(dir)
	if _, err := os.Lstat(filepath.Join(dir, "format")); errors.Is(err, fs.ErrNotExist) { // the folder was deleted, its volumes were not
		if err := removeVolumes(d.pool.group, "tags="+quote(d.tag)); err != nil {
			return nil, err
		}
	}
	if d.store, err = store.Open(dir, "lvm "+d.pool.uuid, clear); err != nil {
		return nil, err
	}
	return d, nil
}

// String implements snapshot.Driver.
func (*Driver) String() string { return "lvm" }

// New implements snapshot.Driver.
func (d *Driver) New(ctx context.Context, parent string) (snapshot.Tree, error) {
	part, err := d.store.New(ctx, parent)
	if err != nil {
		return nil, err
	}
	t := &tree{driver: d, part: part}
	if err := t.make(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// View implements snapshot.Driver.
func (d *Driver) View(ctx context.Context, name string) (snapshot.Tree, error) {
	v, err := d.store.View(ctx, name, func(part *store.Part, dir string) error {
		return d.mount(part.Lowers()[0], dir, readOnly)
	})
	if err != nil {
		return nil, err
	}
	return &view{Tree: v, driver: d}, nil
}

// view is a snapshot that is mounted read-only.
type view struct {
	snapshot.Tree
	driver *Driver
}

// Close implements snapshot.Tree.
func (v *view) Close() error {
	err := v.Tree.Close()
	v.driver.rest()
	return err
}

// volumeFile names the volume of a part, from before it is made.
func volumeFile(part string) string { return filepath.Join(part, "volume") }

// volumeOf returns the volume of the part in a folder.
func volumeOf(part string) (volume, error) {
	data, err := os.ReadFile(volumeFile(part))
	if err != nil {
		return volume{}, err
	}
	v, err := parseVolume(string(data))
	if err != nil {
		return volume{}, fmt.Errorf("%s: %w", volumeFile(part), err)
	}
	return v, nil
}

// clear removes the volume of a part that is no longer alive. The rest of the part's folder is the
// Store's affair.
func clear(part string) error {
	v, err := volumeOf(part)
	if errors.Is(err, fs.ErrNotExist) { // a view, or nothing was made yet
		return nil
	}
	if err != nil {
		return err
	}
	return removeVolumes(v.group, "lv_name="+quote(v.name))
}
