package layout

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// WriteImage writes config and manifest of img as blobs, and returns it with their descriptors. No
// tag is moved. What image.Marshal refuses is an error.
func (l *Layout) WriteImage(img image.Image) (image.Image, error) {
	config, manifest, desc, err := image.Marshal(img)
	if err != nil {
		return img, err
	}
	img.Descriptor = desc
	img.Manifest.Config.Digest, img.Manifest.Config.Size = digest.FromBytes(config), int64(len(config))
	if err := l.put(config, img.Manifest.Config); err != nil {
		return img, err
	}
	return img, l.put(manifest, desc)
}

// Image reads the image that ref names: a tag, or a digest (sha256:...) in full or of at least 6
// digits where it is unique. Of a multi-platform index, the image for platform is taken (zero: this
// machine's); an image that stands alone is taken for whatever platform it is. Manifest and config
// are verified. Errors wrap ErrNotExist where something is missing, and name near tags; ErrNoImage
// or image.ErrNotImage where ref names something else than an image.
func (l *Layout) Image(ref string, platform v1.Platform) (image.Image, error) {
	desc, err := l.resolve(ref)
	if err != nil {
		return image.Image{}, err
	}
	img, err := l.ImageAt(desc, platform)
	if err != nil {
		return image.Image{}, fmt.Errorf("image %s: %w", ref, err)
	}
	return img, nil
}

// ImageAt is Image for a descriptor out of index.json, so that of many tags each is read without
// looking for it.
func (l *Layout) ImageAt(desc v1.Descriptor, platform v1.Platform) (image.Image, error) {
	if platform.OS == "" && platform.Architecture == "" {
		platform = image.Host()
	}
	s := search{l: l, platform: platform, seen: map[claim]bool{}}
	return s.load(desc, 0)
}

// Describe returns the descriptor of what ref names, as Image takes it: of a tag the entry of
// index.json, and of a digest that of the manifest, index or other blob. The error wraps
// ErrNotExist where it is missing.
func (l *Layout) Describe(ref string) (v1.Descriptor, error) {
	desc, err := l.resolve(ref)
	if err != nil || desc.MediaType != "" {
		return desc, err
	}
	data, err := l.read(desc)
	if err != nil {
		return desc, err
	}
	if desc.MediaType = image.MediaType(data); !leads(desc.MediaType) {
		return desc, fmt.Errorf("blob %s: neither a manifest nor an index, %w", desc.Digest, image.ErrNotImage)
	}
	return desc, nil
}

// resolve finds what ref names.
func (l *Layout) resolve(ref string) (v1.Descriptor, error) {
	tags, err := l.Tags()
	if err != nil {
		return v1.Descriptor{}, err
	}
	names := make([]string, len(tags))
	for i, t := range tags {
		if t.Name == ref {
			return t.Descriptor, nil
		}
		names[i] = t.Name
	}
	if digits, ok := strings.CutPrefix(ref, digest.Canonical.String()+":"); ok && len(digits) >= minDigits {
		return l.resolveDigest(ref)
	}
	return v1.Descriptor{}, fmt.Errorf("tag %q %w in %s%s", ref, ErrNotExist, l.dir, didYouMean(ref, names))
}

// minDigits is how much of a digest must be given to name a blob.
const minDigits = 6

// resolveDigest finds the one blob whose digest begins with prefix. Of its descriptor, the media
// type is left out.
func (l *Layout) resolveDigest(prefix string) (v1.Descriptor, error) {
	if d := digest.Digest(prefix); image.CheckDigest(d) == nil {
		all, err := l.describe([]digest.Digest{d})
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("digest %s %w in %s", prefix, ErrNotExist, l.dir)
		}
		if err != nil {
			return v1.Descriptor{}, err
		}
		return all[0], nil
	}
	var found []v1.Descriptor
	for desc, err := range l.Blobs() {
		if err != nil {
			return v1.Descriptor{}, err
		}
		if strings.HasPrefix(desc.Digest.String(), prefix) {
			found = append(found, desc)
		}
	}
	switch len(found) {
	case 0:
		return v1.Descriptor{}, fmt.Errorf("digest %s %w in %s", prefix, ErrNotExist, l.dir)
	case 1:
		return found[0], nil
	}
	return v1.Descriptor{}, fmt.Errorf("digest %s: not unique in %s: %s, %s", prefix, l.dir, found[0].Digest, found[1].Digest)
}

// maxDepth bounds how deep indexes may lie in each other. More than two is not seen in practice.
const maxDepth = 8

// ErrNoImage is wrapped by the errors about an index that has no image for a platform. It wraps
// ErrNotExist.
var ErrNoImage = fmt.Errorf("image %w in the index", ErrNotExist)

// unknownOS is the operating system that builders give to what is no image in an index, as
// attestations.
const unknownOS = "unknown"

// search is for the image of a platform.
type search struct {
	l        *Layout
	platform v1.Platform
	seen     map[claim]bool // blobs that were looked into because they do not say their platform, in vain; without media types
}

// load reads the image that desc leads to.
func (s search) load(desc v1.Descriptor, depth int) (image.Image, error) {
	data, err := s.l.read(desc)
	if err != nil {
		return image.Image{}, err
	}
	switch mediaType := image.MediaType(data); {
	case mediaType == "":
		return image.Image{}, fmt.Errorf("blob %s: neither a manifest nor an index, %w", desc.Digest, image.ErrNotImage)
	case mediaType == artifactManifest:
		return image.Image{}, fmt.Errorf("manifest: an artifact (%s), %w", mediaType, image.ErrNotImage)
	case image.IsIndex(mediaType):
		return s.choose(data, depth+1)
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		return image.Image{}, err
	}
	config, err := s.l.read(m.Config)
	if err != nil {
		return image.Image{}, fmt.Errorf("config: %w", err)
	}
	img, err := image.WithConfig(m, data, config)
	img.Descriptor.Digest = desc.Digest // the same content, perhaps by another algorithm
	return img, err
}

// choose reads the image for the platform from an index. Entries that do not say theirs are looked
// into, each blob once: a few small indexes, each with many entries for the next, name more than
// could ever be read.
func (s search) choose(index []byte, depth int) (image.Image, error) {
	x, err := image.ParseIndex(index)
	if err != nil {
		return image.Image{}, err
	}
	if depth > maxDepth {
		return image.Image{}, errors.New("the indexes are nested too deeply")
	}
	if desc, ok := image.Match(x.Manifests, s.platform); ok {
		return s.load(desc, depth)
	}
	var has []string
	var others error
	for _, desc := range x.Manifests {
		if desc.Platform != nil {
			if desc.Platform.OS != unknownOS {
				has = append(has, image.FormatPlatform(*desc.Platform))
			}
			continue
		}
		c := claim{digest: desc.Digest, size: desc.Size}
		if s.seen[c] {
			continue
		}
		s.seen[c] = true
		img, err := s.load(desc, depth)
		switch {
		case errors.Is(err, image.ErrNotImage):
		case err != nil:
			others = errors.Join(others, err)
		case image.Runs(img.Config.Platform, s.platform):
			return img, nil
		default:
			has = append(has, image.FormatPlatform(img.Config.Platform))
		}
	}
	switch {
	case len(has) == 0 && others != nil:
		return image.Image{}, others
	case len(has) == 0:
		return image.Image{}, ErrNoImage
	}
	return image.Image{}, fmt.Errorf("%w for %s, only for %s", ErrNoImage, image.FormatPlatform(s.platform), strings.Join(has, ", "))
}
