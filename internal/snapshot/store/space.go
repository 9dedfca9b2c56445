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

// Space implements snapshot.Driver: parts take what beneath.DiskUsage counts, and share nothing.
func (s *Store) Space(ctx context.Context) (snapshot.Space, error) { return s.SpaceBy(ctx, diskUsage) }

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
		n, err := diskUsage(ctx, filepath.Join(s.dir, e.Name()))
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

func diskUsage(ctx context.Context, path string) (int64, error) {
	return beneath.DiskUsage(ctx, path, nil)
}
