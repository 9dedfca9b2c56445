package lvm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
)

// tree is a part whose volume is mounted.
type tree struct {
	driver  *Driver
	part    *store.Part
	live    bool     // it is mounted, by this process
	kept    bool     // it was resumed
	shown   bool     // its mount, or that of which it is a copy, is one that Show made
	witness *os.File // its root folder, open since before anything was written, so that it learns of all errors of writing (syncfs(2))
}

var _ snapshot.Tree = (*tree)(nil)

// Dir implements snapshot.Tree.
func (t *tree) Dir() string { return root(t.part.Dir()) }

// root returns the folder in a part's folder at which its tree is mounted.
func root(part string) string { return filepath.Join(part, "root") }

// make makes the volume and mounts it. From then on the parent is not needed.
func (t *tree) make() error {
	v := volume{t.driver.pool.group, prefix + filepath.Base(t.part.Dir())}
	if err := os.WriteFile(volumeFile(t.part.Dir()), []byte(v.String()+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(t.Dir(), 0o700); err != nil {
		return err
	}
	lowers := t.part.Lowers()
	if err := t.driver.create(t.part.Lock(), v, lowers); err != nil {
		return t.driver.pool.explain(err)
	}
	if len(lowers) == 0 {
		if err := t.driver.system.format(v.device()); err != nil {
			return t.driver.pool.explain(err)
		}
		if err := t.mount(); err != nil {
			return err
		}
		return t.driver.system.empty(t.Dir())
	}
	if err := t.mount(); err != nil {
		return err
	}
	if err := inheritTaken(lowers[0], t.part.Dir()); err != nil {
		return err
	}
	return t.part.SetLowers(nil)
}

// create makes the volume v: a snapshot of that of the first of lowers, or a new one. It is left
// alone when the machine starts.
func (d *Driver) create(lock *os.File, v volume, lowers []string) error {
	args := []string{
		"--name", v.name, "--addtag", Tag, "--addtag", d.tag, "--ignoremonitoring",
		"--activate", "y", "--setactivationskip", "y", "--ignoreactivationskip",
	}
	if len(lowers) == 0 {
		args = append(args, "--virtualsize", strconv.FormatInt(d.pool.size, 10)+"b", "--thinpool", d.pool.String())
	} else {
		parent, err := volumeOf(lowers[0])
		if err != nil {
			return err
		}
		args = append(args, "--snapshot", parent.String())
	}
	_, err := lvm(lock, "lvcreate", args...)
	return err
}

// mount mounts the tree.
func (t *tree) mount() error {
	if err := t.driver.mount(t.part.Dir(), t.Dir(), readWrite); err != nil {
		return err
	}
	t.live = true
	return t.watch()
}

// watch opens what tells of errors.
func (t *tree) watch() (err error) {
	t.witness, err = os.Open(t.Dir())
	return err
}

// mount mounts the volume of a part at the folder dir. It is activated if it has been at rest.
func (d *Driver) mount(part, dir string, flags uintptr) error {
	v, err := volumeOf(part)
	if err != nil {
		return err
	}
	const tries = 10
	for range tries {
		err = d.system.mount(v.device(), dir, flags)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO): // others may have put it to rest
			if err := v.activate(); err != nil {
				return err
			}
		case errors.Is(err, unix.EBUSY): // or are about to, and look whether it is in use
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
	return err
}

// flush writes all of the tree to the disk.
func (t *tree) flush() error {
	if err := unix.Syncfs(int(t.witness.Fd())); err != nil {
		return t.driver.pool.explain(&fs.PathError{Op: "write out", Path: t.Dir(), Err: err})
	}
	return nil
}

// flushAndUnmount writes the tree out and ends its mount. Whoever still holds a copy of the mount
// can write no more.
func (t *tree) flushAndUnmount() error {
	if t.shown {
		return &fs.PathError{Op: "unmount", Path: t.Dir(), Err: unix.EBUSY}
	}
	if err := errors.Join(t.flush(), t.noteTaken()); err != nil {
		return err
	}
	if err := unix.Mount("", t.Dir(), "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOATIME, t.driver.system.options); err != nil {
		return &fs.PathError{Op: "remount read-only", Path: t.Dir(), Err: err}
	}
	if err := t.unmount(mounts.Unmount); err != nil {
		return err
	}
	return os.Remove(t.Dir())
}

// unmount unmounts the tree by a call of by, if it is mounted.
func (t *tree) unmount(by func(path string) error) error {
	if t.witness != nil {
		_ = t.witness.Close()
		t.witness = nil
	}
	if !t.live {
		return nil
	}
	if err := by(t.Dir()); err != nil {
		return err
	}
	t.live = false
	return nil
}

// Commit implements snapshot.Tree.
func (t *tree) Commit(ctx context.Context, name string) error {
	err := t.part.Commit(ctx, name, func() error {
		if err := t.flushAndUnmount(); err != nil {
			return err
		}
		return t.part.SetSynced()
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// Keep implements snapshot.Tree.
func (t *tree) Keep(ctx context.Context, name string, note []byte) error {
	if err := t.part.Keep(ctx, name, note, t.flushAndUnmount); err != nil {
		return err
	}
	return t.Close()
}

// Close implements snapshot.Tree.
func (t *tree) Close() error {
	var err error
	if t.kept && t.witness != nil { // it is given back
		err = errors.Join(t.flush(), t.noteTaken())
	}
	err = errors.Join(err, t.unmount(mounts.Detach), t.part.Close())
	t.driver.rest()
	return err
}
