package build

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/action"
	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/stepkey"
)

// reading is an action that has found what it reads, and what it left out.
type reading struct {
	action   action.Action
	warnings []string
}

// host is what actions read from.
func (b *Builder) host() action.Host { return action.Host{Source: b.src, RealTimes: b.RealTimes} }

// resolve finds what the actions of the step read, and returns what they warn of.
func (s *step) resolve(ctx context.Context) (warnings []string, err error) {
	actions := make([]action.Action, len(s.plan.Ops))
	for i, a := range s.plan.Ops {
		r, err := s.b.readings.get(a.Op, func() (r reading, err error) {
			if r.action, err = action.New(s.plan, a); err != nil {
				return r, err
			}
			if reader, ok := r.action.(action.Reader); ok {
				h := s.b.host()
				h.Warn = func(text string) { r.warnings = append(r.warnings, text) }
				err = reader.Find(ctx, h)
			}
			return r, err
		})
		if err != nil {
			return nil, s.opError(a, err, nil)
		}
		actions[i] = r.action
		warnings = append(warnings, r.warnings...)
	}
	s.actions = actions
	return warnings, nil
}

// complete finds out the digests that resolve left unknown.
func (s *step) complete(ctx context.Context) error {
	for _, a := range s.actions {
		if r, ok := a.(action.Reader); ok {
			if err := r.Complete(ctx, s.b.host()); err != nil {
				return s.opError(a.At().Action, err, nil)
			}
		}
	}
	return nil
}

// keyNow computes the key of the step, so far as it can be had without reading what only the step
// itself need read. It sets unread where this is the key of all that is known but the content of an
// archive or of files that are copied: nothing like the step was ever carried out. Steps that run
// something read everything first, since they do not see the bytes pass.
func (s *step) keyNow(ctx context.Context) error {
	s.unread = false
	if err := s.computeKey(); err != nil || !slices.ContainsFunc(s.actions, action.Unread) {
		return err
	}
	if _, err := s.b.Cache.Get(s.key); !s.plan.Executes() && !s.comparable() && (s.b.NoCache || err != nil) {
		s.unread = true
		return nil
	}
	if err := s.complete(ctx); err != nil {
		return err
	}
	return s.computeKey()
}

// computeKey sets the key of all that is known of the step.
func (s *step) computeKey() error {
	node, err := s.keyNode()
	if err == nil {
		s.key, err = node.Key()
	}
	return err
}

// keyNode returns what the key of the step covers.
func (s *step) keyNode() (*stepkey.Step, error) {
	node := &stepkey.Step{
		Semantics: stepkey.Semantics, Parent: s.n.stack().chainID(), Epoch: s.n.base.epoch, Clamp: s.b.SourceEpoch, RealTimes: s.b.RealTimes,
	}
	if s.plan.Executes() {
		p := image.BuiltHere()
		node.Platform = &p
		node.Env = stepkey.HideValues(stepEnv(s.n))
	}
	err := action.Key(node, s.actions, action.Ground{Empty: len(s.n.base.layers)+len(s.n.made.layers) == 0, Chain: s.chainOf})
	if of := (*action.Error)(nil); errors.As(err, &of) {
		return nil, s.opError(of.Action, of.Err, nil)
	}
	return node, err
}

// chainOf returns the chain ID of an image that the step copies from. One that is not known yet
// differs from all others.
func (s *step) chainOf(name string) (digest.Digest, error) {
	if slices.ContainsFunc(s.open.from, func(d *node) bool { return d.String() == name }) {
		return "not known yet", nil
	}
	img, err := s.fromImage(name)
	if err != nil {
		return "", err
	}
	return stackOf(img).chainID(), nil
}

// fromImage returns the image that a copy reads: a target of the plan, or a tag of the layout.
func (s *step) fromImage(name string) (image.Image, error) {
	for _, from := range s.n.from {
		if from.String() == name {
			return from.img, nil
		}
	}
	return s.b.Layout.Image(name, image.BuiltHere())
}

// lookup returns the layer that a step of the key made before, if it is still in the layout or the
// image is spare; nil where it changed nothing.
func (s *step) lookup() (*builtLayer, bool) {
	if s.b.NoCache || s.plan.Hooked() {
		return nil, false
	}
	at, ok := s.b.find(s.n, s.key)
	if !ok {
		return nil, false
	}
	s.b.last.Set(s.lastName(), s.key)
	s.archive = stepkey.StoredArchive(at.entry.Archive)
	if at.entry.DiffID == "" {
		return nil, true
	}
	return &builtLayer{Descriptor: at.desc, DiffID: at.entry.DiffID, scratch: at.scratch, gone: at.gone}, true
}

// located is an entry of the cache whose layer is in the layout, or need not be.
type located struct {
	entry         cache.Entry
	desc          v1.Descriptor // zero where the step changed nothing
	scratch, gone bool          // as in builtLayer
}

// find returns the entry of the key if it can be used for n. What Forecast found so, Build does not
// look for again.
func (b *Builder) find(n *node, key cache.Key) (located, bool) {
	name := key.String()
	if !n.need.tag {
		name += " for no tag"
	}
	if n.spare {
		name += ", gone or not"
	}
	if at, ok := b.found.Load(name); ok {
		return at.(located), true
	}
	e, err := b.Cache.Get(key)
	if err != nil || e.Lent != "" && e.Lent != b.busyboxDigest() {
		return located{}, false
	}
	at, ok := b.locate(n, e)
	if ok {
		b.found.Store(name, at)
	}
	return at, ok
}

// locate finds the layer of an entry: as the blob that serves this build, as any that is there
// where no tag needs it, or as what such a blob can be made of. Where n is spare, it need not be
// there.
func (b *Builder) locate(n *node, e cache.Entry) (located, bool) {
	at := located{entry: e}
	if e.DiffID == "" {
		return at, true
	}
	if b.Layout == nil {
		at.gone = true
		return at, n.spare
	}
	blobs := []v1.Descriptor{b.blob(true).In(e)}
	if !n.need.tag {
		blobs = append(blobs, stepkey.AnyBlob(e)...)
	}
	for _, desc := range blobs {
		if desc.Digest != "" && b.Layout.Has(desc) {
			at.desc = desc
			return at, true
		}
	}
	at.scratch = e.Tar > 0 && b.Layout.HasScratch(e.DiffID, e.Tar)
	at.desc = v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: e.DiffID, Size: e.Tar}
	at.gone = !at.scratch
	return at, at.scratch || n.spare
}

// blob says which blob of a layer serves this build. Where no tag needs the layer, nobody wishes
// that an archive is compressed anew.
func (b *Builder) blob(tag bool) stepkey.Blob {
	return stepkey.Blob{Compression: b.Compression.ID, Recompress: b.Recompress && tag}
}

// blob says which blob of its layer the step makes.
func (s *step) blob() stepkey.Blob { return s.b.blob(s.n.need.tag) }

// remember stores what the step made.
func (s *step) remember(l *builtLayer) error {
	if s.plan.Hooked() {
		return nil
	}
	e := cache.Entry{Lent: s.lent, Seconds: s.seconds(), Archive: s.archive.Stored()}
	if l != nil {
		e.DiffID, e.Chain = l.DiffID, image.ChainID(s.parent, l.DiffID)
		e.Blobs = map[string]cache.Blob{}
		if l.scratch {
			e.Tar = l.Descriptor.Size
		} else {
			s.blob().Add(&e, l.Descriptor)
		}
	}
	if err := s.b.Cache.Put(s.key, e); err != nil {
		return err
	}
	s.b.last.Set(s.lastName(), s.key)
	for _, a := range s.actions {
		if r, ok := a.(action.Reader); ok {
			if err := r.Keep(s.b.Cache, s.b.host()); err != nil {
				return err
			}
		}
	}
	return nil
}

// rememberBlob notes a blob that a layer got later than its entry.
func (s *step) rememberBlob(l *builtLayer) error {
	e, err := s.b.Cache.Get(s.key)
	if err != nil || e.DiffID != l.DiffID {
		return nil // no entry, or one that another step made, for which it is to note that
	}
	s.blob().Add(&e, l.Descriptor)
	return s.b.Cache.Put(s.key, e)
}

// createdBy is the text of a step in the image's history.
func createdBy(s *plan.Step) string {
	ops := make([]string, len(s.Ops))
	for i, a := range s.Ops {
		ops[i] = a.Op.String()
	}
	if len(ops) == 0 {
		ops = []string{"hooks"}
	}
	return "genoci: " + strings.Join(ops, "; ")
}
