// Package overlay is the storage driver that stands on the kernel's overlay file system: a tree is
// a mount of its parent's folders with an upper folder of its own, so that making and committing
// one costs what was changed, whatever the size of the parent. It mounts nothing outside its own
// folder, and needs a private mount namespace for that.
//
// A snapshot is a stack of upper folders. The first is plain, without a mount. Everything that an
// overlay could leave to the kernel's defaults is set by name, since these differ: copied-up files
// are complete, and nothing is synced before Commit (volatile). As root, a folder of the parent
// that is renamed is a redirect until Commit puts what it stands for in its place: snapshots have
// none. An ordinary user's rename(2) of such a folder is the error EXDEV, which programs take for a
// reason to copy it.
//
// The overlay is described in the kernel's Documentation/filesystems/overlayfs.rst.
package overlay

import (
	"context"
	"os"
	"path/filepath"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
)

// maxLowers is how many folders a snapshot may consist of: each costs time in every lookup of a
// name that does not exist, and the kernel's limit is 500. When there are more, all above the
// lowest keptLowers are merged into one.
const (
	maxLowers  = 32
	keptLowers = maxLowers / 2
)

// Options of Open.
type Options struct {
	// Rootless: the process is root in a user namespace only. The overlay's own attributes are then
	// user.overlay.* (mount option userxattr, Linux 5.11), not trusted.overlay.*.
	Rootless bool
	// Outside is where trees are shown.
	Outside mounts.Outside
}

// Driver keeps snapshots as stacks of overlay folders.
type Driver struct {
	store   *store.Store
	attrs   attributes
	outside mounts.Outside
}

var (
	_ snapshot.Driver  = (*Driver)(nil)
	_ snapshot.Flusher = (*Driver)(nil)
)

// Open opens the driver's folder dir, and makes it if there is none. Trees that ended processes
// left behind are removed. The error wraps snapshot.ErrUnsupported where a mount there, which is
// tried, does not work as it should.
func Open(dir string, o Options) (*Driver, error) {
	d := &Driver{attrs: rootAttributes, outside: o.Outside}
	if o.Rootless {
		d.attrs = rootlessAttributes
	}
	var err error
	if d.store, err = store.Open(dir, "overlay "+string(d.attrs), nil); err != nil {
		return nil, err
	}
	if err := d.probe(dir); err != nil {
		return nil, err
	}
	return d, nil
}

// String implements snapshot.Driver.
func (*Driver) String() string { return "overlay" }

// New implements snapshot.Driver. The tree of a snapshot is a snapshot.Toucher.
func (d *Driver) New(ctx context.Context, parent string) (snapshot.Tree, error) {
	part, err := d.store.New(ctx, parent)
	if err != nil {
		return nil, err
	}
	t := d.tree(part)
	if err := t.make(); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// working is a tree of this driver.
type working interface {
	snapshot.Tree
	make() error
	resume() error
	show() error
	hide() error
}

// tree returns the tree in a part.
func (d *Driver) tree(part *store.Part) working {
	if len(part.Lowers()) == 0 {
		return &plain{driver: d, part: part}
	}
	return &mounted{driver: d, part: part}
}

// View implements snapshot.Driver.
func (d *Driver) View(ctx context.Context, name string) (snapshot.Tree, error) {
	return d.store.View(ctx, name, func(part *store.Part, dir string) error {
		lowers := diffs(part.Lowers())
		if len(lowers) == 1 { // which is no overlay
			return mounts.BindReadOnly(lowers[0], dir)
		}
		return d.mount(overlay{lowers: lowers}, dir)
	})
}

// diff returns the folder of a part that holds what its tree has changed: an overlay's upper
// folder.
func diff(part string) string { return filepath.Join(part, "diff") }

func diffs(parts []string) []string {
	dirs := make([]string, len(parts))
	for i, part := range parts {
		dirs[i] = diff(part)
	}
	return dirs
}

// makeDiff makes the part's diff folder, with the mode that a root folder has by default.
func makeDiff(part string) error {
	if err := os.Mkdir(diff(part), 0o755); err != nil {
		return err
	}
	return os.Chmod(diff(part), 0o755)
}
