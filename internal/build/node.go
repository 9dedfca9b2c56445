package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layout"
	"genoci/internal/plan"
)

// errSkipped marks images that were not built because another one failed.
var errSkipped = errors.New("not built, it needs")

// node is an image of the plan while it is built.
type node struct {
	*plan.Image
	file   string        // the spec, for messages
	base   image.Image   // the zero Image for an empty base
	layers []image.Layer // that the steps made so far
	epoch  int64         // seconds since 1970
	env    []string      // of the image, K=V

	needs   []*node
	hooksOn bool // pre hooks began

	// known (by Forecast), or done without err (by Build): img is complete.
	known  bool
	img    image.Image
	result *ImageResult
	added  int64
	cached bool // no step was carried out

	done bool // nothing more happens to it; set and read by buildAll alone
	err  error
}

// nodes are all images of a plan.
type nodes map[*plan.Image]*node

func newNodes(p *plan.Plan) nodes {
	all := nodes{}
	for _, img := range p.Images {
		n := &node{Image: img, file: p.Spec.File, cached: true}
		if img.Base.Image != nil {
			n.needs = append(n.needs, all[img.Base.Image])
		}
		for _, from := range img.From {
			n.needs = append(n.needs, all[from])
		}
		all[img] = n
	}
	return all
}

// failure joins what failed by itself, in the order of the plan.
func (ns nodes) failure(p *plan.Plan) error {
	var errs []error
	var canceled error
	for _, img := range p.Images {
		switch err := ns[img].err; {
		case err == nil, errors.Is(err, errSkipped):
		case errors.Is(err, context.Canceled):
			canceled = err
		default:
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return canceled
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// dependencies reports whether ok holds for all that n needs.
func (n *node) dependencies(ok func(*node) bool) bool {
	for _, d := range n.needs {
		if !ok(d) {
			return false
		}
	}
	return true
}

// ready reports whether all that n needs is built, and returns one that never will be.
func (n *node) ready() (ready bool, failed *plan.Image) {
	for _, d := range n.needs {
		if d.done && d.err != nil {
			return false, d.Image
		}
	}
	return n.dependencies(func(d *node) bool { return d.done }), nil
}

// add adds a layer that a step made; one without a DiffID is none.
func (n *node) add(l image.Layer) {
	if l.DiffID != "" {
		n.layers = append(n.layers, l)
	}
}

// diffIDs returns those of the base and of the steps so far.
func (n *node) diffIDs() []digest.Digest {
	ids := append([]digest.Digest(nil), n.base.Config.RootFS.DiffIDs...)
	for _, l := range n.layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

// blobs returns the descriptors of the layers that diffIDs names.
func (n *node) blobs() []v1.Descriptor {
	descs := append([]v1.Descriptor(nil), n.base.Manifest.Layers...)
	for _, l := range n.layers {
		descs = append(descs, l.Descriptor)
	}
	return descs
}

// chainID names the tree that the steps so far make; "" for an empty one.
func (n *node) chainID() digest.Digest { return topChain(n.diffIDs()) }

func topChain(diffIDs []digest.Digest) digest.Digest {
	if len(diffIDs) == 0 {
		return ""
	}
	ids := image.ChainIDs(diffIDs)
	return ids[len(ids)-1]
}

// buildImage carries out all steps of an image, and writes its config and manifest.
func (b *Builder) buildImage(ctx context.Context, nodes nodes, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	begin := time.Now()
	b.report(Event{Kind: ImageStarted, Target: n.String()})
	if err := b.begin(ctx, n); err != nil {
		return err
	}
	if n.Base.Kind == plan.OCI {
		if err := b.importBase(ctx, n); err != nil {
			return b.baseError(n, err)
		}
	}
	for _, s := range n.Steps {
		if err := b.buildStep(ctx, nodes, n, s); err != nil {
			return err
		}
	}
	if err := b.finish(n); err != nil {
		return err
	}
	desc, err := b.Layout.WriteImage(n.img)
	if err != nil {
		return fmt.Errorf("target %q: %w", n, err)
	}
	n.img.Descriptor = desc
	n.result = &ImageResult{
		Target: n.String(), Digest: desc.Digest, Size: size(n.img), Added: n.added,
		Layers: len(n.img.Manifest.Layers), Cached: n.cached, BuildOnly: n.Target.BuildOnly,
		Elapsed: time.Since(begin),
	}
	b.report(Event{Kind: ImageDone, Target: n.String(), Image: n.result, Elapsed: n.result.Elapsed})
	return nil
}

// size is that of the manifest, the config and all layers.
func size(img image.Image) int64 {
	total := img.Descriptor.Size + img.Manifest.Config.Size
	for _, l := range img.Manifest.Layers {
		total += l.Size
	}
	return total
}

// begin finds the base of an image, and what its steps need to know.
func (b *Builder) begin(ctx context.Context, n *node) error {
	var err error
	switch n.Base.Kind {
	case plan.Target:
		n.base = n.needs[0].img
	case plan.Tag:
		n.base, err = b.Layout.Image(n.Base.Tag, Platform())
	case plan.OCI:
		n.base, err = b.ociImage(n.Base)
	}
	if err != nil {
		return b.baseError(n, err)
	}
	if n.epoch, err = b.epochOf(ctx, n.Target); err != nil {
		return b.targetError(n, err)
	}
	n.env = imageEnv(n)
	return nil
}

// finish makes the complete image from what the steps made.
func (b *Builder) finish(n *node) error {
	n.img = image.Extend(n.base, b.extension(n))
	_, _, desc, err := image.Marshal(n.img)
	if err != nil {
		return b.targetError(n, err)
	}
	n.img.Descriptor = desc
	return nil
}

// ociImage reads an image of another layout.
func (b *Builder) ociImage(base plan.Base) (image.Image, error) {
	l, err := layout.Open(b.src.Abs(base.Dir))
	if err != nil {
		return image.Image{}, err
	}
	defer l.Close()
	return l.Image(base.Tag, Platform())
}

// importBase copies the layers of a base in another layout into ours.
func (b *Builder) importBase(ctx context.Context, n *node) error {
	from, err := layout.Open(b.src.Abs(n.Base.Dir))
	if err != nil {
		return err
	}
	defer from.Close()
	if err := from.Use(ctx); err != nil {
		return err
	}
	for _, desc := range n.base.Manifest.Layers {
		if b.Layout.Has(desc) {
			continue
		}
		if err := b.importBlob(ctx, n, from, desc); err != nil {
			return err
		}
		n.added += desc.Size
	}
	return nil
}

func (b *Builder) importBlob(ctx context.Context, n *node, from *layout.Layout, desc v1.Descriptor) error {
	r, err := from.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := b.Layout.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close()
	in := b.progress(ctx, n.String(), "", "copy base", desc.Size, layout.Verified(r, desc))
	if _, err := copyBuffer(w, in); err != nil {
		return err
	}
	_, err = w.Commit(desc.MediaType)
	return err
}

// targetError is an error that concerns all of a target.
func (b *Builder) targetError(n *node, err error) error {
	return &StepError{Target: n.String(), Step: n.String(), File: n.file, Pos: n.Target.Pos, Op: "target", Err: err}
}

// baseError is an error about the base of a target.
func (b *Builder) baseError(n *node, err error) error {
	return &StepError{Target: n.String(), Step: n.String(), File: n.file, Pos: n.Target.BasePos, Op: "base " + n.Base.String(), Err: err}
}
