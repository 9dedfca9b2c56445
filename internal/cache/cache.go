// Package cache remembers which layer a step made: from a key, which covers every input of the
// step, to an entry. It can be deleted at any moment. It never looks into layers or layouts:
// whether what an entry names is still there is for the caller to see.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
)

var (
	// ErrMiss is returned by Get where no result of a key is known.
	ErrMiss = errors.New("not in the cache")
	// ErrInUse is wrapped by Exclude while builds use the cache.
	ErrInUse = errors.New("in use")
)

// Cache is a folder of genoci's own state: results of steps, TOCs, digests of input files,
// downloads and the drivers' snapshots, each in a folder below. flock(2) of the folder itself is
// held, shared, by all that Use it, and exclusively by who removes things that they may need.
type Cache struct {
	dir        string
	secretFile string // see SealAt

	mu     sync.Mutex
	random []byte // of this folder, once it is needed
}

// The folders for the kinds of content.
const (
	StepsDir   = "steps"   // entries, by their keys
	TOCDir     = "toc"     // indexes of layers, by their DiffIDs, and which blobs hold them
	InputsDir  = "inputs"  // digests of input files, and downloads
	LayoutsDir = "layouts" // which layouts were built into
	LastDir    = "last"    // under which keys the steps of a spec were built last
	NodesDir   = "nodes"   // what those keys were made of
	TempsDir   = "tmp"
)

// Folders returns those for all kinds but the drivers' snapshots.
func Folders() []string {
	return []string{StepsDir, TOCDir, InputsDir, LayoutsDir, LastDir, NodesDir, TempsDir}
}

// Open opens the cache in the folder dir, making it where it is missing.
func Open(dir string) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return &Cache{dir: dir}, nil
}

// Root returns the absolute path of the cache's folder.
func (c *Cache) Root() string { return c.dir }

// Dir returns the folder for one kind of content ("toc", "overlay", "tmp"), making it where it is
// missing.
func (c *Cache) Dir(kind string) (string, error) {
	dir := filepath.Join(c.dir, kind)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("open cache: %w", err)
	}
	return dir, nil
}

// Temp returns a nameless temporary file in the cache's file system: nothing is left of it, however
// the process ends.
func (c *Cache) Temp() (*os.File, error) {
	dir, err := c.Dir(TempsDir)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// TempDir makes a folder for temporary files, and returns how to remove it. Folders whose process
// was killed are removed by a later call: each is held by a lock (flock(2)) that ends with its
// process.
func (c *Cache) TempDir() (dir string, remove func() error, err error) {
	tmp, err := c.Dir(TempsDir)
	if err != nil {
		return "", nil, err
	}
	if err := c.sweep(); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(tmp, "step-"); err != nil {
		return "", nil, err
	}
	lock, err := durable.TryLockPath(dir, durable.Exclusive)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error { return errors.Join(beneath.RemoveAll(tmp, filepath.Base(dir)), lock.Close()) }, nil
}

// sweep removes the folders for temporary files that no live process holds. One that is younger
// than a minute may not be locked yet. What somebody has put elsewhere stays.
func (c *Cache) sweep() error {
	tmp := filepath.Join(c.dir, TempsDir)
	if beneath.Check(c.dir, TempsDir) != nil {
		return nil
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || !e.IsDir() || time.Since(fi.ModTime()) < time.Minute {
			continue
		}
		path := filepath.Join(tmp, e.Name())
		lock, err := durable.TryLockPath(path, durable.Exclusive)
		if err != nil {
			continue
		}
		err = errors.Join(beneath.RemoveAll(c.dir, filepath.Join(TempsDir, e.Name())), lock.Close())
		if err != nil {
			return fmt.Errorf("remove the files of a killed build: %w", err)
		}
	}
	return nil
}

// Key stands for all inputs of a step.
type Key struct {
	id   string // hexadecimal SHA-256 of node
	node []byte // canonical JSON

	about json.RawMessage // see With
}

// NewKey makes a key of node, which must hold every input of the step: anything that encoding/json
// marshals the same way each time (structs, slices, maps with string keys).
func NewKey(node any) (Key, error) {
	b, err := json.Marshal(node)
	if err != nil {
		return Key{}, fmt.Errorf("cache key: %w", err)
	}
	sum := sha256.Sum256(b)
	return Key{id: hex.EncodeToString(sum[:]), node: b}, nil
}

// With returns the key with more to keep, sealed, beside what it was made of: about, which decides
// nothing.
func (k Key) With(about any) (Key, error) {
	var err error
	if k.about, err = json.Marshal(about); err != nil {
		return k, fmt.Errorf("cache key: %w", err)
	}
	return k, nil
}

// String returns the key as hexadecimal digits.
func (k Key) String() string { return k.id }

// Entry is what a step made.
type Entry struct {
	// DiffID is the layer's; "" when the step changed nothing, and no layer was made.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Blobs are the layer's blobs, by the ID of the compression that made them.
	Blobs map[string]Blob `json:"blobs,omitempty"`
	// Tar is the size of the layer's tar, where the layout may have that as a scratch layer.
	Tar int64 `json:"tar,omitempty"`
	// Lent is the SHA-256 of the busybox that was lent to the step, "" for none.
	Lent string `json:"lent,omitempty"`
	// Chain is the chain ID of the tree that the step made: of the layers below, and of its own. A
	// driver may have a snapshot of it.
	Chain digest.Digest `json:"chain,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds,omitempty"`
	// Archive says what became of an archive that might have been the layer as it is; "" for other
	// steps.
	Archive string `json:"archive,omitempty"`
}

// Blob describes the compressed layer.
type Blob struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// record is an entry as it is stored.
type record struct {
	Key   string `json:"key"` // so that no damaged file is taken for an entry
	Entry Entry  `json:"entry"`
	// Inputs is the node that the key was made of, sealed: beside the key it would tell what is
	// short and secret in it, by trying.
	Inputs []byte `json:"inputs,omitempty"`
	// About is what Key.With was given, sealed.
	About []byte `json:"about,omitempty"`
}

// Get returns the entry of the key. The error is ErrMiss where there is none, or where what is
// there cannot be used.
func (c *Cache) Get(k Key) (Entry, error) {
	b, err := readFile(c.path(k))
	if err != nil {
		return Entry{}, err
	}
	var r record
	if json.Unmarshal(b, &r) != nil || r.Key != k.id {
		return Entry{}, ErrMiss
	}
	markUsed(c.path(k))
	return r.Entry, nil
}

// markUsed gives a file the time of day, unless it was used today: what was not used for long can
// go first.
func markUsed(path string) {
	var st unix.Stat_t
	now := time.Now()
	if err := unix.Stat(path, &st); err == nil && now.Unix()-st.Mtim.Sec > 24*60*60 {
		_ = os.Chtimes(path, now, now)
	}
}

// Put stores the entry of the key. What an earlier entry of the same result says of other blobs,
// and of the tar, stays.
func (c *Cache) Put(k Key, e Entry) error {
	if old, err := c.Get(k); err == nil && old.DiffID == e.DiffID && old.Lent == e.Lent {
		for id, b := range old.Blobs {
			if _, ok := e.Blobs[id]; !ok {
				e.Blobs[id] = b
			}
		}
		e.Tar = max(e.Tar, old.Tar)
	}
	r := record{Key: k.id, Entry: e}
	r.Inputs, _ = c.seal(k.id, k.node) // without a key the entry serves as well
	if k.about != nil {
		r.About, _ = c.seal(aboutName(k.id), k.about)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if err := writeFile(c.path(k), b); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

func (c *Cache) path(k Key) string {
	return filepath.Join(c.dir, StepsDir, k.id[:2], k.id[2:]+".json")
}

// writeFile puts a file of the cache at path. It makes the folder, and does not sync: what a crash
// damages, Get does not take for an entry.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, content, 0o600, durable.NoSync)
}
