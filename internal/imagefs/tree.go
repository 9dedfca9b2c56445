package imagefs

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/snapshot"
)

// Snapshot makes sure that drv has the tree of an image, and returns its name, the chain ID; "" for
// an image without layers. For a driver whose trees share nothing with their parents, only the
// whole image is kept, and no tree of some of its layers.
func (s Store) Snapshot(ctx context.Context, drv snapshot.Driver, img image.Image, o layer.UnpackOptions) (string, error) {
	layoutDir, err := filepath.Abs(s.Layout.Dir())
	if err == nil {
		err = s.Cache.AddLayout(layoutDir) // whose tags are what the snapshot is of
	}
	if err != nil {
		return "", err
	}
	chain := image.ChainIDs(img.Config.RootFS.DiffIDs)
	from := len(chain)
	for from > 0 && !drv.Has(string(chain[from-1])) {
		from--
	}
	for i, desc := range img.Manifest.Layers[:from] {
		if err := s.check(ctx, Layer{desc, img.Config.RootFS.DiffIDs[i]}); err != nil {
			return "", err
		}
	}
	copier, _ := drv.(snapshot.Copier)
	for from < len(chain) {
		to := from + 1
		if copier != nil && copier.Copies() {
			to = len(chain)
		}
		parent := ""
		if from > 0 {
			parent = string(chain[from-1])
		}
		var layers []Layer
		for i := from; i < to; i++ {
			layers = append(layers, Layer{img.Manifest.Layers[i], img.Config.RootFS.DiffIDs[i]})
		}
		if err := s.Unpack(ctx, drv, parent, string(chain[to-1]), layers, o, nil); err != nil {
			return "", err
		}
		from = to
	}
	if len(chain) == 0 {
		return "", nil
	}
	return string(chain[len(chain)-1]), nil
}

// Layer is a blob of a layer, and what it is when it is decompressed.
type Layer struct {
	Descriptor v1.Descriptor
	DiffID     digest.Digest
}

func (l Layer) blob(context.Context) (v1.Descriptor, error) { return l.Descriptor, nil }

// Unpack makes the snapshot name of the snapshot parent ("": of nothing) and of layers on it. A
// layer whose content is not what the config of its image says is refused: the snapshot would stand
// for another tree, in every later build. wrap is as in OpenLayer.
func (s Store) Unpack(ctx context.Context, drv snapshot.Driver, parent, name string, layers []Layer, o layer.UnpackOptions, wrap func(io.Reader) io.Reader) error {
	tree, err := drv.New(ctx, parent)
	if err != nil {
		return err
	}
	defer tree.Close()
	for _, l := range layers {
		if err := s.unpackVouched(ctx, tree.Dir(), l, o, wrap); err != nil {
			return &LayerError{l.Descriptor.Digest, err}
		}
	}
	return tree.Commit(ctx, name)
}

// unpackVouched is unpack of a layer of the layout, for which it vouches then.
func (s Store) unpackVouched(ctx context.Context, dir string, l Layer, o layer.UnpackOptions, wrap func(io.Reader) io.Reader) error {
	r, err := s.OpenLayer(l.Descriptor, wrap)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := unpack(ctx, dir, r, l, o); err != nil {
		return err
	}
	s.Vouch(l)
	return nil
}

// UnpackInto unpacks all layers of an image into the empty folder dir. It needs no cache. The error
// is a *LayerError.
func (s Store) UnpackInto(ctx context.Context, dir string, img image.Image, o layer.UnpackOptions) error {
	for i, desc := range img.Manifest.Layers {
		if err := s.unpackAhead(ctx, dir, Layer{desc, img.Config.RootFS.DiffIDs[i]}, o); err != nil {
			return &LayerError{desc.Digest, err}
		}
	}
	return nil
}

// unpackAhead is unpack with four things going on at once: reading and hashing what is stored,
// decompressing it, hashing that, and unpacking it.
func (s Store) unpackAhead(ctx context.Context, dir string, l Layer, o layer.UnpackOptions) error {
	var ahead io.Closer
	r, err := s.openLayer(l.Descriptor, func(stored io.Reader) io.Reader {
		blocks := layer.ReadAhead(stored)
		ahead = blocks
		return blocks
	}, "")
	if ahead != nil {
		defer ahead.Close()
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return unpack(ctx, dir, r, l, o)
}

// LayerError says why a layer could not be unpacked.
type LayerError struct {
	Digest digest.Digest // of its blob
	Err    error
}

func (e *LayerError) Error() string { return fmt.Sprintf("unpack layer %s: %v", e.Digest, e.Err) }
func (e *LayerError) Unwrap() error { return e.Err }

// ContentError says that a layer is not what the config of its image says.
type ContentError struct{ DiffID digest.Digest }

func (e *ContentError) Error() string {
	return fmt.Sprintf("its content is not %s as the config says", e.DiffID)
}

// unpack applies a layer, which was opened, to the folder dir, and holds its bytes against both of
// its digests.
func unpack(ctx context.Context, dir string, r io.Reader, l Layer, o layer.UnpackOptions) error {
	c, err := layer.CompressionByMediaType(l.Descriptor.MediaType)
	if err != nil {
		return err
	}
	if c.Name == "none" && l.Descriptor.Digest == l.DiffID { // one and the same digest, which is checked at the end of r
		if err := layer.Unpack(ctx, dir, r, o); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, r)
		return err
	}
	sum := l.DiffID.Verifier()
	tar := layer.TeeAhead(r, sum)
	defer tar.Close()
	if err := layer.Unpack(ctx, dir, tar, o); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tar); err != nil { // to the end, where the digests are checked
		return err
	}
	if !sum.Verified() {
		return &ContentError{l.DiffID}
	}
	return nil
}
