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
)

// errSkipped marks images that were not built because another one failed.
var errSkipped = errors.New("not built, it needs")

// node is an image of the plan while it is built. Others can be built on its tree when its steps are
// done; it is complete when its blobs, config and manifest are in the layout.
type node struct {
	image *plan.Image
	file  string  // the spec, for messages
	onto  *node   // the image of the plan that it stands on, or nil
	from  []*node // those that it copies from
	need  need
	turn  turn

	spare bool // no step that is carried out needs its layers: the layout need not have them
	known bool // by Forecast: img is what Build would make

	base  base
	made  made
	early image.Image // since its steps are done: what those that stand on it need of it; blobs may be missing
	img   image.Image // since it is complete

	result   *ImageResult
	complete chan struct{} // closed when nothing more happens to it; then err may be read
	err      error
}

// need is who needs an image, as the plan says.
type need struct {
	tag     bool // it will have a tag, or one that stands on it will
	stoodOn bool // other images of the plan stand on it
	tree    bool // some of those run something, and need its tree
	height  int  // steps on the longest way from its first one to the end of the build
}

// turn is when an image is built. Only buildAll and its queue look at it.
type turn struct {
	stepsDone, done bool
	queued, begun   bool
	rank            int
}

// base is what the steps of an image stand on, since it was begun.
type base struct {
	img    image.Image // the zero Image for an empty base; while that is not complete, of the manifest only what is inherited
	layers stack
	epoch  int64    // seconds since 1970
	env    []string // of the image that is made, K=V
}

// made is what the steps of an image have made so far.
type made struct {
	layers   stack
	words    []string // what the history says of each of them
	own      stack    // those of them that were carried out for this image
	archives []Archive
	imported int64 // bytes of blobs that came from the layout of the base
	cached   bool  // no step was carried out
	hooksOn  bool  // pre hooks began, and post hooks did not
	blobs    sync.WaitGroup
}

// nodes are all images of a plan.
type nodes map[*plan.Image]*node

func newNodes(p *plan.Plan) nodes {
	all := nodes{}
	for _, img := range p.Images {
		n := &node{image: img, file: p.Spec.File, complete: make(chan struct{})}
		n.made.cached = true
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
		n.need.tag = n.need.tag || !img.Target.BuildOnly
		n.need.height += len(img.Steps)
		for _, d := range n.needs() {
			d.need.height = max(d.need.height, n.need.height)
		}
		if n.onto != nil {
			below := &n.onto.need
			below.stoodOn = true
			below.tag = below.tag || n.need.tag
			below.tree = below.tree || n.need.tree || slices.ContainsFunc(img.Steps, (*plan.Step).Executes)
		}
	}
	return all
}

// String returns the name of the target.
func (n *node) String() string { return n.image.String() }

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
		if d.turn.done && d.err != nil {
			return false, d
		}
	}
	if n.onto != nil && !n.onto.turn.stepsDone {
		return false, nil
	}
	return !slices.ContainsFunc(n.from, func(d *node) bool { return !d.turn.done }), nil
}

// stack returns the layers of the base and of the steps so far.
func (n *node) stack() stack {
	return append(n.base.layers[:len(n.base.layers):len(n.base.layers)], n.made.layers...)
}

// add adds the layer of a step; none where that is nil. Whoever made the layer, the history has the
// words of the step itself.
func (n *node) add(s *plan.Step, l *builtLayer) {
	if l != nil {
		n.made.layers, n.made.words = n.made.layers.on(l), append(n.made.words, createdBy(s))
	}
}

// added returns the layers of the steps as image.Extend takes them. Descriptors of blobs that are
// still to come are zero.
func (n *node) added() []image.Layer {
	layers := make([]image.Layer, len(n.made.layers))
	for i, l := range n.made.layers {
		layers[i] = image.Layer{DiffID: l.DiffID, CreatedBy: n.made.words[i]}
		if l.isReady() {
			layers[i].Descriptor = l.Descriptor
		}
	}
	return layers
}

// buildSteps carries out all steps of an image. Their blobs may be still to come.
func (b *Builder) buildSteps(ctx context.Context, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.report(Event{Kind: ImageStarted, Target: n.String()})
	if err := b.begin(ctx, n); err != nil {
		return err
	}
	if n.image.Base.Kind == plan.OCI && !n.spare {
		if err := b.importBase(ctx, n); err != nil {
			return b.baseError(n, err)
		}
	}
	if !n.spare {
		if err := b.checkSources(ctx, n); err != nil {
			return err
		}
	}
	for _, s := range n.image.Steps {
		if err := b.step(n, s).build(ctx); err != nil {
			return b.cleanUp(ctx, n, err)
		}
	}
	n.early = image.Extend(n.base.img, extension(n))
	return nil
}

// finishImage waits for its base to be complete and for its own blobs, and writes its config and
// manifest.
func (b *Builder) finishImage(ctx context.Context, n *node, begin time.Time) error {
	if n.onto != nil {
		<-n.onto.complete
		if n.onto.err != nil {
			return fmt.Errorf("%w: target %q", errSkipped, n.onto)
		}
		n.base.img = n.onto.img
	}
	if err := n.made.layers.wait(ctx); err != nil {
		return err
	}
	img := image.Extend(n.base.img, extension(n))
	if n.need.tag {
		var err error
		if img, err = b.Layout.WriteImage(img); err != nil {
			return fmt.Errorf("target %q: %w", n, err)
		}
	}
	n.img = img
	if layers := len(img.Manifest.Layers); layers > maxLayers && n.need.tag {
		b.report(Event{Kind: Warning, Target: n.String(), Text: fmt.Sprintf(
			"the image has %d layers; docker refuses more than %d", layers, maxLayers)})
	}
	added := n.made.imported
	for _, l := range n.made.own {
		added += l.Descriptor.Size
	}
	n.result = &ImageResult{
		Target: n.String(), Digest: img.Descriptor.Digest, Size: size(img), Added: added,
		Layers: len(img.Manifest.Layers), Cached: n.made.cached, BuildOnly: n.image.Target.BuildOnly, Archives: n.made.archives,
		Elapsed: time.Since(begin),
	}
	b.report(Event{Kind: ImageDone, Target: n.String(), Image: n.result, Elapsed: n.result.Elapsed})
	return nil
}

// maxLayers is how many layers an image may have for all engines to take it (moby,
// layer/layer_store.go, maxLayerDepth).
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
	switch n.image.Base.Kind {
	case plan.Target:
		n.base.img, n.base.layers = n.onto.early, n.onto.stack()
	case plan.Tag:
		n.base.img, err = b.Layout.Image(n.image.Base.Tag, image.BuiltHere())
	case plan.OCI:
		n.base.img, err = b.ociImage(n.image.Base)
	}
	if err != nil {
		return b.baseError(n, err)
	}
	if n.image.Base.Kind != plan.Target {
		n.base.layers = stackOf(n.base.img)
	}
	if n.base.epoch, err = b.epochOf(ctx, n.image.Target); err != nil {
		return b.targetError(n, err)
	}
	n.base.env = imageEnv(n)
	return nil
}

// checkSources holds the images that n is made of, and that this build does not make, against their
// blobs: what is known of their layers is known by what their configs say.
func (b *Builder) checkSources(ctx context.Context, n *node) error {
	if n.image.Base.Kind == plan.Tag || n.image.Base.Kind == plan.OCI {
		if err := b.checkImage(ctx, n.base.img); err != nil {
			return b.baseError(n, err)
		}
	}
	for _, s := range n.image.Steps {
		for _, a := range s.Ops {
			for _, name := range a.Op.Images() {
				if slices.ContainsFunc(n.from, func(d *node) bool { return d.String() == name }) {
					continue
				}
				img, err := b.Layout.Image(name, image.BuiltHere())
				if err == nil {
					err = b.checkImage(ctx, img)
				}
				if err != nil {
					return (&step{b: b, n: n, plan: s}).opError(a, err, nil)
				}
			}
		}
	}
	return nil
}

// checkImage makes sure that the layout has all layers of an image, and that they are what its
// config says.
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
	from, _, err := layout.Find(n.image.Base.Ref, b.src.Abs, image.BuiltHere())
	if err != nil {
		return err
	}
	defer from.Close()
	if err := from.Use(ctx); err != nil {
		return err
	}
	for _, desc := range n.base.img.Manifest.Layers {
		if b.Layout.Has(desc) {
			continue
		}
		if err := b.importBlob(ctx, n, from, desc); err != nil {
			return err
		}
		n.made.imported += desc.Size
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
	return &StepError{Target: n.String(), Step: n.String(), File: n.file, Pos: n.image.Target.Pos, Op: "target", Err: err}
}

// baseError is an error about the base of a target.
func (b *Builder) baseError(n *node, err error) error {
	return &StepError{Target: n.String(), Step: n.String(), File: n.file, Pos: n.image.Target.BasePos, Op: "base " + n.image.Base.String(), Err: err}
}
