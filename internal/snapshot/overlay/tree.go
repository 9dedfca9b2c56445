package overlay

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/mounts"
	"genoci/internal/snapshot/store"
	"genoci/internal/snapshot/treecopy"
)

// plain is a tree without a parent: a folder.
type plain struct {
	driver *Driver
	part   *store.Part
}

var (
	_ snapshot.Tree           = (*plain)(nil)
	_ snapshot.UnsyncedKeeper = (*plain)(nil)
)

func (t *plain) make() error { return makeDiff(t.part.Dir()) }

func (t *plain) resume() error { return nil }

func (t *plain) Dir() string { return diff(t.part.Dir()) }

func (t *plain) Commit(ctx context.Context, name string) error {
	check := func() error { return t.driver.attrs.checkPlain(ctx, t.Dir()) }
	if err := t.part.Commit(ctx, name, check); err != nil {
		return err
	}
	return t.Close()
}

func (t *plain) Keep(ctx context.Context, name string, note []byte) error {
	return t.part.Keep(ctx, name, note, nil)
}

func (t *plain) KeepUnsynced(ctx context.Context, name string, note []byte) error {
	return t.part.KeepUnsynced(ctx, name, note, nil)
}

func (t *plain) Close() error { return t.part.Close() }

// mounted is a tree with a parent: an overlay mount.
type mounted struct {
	driver *Driver
	part   *store.Part
	live   bool // it is mounted, by this process
	kept   bool // it was resumed
	shown  bool // its mount, or that of which it is a copy, is one that Show made
}

var (
	_ snapshot.Tree           = (*mounted)(nil)
	_ snapshot.Toucher        = (*mounted)(nil)
	_ snapshot.Splitter       = (*mounted)(nil)
	_ snapshot.UnsyncedKeeper = (*mounted)(nil)
)

func (t *mounted) Dir() string  { return mountpoint(t.part.Dir()) }
func (t *mounted) work() string { return filepath.Join(t.part.Dir(), "work") }
func (t *mounted) diff() string { return diff(t.part.Dir()) }

func (t *mounted) make() error {
	if err := makeDiff(t.part.Dir()); err != nil {
		return err
	}
	// The attributes of a mount's root folder are those of the upper folder, whatever the lowers
	// have.
	if err := treecopy.Attributes(t.diff(), diff(t.part.Lowers()[0]), t.driver.attrs.copyOptions()); err != nil {
		return err
	}
	if err := os.Mkdir(t.Dir(), 0o700); err != nil {
		return err
	}
	return t.mount()
}

// mount mounts the tree. What is in the work folder is made anew each time: one that was used by a
// volatile mount is refused, in case that the machine crashed. But for the index, in which the
// kernel finds files of several names again.
func (t *mounted) mount() error {
	if err := beneath.RemovePath(filepath.Join(t.work(), "work")); err != nil {
		return err
	}
	if err := os.Mkdir(t.work(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	o := overlay{lowers: diffs(t.part.Lowers()), upper: t.diff(), work: t.work(), volatile: !t.kept}
	err := t.driver.mount(o, t.Dir())
	t.live = err == nil
	return err
}

// Splits implements snapshot.Splitter: the kernel makes the folder of the index where it keeps one.
func (t *mounted) Splits() bool {
	_, err := os.Lstat(filepath.Join(t.work(), "index"))
	return err != nil
}

// unmount unmounts the tree by a call of by, if it is mounted.
func (t *mounted) unmount(by func(path string) error) error {
	if !t.live {
		return nil
	}
	if err := by(t.Dir()); err != nil {
		return err
	}
	t.live = false
	return nil
}

// Touched implements snapshot.Toucher: it yields what the upper folder has.
//
// It mounts the tree anew if there may be hard links in it. A mount gives a file that it copied up
// the inode number that it had before, but a hard link that was then made of it another one,
// wherever the kernel cannot note down where the file came from, as in user namespaces.
func (t *mounted) Touched(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		links, err := mayHaveLinks(t.diff())
		if err == nil && links && !t.shown {
			err = t.unmount(mounts.Unmount)
			if err == nil {
				err = t.mount()
			}
		}
		if err == nil {
			err = t.walk(ctx, yield)
		}
		if err != nil {
			yield("", err)
		}
	}
}

// mayHaveLinks reports whether a file in the folder has more than one name. Of a large folder it
// does not look at everything, but says yes: to mount anew takes no longer than to look at so much.
func mayHaveLinks(dir string) (bool, error) {
	const large = 1000
	seen, links := 0, false
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		seen++
		whiteout := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 // the kernel makes them links of one
		if links = st.Nlink > 1 && !whiteout || seen == large; links {
			return fs.SkipAll
		}
		return nil
	})
	return links, err
}

func (t *mounted) walk(ctx context.Context, yield func(string, error) bool) error {
	return t.driver.attrs.walk(ctx, t.diff(), func(path string, r record) error {
		if r.alone() {
			path += "/"
		}
		switch {
		case !yield(path, nil):
			return fs.SkipAll
		case r.alone():
			return fs.SkipDir
		}
		return nil
	})
}

func (t *mounted) Commit(ctx context.Context, name string) error {
	if err := t.part.Commit(ctx, name, func() error { return t.leaveSnapshot(ctx) }); err != nil {
		return err
	}
	return t.Close()
}

// leaveSnapshot ends the mount, and leaves in the part what a snapshot consists of.
func (t *mounted) leaveSnapshot(ctx context.Context) error {
	if err := t.rest(); err != nil {
		return err
	}
	redirects, err := t.driver.attrs.checkUpper(ctx, t.diff())
	if err == nil && redirects {
		err = t.expandRedirects(ctx)
	}
	if err != nil {
		return err
	}
	if len(t.part.Lowers()) < maxLowers {
		return nil
	}
	return t.flatten(ctx)
}

// rest ends the mount, and leaves of it what has been changed.
func (t *mounted) rest() error {
	if t.shown {
		return &fs.PathError{Op: "unmount", Path: t.Dir(), Err: unix.EBUSY}
	}
	if err := t.unmount(mounts.Unmount); err != nil {
		return err
	}
	for _, dir := range []string{t.work(), t.Dir()} {
		if err := beneath.RemovePath(dir); err != nil {
			return err
		}
	}
	return nil
}

// flatten replaces the diff folder by one that holds as much as it and the upper ones of the
// lowers, on which the part then no longer stands.
func (t *mounted) flatten(ctx context.Context) error {
	lowers := t.part.Lowers()
	cut := len(lowers) - keptLowers
	merged := filepath.Join(t.part.Dir(), "merged")
	if err := makeEmpty(merged); err != nil {
		return err
	}
	stack := append([]string{t.diff()}, diffs(lowers[:cut])...)
	options := t.driver.attrs.copyOptions()
	options.Below = diffs(lowers[cut:])
	if err := treecopy.Copy(ctx, merged, stack, options); err != nil {
		return err
	}
	if err := exchange(t.diff(), merged); err != nil {
		return err
	}
	if err := t.part.SetLowers(lowers[cut:]); err != nil {
		return err
	}
	return beneath.RemovePath(merged)
}

// makeEmpty makes an empty folder, also where a commit that ended early has left one.
func makeEmpty(dir string) error {
	if err := beneath.RemovePath(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

// exchange swaps two folders at once: a tree that is kept is whole at any moment.
func exchange(one, other string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
		return &fs.PathError{Op: "exchange", Path: one, Err: err}
	}
	return nil
}

func (t *mounted) Keep(ctx context.Context, name string, note []byte) error {
	return t.part.Keep(ctx, name, note, t.rest)
}

func (t *mounted) KeepUnsynced(ctx context.Context, name string, note []byte) error {
	return t.part.KeepUnsynced(ctx, name, note, t.rest)
}

func (t *mounted) Close() error {
	return errors.Join(t.unmount(mounts.Detach), t.part.Close())
}
