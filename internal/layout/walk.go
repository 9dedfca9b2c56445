package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// algorithms returns the digest algorithms whose blobs genoci can check.
func algorithms() []digest.Algorithm {
	return []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}
}

// Blobs yields digest and size of all blobs that are there, sorted. Files with other names are left
// alone.
func (l *Layout) Blobs() iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		for _, algorithm := range algorithms() {
			dir := l.path(v1.ImageBlobsDir, algorithm.String())
			files, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				yield(v1.Descriptor{}, err)
				return
			}
			for _, file := range files {
				d := digest.NewDigestFromEncoded(algorithm, file.Name())
				if image.CheckDigest(d) != nil {
					continue
				}
				st, err := os.Stat(dir + string(filepath.Separator) + file.Name())
				if err != nil || !st.Mode().IsRegular() { // removed meanwhile, a dangling link, no blob
					continue
				}
				if !yield(v1.Descriptor{Digest: d, Size: st.Size()}, nil) {
					return
				}
			}
		}
	}
}

// walker follows descriptors through indexes and manifests.
type walker struct {
	l    *Layout
	seen map[claim]bool

	// visit is called once for each claim. For what leads to other blobs, data is its content, or
	// err says why it cannot be read; it wraps ErrNotExist where the blob is missing.
	visit func(desc v1.Descriptor, data []byte, err error)
}

// claim is what a descriptor says of a blob. Two that contradict each other are both followed.
type claim struct {
	mediaType string
	digest    digest.Digest
	size      int64
}

func claimOf(desc v1.Descriptor) claim { return claim{desc.MediaType, desc.Digest, desc.Size} }

// walk visits desc and all that it leads to: manifests, configs, layers and subjects.
func (w *walker) walk(ctx context.Context, desc v1.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := claimOf(desc)
	if w.seen[c] {
		return nil
	}
	w.seen[c] = true
	if !leads(desc.MediaType) {
		w.visit(desc, nil, nil)
		return nil
	}
	data, err := w.l.read(desc)
	if err != nil {
		w.visit(desc, nil, err)
		return nil
	}
	next, err := links(data)
	if err != nil {
		w.visit(desc, nil, fmt.Errorf("blob %s: %w", desc.Digest, err))
		return nil
	}
	w.visit(desc, data, nil)
	for _, d := range next {
		if err := w.walk(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// artifactManifest is a media type of image-spec v1.1.0-rc2, withdrawn before v1.1, that registries
// and layouts still hold.
const artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// leads reports whether blobs of the media type name other blobs.
func leads(mediaType string) bool {
	return image.IsIndex(mediaType) || image.IsManifest(mediaType) || mediaType == artifactManifest
}

// links returns the descriptors in an index or a manifest.
func links(data []byte) ([]v1.Descriptor, error) {
	if m, ok := plainManifest(data); ok {
		return append([]v1.Descriptor{m.Config}, m.Layers...), nil
	}
	var blob struct {
		Subject   *v1.Descriptor  `json:"subject"`
		Config    *v1.Descriptor  `json:"config"`
		Manifests []v1.Descriptor `json:"manifests"`
		Layers    []v1.Descriptor `json:"layers"`
		Blobs     []v1.Descriptor `json:"blobs"` // of an artifact manifest
	}
	if err := image.Unmarshal(data, &blob); err != nil {
		return nil, err
	}
	var all []v1.Descriptor
	for _, d := range []*v1.Descriptor{blob.Subject, blob.Config} {
		if d != nil {
			all = append(all, *d)
		}
	}
	all = append(all, blob.Manifests...)
	all = append(all, blob.Layers...)
	return append(all, blob.Blobs...), nil
}
