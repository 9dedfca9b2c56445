package oracle

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/image-spec/schema"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// All documents are what the image-spec's JSON schemas say.
func TestSchemas(t *testing.T) {
	for _, j := range layouts(t) {
		for name, validator := range map[string]schema.Validator{
			"oci-layout": schema.ValidatorMediaTypeLayoutHeader,
			"index.json": schema.ValidatorMediaTypeImageIndex,
		} {
			data, err := os.ReadFile(filepath.Join(j.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := validator.Validate(bytes.NewReader(data)); err != nil {
				t.Errorf("%s: %v\n%s", name, err, data)
			}
		}
	}
	eachImage(t, func(t *testing.T, j judged, _ string, img image.Image) {
		manifest, config := blob(t, j.dir, img.Descriptor), blob(t, j.dir, img.Manifest.Config)
		if err := schema.ValidatorMediaTypeManifest.Validate(bytes.NewReader(manifest)); err != nil {
			t.Errorf("manifest: %v\n%s", err, manifest)
		}
		if err := schema.ValidatorMediaTypeImageConfig.Validate(bytes.NewReader(config)); err != nil {
			t.Errorf("config: %v\n%s", err, config)
		}
	})
}

// go-containerregistry finds all digests, sizes and DiffIDs right.
func TestGoContainerRegistry(t *testing.T) {
	eachImage(t, func(t *testing.T, j judged, _ string, img image.Image) {
		index, err := ggcrlayout.ImageIndexFromPath(j.dir)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := ggcr.NewHash(img.Descriptor.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := index.Image(hash)
		if err != nil {
			t.Fatal(err)
		}
		var options []validate.Option
		if !allGzip(img) {
			options = append(options, validate.Fast) // its full check takes every layer for gzip
		}
		if err := validate.Image(theirs, options...); err != nil {
			t.Error(err)
		}
		if _, err := theirs.ConfigFile(); err != nil {
			t.Error(err)
		}
	})
}

// allGzip reports whether all layers are compressed with gzip.
func allGzip(img image.Image) bool {
	return !slices.ContainsFunc(img.Manifest.Layers, func(d v1.Descriptor) bool { return !strings.HasSuffix(d.MediaType, "gzip") })
}
