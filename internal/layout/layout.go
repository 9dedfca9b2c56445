// Package layout is the OCI image layout on disk (image-spec v1.1, image-layout.md): blobs, tags,
// locks, garbage collection and verification. Whatever is killed at whatever instant, a layout
// stays valid: every blob is written to a temporary name, synced, and renamed; index.json is
// replaced atomically under a lock, after reading it again, so that builders working on one layout
// at once lose nothing. Foreign entries and unknown fields are kept as they are. It never builds
// anything, and knows no network.
//
// Locks are flock(2) locks on folders, so that no lock file appears in a layout:
//
//   - the layout's folder, exclusively and briefly, while it is made or index.json is replaced;
//   - the folder blobs, shared by all that [Layout.Use] it, exclusively by [Layout.Collect].
//
// On network file systems they hold among the processes of one machine. Other tools know nothing of
// them: while they write to a layout, do not collect its garbage.
//
// Files are made with mode 0644, whatever the umask is. Temporary files are called .genoci-*; those
// of blobs lie in blobs, where no tool looks for files, and are locked by whoever writes them.
package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"genoci/internal/durable"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrNotExist is wrapped where a layout, tag or blob is not there.
	ErrNotExist = errors.New("does not exist")
	// ErrInUse is wrapped by Collect while builds use the layout.
	ErrInUse = errors.New("in use")
)

// Layout is an open OCI layout. All methods may be called concurrently, also by several processes.
type Layout struct {
	dir   string
	blobs string      // the folder of that name
	wrote atomic.Bool // a blob

	mu     sync.Mutex
	use    *os.File // the folder blobs, locked, while Use holds
	closed bool
}

// Open opens the layout in the folder dir. The error wraps ErrNotExist where there is none, and
// says what is wrong where the folder holds something else.
func Open(dir string) (*Layout, error) {
	err := checkVersion(filepath.Join(dir, v1.ImageLayoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = checkNew(dir)
		if err == nil {
			err = ErrNotExist
		}
	}
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	return &Layout{dir: dir, blobs: filepath.Join(dir, v1.ImageBlobsDir)}, nil
}

// Create opens the layout in dir, making it first where dir is missing or empty. Of several that
// create one layout at once, one makes it and the others open it.
func Create(dir string) (*Layout, error) {
	l, err := Open(dir)
	if !errors.Is(err, ErrNotExist) {
		return l, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create layout: %w", err)
	}
	lock, err := durable.LockPath(context.Background(), dir, durable.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("create layout: %w", err)
	}
	defer durable.Unlock(lock)
	if l, err = Open(dir); !errors.Is(err, ErrNotExist) {
		return l, err
	}
	if err := initialize(dir); err != nil {
		return nil, fmt.Errorf("create layout: %w", err)
	}
	return Open(dir)
}

// initialize makes an empty layout in dir. The file oci-layout comes last: with it the layout is
// complete.
func initialize(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	index := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`
	if err := durable.WriteFile(filepath.Join(dir, v1.ImageIndexFile), []byte(index), 0o644, durable.SyncName); err != nil {
		return err
	}
	version := `{"imageLayoutVersion":"` + v1.ImageLayoutVersion + `"}`
	if err := durable.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(version), 0o644, durable.SyncName); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// checkVersion reads the file oci-layout.
func checkVersion(file string) error {
	text, err := readOwn(file)
	if err != nil {
		return err
	}
	var header v1.ImageLayout
	if err := json.Unmarshal([]byte(text), &header); err != nil {
		return fmt.Errorf("%s: %w", v1.ImageLayoutFile, err)
	}
	if header.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("%s: version %q of the layout format is not supported, only %s", v1.ImageLayoutFile, header.Version, v1.ImageLayoutVersion)
	}
	return nil
}

// checkNew returns nil where a layout could be made in dir: it is missing, is empty, or holds what
// a Create makes, which was killed or is still at work.
func checkNew(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == v1.ImageBlobsDir, name == v1.ImageIndexFile, name == v1.ImageLayoutFile:
		case durable.IsTemp(name):
		default:
			return fmt.Errorf("not an OCI layout: the folder has no file %s, but %s", v1.ImageLayoutFile, name)
		}
	}
	return nil
}

// Dir returns the folder as it was given.
func (l *Layout) Dir() string { return l.dir }

// path returns the path of a file of the layout.
func (l *Layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

// Close releases the layout and the locks held through it. Further calls do nothing. The error is
// nil.
func (l *Layout) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.use != nil {
		durable.Unlock(l.use)
		l.use = nil
	}
	return nil
}

// Use holds off GC, by this Layout and all others, until Close: whoever reads or writes blobs that
// no tag names yet calls it first. It may be called again, and waits for a GC that is running.
func (l *Layout) Use(ctx context.Context) error {
	if l.Used() {
		return nil
	}
	f, err := l.shareBlobs(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		durable.Unlock(f)
		return fmt.Errorf("layout %s: %w", l.dir, os.ErrClosed)
	case l.use != nil:
		durable.Unlock(f)
	default:
		l.use = f
	}
	return nil
}

// Used reports whether Use holds.
func (l *Layout) Used() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.use != nil
}

// lockBlobs locks the folder blobs, which a layout without blobs may lack, by a call of lock.
func (l *Layout) lockBlobs(lock func(path string) (*os.File, error)) (*os.File, error) {
	path := l.path(v1.ImageBlobsDir)
	f, err := lock(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err = lock(path)
	}
	return f, err
}

// shareBlobs takes the shared lock of the folder blobs: as long as it is held, GC removes nothing.
func (l *Layout) shareBlobs(ctx context.Context) (*os.File, error) {
	return l.lockBlobs(func(path string) (*os.File, error) { return durable.LockPath(ctx, path, durable.Shared) })
}
