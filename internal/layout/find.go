package layout

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// Find opens the layout that ref names an image of, and reads that image for platform. ref is
// DIR:TAG, DIR@DIGEST or DIR:TAG@DIGEST, and abs makes an absolute path of DIR. Folders and tags
// may both hold colons: as with containers-transports(5), the first colon ends the folder, unless
// there is no layout and a longer folder has one. The layout is due to be closed. Errors wrap
// ErrNotExist where something is missing.
func Find(ref string, abs func(dir string) string, platform v1.Platform) (*Layout, image.Image, error) {
	named, hash, pinned := strings.Cut(ref, "@"+digest.Canonical.String()+":")
	l, tag, err := openNamed(named, pinned, abs)
	if err != nil {
		return nil, image.Image{}, err
	}
	img, err := l.imageOf(tag, hash, platform)
	if err != nil {
		l.Close()
		return nil, image.Image{}, err
	}
	return l, img, nil
}

// openNamed opens the layout of DIR:TAG, or of DIR alone where the tag may be left out.
func openNamed(ref string, tagless bool, abs func(dir string) string) (*Layout, string, error) {
	var first error
	for i := range len(ref) + 1 {
		if i < len(ref) && ref[i] != ':' || i == 0 || i == len(ref) && !tagless {
			continue
		}
		dir, tag := ref[:i], strings.TrimPrefix(ref[i:], ":")
		if tag == "" && i < len(ref) {
			continue
		}
		l, err := Open(abs(dir))
		if err == nil {
			return l, tag, nil
		}
		if first == nil || errors.Is(first, ErrNotExist) && !errors.Is(err, ErrNotExist) {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("%q is not an image of a layout: expected DIR:TAG or DIR@DIGEST", ref)
	}
	return nil, "", first
}

// imageOf reads the image that a tag or the digits of a digest name, or both.
func (l *Layout) imageOf(tag, hash string, platform v1.Platform) (image.Image, error) {
	if hash == "" {
		return l.Image(tag, platform)
	}
	want := digest.NewDigestFromEncoded(digest.Canonical, hash)
	if err := want.Validate(); err != nil {
		return image.Image{}, fmt.Errorf("digest %s: %w", want, err)
	}
	if tag != "" {
		desc, err := l.resolve(tag)
		if err != nil {
			return image.Image{}, err
		}
		if desc.Digest != want {
			return image.Image{}, fmt.Errorf("tag %q in %s is %s, not %s", tag, l.dir, desc.Digest, want)
		}
	}
	return l.Image(want.String(), platform)
}
