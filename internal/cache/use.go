package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"genoci/internal/beneath"
	"genoci/internal/durable"
)

// Use holds off those who call Exclude until release, or the end of the process: whoever relies on
// things in the cache to stay calls it first. It waits for one who has called Exclude before.
func (c *Cache) Use(ctx context.Context) (release func(), err error) {
	f, err := durable.LockPath(ctx, c.dir, durable.Shared)
	if err != nil {
		return nil, fmt.Errorf("use cache: %w", err)
	}
	return func() { durable.Unlock(f) }, nil
}

// Exclude makes sure that nobody uses the cache until release, so that anything can be removed from
// it: whatever is temporary there has no process any more. It waits a moment, since most use it
// only briefly. The error wraps ErrInUse where somebody does, and [beneath.ErrElsewhere] where one
// of the cache's folders is a symlink or a mount: nothing may be removed there.
func (c *Cache) Exclude() (release func(), err error) {
	if err := beneath.Check(c.dir, Folders()...); err != nil {
		return nil, err
	}
	f, err := durable.LockWithin(context.Background(), c.dir, durable.Exclusive, time.Second)
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("cache %s: %w", c.dir, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	return func() { durable.Unlock(f) }, nil
}

// AddLayout notes that the cache has results, or trees, of what is in the layout in the folder with
// the absolute path dir.
func (c *Cache) AddLayout(dir string) error {
	sum := sha256.Sum256([]byte(dir))
	path := filepath.Join(c.dir, LayoutsDir, hex.EncodeToString(sum[:16]))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := writeFile(path, []byte(dir)); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// LayoutAt returns the folder that the file at path, which AddLayout has written, tells of.
func LayoutAt(path string) (string, error) {
	dir, err := readFile(path)
	if err == nil && !filepath.IsAbs(string(dir)) {
		err = ErrMiss
	}
	return string(dir), err
}

// Stored is an entry and its file.
type Stored struct {
	Entry
	Path string
	Info fs.FileInfo // its time is that of the last use, by the day
}

// ID returns the id of the entry's key.
func (s Stored) ID() string {
	return filepath.Base(filepath.Dir(s.Path)) + strings.TrimSuffix(filepath.Base(s.Path), ".json")
}

// Stored yields all entries. One that cannot be used is zero but for its file.
func (c *Cache) Stored() iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		files, err := filepath.Glob(filepath.Join(c.dir, StepsDir, "??", "*.json"))
		if err != nil {
			yield(Stored{}, err)
			return
		}
		for _, path := range files {
			s, err := readStored(path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrMiss) {
				continue // it went meanwhile
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

func readStored(path string) (s Stored, err error) {
	s.Path = path
	if s.Info, err = os.Lstat(path); err != nil {
		return s, err
	}
	b, err := readFile(path)
	if err != nil {
		return s, err
	}
	var r record
	if json.Unmarshal(b, &r) == nil {
		s.Entry = r.Entry
	}
	return s, nil
}

// Held reports whether a folder that TempDir has made is that of a live process.
func Held(dir string) bool {
	f, err := durable.TryLockPath(dir, durable.Exclusive)
	if err != nil {
		return errors.Is(err, durable.ErrLocked)
	}
	durable.Unlock(f)
	return false
}
