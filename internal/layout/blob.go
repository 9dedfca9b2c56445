package layout

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/durable"
	"genoci/internal/image"
)

// blobPath returns where a blob lies. The digest must be valid: a foreign file may say anything.
func (l *Layout) blobPath(d digest.Digest) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", fmt.Errorf("blob %q: %w", d, err)
	}
	return l.blobs + string(filepath.Separator) + d.Algorithm().String() + string(filepath.Separator) + d.Encoded(), nil
}

// Blob opens a blob. The content is not checked; see Verified. The error wraps ErrNotExist where it
// is not there.
func (l *Layout) Blob(d digest.Digest) (*os.File, error) {
	path, err := l.blobPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a foreign layout may have a fifo there
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d, ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("blob %s: not a regular file", d), err)
	}
	return f, nil
}

// Has reports whether a blob is there with the descriptor's size.
func (l *Layout) Has(desc v1.Descriptor) bool {
	path, err := l.blobPath(desc.Digest)
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == desc.Size
}

// Verified returns a reader of r that gives an error instead of EOF where size or digest are not as
// desc says. It reads at most one byte more than the size.
func Verified(r io.Reader, desc v1.Descriptor) io.Reader {
	err := image.CheckDigest(desc.Digest)
	if err == nil && desc.Size < 0 {
		err = fmt.Errorf("size is %d", desc.Size)
	}
	if err != nil {
		return &verified{err: fmt.Errorf("blob %q: %w", desc.Digest, err)}
	}
	return &verified{r: r, desc: desc, left: desc.Size, hash: desc.Digest.Algorithm().Hash()}
}

type verified struct {
	r    io.Reader
	desc v1.Descriptor
	left int64 // bytes that are still to come
	hash hash.Hash
	err  error // that all further reads return
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if int64(len(p)) > v.left {
		p = p[:v.left+1]
	}
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left < 0:
		n, v.err = n-1, fmt.Errorf("blob %s: longer than %d bytes, its size in the manifest", v.desc.Digest, v.desc.Size)
	case errors.Is(err, io.EOF):
		v.err = v.end()
	default:
		v.err = err
	}
	return n, v.err
}

// end judges all that was read.
func (v *verified) end() error {
	if v.left > 0 {
		return fmt.Errorf("blob %s: %d of its %d bytes are missing", v.desc.Digest, v.left, v.desc.Size)
	}
	if got := digest.NewDigest(v.desc.Digest.Algorithm(), v.hash); got != v.desc.Digest {
		return fmt.Errorf("blob %s: content has the digest %s", v.desc.Digest, got)
	}
	return io.EOF
}

// BlobWriter is a blob that is being written, under a temporary name. It is not safe for concurrent
// use.
type BlobWriter struct {
	l    *Layout
	f    *durable.Temp // nil after Commit or Close
	hash hash.Hash
	buf  *bufio.Writer // to f and hash
	size int64
	left int64 // bytes of a clone that were not read
}

var _ io.WriteCloser = (*BlobWriter)(nil)

// NewBlob starts a blob of unknown digest. Whoever starts it calls Close in the end, after Commit
// too.
func (l *Layout) NewBlob() (*BlobWriter, error) {
	if err := os.MkdirAll(l.path(v1.ImageBlobsDir, digest.Canonical.String()), 0o755); err != nil {
		return nil, err
	}
	f, err := durable.CreateTemp(l.path(v1.ImageBlobsDir), 0o644)
	if err != nil {
		return nil, err
	}
	h := digest.Canonical.Hash()
	return &BlobWriter{l: l, f: f, hash: h, buf: bufio.NewWriterSize(io.MultiWriter(&earlyWriter{f: f.File}, h), 128<<10)}, nil
}

// Clone makes the blob a copy of the file src that shares its blocks on disk
// (ioctl_ficlonerange(2)), and returns a reader of that copy, which hashes what is read: what
// becomes of src meanwhile does not matter. It is for a blob that nothing was written to, nor will
// be; Commit wants all of it to have been read. The reader is nil where the file system does not
// share blocks of src: the blob is then as it was.
func (w *BlobWriter) Clone(src *os.File) (io.Reader, error) {
	if w.f == nil {
		return nil, os.ErrClosed
	}
	if unix.IoctlFileClone(int(w.f.Fd()), int(src.Fd())) != nil {
		return nil, w.f.Truncate(0) // of what was shared before it failed
	}
	st, err := w.f.Stat()
	if err != nil {
		return nil, err
	}
	w.left = st.Size()
	return cloneReader{w}, nil
}

// cloneReader reads and hashes a blob that is a clone.
type cloneReader struct{ w *BlobWriter }

// Read implements io.Reader.
func (r cloneReader) Read(p []byte) (int, error) {
	n, err := r.w.f.Read(p)
	r.w.hash.Write(p[:n])
	r.w.size += int64(n)
	r.w.left -= int64(n)
	return n, err
}

// earlyBytes is after how many bytes the disk is told to begin.
const earlyBytes = 8 << 20

// earlyWriter writes to a file that will be synced: the disk writes while there is more to come.
type earlyWriter struct {
	f        *os.File
	size     int64
	underWay int64 // what the disk was told to write
}

func (w *earlyWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.size += int64(n)
	if more := w.size - w.underWay; more >= earlyBytes {
		// Where that fails, the sync at the end will tell.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.underWay, more, unix.SYNC_FILE_RANGE_WRITE)
		w.underWay = w.size
	}
	return n, err
}

// Write implements io.Writer.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, os.ErrClosed
	}
	n, err := w.buf.Write(p)
	w.size += int64(n)
	return n, err
}

// Sum returns the SHA-256 of what was written so far.
func (w *BlobWriter) Sum() (sum [32]byte, err error) {
	if err := w.buf.Flush(); err != nil {
		return sum, err
	}
	w.hash.Sum(sum[:0])
	return sum, nil
}

// Commit syncs the blob and moves it to its place; the media type is copied into the descriptor.
// Where the blob is there already, the new copy is dropped. The name of the blob is durable when
// the Update that makes a tag reach it returns.
func (w *BlobWriter) Commit(mediaType string) (v1.Descriptor, error) {
	if w.f == nil {
		return v1.Descriptor{}, os.ErrClosed
	}
	if err := w.buf.Flush(); err != nil {
		return v1.Descriptor{}, err
	}
	if w.left != 0 {
		return v1.Descriptor{}, fmt.Errorf("blob: %d bytes of the clone were not read", w.left)
	}
	desc := v1.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.Canonical, w.hash), Size: w.size}
	if w.l.Has(desc) {
		return desc, w.Close()
	}
	path, err := w.l.blobPath(desc.Digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := w.f.Rename(path, durable.SyncFile); err != nil {
		return v1.Descriptor{}, err
	}
	w.l.wrote.Store(true)
	w.f = nil
	return desc, nil
}

// Close drops the blob if it was not committed; after Commit it does nothing.
func (w *BlobWriter) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Drop()
}

// put stores a small blob.
func (l *Layout) put(data []byte, desc v1.Descriptor) error {
	if l.Has(desc) {
		return nil
	}
	w, err := l.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	_, err = w.Commit(desc.MediaType)
	return err
}

// maxJSON bounds the size of manifests, indexes and configs: registries take no manifest of more
// than 4 MiB.
const maxJSON = 32 << 20

// read returns the content of a manifest, an index or a config, verified.
func (l *Layout) read(desc v1.Descriptor) ([]byte, error) {
	if desc.Size > maxJSON {
		return nil, fmt.Errorf("blob %s: too large for a manifest or config: %d bytes", desc.Digest, desc.Size)
	}
	path, err := l.blobPath(desc.Digest)
	if err != nil {
		return nil, err
	}
	if data, ok := readSized(path, desc.Size); ok && sums(data, desc.Digest) {
		return data, nil
	}
	f, err := l.Blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(Verified(f, desc))
}

// sums reports whether data has the digest, which must be valid.
func sums(data []byte, d digest.Digest) bool {
	if d.Algorithm() != digest.SHA256 {
		return d.Algorithm().FromBytes(data) == d
	}
	var text [2 * sha256.Size]byte
	sum := sha256.Sum256(data)
	hex.Encode(text[:], sum[:])
	return string(text[:]) == d.Encoded()
}

// readSized returns the content of the file at path, if it is a regular one of that size. A layout
// has hundreds of thousands of manifests and configs: this takes the four system calls that have to
// be. Whatever goes wrong is for a second try to tell.
func readSized(path string, size int64) ([]byte, bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != size {
		return nil, false
	}
	data := make([]byte, size)
	n, err := unix.Read(fd, data)
	return data, err == nil && n == len(data)
}
