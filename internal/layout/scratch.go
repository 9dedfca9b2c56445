package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/durable"
	"genoci/internal/image"
)

// A scratch layer is one that no tag needs, so that nobody has compressed it: its tar as it is. It
// is there for builds to come until GC, for which it is a temporary file. It is not synced, since
// its name, the DiffID, tells whether it is whole.

// scratchPrefix begins the names of scratch layers.
const scratchPrefix = durable.TempPrefix + "layer-"

func (l *Layout) scratchPath(diffID digest.Digest) (string, error) {
	if err := image.CheckDigest(diffID); err != nil {
		return "", fmt.Errorf("layer %q: %w", diffID, err)
	}
	return l.path(v1.ImageBlobsDir, scratchPrefix+diffID.Encoded()), nil
}

// HasScratch reports whether there is a scratch layer of that DiffID and size. One that was written
// before the machine was started is read first, and dropped where a crash has damaged it.
func (l *Layout) HasScratch(diffID digest.Digest, size int64) bool {
	path, err := l.scratchPath(diffID)
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	switch {
	case err != nil || !st.Mode().IsRegular() || st.Size() != size:
		return false
	case st.ModTime().After(startTime()):
		return true
	}
	if verifyFile(path, diffID) != nil {
		_ = l.remove(path) // which may be GC's by now
		return false
	}
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// ScratchLayers returns the sizes of all scratch layers, by the digits of their DiffIDs.
func (l *Layout) ScratchLayers() (map[string]int64, error) {
	files, err := os.ReadDir(l.path(v1.ImageBlobsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]int64{}
	for _, f := range files {
		digits, ok := strings.CutPrefix(f.Name(), scratchPrefix)
		if info, err := f.Info(); ok && err == nil {
			all[digits] = info.Size()
		}
	}
	return all, nil
}

// startTime is when the machine was started.
func startTime() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}

// verifyFile returns an error unless the file at path has the digest.
func verifyFile(path string, want digest.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := want.Verifier()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if !sum.Verified() {
		return fmt.Errorf("%s: damaged", path)
	}
	return nil
}

// Scratch opens a scratch layer. The content is not checked. The error wraps ErrNotExist where it
// is not there.
func (l *Layout) Scratch(diffID digest.Digest) (*os.File, error) {
	path, err := l.scratchPath(diffID)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("layer %s: %w", diffID, ErrNotExist)
	}
	return f, err
}

// ScratchWriter is a scratch layer that is being written, under a temporary name.
type ScratchWriter struct {
	l *Layout
	f *durable.Temp // nil after Commit or Close
}

// NewScratch starts a scratch layer. Whoever starts it calls Close in the end, after Commit too.
func (l *Layout) NewScratch() (*ScratchWriter, error) {
	if err := os.MkdirAll(l.path(v1.ImageBlobsDir), 0o755); err != nil {
		return nil, err
	}
	f, err := durable.CreateTemp(l.path(v1.ImageBlobsDir), 0o644)
	if err != nil {
		return nil, err
	}
	return &ScratchWriter{l: l, f: f}, nil
}

// Write implements io.Writer.
func (w *ScratchWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, os.ErrClosed
	}
	return w.f.Write(p)
}

// Commit gives the layer its name. The DiffID has to be that of what was written.
func (w *ScratchWriter) Commit(diffID digest.Digest) (v1.Descriptor, error) {
	if w.f == nil {
		return v1.Descriptor{}, os.ErrClosed
	}
	path, err := w.l.scratchPath(diffID)
	if err != nil {
		return v1.Descriptor{}, err
	}
	st, err := w.f.Stat()
	if err == nil {
		err = w.f.Rename(path, durable.NoSync)
	}
	if err != nil {
		return v1.Descriptor{}, err
	}
	w.f = nil
	return v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: diffID, Size: st.Size()}, nil
}

// Close drops the layer if it was not committed; after Commit it does nothing.
func (w *ScratchWriter) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Drop()
}
