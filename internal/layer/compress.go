package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/gunzip"
)

// Compression is one way of compressing layers or archives.
type Compression struct {
	Name      string // what users call it: gzip, zstd, none, xz, bzip2
	MediaType string // of a layer (image-spec, layer.md); "" where layers cannot be compressed so
	Magic     []byte // first bytes; empty for none

	// NewReader decompresses r, which it may read further than the compressed data goes. Closing it
	// does not close r.
	NewReader func(r io.Reader) (io.ReadCloser, error)
	// NewWriter compresses to w, on all cores; the same bytes for any sizes of writes and any
	// number of cores. Each of taps gets what is written, in order, in another goroutine; it has
	// all when Close has returned. nil where genoci only reads this compression. Close flushes and
	// does not close w; it has to be called in any case.
	NewWriter func(w io.Writer, taps ...io.Writer) (io.WriteCloser, error)
	// ID changes whenever the bytes that NewWriter makes may change (name, library version, level,
	// block size).
	ID string
}

// What decides about the bytes that the writers make. Any change of these must show in
// Compression.ID.
const (
	compressVersion = "v1.20.3" // of github.com/klauspost/compress, which both writers use
	gzipLevel       = 5         // of klauspost/compress/flate; ADR 0014 says why
	gzipBlock       = 1 << 20
	zstdBlock       = 4 << 20
)

// maxWindow is the most memory that a zstd or xz stream may ask for as its window: the archive
// tools' highest levels take 128 MiB and 64 MiB.
const maxWindow = 512 << 20

// Compressions is the table of all that genoci knows; gzip, the default, comes first.
var Compressions = []Compression{
	{
		Name:      "gzip",
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Magic:     []byte{0x1f, 0x8b, 0x08}, // RFC 1952, section 2.3.1; 8 is deflate
		NewReader: func(r io.Reader) (io.ReadCloser, error) { return gunzip.NewReader(r) },
		NewWriter: newGzipWriter,
		ID:        "gzip level 5 block 1MiB history 16KiB small 16KiB stored 2 compress " + compressVersion,
	},
	{
		Name:      "zstd",
		MediaType: ocispec.MediaTypeImageLayerZstd,
		Magic:     []byte{0x28, 0xb5, 0x2f, 0xfd}, // RFC 8878, section 3.1.1
		NewReader: newZstdReader,
		NewWriter: newZstdWriter,
		ID:        "zstd level default block 4MiB compress " + compressVersion,
	},
	{
		Name:      "none",
		MediaType: ocispec.MediaTypeImageLayer,
		NewReader: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil },
		NewWriter: func(w io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
			return newBlockWriter(w, blockCoding{size: 1 << 20}, taps...), nil
		},
		ID: "none",
	},
	{
		Name:      "xz",
		Magic:     []byte{0xfd, '7', 'z', 'X', 'Z', 0}, // xz-file-format.txt, section 2.1.1.1
		NewReader: newXzReader,
	},
	{
		Name:      "bzip2",
		Magic:     []byte("BZh"),
		NewReader: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil },
	},
}

// CompressionByName finds a compression that can write layers. The error lists the names.
func CompressionByName(name string) (Compression, error) {
	var names []string
	for _, c := range Compressions {
		if c.NewWriter == nil {
			continue
		}
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return Compression{}, fmt.Errorf("unknown compression %q: expected one of %s", name, strings.Join(names, ", "))
}

// layerTypes are the media types of uncompressed layers, of OCI (image-spec, layer.md; the second
// is for what registries must not distribute) and of docker (distribution, "Image Manifest Version
// 2, Schema 2"), and what stands before the name of a compression behind them.
var layerTypes = [...]struct{ mediaType, separator string }{
	{ocispec.MediaTypeImageLayer, "+"},
	{"application/vnd.oci.image.layer.nondistributable.v1.tar", "+"},
	{"application/vnd.docker.image.rootfs.diff.tar", "."},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar", "."},
}

// CompressionByMediaType finds the compression of a layer by its OCI or docker media type.
func CompressionByMediaType(mediaType string) (Compression, error) {
	for _, c := range Compressions {
		for _, l := range layerTypes {
			suffix := l.separator + c.Name
			if c.Name == "none" {
				suffix = ""
			}
			if c.MediaType != "" && mediaType == l.mediaType+suffix {
				return c, nil
			}
		}
	}
	return Compression{}, fmt.Errorf("%q is not the media type of a layer", mediaType)
}

// Decompress tells by its first bytes how r is compressed, and returns it decompressed. Closing
// that does not close r. Concatenated gzip members are one stream. Zero bytes after the end of a
// gzip stream are skipped, as gzip(1) does (backups on tape have them); anything else there is an
// error, and so is what is cut off.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	c, err := Sniff(br)
	if err != nil {
		return nil, Compression{}, err
	}
	open := c.NewReader
	if c.Name == "gzip" {
		open = func(r io.Reader) (io.ReadCloser, error) { return gunzip.NewPaddedReader(r) }
	}
	rc, err := open(br)
	if err != nil {
		return nil, Compression{}, fmt.Errorf("%s: %w", c.Name, noEOF(err))
	}
	return rc, c, nil
}

// Sniff tells how what r yields is compressed, by its first bytes, which r yields all the same.
func Sniff(r *bufio.Reader) (Compression, error) {
	start, err := r.Peek(16)
	if err != nil && err != io.EOF {
		return Compression{}, err
	}
	return sniff(start), nil
}

// portableWindow is the largest window that zstd(1) takes without being told to.
const portableWindow = 128 << 20

// Portable reports whether all tools for images read data that c has compressed and r yields, from
// its start. Zstandard with data for other programs in front (containers/storage does not know it
// by that), a dictionary, or a window beyond that of zstd(1) is read by some of them only.
func (c Compression) Portable(r *bufio.Reader) (bool, error) {
	if c.Name != "zstd" {
		return true, nil
	}
	start, err := r.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return false, err
	}
	var h zstd.Header
	if err := h.Decode(start); err != nil {
		return false, nil // what is wrong with it comes out when it is read
	}
	return !h.Skippable && h.DictionaryID == 0 && h.WindowSize <= portableWindow, nil
}

// sniff tells the compression by the first 16 bytes of the data. Short magics are checked together
// with what has to follow them, since an uncompressed tar begins with a file name.
func sniff(start []byte) Compression {
	var none Compression
	for _, c := range Compressions {
		found := bytes.HasPrefix(start, c.Magic)
		switch c.Name {
		case "none":
			none = c
			continue
		case "zstd":
			found = found || isSkippableFrame(start)
		case "bzip2":
			found = found && isBzip2Block(start[len(c.Magic):])
		}
		if found {
			return c
		}
	}
	return none
}

// isSkippableFrame reports whether a zstd stream begins with data for other programs (RFC 8878,
// section 3.1.2).
func isSkippableFrame(start []byte) bool {
	return len(start) >= 4 && binary.LittleEndian.Uint32(start)&^0xf == 0x184d2a50
}

// isBzip2Block reports whether b, which follows "BZh", is a level and the magic of a block or of
// the stream's end.
func isBzip2Block(b []byte) bool {
	return len(b) > 0 && '1' <= b[0] && b[0] <= '9' &&
		(bytes.HasPrefix(b[1:], []byte("1AY&SY")) || bytes.HasPrefix(b[1:], []byte("\x17\x72\x45\x38\x50\x90")))
}

// noEOF makes an end where none should be an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func newZstdReader(r io.Reader) (io.ReadCloser, error) {
	// The decoder holds short sources of known length in memory at once, which bufio hides from it.
	d, err := zstd.NewReader(bufio.NewReader(r), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// newZstdWriter compresses in parallel, in frames that do not refer to each other.
func newZstdWriter(w io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
	return newBlockWriter(w, blockCoding{size: zstdBlock, newCoder: newZstdCoder}, taps...), nil
}

// zstdCoder makes a frame of each block.
type zstdCoder struct{ enc *zstd.Encoder }

func newZstdCoder() (blockCoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithZeroFrames(true), zstd.WithWindowSize(zstdBlock), zstd.WithLowerEncoderMem(true))
	return zstdCoder{enc}, err
}

// code implements blockCoder. A stream of nothing is one empty frame.
func (c zstdCoder) code(dst []byte, b *codedBlock) ([]byte, error) {
	if len(b.data()) == 0 && !b.first {
		return dst, nil
	}
	if n := len(b.data()); n == zstdBlock {
		dst = slices.Grow(dst, c.enc.MaxEncodedSize(n)) // once: the memory is used again
	}
	return c.enc.EncodeAll(b.data(), dst), nil
}
