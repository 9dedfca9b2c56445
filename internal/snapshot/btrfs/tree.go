package btrfs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/store"
)

// tree is a part whose root folder is a subvolume.
type tree struct {
	part    *store.Part
	driver  *Driver
	witness *os.File // open since before anything was written, so that it learns of all errors of writing (syncfs(2))
	written bool     // Touched has written out what files contain
}

var (
	_ snapshot.Tree           = (*tree)(nil)
	_ snapshot.Rester         = (*tree)(nil)
	_ snapshot.UnsyncedKeeper = (*tree)(nil)
)

// Dir implements snapshot.Tree.
func (t *tree) Dir() string { return root(t.part.Dir()) }

// make makes the subvolume, a snapshot of the parent's if there is one.
func (t *tree) make() error {
	if lowers := t.part.Lowers(); len(lowers) > 0 {
		return makeSnapshot(t.Dir(), root(lowers[0]))
	}
	if err := inParent("make subvolume", t.Dir(), createSubvolume); err != nil {
		return err
	}
	return os.Chmod(t.Dir(), 0o755)
}

// makeSnapshot makes the subvolume path, a snapshot of the one at src.
func makeSnapshot(path, src string) error {
	from, err := openDir(src)
	if err != nil {
		return err
	}
	defer from.Close()
	return inParent("make snapshot", path, func(parent int, name string) error {
		return snapshotSubvolume(parent, name, int(from.Fd()))
	})
}

// makeWritable makes the tree writable, which a process left read-only that was killed while it
// asked what was touched.
func (t *tree) makeWritable() error {
	dir, err := openDir(t.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	return wrapPath("make writable", t.Dir(), setReadOnly(int(dir.Fd()), false))
}

// restOnDisk leaves the tree without subvolumes in it, and on disk.
func (t *tree) restOnDisk(ctx context.Context) error {
	if err := t.Rest(ctx); err != nil {
		return err
	}
	return t.write()
}

// write writes the tree out.
func (t *tree) write() error {
	return wrapPath("write out", t.Dir(), unix.Syncfs(int(t.witness.Fd())))
}

// Rest implements snapshot.Rester: it makes plain folders of subvolumes that were made in the tree,
// and itself writable.
func (t *tree) Rest(ctx context.Context) error {
	dir, err := openDir(t.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := flatten(ctx, int(dir.Fd())); err != nil {
		return fmt.Errorf("make plain folders of subvolumes in %s: %w", t.Dir(), err)
	}
	return nil
}

// Commit implements snapshot.Tree. The tree is written out, which the kernel would do as well for
// the first tree that is made of it. From then on its parent is not needed.
func (t *tree) Commit(ctx context.Context, name string) error {
	err := t.part.Commit(ctx, name, func() error {
		if t.written { // since then times were set, if anything: btrfs has such changes on disk no later than the name
			if err := t.Rest(ctx); err != nil {
				return err
			}
			return t.part.SetLowers(nil)
		}
		if err := t.restOnDisk(ctx); err != nil {
			return err
		}
		if err := t.part.SetLowers(nil); err != nil {
			return err
		}
		return t.part.SetSynced()
	})
	if err != nil {
		return t.explain(err)
	}
	return t.Close()
}

func (t *tree) explain(err error) error { return t.driver.host.explain(t.part.Dir(), err) }

// Keep implements snapshot.Tree. The parent is kept along, to know later what was touched.
func (t *tree) Keep(ctx context.Context, name string, note []byte) error {
	if err := t.part.Keep(ctx, name, note, func() error { return t.restOnDisk(ctx) }); err != nil {
		return t.explain(err)
	}
	return t.Close()
}

// KeepUnsynced implements snapshot.UnsyncedKeeper.
func (t *tree) KeepUnsynced(ctx context.Context, name string, note []byte) error {
	if err := t.part.KeepUnsynced(ctx, name, note, func() error { return t.Rest(ctx) }); err != nil {
		return t.explain(err)
	}
	return t.Close()
}

// Close implements snapshot.Tree.
func (t *tree) Close() error {
	_ = t.witness.Close() // nothing was written; the second time it is closed already
	err := t.part.Close()
	if err != nil && isWriteProtected(t.part.Dir()) {
		return nil // why that is so was told by what wrote; the next Open of the btrfs removes it
	}
	return err
}

// sentTree is a tree that says what was touched in it.
type sentTree struct{ *tree }

// maxTries is how often another process may come in between.
const maxTries = 40

var _ snapshot.Toucher = (*sentTree)(nil)

// Touched implements snapshot.Toucher.
func (t *sentTree) Touched(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		paths, err := t.touched(ctx)
		for _, path := range paths {
			if !yield(path, nil) {
				return
			}
		}
		if err != nil {
			yield("", t.explain(err))
		}
	}
}

func (t *sentTree) touched(ctx context.Context) (paths []string, err error) {
	if err := t.Rest(ctx); err != nil {
		return nil, err
	}
	var found touched
	t.driver.sending.Lock()
	for try := 0; ; try++ {
		err = changes(ctx, t.Dir(), root(t.part.Lowers()[0]), t.write, found.do)
		if !errors.Is(err, unix.EPERM) || try == maxTries {
			break
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
	t.driver.sending.Unlock()
	if err != nil {
		return nil, err
	}
	t.written = true
	if err := t.addLinks(&found); err != nil {
		return nil, err
	}
	return found.list(), nil
}

// changes calls do for each command that makes the subvolume at dir of the one at parent. Both are
// read-only meanwhile, and written out by write when they are: the kernel sends what is on disk.
//
// They do not stay so, although nothing writes to a snapshot any more: nobody could remove them by
// rm -r. The parent may be in use by another process at once. The kernel makes nothing writable
// that is just being sent, so the last of them does; but one that comes just before the sending
// ends it, with EPERM.
func changes(ctx context.Context, dir, parent string, write func() error, do func(command)) (err error) {
	var files [2]*os.File
	for i, dir := range []string{dir, parent} {
		f, err := openDir(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		defer func() {
			if e := setReadOnly(int(f.Fd()), false); e != nil && !errors.Is(e, unix.EPERM) {
				err = errors.Join(err, wrapPath("make writable", dir, e))
			}
		}()
		files[i] = f
	}
	id, err := treeID(int(files[1].Fd()))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := setReadOnly(int(f.Fd()), true); err != nil {
			return wrapPath("make read-only", f.Name(), err)
		}
	}
	if err := write(); err != nil {
		return err
	}
	return wrapPath("send changes of", dir, sent(ctx, int(files[0].Fd()), id, do))
}

// sent calls do for what is sent of an open subvolume.
func sent(ctx context.Context, from int, parent uint64, do func(command)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.Close() }) // which ends the sending
	defer stop()
	done := make(chan error, 1)
	go func() {
		err := send(from, parent, int(w.Fd()))
		_ = w.Close() // what was written is in the pipe
		done <- err
	}()
	readErr := readStream(r, do)
	_ = r.Close()
	sendErr := <-done
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case sendErr != nil && !errors.Is(sendErr, unix.EPIPE):
		return sendErr
	}
	return readErr
}

// addLinks adds all other names of the files that are touched, of which the kernel names one. The
// tree is read-only.
func (t *sentTree) addLinks(found *touched) error {
	dir, err := openDir(t.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	seen := make(map[uint64]bool)
	for _, path := range found.old() {
		inode, err := linked(int(dir.Fd()), path)
		if err != nil {
			return err
		}
		if inode == 0 || seen[inode] {
			continue
		}
		seen[inode] = true
		names, complete, err := pathsOf(int(dir.Fd()), inode)
		if err != nil {
			return err
		}
		for _, name := range names {
			found.touch(name)
		}
		if !complete {
			found.names.touched, found.names.all = true, true
		}
	}
	return nil
}

// linked returns the inode number of the file at a path below an open folder if it has several
// names, else 0.
func linked(dir int, path string) (inode uint64, err error) {
	fd, err := beneath.Open(dir, path, unix.O_PATH|unix.O_NOFOLLOW, beneath.OnMount)
	if err != nil {
		return 0, wrapPath("open", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, wrapPath("fstat", path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Nlink == 1 {
		return 0, nil
	}
	return st.Ino, nil
}
