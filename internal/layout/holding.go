package layout

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// Holding is what an entry of index.json holds on to.
type Holding struct {
	Tag        string // "" for an entry without a name
	Descriptor v1.Descriptor
	Blobs      []v1.Descriptor   // digest and size of all that it reaches and that is there, each once
	Stacks     [][]digest.Digest // the DiffIDs of each image that it reaches, lowest layer first
}

// Holdings returns what each entry of index.json holds on to. Entries whose manifest cannot be read hold less than they should, and
// are told of in the error.
func (l *Layout) Holdings(ctx context.Context) ([]Holding, error) {
	x, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	there := map[digest.Digest]int64{}
	for desc, err := range l.Blobs() {
		if err != nil {
			return nil, err
		}
		there[desc.Digest] = desc.Size
	}
	r := newReach(l)
	all := []Holding{}
	var unreadable error
	for _, e := range x.entries {
		h := Holding{Tag: e.name(), Descriptor: e.desc}
		var blobs []v1.Descriptor
		blobs, h.Stacks, err = r.from(ctx, e.desc)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			unreadable = errors.Join(unreadable, fmt.Errorf("%s: %w", l.dir, err))
		}
		for _, b := range blobs {
			if size, ok := there[b.Digest]; ok {
				h.Blobs = append(h.Blobs, v1.Descriptor{Digest: b.Digest, Size: size})
			}
		}
		all = append(all, h)
	}
	return all, unreadable
}

// reach finds what descriptors lead to. What two of them lead to is read once.
type reach struct {
	l     *Layout
	known map[claim]reached
}

// reached is what a descriptor leads to.
type reached struct {
	blobs  []v1.Descriptor // each digest once
	stacks [][]digest.Digest
	err    error // of manifests that are there and cannot be read
}

func newReach(l *Layout) *reach { return &reach{l: l, known: map[claim]reached{}} }

// from returns the blobs that desc leads to, there or not, desc itself first; and the DiffIDs of the images among them.
func (r *reach) from(ctx context.Context, desc v1.Descriptor) ([]v1.Descriptor, [][]digest.Digest, error) {
	c := claim{desc.MediaType, desc.Digest, desc.Size}
	got, ok := r.known[c]
	if ok {
		return got.blobs, got.stacks, got.err
	}
	seen := map[digest.Digest]bool{}
	w := walker{l: r.l, seen: map[claim]bool{}, visit: func(desc v1.Descriptor, _ []byte, err error) {
		if !seen[desc.Digest] {
			seen[desc.Digest] = true
			got.blobs = append(got.blobs, desc)
		}
		if err != nil && !errors.Is(err, ErrNotExist) {
			got.err = errors.Join(got.err, err)
		}
		if image.IsConfig(desc.MediaType) {
			if diffIDs := r.l.diffIDs(desc); len(diffIDs) > 0 {
				got.stacks = append(got.stacks, diffIDs)
			}
		}
	}}
	if err := w.walk(ctx, desc); err != nil {
		return nil, nil, err
	}
	r.known[c] = got
	return got.blobs, got.stacks, got.err
}

// diffIDs returns those of an image config; none where it cannot be read.
func (l *Layout) diffIDs(config v1.Descriptor) []digest.Digest {
	data, err := l.read(config)
	if err != nil {
		return nil
	}
	var c struct {
		RootFS v1.RootFS `json:"rootfs"`
	}
	if image.Unmarshal(data, &c) != nil {
		return nil
	}
	return c.RootFS.DiffIDs
}
