// Package imagetest makes small images for tests.
package imagetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// Linux is the platform of most images in tests.
var Linux = v1.Platform{OS: "linux", Architecture: "amd64"}

// Member is an entry of a tar. [Tar] sets its size.
type Member struct {
	tar.Header
	Body string
}

// File returns a regular file.
func File(name, body string) Member {
	return Member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Format: tar.FormatPAX}, body}
}

// Dir returns a folder.
func Dir(name string) Member {
	return Member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

// Link returns a symbolic link.
func Link(name, target string) Member {
	return Member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

// HardLink returns another name of a member that comes before it, or of a file in a lower layer.
func HardLink(name, target string) Member {
	return Member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

// Tar returns an archive of the members. It panics where archive/tar refuses one: the test is
// wrong.
func Tar(members ...Member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.Body))
		err := w.WriteHeader(&m.Header)
		if err == nil {
			_, err = io.WriteString(w, m.Body)
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Layer is a layer of an image.
type Layer struct {
	Tar       []byte
	MediaType string // "" is that of a layer that is not compressed
	// Compress compresses what is written to w; nil leaves it as it is.
	Compress  func(w io.Writer) (io.WriteCloser, error)
	DiffID    digest.Digest // "" is that of Tar
	CreatedBy string
}

// Blob is what a layout gives to those who store something.
type Blob interface {
	io.WriteCloser
	Commit(mediaType string) (v1.Descriptor, error)
}

// Layout is what Write needs of a layout. It is an interface, so that the tests of package layout
// can call Write.
type Layout[B Blob] interface {
	NewBlob() (B, error)
	WriteImage(image.Image) (image.Image, error)
}

// Write stores an image of the layers in l. No tag names it.
func Write[B Blob](l Layout[B], platform v1.Platform, layers ...Layer) (image.Image, error) {
	e := image.Extension{Platform: platform}
	for _, layer := range layers {
		desc, err := store(l, layer)
		if err != nil {
			return image.Image{}, err
		}
		diffID := layer.DiffID
		if diffID == "" {
			diffID = digest.FromBytes(layer.Tar)
		}
		e.Layers = append(e.Layers, image.Layer{Descriptor: desc, DiffID: diffID, CreatedBy: layer.CreatedBy})
	}
	return l.WriteImage(image.Extend(image.Image{}, e))
}

// store stores the blob of one layer.
func store[B Blob](l Layout[B], layer Layer) (v1.Descriptor, error) {
	blob, err := l.NewBlob()
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer blob.Close()
	mediaType, compress := layer.MediaType, layer.Compress
	if mediaType == "" {
		mediaType = v1.MediaTypeImageLayer
	}
	if compress == nil {
		compress = func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil }
	}
	w, err := compress(blob)
	if err != nil {
		return v1.Descriptor{}, err
	}
	_, err = w.Write(layer.Tar)
	if err := errors.Join(err, w.Close()); err != nil {
		return v1.Descriptor{}, err
	}
	return blob.Commit(mediaType)
}

// plain is a compression that does nothing.
type plain struct{ w io.Writer }

// Write implements io.Writer.
func (p plain) Write(b []byte) (int, error) { return p.w.Write(b) }

// Close does nothing.
func (plain) Close() error { return nil }
