package imagefs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
)

// Check makes sure that each blob of an image holds the layer that the config says. Indexes, trees
// and results of steps are known by DiffIDs: without it they would vouch for a blob that nobody has
// looked into, of an image that another tool wrote. A blob is read once; that it was is kept with
// the indexes. Left out are blobs that were read and are not there any more, layers that layouts
// need not hold and that are not there, and encrypted ones.
func (s Store) Check(ctx context.Context, img image.Image) error {
	for i, desc := range img.Manifest.Layers {
		if err := s.check(ctx, Layer{desc, img.Config.RootFS.DiffIDs[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (s Store) check(ctx context.Context, l Layer) error {
	there := s.Layout.Has(l.Descriptor)
	switch {
	case there && s.vouched(l), !there && s.isGone(l) && s.vouched(l):
		return nil
	case !there && image.IsForeign(l.Descriptor.MediaType), strings.Contains(l.Descriptor.MediaType, "+encrypted"):
		return nil
	case !s.HasTOC(l.DiffID):
		_, err := s.TOC(ctx, l.DiffID, l.blob)
		return err
	}
	r, err := s.OpenLayer(l.Descriptor, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	sum := l.DiffID.Algorithm().Hash()
	tar := layer.TeeAhead(r, sum)
	defer tar.Close()
	if _, err := io.Copy(contextWriter{ctx}, tar); err != nil {
		return fmt.Errorf("layer %s: %w", l.Descriptor.Digest, err)
	}
	if err := l.holds(digest.NewDigest(l.DiffID.Algorithm(), sum)); err != nil {
		return err
	}
	s.Vouch(l)
	return nil
}

// holds returns an error where the content of a layer has another digest than the config says.
func (l Layer) holds(got digest.Digest) error {
	if got != l.DiffID {
		return fmt.Errorf("layer %s: its content is %s, and not %s as the config says", l.Descriptor.Digest, got, l.DiffID)
	}
	return nil
}

// Vouch notes that the blob of a layer holds what its DiffID says, since that was seen. Where it
// cannot be noted, the blob is read again.
func (s Store) Vouch(l Layer) {
	path, ok := s.notePath(l)
	if !ok {
		return
	}
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	}
}

// vouched reports whether Vouch noted the layer.
func (s Store) vouched(l Layer) bool {
	path, ok := s.notePath(l)
	if ok {
		_, err := os.Lstat(path)
		ok = err == nil
	}
	return ok
}

// isGone reports whether the layout has no such blob. One of a layer for builds only never was
// there, and has another name.
func (s Store) isGone(l Layer) bool {
	f, err := s.Layout.Blob(l.Descriptor.Digest)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, layout.ErrNotExist)
}

// notePath is where it is noted that the blob of a layer, read as its media type says, is what its
// DiffID says: beside the index, under its name and digits that stand for the blob.
func (s Store) notePath(l Layer) (string, bool) {
	c, err := layer.CompressionByMediaType(l.Descriptor.MediaType)
	if err != nil {
		return "", false
	}
	dir, err := s.Cache.Dir(cache.TOCDir)
	blob := sha256.Sum256([]byte(l.Descriptor.Digest.String() + " " + c.Name))
	return filepath.Join(dir, l.DiffID.Encoded()+"-"+hex.EncodeToString(blob[:16])), err == nil
}

// contextWriter takes what is written to it until ctx ends.
type contextWriter struct{ ctx context.Context }

// Write implements io.Writer.
func (w contextWriter) Write(p []byte) (int, error) { return len(p), w.ctx.Err() }
