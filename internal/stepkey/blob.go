package stepkey

import (
	"maps"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
)

// Blob says which of the blobs of a layer is meant: one layer may be stored in several
// compressions.
type Blob struct {
	Compression string // its ID
	Recompress  bool   // sound archives are compressed anew too; otherwise they stay as they are
}

// archivesStay begins the names of blobs for which archives stay as they are. It is stored, and
// stays.
const archivesStay = "archives as they are, else "

// Name returns the name of the blob in entries of the cache.
func (b Blob) Name() string {
	if b.Recompress {
		return b.Compression
	}
	return archivesStay + b.Compression
}

// parseBlob reverses Name.
func parseBlob(name string) Blob {
	compression, ok := strings.CutPrefix(name, archivesStay)
	return Blob{Compression: compression, Recompress: !ok}
}

// In returns the descriptor of the blob in an entry; zero where the entry has none.
func (b Blob) In(e cache.Entry) v1.Descriptor { return descriptor(e.Blobs[b.Name()]) }

// Add notes the descriptor of the blob in an entry. A layer that is no archive as it is is the same
// whatever becomes of archives.
func (b Blob) Add(e *cache.Entry, desc v1.Descriptor) {
	if e.Blobs == nil {
		e.Blobs = map[string]cache.Blob{}
	}
	blob := cache.Blob{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	e.Blobs[b.Name()] = blob
	if StoredArchive(e.Archive).Fate != AsIs {
		e.Blobs[Blob{b.Compression, !b.Recompress}.Name()] = blob
	}
}

// AnyBlob returns the descriptors of all blobs in an entry, in the order of their names.
func AnyBlob(e cache.Entry) []v1.Descriptor {
	var all []v1.Descriptor
	for _, name := range slices.Sorted(maps.Keys(e.Blobs)) {
		all = append(all, descriptor(e.Blobs[name]))
	}
	return all
}

func descriptor(b cache.Blob) v1.Descriptor {
	return v1.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// compressions returns the names of the blobs in an entry, without those that say the same as
// another.
func compressions(e cache.Entry) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(e.Blobs)) {
		other := Blob{parseBlob(name).Compression, true}
		if _, same := e.Blobs[other.Name()]; parseBlob(name).Recompress || !same {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
