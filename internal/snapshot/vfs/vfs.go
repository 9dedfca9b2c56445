// Package vfs is the storage driver of plain copies: each snapshot is a complete folder, and a tree
// is a copy of its parent. It works on every file system, and is cheap where that can share the
// blocks of files (reflinks: xfs, btrfs). It mounts nothing but the read-only view of a snapshot,
// and cannot say what was touched in a tree.
package vfs

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
	"genoci/internal/snapshot/treecopy"
)

// Driver keeps snapshots as plain folders.
type Driver struct {
	store   *store.Store
	reflink bool
}

var (
	_ snapshot.Driver  = (*Driver)(nil)
	_ snapshot.Copier  = (*Driver)(nil)
	_ snapshot.Flusher = (*Driver)(nil)
)

// Open opens the driver's folder dir, and makes it if there is none. Trees that ended processes
// left behind are removed.
func Open(dir string) (*Driver, error) {
	s, err := store.Open(dir, "vfs", nil)
	if err != nil {
		return nil, err
	}
	reflink, err := s.Probe(probe)
	if err != nil {
		return nil, err
	}
	return &Driver{store: s, reflink: reflink == hasReflink}, nil
}

// What probe returns.
const (
	hasReflink = "reflink yes"
	noReflink  = "reflink no"
)

// probe tries in an empty folder whether the file system shares blocks between files
// (ioctl_ficlone(2)).
func probe(dir string) (string, error) {
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, make([]byte, 4096), 0o600); err != nil {
		return "", err
	}
	from, err := os.Open(src)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.Create(dst)
	if err != nil {
		return "", err
	}
	defer to.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		return noReflink, nil
	}
	return hasReflink, nil
}

// String implements snapshot.Driver.
func (*Driver) String() string { return "vfs" }

// Copies implements snapshot.Copier.
func (d *Driver) Copies() bool { return !d.reflink }

// Space implements snapshot.Driver.
func (d *Driver) Space(ctx context.Context) (snapshot.Space, error) {
	if d.reflink {
		return d.store.SharedSpace(ctx)
	}
	return d.store.Space(ctx)
}

// New implements snapshot.Driver.
func (d *Driver) New(ctx context.Context, parent string) (snapshot.Tree, error) {
	part, err := d.store.New(ctx, parent)
	if err != nil {
		return nil, err
	}
	t := &tree{part: part}
	if err := t.fill(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// View implements snapshot.Driver.
func (d *Driver) View(ctx context.Context, name string) (snapshot.Tree, error) {
	return d.store.View(ctx, name, func(part *store.Part, dir string) error {
		return mounts.BindReadOnly(root(part.Lowers()[0]), dir)
	})
}

// Kept implements snapshot.Driver. Trees are folders, and so always shown.
func (d *Driver) Kept(ctx context.Context) ([]snapshot.Kept, error) {
	return d.store.Kept(ctx, func(part string) (string, bool) { return root(part), true })
}

// Resume implements snapshot.Driver.
func (d *Driver) Resume(ctx context.Context, name string) (snapshot.Tree, error) {
	part, err := d.store.Resume(ctx, name)
	if err != nil {
		return nil, err
	}
	return &tree{part: part}, nil
}

// Show implements snapshot.Driver.
func (d *Driver) Show(ctx context.Context, name string) (string, error) {
	t, err := d.Resume(ctx, name)
	if err != nil {
		return "", err
	}
	return t.Dir(), t.Close()
}

// Hide implements snapshot.Driver.
func (d *Driver) Hide(ctx context.Context, name string) error {
	_, err := d.Show(ctx, name)
	return err
}

// root returns the root folder of the tree in a part's folder.
func root(part string) string { return filepath.Join(part, "root") }

// tree is a part whose root folder holds all of the tree.
type tree struct{ part *store.Part }

var (
	_ snapshot.Tree           = (*tree)(nil)
	_ snapshot.UnsyncedKeeper = (*tree)(nil)
)

// Dir implements snapshot.Tree.
func (t *tree) Dir() string { return root(t.part.Dir()) }

// fill makes the root folder, a copy of the parent's if there is one. From then on the parent is
// not needed.
func (t *tree) fill(ctx context.Context) error {
	if err := os.Mkdir(t.Dir(), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(t.Dir(), 0o755); err != nil {
		return err
	}
	lowers := t.part.Lowers()
	if len(lowers) == 0 {
		return nil
	}
	if err := treecopy.Copy(ctx, t.Dir(), []string{root(lowers[0])}, treecopy.Options{}); err != nil {
		return err
	}
	return t.part.SetLowers(nil)
}

// Commit implements snapshot.Tree.
func (t *tree) Commit(ctx context.Context, name string) error {
	if err := t.part.Commit(ctx, name, nil); err != nil {
		return err
	}
	return t.Close()
}

// Keep implements snapshot.Tree.
func (t *tree) Keep(ctx context.Context, name string, note []byte) error {
	return t.part.Keep(ctx, name, note, nil)
}

// KeepUnsynced implements snapshot.UnsyncedKeeper.
func (t *tree) KeepUnsynced(ctx context.Context, name string, note []byte) error {
	return t.part.KeepUnsynced(ctx, name, note, nil)
}

// Close implements snapshot.Tree.
func (t *tree) Close() error { return t.part.Close() }
