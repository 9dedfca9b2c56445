package space

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Only leaves the images of some tags or digests, their blobs and their trees. Where one of the
// tags names no image, it leaves all, and returns that tag.
func (inv *Inventory) Only(tags []string) (unknown string, ok bool) {
	is := func(img Image, tag string) bool {
		isDigest := len(tag) >= len("sha256:123456") && strings.HasPrefix(string(img.Digest), tag)
		return isDigest || slices.Contains(img.Tags, tag)
	}
	for _, tag := range tags {
		if !slices.ContainsFunc(inv.Images, func(img Image) bool { return is(img, tag) }) {
			return tag, false
		}
	}
	inv.Images = slices.DeleteFunc(inv.Images, func(img Image) bool {
		return !slices.ContainsFunc(tags, func(tag string) bool { return is(img, tag) })
	})
	has := map[digest.Digest]bool{}
	for _, img := range inv.Images {
		for _, b := range img.Blobs {
			has[b.Digest] = true
		}
		for _, id := range img.Chain {
			has[id] = true
		}
	}
	inv.Blobs = slices.DeleteFunc(inv.Blobs, func(b Blob) bool { return !has[b.Digest] })
	inv.Trees = slices.DeleteFunc(inv.Trees, func(t Tree) bool { return !has[digest.Digest(t.Name)] })
	return "", true
}
