package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/spec"
)

// errSkipped marks images that were not built because another one failed.
var errSkipped = errors.New("not built, it needs")

// node is an image of the plan while it is built. It is laid when its steps are done and its tree can be built on; it is
// complete when its blobs, config and manifest are in the layout.
type node struct {
	*plan.Image
	file   string      // the spec, for messages
	base   image.Image // the zero Image for an empty base; while that is not complete, of the manifest only what is inherited
	below  stack       // the layers of base
	layers stack       // that the steps made so far
	words  []string    // what the history says of each of them
	made   stack       // those of them that were carried out for this image

	imported int64 // bytes of blobs that came from the layout of the base

	epoch int64    // seconds since 1970
	env   []string // of the image, K=V

	onto    *node   // the image of the plan that it stands on, or nil
	from    []*node // those that it copies from
	hooksOn bool    // pre hooks began, and post hooks did not

	archives []Archive

	making  sync.WaitGroup // of blobs
	needed  bool           // it will have a tag, or one that stands on it will
	spare   bool           // no step that is carried out needs its layers: the layout need not have them
	stoodOn bool           // other images of the plan stand on it
	carries bool           // some of those run something, and need its tree

	known  bool        // by Forecast: img is what Build would make
	early  image.Image // since it is laid: what those that stand on it need of it; blobs may be missing
	img    image.Image // since it is complete
	result *ImageResult
	cached bool // no step was carried out

	complete chan struct{} // closed when nothing more happens to it; then err may be read
	err      error

	// What buildAll knows of it.
	laid, done    bool
	queued, begun bool
	height, rank  int
}

// nodes are all images of a plan.
type nodes map[*plan.Image]*node

func newNodes(p *plan.Plan) nodes {
	all := nodes{}
	for _, img := range p.Images {
		n := &node{Image: img, file: p.Spec.File, cached: true, complete: make(chan struct{})}
		if img.Base.Image != nil {
			n.onto = all[img.Base.Image]
		}
		for _, from := range img.From {
			n.from = append(n.from, all[from])
		}
		all[img] = n
	}
	for _, img := range slices.Backward(p.Images) {
		n := all[img]
		n.needed = n.needed || !img.Target.BuildOnly
		n.height += len(img.Steps)
		for _, d := range n.needs() {
			d.height = max(d.height, n.height)
		}
		if n.onto != nil {
			n.onto.stoodOn = true
			n.onto.needed = n.onto.needed || n.needed
			n.onto.carries = n.onto.carries || n.carries || slices.ContainsFunc(img.Steps, (*plan.Step).Executes)
		}
	}
	return all
}

// needs returns the images of the plan that have to come before n.
func (n *node) needs() []*node {
	if n.onto == nil {
		return n.from
	}
	return append([]*node{n.onto}, n.from...)
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

// allKnown reports whether Forecast knows all that n needs.
func (n *node) allKnown() bool {
	return !slices.ContainsFunc(n.needs(), func(d *node) bool { return !d.known })
}

// ready reports whether n can be begun, and returns one that it needs and that never will be built.
func (n *node) ready() (ready bool, failed *node) {
	for _, d := range n.needs() {
		if d.done && d.err != nil {
			return false, d
		}
	}
	if n.onto != nil && !n.onto.laid {
		return false, nil
	}
	return !slices.ContainsFunc(n.from, func(d *node) bool { return !d.done }), nil
}

// stack returns the layers of the base and of the steps so far.
func (n *node) stack() stack { return append(n.below[:len(n.below):len(n.below)], n.layers...) }

// add adds the layer of a step; none where that is nil. Whoever made the layer, the history has the words of the step itself.
func (n *node) add(s *plan.Step, l *builtLayer) {
	if l != nil {
		n.layers, n.words = n.layers.on(l), append(n.words, createdBy(s))
	}
}

// added returns the layers of the steps as image.Extend takes them. Descriptors of blobs that are still to come are zero.
func (n *node) added() []image.Layer {
	layers := make([]image.Layer, len(n.layers))
	for i, l := range n.layers {
		layers[i] = image.Layer{DiffID: l.DiffID, CreatedBy: n.words[i]}
		if l.isReady() {
			layers[i].Descriptor = l.Descriptor
		}
	}
	return layers
}

// lay carries out all steps of an image. Their blobs may be still to come.
func (b *Builder) lay(ctx context.Context, nodes nodes, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.report(Event{Kind: ImageStarted, Target: n.String()})
	if err := b.begin(ctx, n); err != nil {
		return err
	}
	if n.Base.Kind == plan.OCI && !n.spare {
		if err := b.importBase(ctx, n); err != nil {
			return b.baseError(n, err)
		}
	}
	if !n.spare {
		if err := b.checkSources(ctx, n); err != nil {
			return err
		}
	}
	for _, s := range n.Steps {
		if err := b.buildStep(ctx, nodes, n, s); err != nil {
			return b.cleanUp(ctx, nodes, n, err)
		}
	}
	n.early = image.Extend(n.base, b.extension(n))
	return nil
}

// finishImage waits for its base to be complete and for its own blobs, and writes its config and manifest.
func (b *Builder) finishImage(ctx context.Context, n *node, begin time.Time) error {
	if n.onto != nil {
		<-n.onto.complete
		if n.onto.err != nil {
			return fmt.Errorf("%w: target %q", errSkipped, n.onto)
		}
		n.base = n.onto.img
	}
	if err := n.layers.wait(ctx); err != nil {
		return err
	}
	img := image.Extend(n.base, b.extension(n))
	if n.needed {
		var err error
		if img, err = b.Layout.WriteImage(img); err != nil {
			return fmt.Errorf("target %q: %w", n, err)
		}
	}
	n.img = img
	if layers := len(img.Manifest.Layers); layers > maxLayers && n.needed {
		b.report(Event{Kind: Warning, Target: n.String(), Text: fmt.Sprintf(
			"the image has %d layers; docker refuses more than %d", layers, maxLayers)})
	}
	added := n.imported
	for _, l := range n.made {
		added += l.Descriptor.Size
	}
	n.result = &ImageResult{
		Target: n.String(), Digest: img.Descriptor.Digest, Size: size(img), Added: added,
		Layers: len(img.Manifest.Layers), Cached: n.cached, BuildOnly: n.Target.BuildOnly, Archives: n.archives,
		Elapsed: time.Since(begin),
	}
	b.report(Event{Kind: ImageDone, Target: n.String(), Image: n.result, Elapsed: n.result.Elapsed})
	return nil
}

// maxLayers is how many layers an image may have for all engines to take it (moby, layer/layer_store.go, maxLayerDepth).
const maxLayers = 125

// size is that of the manifest and the config, where they were written, and of all layers.
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
		n.base, n.below = n.onto.early, n.onto.stack()
	case plan.Tag:
		n.base, err = b.Layout.Image(n.Base.Tag, image.BuiltHere())
	case plan.OCI:
		n.base, err = b.ociImage(n.Base)
	}
	if err != nil {
		return b.baseError(n, err)
	}
	if n.Base.Kind != plan.Target {
		n.below = stackOf(n.base)
	}
	if n.epoch, err = b.epochOf(ctx, n.Target); err != nil {
		return b.targetError(n, err)
	}
	n.env = imageEnv(n)
	return nil
}

// checkSources holds the images that n is made of, and that this build does not make, against their blobs: what is known of their layers is known by
// what their configs say.
func (b *Builder) checkSources(ctx context.Context, n *node) error {
	if n.Base.Kind == plan.Tag || n.Base.Kind == plan.OCI {
		if err := b.checkImage(ctx, n.base); err != nil {
			return b.baseError(n, err)
		}
	}
	for _, s := range n.Steps {
		for _, a := range s.Ops {
			op, ok := a.Op.(*spec.Copy)
			if !ok || op.From == "" || slices.ContainsFunc(n.From, func(img *plan.Image) bool { return img.String() == op.From }) {
				continue
			}
			img, err := b.Layout.Image(op.From, image.BuiltHere())
			if err == nil {
				err = b.checkImage(ctx, img)
			}
			if err != nil {
				return b.opError(n, s, a, err, nil)
			}
		}
	}
	return nil
}

// checkImage makes sure that the layout has all layers of an image, and that they are what its config says.
func (b *Builder) checkImage(ctx context.Context, img image.Image) error {
	for _, desc := range img.Manifest.Layers {
		if b.Layout.Has(desc) || image.IsForeign(desc.MediaType) {
			continue
		}
		f, err := b.Layout.Blob(desc.Digest)
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		f.Close() // it has another size, which Check tells
	}
	return b.images().Check(ctx, img)
}

// ociImage reads an image of another layout.
func (b *Builder) ociImage(base plan.Base) (image.Image, error) {
	l, img, err := layout.Find(base.Ref, b.src.Abs, image.BuiltHere())
	if err == nil {
		err = l.Close()
	}
	return img, err
}

// importBase copies the layers of a base in another layout into ours.
func (b *Builder) importBase(ctx context.Context, n *node) error {
	from, _, err := layout.Find(n.Base.Ref, b.src.Abs, image.BuiltHere())
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
		n.imported += desc.Size
	}
	return nil
}

func (b *Builder) importBlob(ctx context.Context, n *node, of *layout.Layout, desc v1.Descriptor) error {
	r, err := of.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := b.Layout.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close()
	from, to := io.Reader(r), io.Writer(w)
	if clone, err := w.Clone(r); err != nil {
		return err
	} else if clone != nil {
		from, to = clone, io.Discard
	}
	in := b.progress(ctx, n.String(), "", "copy base", desc.Size, layout.Verified(from, desc))
	if _, err := copyBuffer(to, in); err != nil {
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
