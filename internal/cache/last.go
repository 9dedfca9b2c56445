package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"genoci/internal/beneath"
)

// The bounds of what explains keys.
const (
	maxNodes = 64 << 20             // bytes of all nodes together
	keepLast = 365 * 24 * time.Hour // how long a spec is remembered after the last build that changed something
)

// Last remembers the keys under which the steps of one spec were built last. Steps are known by
// names without line ends. All methods may be called concurrently.
type Last struct {
	c    *Cache
	path string
	old  func() map[string]string // what the file has, read once
	mu   sync.Mutex
	now  map[string]string
}

// Last returns the keys of the spec with the absolute path. Nothing is read until it is needed;
// what cannot be read is as if it had never been.
func (c *Cache) Last(spec string) *Last {
	sum := sha256.Sum256([]byte(spec))
	l := &Last{c: c, path: filepath.Join(c.dir, LastDir, hex.EncodeToString(sum[:16])), now: map[string]string{}}
	l.old = sync.OnceValue(func() map[string]string { return readLast(l.path) })
	return l
}

// readLast reads lines of a key's id, a blank, and the name of a step.
func readLast(path string) map[string]string {
	b, err := readFile(path)
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		id, step, ok := strings.Cut(line, " ")
		step, whole := strings.CutSuffix(step, "\n")
		if ok && whole && len(id) == hex.EncodedLen(sha256.Size) {
			m[step] = id
		}
	}
	return m
}

// Newest returns the ids of the keys under which the steps of all specs were built last.
func (c *Cache) Newest() (map[string]bool, error) {
	files, err := c.files(LastDir)
	ids := map[string]bool{}
	for _, f := range files {
		for _, id := range readLast(f.path) {
			ids[id] = true
		}
	}
	return ids, err
}

// Get returns the id of the key of a step before this build, "" where it is not known.
func (l *Last) Get(step string) string { return l.old()[step] }

// Set notes the key under which a step was built or found.
func (l *Last) Set(step string, k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[step] = k.id
}

// Save writes what Set noted, where it is news, and forgets steps for which known is false. Two
// builds of one spec at once may lose each other's news.
func (l *Last) Save(known func(step string) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.old())
	if all == nil {
		all = map[string]string{}
	}
	maps.DeleteFunc(all, func(step, _ string) bool { return !known(step) })
	maps.Copy(all, l.now)
	if maps.Equal(all, l.old()) {
		return nil
	}
	var b strings.Builder
	for _, step := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s %s\n", all[step], step)
	}
	if err := writeFile(l.path, []byte(b.String())); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return l.c.forget(time.Now())
}

// forget removes what explains keys of long ago, and the oldest nodes where all take too much room.
func (c *Cache) forget(now time.Time) error {
	if beneath.Check(c.dir, LastDir, NodesDir) != nil {
		return nil // what somebody has put elsewhere stays
	}
	last, err := c.files(LastDir)
	if err != nil {
		return err
	}
	nodes, err := c.files(NodesDir)
	if err != nil {
		return err
	}
	room := int64(maxNodes)
	for _, f := range slices.Concat(last, nodes) {
		if filepath.Base(filepath.Dir(f.path)) == NodesDir {
			room -= f.size
		}
		if now.Sub(f.mtime) < keepLast && room >= 0 {
			continue
		}
		if err := beneath.Remove(filepath.Dir(f.path), filepath.Base(f.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear cache: %w", err)
		}
	}
	return nil
}

// file is a file of the cache.
type file struct {
	path  string
	size  int64
	mtime time.Time
}

// files returns the files in a folder of the cache, the newest first.
func (c *Cache) files(kind string) ([]file, error) {
	dir := filepath.Join(c.dir, kind)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clear cache: %w", err)
	}
	var all []file
	for _, e := range entries {
		if fi, err := e.Info(); err == nil { // else another build removed it
			all = append(all, file{filepath.Join(dir, e.Name()), fi.Size(), fi.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b file) int { return b.mtime.Compare(a.mtime) })
	return all, nil
}
