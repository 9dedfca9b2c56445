package layout

import (
	"encoding/json"
	"errors"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// Kind is what an entry of index.json is.
type Kind string

// The kinds of entries.
const (
	KindImage    Kind = "image"
	KindIndex    Kind = "index"    // of images for several platforms, and what goes with them
	KindArtifact Kind = "artifact" // a manifest of something else, as an SBOM or a signature (image-spec v1.1, manifest.md)
	KindBlob     Kind = "blob"     // anything else
)

// Summary is what a list of images shows of an entry of index.json.
type Summary struct {
	Kind         Kind
	ArtifactType string     // of an artifact; of a blob, its media type
	Created      *time.Time // nil where nothing says it
	Size         int64      // of the manifest and all that it names; of an index, of the image for the platform
	Layers       int        // of that image; of an artifact, its parts
	Image        bool       // there is an image for the platform
}

// listed is what a list needs of a manifest, an index, or an artifact manifest.
type listed struct {
	MediaType    string
	ArtifactType string
	Config       *v1.Descriptor
	Layers       []part
	Blobs        []part // of an artifact manifest
	FSLayers     []json.RawMessage
	Manifests    json.RawMessage
	Annotations  map[string]string
}

type part struct{ Size int64 }

// list parses what a list needs of a manifest or an index.
func list(data []byte) (listed, error) {
	if p, ok := plainManifest(data); ok {
		m := listed{MediaType: p.MediaType, Config: &p.Config, Layers: make([]part, len(p.Layers)), Annotations: p.Annotations}
		for i, d := range p.Layers {
			m.Layers[i].Size = d.Size
		}
		return m, nil
	}
	var m listed
	err := json.Unmarshal(data, &m)
	return m, err
}

// createdIn returns the time at which a config says that its image was made; nil where it says
// none.
func createdIn(config []byte) (*time.Time, error) {
	if created, ok := plainCreated(config); ok {
		return created, nil
	}
	var c struct{ Created *time.Time }
	err := json.Unmarshal(config, &c)
	return c.Created, err
}

// of returns the summary with what it says of the image of an index.
func (s Summary) of(img image.Image) Summary {
	s.Created, s.Layers = img.Config.Created, len(img.Manifest.Layers)
	s.Size = img.Descriptor.Size + img.Manifest.Config.Size
	for _, d := range img.Manifest.Layers {
		s.Size += d.Size
	}
	return s
}

// Summarize describes what desc, out of index.json, leads to; of an index, with the image for
// platform (zero: this machine's). Digests are checked. Of manifests and configs only what the
// summary has is read, so that many are listed in a moment: what is wrong with the rest is for
// Image and Verify to tell. The error wraps ErrNotExist where a manifest or a config is missing.
func (l *Layout) Summarize(desc v1.Descriptor, platform v1.Platform) (Summary, error) {
	if desc.Size > maxJSON && !leads(desc.MediaType) {
		f, err := l.Blob(desc.Digest)
		if err == nil {
			err = f.Close()
		}
		return Summary{Kind: KindBlob, ArtifactType: desc.MediaType, Size: desc.Size}, err
	}
	data, err := l.read(desc)
	if err != nil {
		return Summary{}, err
	}
	m, err := list(data)
	if err != nil {
		if leads(desc.MediaType) {
			return Summary{}, err
		}
		m = listed{} // not JSON, or other JSON
	}
	mediaType := m.MediaType
	switch {
	case mediaType != "":
	case m.Manifests != nil:
		mediaType = v1.MediaTypeImageIndex
	case m.Layers != nil && m.FSLayers == nil:
		mediaType = v1.MediaTypeImageManifest
	default:
		mediaType = desc.MediaType
	}
	s := Summary{Size: desc.Size}
	switch {
	case image.IsIndex(mediaType):
		s.Kind = KindIndex
		img, err := l.ImageAt(desc, platform)
		if errors.Is(err, ErrNotExist) { // no image for this machine, or not all of the index is here
			return s, nil
		}
		s.Image = err == nil
		return s.of(img), err
	case image.IsManifest(mediaType) && m.Config != nil && image.IsConfig(m.Config.MediaType):
		s.Kind, s.Image = KindImage, true
		config, err := l.read(*m.Config)
		if err != nil {
			return s, err
		}
		if s.Created, err = createdIn(config); err != nil {
			return s, err
		}
	case image.IsManifest(mediaType) && m.Config != nil, mediaType == artifactManifest:
		s.Kind, s.ArtifactType = KindArtifact, m.ArtifactType
		if s.ArtifactType == "" && m.Config != nil {
			s.ArtifactType = m.Config.MediaType
		}
		if t, err := time.Parse(time.RFC3339, m.Annotations[v1.AnnotationCreated]); err == nil {
			s.Created = &t
		}
	default:
		s.Kind, s.ArtifactType = KindBlob, mediaType
		return s, nil
	}
	if m.Config != nil {
		s.Size += m.Config.Size
	}
	for _, parts := range [][]part{m.Layers, m.Blobs} {
		for _, p := range parts {
			s.Size += p.Size
			s.Layers++
		}
	}
	return s, nil
}
