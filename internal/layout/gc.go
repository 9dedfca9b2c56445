package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// GCResult is what GC removed, or would remove.
type GCResult struct {
	Blobs []v1.Descriptor // digest and size of removed blobs
	Temps int             // temporary files of killed builds
	Bytes int64           // of both
}

// GC removes blobs that nothing in index.json reaches, named there or not (through nested indexes, manifests and subjects too), and
// temporary files that no live process holds. A missing manifest reaches nothing; where index.json reaches one that
// cannot be read, nothing is removed, and the error names it. The error wraps ErrInUse while anyone holds Use, this
// Layout included. With dryRun nothing is removed.
func (l *Layout) GC(ctx context.Context, dryRun bool) (GCResult, error) {
	result, err := l.collect(ctx, dryRun)
	if err != nil {
		return result, fmt.Errorf("gc %s: %w", l.dir, err)
	}
	return result, nil
}

func (l *Layout) collect(ctx context.Context, dryRun bool) (GCResult, error) {
	var result GCResult
	blobs, err := l.lockBlobs(ctx, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return result, ErrInUse
	}
	if err != nil {
		return result, err
	}
	defer unlock(blobs)
	index, err := lock(ctx, l.dir, unix.LOCK_EX)
	if err != nil {
		return result, err
	}
	defer unlock(index)

	reached, err := l.reached(ctx)
	if err != nil {
		return result, err
	}
	remove := os.Remove
	if dryRun {
		remove = func(string) error { return nil }
	}
	if err := l.removeTemps(&result, remove); err != nil {
		return result, err
	}
	return result, l.removeBlobs(ctx, &result, reached, remove)
}

// reached returns the digests of all blobs that index.json reaches.
func (l *Layout) reached(ctx context.Context) (map[digest.Digest]bool, error) {
	x, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	reached := map[digest.Digest]bool{}
	var unreadable error
	w := walker{l: l, seen: map[claim]bool{}, visit: func(desc v1.Descriptor, _ []byte, err error) {
		reached[desc.Digest] = true
		if err != nil && !errors.Is(err, ErrNotExist) {
			unreadable = errors.Join(unreadable, err)
		}
	}}
	for _, e := range x.entries {
		if err := w.walk(ctx, e.desc); err != nil {
			return nil, err
		}
	}
	return reached, unreadable
}

// removeBlobs removes the blobs that are not reached.
func (l *Layout) removeBlobs(ctx context.Context, result *GCResult, reached map[digest.Digest]bool, remove func(string) error) error {
	for desc, err := range l.blobs() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if reached[desc.Digest] {
			continue
		}
		path, err := l.blobPath(desc.Digest)
		if err != nil {
			return err
		}
		if err := remove(path); err != nil {
			return err
		}
		result.Blobs = append(result.Blobs, desc)
		result.Bytes += desc.Size
	}
	return nil
}

// removeTemps removes the temporary files whose lock is free. Those of index.json are written under the lock that GC holds.
func (l *Layout) removeTemps(result *GCResult, remove func(string) error) error {
	for _, dir := range []string{l.dir, l.path(v1.ImageBlobsDir)} {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, file := range files {
			if !strings.HasPrefix(file.Name(), tempPrefix) || !file.Type().IsRegular() {
				continue
			}
			if err := removeTemp(filepath.Join(dir, file.Name()), result, remove); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeTemp removes a temporary file unless it is locked.
func removeTemp(path string, result *GCResult, remove func(string) error) error {
	f, err := lock(context.Background(), path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock(f)
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := remove(path); err != nil {
		return err
	}
	result.Temps++
	result.Bytes += st.Size()
	return nil
}
