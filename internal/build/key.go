package build

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// input is what an op reads from outside, found and digested.
type input struct {
	archive source.File    // Expand
	matches []source.Match // Copy from the host
	open    bool           // not all of their digests are known
	listed  [32]byte       // SHA-256 of their manifest; where open is false
	files   []source.File  // Install
	script  *source.File   // Run of a script of the host

	warnings []string // of what was left out
}

// resolve finds the inputs of all ops of a step.
func (b *Builder) resolve(ctx context.Context, n *node, s *plan.Step) ([]*input, error) {
	ins := make([]*input, len(s.Ops))
	for i, a := range s.Ops {
		in, err := b.inputs.get(a.Op, func() (*input, error) {
			if op, ok := passable(s); ok && !source.IsURL(op.Src) && op.Checksum == "" {
				f, err := b.src.Peek(op.Src)
				return &input{archive: f}, err
			}
			return b.input(ctx, a.Op)
		})
		if err != nil {
			return nil, b.opError(n, s, a, err, nil)
		}
		ins[i] = in
	}
	return ins, nil
}

// complete finds out the digests that resolve left unknown.
func (b *Builder) complete(ctx context.Context, n *node, s *plan.Step, ins []*input) error {
	for i, in := range ins {
		var err error
		switch {
		case in.open:
			if err = b.src.Digest(ctx, in.matches); err == nil {
				in.open, in.listed = false, manifestSum(in.matches, b.RealTimes)
			}
		case in.unread():
			err = b.src.Complete(ctx, &in.archive)
		}
		if err != nil {
			return b.opError(n, s, s.Ops[i], err, nil)
		}
	}
	return nil
}

// known reports whether the digests of all files are known.
func known(matches []source.Match) bool {
	for _, m := range matches {
		for i := range m.Nodes {
			if !m.Nodes[i].Known() {
				return false
			}
		}
	}
	return true
}

// unread reports whether a digest is not known: carrying out the step tells it.
func (in *input) unread() bool { return in.open || in.archive.Path != "" && !in.archive.Known() }

// keyNow returns the key of a step, so far as it can be had without reading what only the step itself need read. unread
// says that this is the key of all that is known but the content of an archive or of files that are copied: nothing like the step was
// ever carried out. Steps that run something read everything first, since they do not see the bytes pass.
func (b *Builder) keyNow(ctx context.Context, nodes nodes, n *node, s *plan.Step, ins []*input) (key cache.Key, unread bool, err error) {
	key, err = b.key(nodes, n, s, ins)
	if err != nil || !slices.ContainsFunc(ins, (*input).unread) {
		return key, false, err
	}
	if _, err := b.Cache.Get(key); !s.Executes() && !b.comparable(s) && (b.NoCache || err != nil) {
		return key, true, nil
	}
	if err := b.complete(ctx, n, s, ins); err != nil {
		return key, false, err
	}
	key, err = b.key(nodes, n, s, ins)
	return key, false, err
}

func (b *Builder) input(ctx context.Context, op spec.Op) (*input, error) {
	in := &input{}
	var err error
	switch op := op.(type) {
	case *spec.Expand:
		in.archive, err = b.src.File(ctx, op.Src, op.Checksum)
	case *spec.Copy:
		if op.From == "" && op.Content == nil {
			in.matches, err = b.copied(ctx, op, func(text string) {
				in.warnings = append(in.warnings, fmt.Sprintf("%s: %s", op, text))
			})
			in.open = !known(in.matches)
			if !in.open {
				in.listed = manifestSum(in.matches, b.RealTimes)
			}
		}
	case *spec.Install:
		for _, name := range op.Files {
			var found []source.File
			if found, err = b.src.Packages(ctx, name); err != nil {
				break
			}
			in.files = append(in.files, found...)
		}
	case *spec.Run:
		in.script, err = b.hostScript(ctx, op)
	case *spec.Remove, *spec.Hook:
	}
	return in, err
}

// copied returns what a copy reads from outside.
func (b *Builder) copied(ctx context.Context, op *spec.Copy, warn func(string)) ([]source.Match, error) {
	if !source.IsURL(op.Src) {
		matches, err := b.src.List(ctx, op.Src, op.Exclude, warn)
		if err == nil && op.Parents {
			err = b.src.WithParents(op.Src, matches)
		}
		return matches, err
	}
	m, err := b.src.Download(ctx, op.Src, op.Checksum)
	return []source.Match{m}, err
}

// hostScript returns the script of the host that a run names: a single word that is the name of an
// existing file. nil means shell text.
func (b *Builder) hostScript(ctx context.Context, op *spec.Run) (*source.File, error) {
	if !op.IsFile {
		if op.Script == "" || strings.ContainsAny(op.Script, " \t\n") {
			return nil, nil
		}
		if err := danglingScript(b.src, op); err != nil {
			return nil, err
		}
		if fi, err := os.Stat(b.src.Abs(op.Script)); err != nil || !fi.Mode().IsRegular() {
			return nil, nil
		}
	}
	f, err := b.src.File(ctx, op.Script, "")
	return &f, err
}

// danglingScript returns the error of a run whose script is a single word that names a symlink beside the spec that leads to nothing.
func danglingScript(src *source.Source, op *spec.Run) error {
	if op.Script == "" || strings.ContainsAny(op.Script, " \t\n") || strings.HasPrefix(op.Script, "/") {
		return nil
	}
	return source.Dangling(src.Abs(op.Script))
}

// stepNode is what the key of a step covers. Its strings are UTF-8; whatever may not be, such as the
// names of copied files, stands in it as a digest.
type stepNode struct {
	Semantics int           `json:"semantics"`
	Parent    digest.Digest `json:"parent"` // chain ID of the tree below
	Epoch     int64         `json:"epoch"`
	Clamp     *int64        `json:"clamp,omitempty"`
	RealTimes bool          `json:"realTimes,omitempty"`
	Platform  *v1.Platform  `json:"platform,omitempty"` // steps that run something only
	Env       []string      `json:"env,omitempty"`      // as envNode has it
	Ops       []any         `json:"ops"`

	shown *shownStep // beside the key; nil where no argument stands in the step
}

type expandNode struct {
	Expand  string
	Unread  string   `json:",omitempty"` // in place of Expand: the path, where the content is not known
	Dest    string   `json:",omitempty"`
	Strip   int      `json:",omitempty"`
	Include []string `json:",omitempty"`
	Exclude []string `json:",omitempty"`
	Chown   string   `json:",omitempty"`
	Onto    string   `json:",omitempty"` // why it is not the layer as it is, where there is nothing below
}

type copyNode struct {
	Copy    string        `json:",omitempty"` // digest of the manifest of what the host has
	Unread  string        `json:",omitempty"` // in place of Copy: the path, where not all content is known
	Content *string       `json:",omitempty"`
	From    digest.Digest `json:",omitempty"` // chain ID of the other image
	Src     string        `json:",omitempty"` // in the other image
	Exclude []string      `json:",omitempty"` // with From or Unread: the manifest has only what is left
	Dest    string
	Glob    bool    `json:",omitempty"` // Src is a glob, and Dest a folder
	Parents bool    `json:",omitempty"`
	Chown   string  `json:",omitempty"`
	Chmod   *uint32 `json:",omitempty"`
}

type installNode struct {
	Install  []string `json:",omitempty"` // digests and names of files
	Packages []string `json:",omitempty"`
	Clean    bool     `json:",omitempty"`
}

type runNode struct {
	Run     string
	Script  string   `json:",omitempty"` // digest of a script of the host
	Shell   []string `json:",omitempty"`
	Args    []string `json:",omitempty"`
	Workdir string   `json:",omitempty"`
	User    string   `json:",omitempty"`
	Env     []string `json:",omitempty"`
	Network string   `json:",omitempty"`
}

type removeNode struct{ Remove []string }

// key returns the key of a step whose parents are known.
func (b *Builder) key(nodes nodes, n *node, s *plan.Step, ins []*input) (cache.Key, error) {
	node, err := b.stepNode(nodes, n, s, ins)
	if err != nil {
		return cache.Key{}, err
	}
	key, err := cache.NewKey(node)
	if err == nil && node.shown != nil {
		key, err = key.With(node.shown)
	}
	return key, err
}

func (b *Builder) stepNode(nodes nodes, n *node, s *plan.Step, ins []*input) (*stepNode, error) {
	node := &stepNode{
		Semantics: semantics, Parent: n.stack().chainID(), Epoch: n.epoch, Clamp: b.SourceEpoch, RealTimes: b.RealTimes,
	}
	if s.Executes() {
		p := image.BuiltHere()
		node.Platform = &p
		node.Env = envNode(stepEnv(n))
	}
	for i, a := range s.Ops {
		op, err := b.opNode(nodes, n, s, a.Op, ins[i])
		if err != nil {
			return nil, b.opError(n, s, a, err, nil)
		}
		node.Ops = append(node.Ops, op)
	}
	node.shown = shownNode(s, node.Ops, ins)
	return node, nil
}

func (b *Builder) opNode(nodes nodes, n *node, s *plan.Step, op spec.Op, in *input) (any, error) {
	switch op := op.(type) {
	case *spec.Expand:
		node := expandNode{
			Expand: in.archive.String(), Dest: op.Dest, Strip: op.StripComponents,
			Include: op.Include, Exclude: op.Exclude, Chown: op.Chown,
		}
		if in.unread() {
			node.Expand, node.Unread = "", strconv.QuoteToASCII(in.archive.Path)
		}
		if len(n.below)+len(n.layers) == 0 {
			node.Onto = onSomething(s)
		}
		return node, nil
	case *spec.Copy:
		node := copyNode{Content: op.Content, Dest: op.Dest, Parents: op.Parents, Chown: op.Chown, Chmod: op.Chmod}
		switch {
		case op.From != "":
			from, err := b.fromImage(nodes, n, op.From)
			if err != nil {
				return nil, err
			}
			node.From, node.Src, node.Exclude = stackOf(from).chainID(), op.Src, op.Exclude
		case op.Content == nil:
			node.Glob = in.matches[0].Glob
			if in.open {
				node.Unread, node.Exclude = strconv.QuoteToASCII(b.src.Abs(op.Src)), op.Exclude
			} else {
				node.Copy = fmt.Sprintf("sha256:%x", in.listed)
			}
		}
		return node, nil
	case *spec.Install:
		node := installNode{Packages: op.Packages, Clean: op.Clean}
		for _, f := range in.files {
			node.Install = append(node.Install, f.String()+" "+f.Name)
		}
		return node, nil
	case *spec.Run:
		node := runNode{
			Run: op.Script, Shell: op.Shell, Args: op.Args, Workdir: op.Workdir,
			User: op.User, Env: envNode(spec.Environ(op.Env)), Network: op.Network,
		}
		if in.script != nil {
			node.Script = in.script.String()
		}
		return node, nil
	case *spec.Remove:
		return removeNode{op.Paths}, nil
	default:
		return nil, fmt.Errorf("%T is not an action", op)
	}
}

// envNode returns names with the digests of their values: a key is kept, and a value may be a secret.
func envNode(env []string) []string {
	out := make([]string, len(env))
	for i, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		sum := sha256.Sum256([]byte(value))
		out[i] = name + "=" + base64.RawStdEncoding.EncodeToString(sum[:])
	}
	return out
}

// fromImage returns the image that a copy reads: a target of the plan, or a tag of the layout.
func (b *Builder) fromImage(nodes nodes, n *node, name string) (image.Image, error) {
	for _, img := range n.From {
		if img.String() == name {
			return nodes[img].img, nil
		}
	}
	return b.Layout.Image(name, image.BuiltHere())
}

// lookup returns the layer that a step of the key made before, if it is still in the layout or n is spare; nil where it changed nothing.
func (b *Builder) lookup(n *node, s *plan.Step, key cache.Key) (*builtLayer, bool) {
	if b.NoCache || s.Hooked() {
		return nil, false
	}
	at, ok := b.find(n, key)
	if !ok {
		return nil, false
	}
	b.last.Set(lastName(s), key)
	if at.entry.Archive != "" {
		b.noteArchive(s, at.entry.Archive)
	}
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

// find returns the entry of the key if it can be used for n. What Forecast found so, Build does not look for again.
func (b *Builder) find(n *node, key cache.Key) (located, bool) {
	name := key.String()
	if !n.needed {
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

// locate finds the layer of an entry: as the blob that serves this build, as any that is there where no tag needs it, or as what
// such a blob can be made of. Where n is spare, it need not be there.
func (b *Builder) locate(n *node, e cache.Entry) (located, bool) {
	at := located{entry: e}
	if e.DiffID == "" {
		return at, true
	}
	if b.Layout == nil {
		at.gone = true
		return at, n.spare
	}
	ids := []string{b.blobID(b.Recompress)}
	if !n.needed {
		ids = append(ids, slices.Sorted(maps.Keys(e.Blobs))...)
	}
	for _, id := range ids {
		if at.desc = descriptor(e.Blobs[id]); at.desc.Digest != "" && b.Layout.Has(at.desc) {
			return at, true
		}
	}
	at.scratch = e.Tar > 0 && b.Layout.HasScratch(e.DiffID, e.Tar)
	at.desc = v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: e.DiffID, Size: e.Tar}
	at.gone = !at.scratch
	return at, at.scratch || n.spare
}

// blobOf returns the descriptor of the blob that serves this build; zero where the entry has none.
func (b *Builder) blobOf(e cache.Entry) v1.Descriptor {
	return descriptor(e.Blobs[b.blobID(b.Recompress)])
}

func descriptor(b cache.Blob) v1.Descriptor {
	return v1.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// remember stores what the step made. How an archive that was taken as it is came to be compressed depends on
// Recompress; all other layers are the same with and without it.
func (s *step) remember(l *builtLayer) error {
	if s.Hooked() {
		return nil
	}
	e := cache.Entry{Lent: s.runner.Lent(), Seconds: s.seconds()}
	if op, ok := passable(s.Step); ok {
		e.Archive = s.Archive(s.Step, op)
	}
	if l != nil {
		e.DiffID, e.Chain = l.DiffID, image.ChainID(s.parent, l.DiffID)
		e.Blobs = map[string]cache.Blob{}
		if l.scratch {
			e.Tar = l.Descriptor.Size
		} else {
			s.addBlob(e, l)
		}
	}
	if err := s.Cache.Put(s.key, e); err != nil {
		return err
	}
	s.last.Set(lastName(s.Step), s.key)
	return s.keepInputs()
}

// addBlob notes the blob of a layer in the entry of the step.
func (s *step) addBlob(e cache.Entry, l *builtLayer) {
	blob := cache.Blob{MediaType: l.Descriptor.MediaType, Digest: l.Descriptor.Digest, Size: l.Descriptor.Size}
	e.Blobs[s.blobID(s.recompress())] = blob
	if e.Archive != asIs {
		e.Blobs[s.blobID(!s.recompress())] = blob
	}
}

// rememberBlob notes a blob that a layer got later than its entry.
func (s *step) rememberBlob(l *builtLayer) error {
	e, err := s.Cache.Get(s.key)
	if err != nil || e.DiffID != l.DiffID {
		return nil // no entry, or one that another step made, for which it is to note that
	}
	if e.Blobs == nil {
		e.Blobs = map[string]cache.Blob{}
	}
	s.addBlob(e, l)
	return s.Cache.Put(s.key, e)
}

// recompress reports whether an archive that is taken as the layer is compressed anew: where no tag needs it, nobody wishes that.
func (s *step) recompress() bool { return s.Recompress && s.n.needed }

// asTheyAre begins the names of blobs for which sound archives are not compressed anew.
const asTheyAre = "archives as they are, else "

// blobID is the name of a layer's blob in cache entries.
func (b *Builder) blobID(recompress bool) string {
	if recompress {
		return b.Compression.ID
	}
	return asTheyAre + b.Compression.ID
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
