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

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
)

// Use holds off those who call Exclude until release, or the end of the process: whoever relies on things in the cache to stay calls it first. It
// waits for one who has called Exclude before.
func (c *Cache) Use(ctx context.Context) (release func(), err error) {
	for {
		f, err := lockDir(c.dir, unix.LOCK_SH)
		if err == nil {
			return releaser(f), nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("use cache: %w", err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Exclude makes sure that nobody uses the cache until release, so that anything can be removed from it: whatever is temporary there has no process any
// more. It waits a moment, since most use it only briefly. The error
// wraps ErrInUse where somebody does, and [beneath.ErrElsewhere] where one of the cache's folders is a symlink or a mount: nothing may be removed there.
func (c *Cache) Exclude() (release func(), err error) {
	if err := beneath.Check(c.dir, Folders()...); err != nil {
		return nil, err
	}
	f, err := lockDir(c.dir, unix.LOCK_EX)
	for range 50 {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(20 * time.Millisecond)
		f, err = lockDir(c.dir, unix.LOCK_EX)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("cache %s: %w", c.dir, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	return releaser(f), nil
}

// releaser returns what lets a lock go, at once, even if a child process that is just being started has a copy of the descriptor.
func releaser(f *os.File) func() {
	return func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}
}

// AddLayout notes that the cache has results, or trees, of what is in the layout in the folder with the absolute path dir.
func (c *Cache) AddLayout(dir string) error {
	sum := sha256.Sum256([]byte(dir))
	path := filepath.Join(c.dir, LayoutsDir, hex.EncodeToString(sum[:16]))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := WriteFile(path, []byte(dir)); err != nil {
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
	f, err := lockDir(dir, unix.LOCK_EX)
	if err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	releaser(f)()
	return false
}
