package image

import (
	"encoding/json"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types (distribution, docs/spec/manifest-v2-2.md).
const (
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList      = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig    = "application/vnd.docker.container.image.v1+json"
	dockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"

	dockerForeign     = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	dockerForeignGzip = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// IsManifest reports whether mediaType is that of a manifest with a config and layers: OCI or
// docker schema 2.
func IsManifest(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == dockerManifest
}

// IsIndex reports whether mediaType is that of a list of manifests: an OCI image index or a docker
// manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == v1.MediaTypeImageIndex || mediaType == dockerList
}

// IsForeign reports whether mediaType is that of a layer that layouts and registries need not hold,
// because it is fetched from the URLs of its descriptor.
func IsForeign(mediaType string) bool {
	switch mediaType {
	case dockerForeign, dockerForeignGzip,
		v1.MediaTypeImageLayerNonDistributable,     //nolint:staticcheck // deprecated, but bases have it
		v1.MediaTypeImageLayerNonDistributableGzip, //nolint:staticcheck // the same
		v1.MediaTypeImageLayerNonDistributableZstd: //nolint:staticcheck // the same
		return true
	}
	return false
}

// IsConfig reports whether mediaType is that of an image's config. Manifests with another are
// artifacts, not images.
func IsConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == dockerConfig
}

// MediaType tells what a JSON blob is from itself: by its field mediaType, else by the fields that
// only an index or only a manifest has. It returns "" for anything else.
func MediaType(data []byte) string {
	var blob struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
	}
	switch err := json.Unmarshal(data, &blob); {
	case err != nil:
		return ""
	case blob.MediaType != "":
		return blob.MediaType
	case blob.Manifests != nil:
		return v1.MediaTypeImageIndex
	case blob.Layers != nil:
		return v1.MediaTypeImageManifest
	}
	return ""
}

// ociLayer returns the OCI media type of a layer. Only docker's ordinary ones have another name in
// OCI.
func ociLayer(mediaType string) string {
	switch mediaType {
	case dockerLayer:
		return v1.MediaTypeImageLayer
	case dockerLayerGzip:
		return v1.MediaTypeImageLayerGzip
	case dockerLayerZstd:
		return v1.MediaTypeImageLayerZstd
	}
	return mediaType
}
