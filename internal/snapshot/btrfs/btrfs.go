// Package btrfs is the storage driver that stands on btrfs: a tree is a subvolume, made as a
// snapshot of its parent's, so that making and committing one costs what was changed, whatever the
// size of the parent; and the kernel says what was changed. The driver works in any folder on a
// btrfs, also in one that an ordinary user owns there, and touches nothing else on it.
//
// A [Loopback] is a btrfs in a file, for machines that have none.
//
// The calls are described in the kernel's include/uapi/linux/btrfs.h, and in btrfs-ioctl(2).
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
)

// Driver keeps snapshots as subvolumes.
type Driver struct {
	store *store.Store
	dir   string
	host  host
	sends bool // the process may ask the kernel for the changes in a tree

	sending sync.Mutex // one tree at a time is sent
}

var (
	_ snapshot.Driver  = (*Driver)(nil)
	_ snapshot.Flusher = (*Driver)(nil)
)

// Open opens the driver's folder dir, and makes it if there is none. Trees that ended processes
// left behind are removed. The error wraps snapshot.ErrUnsupported where the folder is not on a
// btrfs, or subvolumes, which are tried, cannot be made there.
func Open(dir string) (*Driver, error) {
	if err := checkFileSystem(dir); err != nil {
		return nil, err
	}
	s, err := store.Open(dir, "btrfs", clear)
	if err != nil {
		return nil, explainAt(dir, err)
	}
	d := &Driver{store: s, dir: dir}
	if d.host, err = findHost(dir); err != nil {
		return nil, err
	}
	sends, err := s.Probe(d.probe)
	if err != nil {
		return nil, err
	}
	d.sends = sends == maySend
	return d, nil
}

// checkFileSystem returns an error where dir, or the folder that it is to be made in, is not on a
// btrfs.
func checkFileSystem(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if !isOnBtrfs(dir) {
		return fmt.Errorf("%s is not on a btrfs: %w; use a folder on a btrfs, or let root make one in a file: genoci storage setup --driver btrfs",
			dir, snapshot.ErrUnsupported)
	}
	return nil
}

// What probe returns.
const (
	maySend    = "send yes"
	mayNotSend = "send no"
)

// probe tries in an empty folder what the driver does, and returns whether the process may send.
func (d *Driver) probe(dir string) (result string, err error) {
	defer func() {
		err = errors.Join(err, clear(dir))
		if err != nil {
			err = fmt.Errorf("subvolumes in %s: %w: %w; use another folder on a btrfs that you own, or the driver vfs", dir, snapshot.ErrUnsupported, err)
		}
	}()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	if err := inParent("make subvolume", first, createSubvolume); err != nil {
		return "", err
	}
	if err := makeSnapshot(second, first); err != nil {
		return "", err
	}
	err = changes(context.Background(), second, first, func() error { return nil }, func(command) {})
	if errors.Is(err, unix.EPERM) {
		return mayNotSend, nil
	}
	return maySend, err
}

// String implements snapshot.Driver.
func (*Driver) String() string { return "btrfs" }

// Space implements snapshot.Driver.
func (d *Driver) Space(ctx context.Context) (snapshot.Space, error) { return d.store.SharedSpace(ctx) }

// New implements snapshot.Driver. As root, the tree of a snapshot is a snapshot.Toucher.
func (d *Driver) New(ctx context.Context, parent string) (tree snapshot.Tree, err error) {
	if err := d.host.full(); err != nil {
		return nil, err
	}
	err = d.withSpace(ctx, func() error {
		tree, err = d.newTree(ctx, parent)
		return err
	})
	return tree, err
}

func (d *Driver) newTree(ctx context.Context, parent string) (snapshot.Tree, error) {
	part, err := d.store.New(ctx, parent)
	if err != nil {
		return nil, err
	}
	return d.tree(part, (*tree).make)
}

// tree returns the tree in a part, when ready has made it so.
func (d *Driver) tree(part *store.Part, ready func(*tree) error) (snapshot.Tree, error) {
	t := &tree{part: part, driver: d}
	var err error
	if t.witness, err = openDir(part.Dir()); err == nil {
		err = ready(t)
	}
	if err != nil {
		_ = t.Close()
		return nil, err
	}
	if len(part.Lowers()) > 0 && d.sends {
		return &sentTree{t}, nil
	}
	return t, nil
}

// View implements snapshot.Driver.
func (d *Driver) View(ctx context.Context, name string) (tree snapshot.Tree, err error) {
	err = d.withSpace(ctx, func() error {
		tree, err = d.store.View(ctx, name, func(part *store.Part, dir string) error {
			return mounts.BindReadOnly(root(part.Lowers()[0]), dir)
		})
		return err
	})
	return tree, err
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
	return d.tree(part, (*tree).makeWritable)
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

// withSpace calls f, again and again for some seconds where there is no space: what was just
// removed gives its space back in the background.
func (d *Driver) withSpace(ctx context.Context, f func() error) error {
	err := f()
	for wait := 50 * time.Millisecond; errors.Is(err, unix.ENOSPC) && wait < 3*time.Second; wait *= 2 {
		if err := d.startCleaning(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		err = f()
	}
	return d.host.explain(d.dir, err)
}

func (d *Driver) startCleaning() error {
	dir, err := openDir(d.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return startCleaning(int(dir.Fd()))
}

// root returns the root folder of the tree in a part's folder.
func root(part string) string { return filepath.Join(part, "root") }

// clear removes the subvolumes of a part that is no longer alive; all else in the part's folder is
// the Store's affair.
func clear(part string) error {
	entries, err := os.ReadDir(part)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		is, err := isSubvolumeAt(filepath.Join(part, e.Name()))
		if err == nil && is {
			err = inParent("remove subvolume", filepath.Join(part, e.Name()), remove)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isSubvolumeAt(path string) (bool, error) {
	dir, err := openDir(path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return isSubvolume(int(dir.Fd()))
}
