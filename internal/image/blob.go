package image

import (
	"cmp"
	// Descriptors may name blobs by either; go-digest only knows what is linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotImage is wrapped by the errors about what is there, and is something else than an image.
var ErrNotImage = errors.New("not an image")

// Marshal returns the bytes of the config blob and of the manifest blob that names it, with the
// manifest's descriptor. They depend on img alone: fields in fixed order, maps sorted, no added
// space. An image that Parse would refuse, or that has no architecture or operating system, is an
// error.
func Marshal(img Image) (config, manifest []byte, desc v1.Descriptor, err error) {
	m, c := img.Manifest, img.Config
	m.SchemaVersion = 2
	if m.MediaType == "" {
		m.MediaType = v1.MediaTypeImageManifest
	}
	if m.Layers == nil {
		m.Layers = []v1.Descriptor{}
	}
	if c.RootFS.Type == "" {
		c.RootFS.Type = "layers"
	}
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{}
	}
	if c.Architecture == "" || c.OS == "" {
		return nil, nil, desc, errors.New("config: architecture and os must be set")
	}
	if config, err = encode(&c); err != nil {
		return nil, nil, desc, fmt.Errorf("config: %w", err)
	}
	mediaType := m.Config.MediaType
	if mediaType == "" {
		mediaType = v1.MediaTypeImageConfig
	}
	m.Config = describe(mediaType, config)
	if err := check(m, c); err != nil {
		return nil, nil, desc, err
	}
	if manifest, err = encode(m); err != nil {
		return nil, nil, desc, fmt.Errorf("manifest: %w", err)
	}
	return config, manifest, describe(m.MediaType, manifest), nil
}

// describe returns the descriptor of a blob.
func describe(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// Parse reads a manifest (OCI or docker schema 2) and its config. Errors say what is wrong with
// which field; size and digest of the config are held against the manifest, and counts of layers,
// diff IDs and history against each other.
func Parse(manifest, config []byte) (Image, error) {
	m, err := ParseManifest(manifest)
	if err != nil {
		return Image{}, err
	}
	return WithConfig(m, manifest, config)
}

// WithConfig is Parse for a manifest that ParseManifest has read as m.
func WithConfig(m v1.Manifest, manifest, config []byte) (Image, error) {
	if err := matches(config, m.Config); err != nil {
		return Image{}, fmt.Errorf("config: %w", err)
	}
	img := Image{Descriptor: describe(m.MediaType, manifest), Manifest: m}
	if err := Unmarshal(config, &img.Config); err != nil {
		return Image{}, fmt.Errorf("config: %w", err)
	}
	return img, check(m, img.Config)
}

// ParseManifest reads the manifest of an image (OCI or docker schema 2), without its config.
// Manifests of artifacts that are no images are refused: the error wraps ErrNotImage. A media type
// that the manifest leaves out is set.
func ParseManifest(data []byte) (v1.Manifest, error) {
	var m v1.Manifest
	var foreign struct {
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := unmarshalBoth(data, &m, &foreign); err != nil {
		return v1.Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = v1.MediaTypeImageManifest
	}
	switch {
	case foreign.FSLayers != nil || m.SchemaVersion == 1:
		return v1.Manifest{}, errors.New("manifest: docker schema 1 is not supported")
	case !IsManifest(m.MediaType):
		return v1.Manifest{}, fmt.Errorf("manifest: %q is not the media type of a manifest", m.MediaType)
	case m.SchemaVersion != 2:
		return v1.Manifest{}, fmt.Errorf("manifest: schemaVersion is %d, not 2", m.SchemaVersion)
	case foreign.Manifests != nil: // could be read as an index too: CVE-2021-41190
		return v1.Manifest{}, errors.New("manifest: it has the field manifests, which belongs to an index")
	}
	return m, checkManifest(m)
}

// ParseIndex reads an index of images: an OCI image index or a docker manifest list.
func ParseIndex(data []byte) (v1.Index, error) {
	var x v1.Index
	var foreign struct {
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := unmarshalBoth(data, &x, &foreign); err != nil {
		return v1.Index{}, fmt.Errorf("index: %w", err)
	}
	if x.MediaType == "" {
		x.MediaType = v1.MediaTypeImageIndex
	}
	switch {
	case !IsIndex(x.MediaType):
		return v1.Index{}, fmt.Errorf("index: %q is not the media type of an index", x.MediaType)
	case x.SchemaVersion != 2:
		return v1.Index{}, fmt.Errorf("index: schemaVersion is %d, not 2", x.SchemaVersion)
	case foreign.Config != nil || foreign.Layers != nil: // could be read as a manifest too: CVE-2021-41190
		return v1.Index{}, errors.New("index: it has the field config or layers, which belongs to a manifest")
	}
	for i, d := range x.Manifests {
		if err := checkDescriptor(d); err != nil {
			return v1.Index{}, fmt.Errorf("index: manifests[%d]: %w", i, err)
		}
	}
	return x, nil
}

// unmarshalBoth reads data as a, and then as b too.
func unmarshalBoth(data []byte, a, b any) error {
	if err := Unmarshal(data, a); err != nil {
		return err
	}
	return Unmarshal(data, b)
}

// matches reports how data differs from what d says of it.
func matches(data []byte, d v1.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if int64(len(data)) != d.Size {
		return fmt.Errorf("size is %d, not %d as the manifest says", len(data), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return fmt.Errorf("digest is %s, not %s as the manifest says", got, d.Digest)
	}
	return nil
}

// check holds a manifest and its config against the specification and each other.
func check(m v1.Manifest, c Config) error {
	if err := checkManifest(m); err != nil {
		return err
	}
	if c.RootFS.Type != "layers" {
		return fmt.Errorf("config: rootfs.type is %q, not %q", c.RootFS.Type, "layers")
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return fmt.Errorf("config: rootfs.diff_ids[%d]: %q: %w", i, d, err)
		}
	}
	if have, want := len(c.RootFS.DiffIDs), len(m.Layers); have != want {
		return fmt.Errorf("config: rootfs.diff_ids: %d entries, but the manifest has %d layers", have, want)
	}
	if have, want := layersIn(c.History), len(m.Layers); len(c.History) > 0 && have != want {
		return fmt.Errorf("config: history: %d entries with a layer, but the manifest has %d layers", have, want)
	}
	return nil
}

// layersIn counts the entries that stand for a layer.
func layersIn(history []v1.History) (n int) {
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

func checkManifest(m v1.Manifest) error {
	if m.Config.MediaType != "" && !IsConfig(m.Config.MediaType) {
		return fmt.Errorf("manifest: an artifact (%s), %w", cmp.Or(m.ArtifactType, m.Config.MediaType), ErrNotImage)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return fmt.Errorf("manifest: config: %w", err)
	}
	for i, d := range m.Layers {
		if err := checkDescriptor(d); err != nil {
			return fmt.Errorf("manifest: layers[%d]: %w", i, err)
		}
	}
	return nil
}

// checkDescriptor lets digests of unknown algorithms pass, as the specification asks for
// (descriptor.md, "Digests").
func checkDescriptor(d v1.Descriptor) error {
	if d.MediaType == "" {
		return errors.New("mediaType is missing")
	}
	if err := CheckDigest(d.Digest); err != nil && !errors.Is(err, digest.ErrDigestUnsupported) {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("size is %d", d.Size)
	}
	return nil
}

// CheckDigest is d.Validate, without its regular expressions for a SHA-256 that is well formed: a
// build looks at thousands.
func CheckDigest(d digest.Digest) error {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	if ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == "" {
		return nil
	}
	return d.Validate()
}
