package store

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/snapshot"
)

// Space implements snapshot.Driver: parts take what DiskUsage counts, and share nothing.
func (s *Store) Space(ctx context.Context) (snapshot.Space, error) { return s.SpaceBy(ctx, DiskUsage) }

// SpaceBy is Space for a driver whose parts are measured in another way.
func (s *Store) SpaceBy(ctx context.Context, measure func(ctx context.Context, part string) (int64, error)) (snapshot.Space, error) {
	space := snapshot.Space{Parts: map[string]int64{}}
	unlock, err := s.lock()
	if err != nil {
		return space, err
	}
	err = s.listTrees(&space)
	unlock()
	if err == nil {
		err = s.measureParts(ctx, &space, measure)
	}
	if err != nil {
		return space, err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return space, err
	}
	for _, dir := range []string{s.dir, s.parts()} {
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return space, wrapPath("lstat", dir, err)
		}
		space.Rest += st.Blocks * 512
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(s.parts()) {
			continue
		}
		n, err := DiskUsage(ctx, filepath.Join(s.dir, e.Name()))
		if err != nil {
			return space, err
		}
		space.Rest += n
	}
	return space, nil
}

// listTrees finds all trees, and all parts. The store's lock is held.
func (s *Store) listTrees(space *snapshot.Space) error {
	named := map[string]bool{}
	for dir, kept := range map[string]bool{s.snapshots(): false, s.kept(): true} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			ids, err := s.stackBehind(filepath.Join(dir, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a name whose parts are lost
			}
			if err != nil {
				return err
			}
			named[ids[0]] = true
			t := snapshot.TreeSpace{Name: unescape(e.Name()), Kept: kept, Parts: ids}
			if fi, err := e.Info(); err == nil {
				t.Used = fi.ModTime()
			}
			space.Trees = append(space.Trees, t)
		}
	}
	parts, err := os.ReadDir(s.parts())
	if err != nil {
		return err
	}
	for _, e := range parts {
		space.Parts[e.Name()] = 0
		if named[e.Name()] {
			continue
		}
		p := &Part{store: s, id: e.Name()}
		free, err := p.tryHold()
		p.release()
		if err != nil {
			return err
		}
		if free { // a part that others stand on, or one that nobody needs
			continue
		}
		ids, err := s.stackOf(p.id)
		if err != nil {
			return err
		}
		space.Trees = append(space.Trees, snapshot.TreeSpace{Parts: ids, Used: time.Now()})
	}
	return nil
}

// measureParts measures all parts, several at once. One that goes meanwhile is empty.
func (s *Store) measureParts(ctx context.Context, space *snapshot.Space, measure func(context.Context, string) (int64, error)) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	tokens := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for _, id := range slices.Collect(maps.Keys(space.Parts)) { // the map is written to
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			n, err := measure(ctx, filepath.Join(s.parts(), id))
			mu.Lock()
			defer mu.Unlock()
			space.Parts[id] = n
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return failed
}

// Discard implements snapshot.Driver.
func (s *Store) Discard() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, dir := range []string{s.parts(), s.snapshots(), s.kept()} {
		if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	records := []string{"open", "snapshots", "kept", "kept.new", "parts", "probed", "boot", "boot.new", "settled", "format.new", "format", "lock"}
	for _, name := range records {
		if err := beneath.RemovePath(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	err = os.Remove(s.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) { // somebody else's files, or a mount point
		return nil
	}
	return err
}

// touch notes that a snapshot is used. Its time is of use for what to remove first, and for nothing else.
func touch(link string) {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, link, now, unix.AT_SYMLINK_NOFOLLOW)
}

// DiskUsage returns how many bytes of disk are taken by what is at path and below, folders included, as du(1) counts: a file with several names
// once, nothing that is mounted there, and what lies deeper than some hundred folders not at all. What is not there takes none.
func DiskUsage(ctx context.Context, path string) (int64, error) {
	return diskUsage(ctx, path, nil)
}

// diskUsage is DiskUsage, less the content for which apart returns true.
func diskUsage(ctx context.Context, path string, apart func(parent int, name string, st *unix.Stat_t) (bool, error)) (int64, error) {
	u := usage{ctx: ctx, seen: map[inode]bool{}, apart: apart}
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, wrapPath("open", filepath.Dir(path), err)
	}
	defer unix.Close(parent)
	if err := u.add(parent, filepath.Base(path), 0); err != nil {
		return 0, wrapPath("measure", path, err)
	}
	return u.bytes, nil
}

type inode struct{ dev, ino uint64 }

// usage adds up blocks.
type usage struct {
	ctx   context.Context
	bytes int64
	seen  map[inode]bool // files with several names
	apart func(parent int, name string, st *unix.Stat_t) (bool, error)
}

// add counts name in the folder parent.
func (u *usage) add(parent int, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.folder(parent, name, &st, depth)
	}
	if st.Nlink > 1 {
		id := inode{dev: uint64(st.Dev), ino: st.Ino}
		if u.seen[id] {
			return nil
		}
		u.seen[id] = true
	}
	if u.apart != nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0 {
		if apart, err := u.apart(parent, name, &st); apart || err != nil {
			return err
		}
	}
	u.bytes += st.Blocks * 512
	return nil
}

// maxUsageDepth is how deep DiskUsage looks: each level costs an open folder.
const maxUsageDepth = 400

func (u *usage) folder(parent int, name string, st *unix.Stat_t, depth int) error {
	if err := u.ctx.Err(); err != nil || depth == maxUsageDepth {
		return err
	}
	fd, err := beneath.Open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath.OnMount)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	u.bytes += st.Blocks * 512
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.add(int(dir.Fd()), name, depth+1); err != nil {
			return err
		}
	}
	return nil
}
