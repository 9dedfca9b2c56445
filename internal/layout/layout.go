// Package layout is the OCI image layout on disk (image-spec v1.1, image-layout.md): blobs, tags, locks, garbage collection and verification.
// Whatever is killed at whatever instant, a layout stays valid: every blob is written to a temporary name, synced, and renamed; index.json is replaced
// atomically under a lock, after reading it again, so that builders working on one layout at once lose nothing. Foreign entries and unknown
// fields are kept as they are. It never builds anything, and knows no network.
package layout

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

var (
	// ErrNotExist is wrapped where a layout, tag or blob is not there.
	ErrNotExist = errors.New("does not exist")
	// ErrInUse is wrapped by GC while builds use the layout.
	ErrInUse = errors.New("in use by another process")
)

// Layout is an open OCI layout. All methods may be called concurrently, also by several processes.
type Layout struct{ stub int }

// Open opens the layout in the folder dir. The error wraps ErrNotExist where there is none, and says what is
// wrong where the folder holds something else.
func Open(dir string) (*Layout, error) { panic("stub") }

// Create opens the layout in dir, making it first where dir is missing or empty.
func Create(dir string) (*Layout, error) { panic("stub") }

// Dir returns the folder as it was given.
func (l *Layout) Dir() string { panic("stub") }

// Close releases the layout and the locks held through it.
func (l *Layout) Close() error { panic("stub") }

// Use holds off GC by other processes until Close: whoever reads or writes blobs that no tag names yet calls it first. It may be called
// again, and waits for a GC that is running.
func (l *Layout) Use(ctx context.Context) error { panic("stub") }

// Blob opens a blob. The content is not checked; see Verified.
func (l *Layout) Blob(d digest.Digest) (*os.File, error) { panic("stub") }

// Verified returns a reader of r that gives an error instead of EOF where size or digest are not as desc says.
func Verified(r io.Reader, desc v1.Descriptor) io.Reader { panic("stub") }

// Has reports whether a blob is there with the descriptor's size.
func (l *Layout) Has(desc v1.Descriptor) bool { panic("stub") }

// BlobWriter is a blob that is being written, under a temporary name.
type BlobWriter struct{ stub int }

// NewBlob starts a blob of unknown digest.
func (l *Layout) NewBlob() (*BlobWriter, error) { panic("stub") }

// Write implements io.Writer.
func (w *BlobWriter) Write(p []byte) (int, error) { panic("stub") }

// Commit syncs the blob and moves it to its place; media type is copied into the descriptor. Where the blob is there already, the new copy is dropped.
func (w *BlobWriter) Commit(mediaType string) (v1.Descriptor, error) { panic("stub") }

// Close drops the blob if it was not committed; after Commit it does nothing.
func (w *BlobWriter) Close() error { panic("stub") }

// WriteImage writes config and manifest of img as blobs and returns the manifest's descriptor. No tag is moved.
func (l *Layout) WriteImage(img image.Image) (v1.Descriptor, error) { panic("stub") }

// Image reads the image that ref names: a tag, or a digest (sha256:...) in full or of at least 6 digits where it is unique. Of a multi-platform index, the image
// for platform is taken (zero: this machine's). Errors wrap ErrNotExist and name near tags.
func (l *Layout) Image(ref string, platform v1.Platform) (image.Image, error) { panic("stub") }

// Tag is a named entry of index.json.
type Tag struct {
	Name       string
	Descriptor v1.Descriptor
}

// Tags returns all named entries in the order of index.json. A name may stand there more than once; the first counts.
func (l *Layout) Tags() ([]Tag, error) { panic("stub") }

// Update changes index.json in one atomic step: under the lock it reads it again, calls edit, and replaces it (synced). edit works on
// the merged state; when it returns an error, nothing is changed.
func (l *Layout) Update(ctx context.Context, edit func(*Index) error) error { panic("stub") }

// Index is the content of index.json while Update edits it.
type Index struct{ stub int }

// Tags returns the named entries.
func (x *Index) Tags() []Tag { panic("stub") }

// Set lets name (an org.opencontainers.image.ref.name) stand for desc, replacing entries of the name, or adding one at the end.
func (x *Index) Set(name string, desc v1.Descriptor) { panic("stub") }

// Remove removes the entries of the name and reports whether there were any.
func (x *Index) Remove(name string) bool { panic("stub") }

// GCResult is what GC removed, or would remove.
type GCResult struct {
	Blobs []v1.Descriptor // digest and size of removed blobs
	Temps int             // temporary files of killed builds
	Bytes int64
}

// GC removes blobs that nothing in index.json reaches (through nested indexes, manifests and subjects too; what cannot be read is kept, with
// an error), and temporary files that no live process holds. The error wraps ErrInUse while other processes hold Use.
func (l *Layout) GC(ctx context.Context, dryRun bool) (GCResult, error) { panic("stub") }

// Problem is something that Verify found.
type Problem struct {
	Tag    string        // "" when no tag reaches it
	Digest digest.Digest // of the blob
	Err    error
}

// Verify reads every blob and checks digest and size, every manifest and config, DiffIDs of layers against the config, and index.json itself. It
// returns how many blobs and bytes it read; report is called for each problem.
func (l *Layout) Verify(ctx context.Context, report func(Problem)) (blobs int, bytes int64, err error) {
	panic("stub")
}
