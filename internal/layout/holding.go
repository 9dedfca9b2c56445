package layout

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"genoci/internal/image"
)

// Holding is what an entry of index.json holds on to.
type Holding struct {
	Tag        string // "" for an entry without a name
	Descriptor v1.Descriptor
	Blobs      []v1.Descriptor   // digest and size of all that it reaches and that is there, each once
	Stacks     [][]digest.Digest // the DiffIDs of each image that it reaches, lowest layer first
}

// Holdings returns what each entry of index.json holds on to. Entries whose manifest cannot be read
// hold less than they should, and are told of in the error.
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
	reach, err := l.reachAll(ctx, x.entries)
	if err != nil {
		return nil, err
	}
	all := []Holding{}
	var unreadable error
	for _, e := range x.entries {
		h := Holding{Tag: e.name(), Descriptor: e.desc}
		from := reach[claimOf(e.desc)]
		h.Stacks = from.stacks
		if from.err != nil {
			unreadable = errors.Join(unreadable, fmt.Errorf("%s: %w", l.dir, from.err))
		}
		for _, b := range from.blobs {
			if size, ok := there[b.Digest]; ok {
				h.Blobs = append(h.Blobs, v1.Descriptor{Digest: b.Digest, Size: size})
			}
		}
		all = append(all, h)
	}
	return all, unreadable
}

// reached is what a descriptor leads to.
type reached struct {
	blobs  []v1.Descriptor   // there or not, each digest once, the descriptor's own first
	stacks [][]digest.Digest // the DiffIDs of the images among them
	err    error             // of manifests that are there and cannot be read
}

// reachAll finds what each entry leads to, on several processors.
func (l *Layout) reachAll(ctx context.Context, entries []entry) (map[claim]reached, error) {
	known := make(map[claim]reached, len(entries))
	var descs []v1.Descriptor
	for _, e := range entries {
		if _, ok := known[claimOf(e.desc)]; !ok {
			known[claimOf(e.desc)] = reached{}
			descs = append(descs, e.desc)
		}
	}
	found := make([]reached, len(descs))
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() (err error) {
			for i := w; i < len(descs) && err == nil; i += workers {
				found[i], err = l.reach(ctx, descs[i])
			}
			return err
		})
	}
	err := g.Wait()
	for i, desc := range descs {
		known[claimOf(desc)] = found[i]
	}
	return known, err
}

// reach finds what desc leads to. The error is that of ctx.
func (l *Layout) reach(ctx context.Context, desc v1.Descriptor) (got reached, err error) {
	seen := map[digest.Digest]bool{}
	w := walker{l: l, seen: map[claim]bool{}, visit: func(desc v1.Descriptor, _ []byte, err error) {
		if !seen[desc.Digest] {
			seen[desc.Digest] = true
			got.blobs = append(got.blobs, desc)
		}
		if err != nil && !errors.Is(err, ErrNotExist) {
			got.err = errors.Join(got.err, err)
		}
		if image.IsConfig(desc.MediaType) {
			if diffIDs := l.diffIDs(desc); len(diffIDs) > 0 {
				got.stacks = append(got.stacks, diffIDs)
			}
		}
	}}
	err = w.walk(ctx, desc)
	return got, err
}

// diffIDs returns those of an image config; none where it cannot be read.
func (l *Layout) diffIDs(config v1.Descriptor) []digest.Digest {
	data, err := l.read(config)
	if err != nil {
		return nil
	}
	if diffIDs, ok := plainDiffIDs(data); ok {
		return diffIDs
	}
	var c struct {
		RootFS v1.RootFS `json:"rootfs"`
	}
	if image.Unmarshal(data, &c) != nil {
		return nil
	}
	return c.RootFS.DiffIDs
}
