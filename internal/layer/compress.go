package layer

import "io"

// Compression is one way of compressing layers or archives.
type Compression struct {
	Name      string // what users call it: gzip, zstd, none, xz, bzip2
	MediaType string // of a layer (image-spec, layer.md); "" where layers cannot be compressed so
	Magic     []byte // first bytes; empty for none

	// NewReader decompresses r. Closing it does not close r.
	NewReader func(r io.Reader) (io.ReadCloser, error)
	// NewWriter compresses to w; the same bytes for any sizes of writes and any number of cores.
	// nil where genoci only reads this compression. Close flushes and does not close w.
	NewWriter func(w io.Writer) (io.WriteCloser, error)
	// ID changes whenever the bytes that NewWriter makes may change (name, library version, level, block size).
	ID string
}

// Compressions is the table of all that genoci knows; gzip, the default, comes first.
var Compressions []Compression

// CompressionByName finds a compression that can write layers. The error lists the names.
func CompressionByName(name string) (Compression, error) { panic("stub") }

// CompressionByMediaType finds the compression of a layer by its OCI or docker media type.
func CompressionByMediaType(mediaType string) (Compression, error) { panic("stub") }

// Decompress tells by its first bytes how r is compressed, and returns it decompressed.
// Concatenated gzip members are one stream; anything else after the stream's end is an error.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) { panic("stub") }
