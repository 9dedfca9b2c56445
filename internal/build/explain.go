package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/shown"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// ReasonKind says of what sort a Reason is.
type ReasonKind string

// The kinds of reasons.
const (
	ReasonHooks       ReasonKind = "hooks"       // hooks run on the host, so the step is never cached
	ReasonNoCache     ReasonKind = "no-cache"    // the user wants every step carried out
	ReasonNew         ReasonKind = "new"         // never built before
	ReasonLost        ReasonKind = "lost"        // the cache or the layout no longer has what it had
	ReasonCompression ReasonKind = "compression" // the layer is there in another compression only
	ReasonBusybox     ReasonKind = "busybox"     // another busybox would be lent
	ReasonInput       ReasonKind = "input"       // a file of the host changed. Path; Changes
	ReasonAction      ReasonKind = "action"      // the spec says something else. Lines
	ReasonArgument    ReasonKind = "argument"    // an argument that stands in the action has another value
	ReasonEnvironment ReasonKind = "environment" // variables that commands see
	ReasonSetting     ReasonKind = "setting"     // time, platform, version of genoci. Changes
	ReasonBase        ReasonKind = "base"        // what the step stands on
	ReasonFrom        ReasonKind = "from"        // an image that the step copies from
)

// Reason is one answer to why a step is not cached. Values of variables and arguments do not stand in it, since they may be secrets.
type Reason struct {
	Kind    ReasonKind
	Op      string   // the op in a line; "" where the reason concerns all of the step
	Pos     spec.Pos // of the op
	Text    string   // the reason in a line, without the op
	Path    string   // of the file, as the spec would name it
	Changes []Change // what is different, field by field
	Lines   []string // of text and lists: "- " and what was, "+ " and what is
}

// Change is a field that has another value. Old or New is "" where it has none.
type Change struct{ Field, Old, New string }

// String returns the reason in a line, without Lines.
func (r Reason) String() string {
	if r.Op == "" {
		return r.Text
	}
	return r.Op + ": " + r.Text
}

// Explanation says what a build would do with a step, and why.
type Explanation struct {
	Outcome Outcome
	Reasons []Reason // why it is not cached, the most telling first; none where it is
}

// Explain says for each step of p what Build would do, as Forecast does, and why. A step is compared with
// what it was when the spec was built last. A step whose base is not cached is told from what is known without it.
func (b *Builder) Explain(ctx context.Context, p *plan.Plan) (map[*plan.Step]Explanation, error) {
	if err := b.init(p); err != nil {
		return nil, err
	}
	if err := b.checkHooks(p); err != nil {
		return nil, err
	}
	all := map[*plan.Step]Explanation{}
	nodes := newNodes(p)
	b.foreseeSpare(ctx, p, nodes)
	for _, img := range p.Images {
		n := nodes[img]
		n.spare = !n.needed
		if err := b.begin(ctx, n); err != nil {
			return nil, err
		}
		n.known = img.Base.Image == nil || nodes[img.Base.Image].known
		for _, s := range img.Steps {
			e, err := b.explainStep(ctx, nodes, n, s)
			if err != nil {
				return nil, err
			}
			all[s] = e
		}
		// Where a step is not cached, this is no image that will ever be; yet its environment is what the next one inherits.
		n.early = image.Extend(n.base, b.extension(n))
		n.img = n.early
	}
	return all, b.src.Stats.Save()
}

// explainStep explains a step, and adds its result to the node where that is known.
func (b *Builder) explainStep(ctx context.Context, nodes nodes, n *node, s *plan.Step) (Explanation, error) {
	if s.Hooked() {
		n.known = false
		return Explanation{Outcome: wayOf(s), Reasons: b.reasons(n, s, nil, nil, unknown{})}, nil
	}
	ins, err := b.resolve(ctx, n, s)
	if errors.Is(err, fs.ErrNotExist) && len(n.Target.Pre) > 0 {
		n.known = false
		return Explanation{Outcome: wayOf(s), Reasons: []Reason{{Kind: ReasonHooks, Text: "pre makes its input"}}}, nil
	}
	if err != nil {
		return Explanation{}, err
	}
	if err := b.complete(ctx, n, s, ins); err != nil {
		return Explanation{}, err
	}
	now, err := b.stepNode(nodes, n, s, ins)
	if err != nil {
		return Explanation{}, err
	}
	open := unknown{base: !n.known, from: unknownImages(nodes, s)}
	if !open.any() {
		key, err := cache.NewKey(now)
		if err != nil {
			return Explanation{}, err
		}
		if l, hit := b.lookup(n, s, key); hit {
			n.add(s, l)
			if l == nil || !l.gone || b.spared[n.Image] {
				return Explanation{Outcome: Cached}, nil
			}
			return Explanation{Outcome: wayOf(s), Reasons: b.reasons(n, s, ins, now, open)}, nil
		}
	}
	n.known = false
	return Explanation{Outcome: wayOf(s), Reasons: b.reasons(n, s, ins, now, open)}, nil
}

// unknown is what the key of a step needs and that is only known when something else was built.
type unknown struct {
	base bool            // the base, or a step before
	from map[string]bool // images that it copies from
}

func (u unknown) any() bool { return u.base || len(u.from) > 0 }

// unknownImages returns the images of the plan that a step copies from, and that are not known.
func unknownImages(nodes nodes, s *plan.Step) map[string]bool {
	all := map[string]bool{}
	for _, n := range sourcesOf(nodes, s) {
		if !n.known {
			all[n.String()] = true
		}
	}
	return all
}

// why says in a line why a step is not cached; "" where nobody asked.
func (b *Builder) why(nodes nodes, n *node, s *plan.Step, ins []*input) string {
	if !b.Why {
		return ""
	}
	var now *stepNode
	if !s.Hooked() {
		var err error
		if now, err = b.stepNode(nodes, n, s, ins); err != nil {
			return ""
		}
	}
	all := b.reasons(n, s, ins, now, unknown{})
	text := all[0].String()
	if lines := all[0].Lines; len(lines) > 0 && len(lines) <= 2 {
		text += ": " + strings.Join(lines, " / ")
	}
	if more := len(all) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// comparable reports whether somebody wants to know how a step differs from what it was, which takes all digests.
func (b *Builder) comparable(s *plan.Step) bool {
	return b.Why && !b.NoCache && b.last.Get(lastName(s)) != ""
}

// lastName is the name of a step in cache.Last.
func lastName(s *plan.Step) string { return fmt.Sprintf("%s#%d", s.Image, s.Index+1) }

// saveLast stores under which keys the steps of the plan were built or found.
func (b *Builder) saveLast(p *plan.Plan) error {
	targets := map[string]bool{}
	for _, t := range p.Spec.Targets {
		targets[t.Name] = true
	}
	return b.last.Save(func(step string) bool {
		at := strings.LastIndexByte(step, '#')
		return at >= 0 && targets[step[:at]]
	})
}

// keepInputs keeps what the key of the step has digests of.
func (s *step) keepInputs() error {
	for _, in := range s.ins {
		if in.matches != nil {
			var text bytes.Buffer
			if err := writeManifest(&text, in.matches, s.RealTimes); err != nil {
				return err
			}
			if err := s.Cache.KeepNode(in.listed, text.Bytes()); err != nil {
				return err
			}
		}
		if in.script != nil {
			if err := s.keepScript(in.script); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepScript keeps the text of a script of the host, unless it is a large one, or is no longer what was run.
func (s *step) keepScript(f *source.File) error {
	if f.Size > maxScript {
		return nil
	}
	text, err := readScript(f)
	if err != nil {
		return nil
	}
	return s.Cache.KeepNode(f.Digest, text)
}

func readScript(f *source.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// reasons says why a step, whose node is now, is not cached: at least one. What may be secret in URLs and commands is left out.
func (b *Builder) reasons(n *node, s *plan.Step, ins []*input, now *stepNode, open unknown) []Reason {
	all := b.differences(n, s, ins, now, open)
	for i := range all {
		r := &all[i]
		r.Text, r.Path = shown.Text(r.Text), shown.Text(r.Path)
		for j, line := range r.Lines {
			r.Lines[j] = shown.Text(line)
		}
		for j, c := range r.Changes {
			r.Changes[j] = Change{c.Field, shown.Text(c.Old), shown.Text(c.New)}
		}
	}
	return all
}

func (b *Builder) differences(n *node, s *plan.Step, ins []*input, now *stepNode, open unknown) []Reason {
	switch {
	case s.Hooked():
		return []Reason{{Kind: ReasonHooks, Text: "hooks are never cached"}}
	case b.NoCache:
		return []Reason{{Kind: ReasonNoCache, Text: "--no-cache carries out every step"}}
	}
	last := b.last.Get(lastName(s))
	if !open.any() {
		key, err := cache.NewKey(now)
		if err != nil {
			return []Reason{{Kind: ReasonLost, Text: err.Error()}}
		}
		if e, err := b.Cache.Get(key); err == nil {
			return []Reason{b.unusable(e)}
		}
		if last == key.String() {
			return []Reason{{Kind: ReasonLost, Text: "the cache entry is gone"}}
		}
	}
	if last == "" {
		return []Reason{{Kind: ReasonNew, Text: "never built before"}}
	}
	old, about, err := b.Cache.Inputs(last)
	switch {
	case errors.Is(err, cache.ErrMiss):
		return []Reason{{Kind: ReasonLost, Text: "the cache entry of the last build is gone"}}
	case err != nil:
		return []Reason{{Kind: ReasonLost, Text: "it changed, and what the last build was made of cannot be read: " + err.Error()}}
	}
	c := &comparison{b: b, n: n, s: s, ins: ins, open: open, about: about}
	if all := c.all(fieldsOf(old), now); len(all) > 0 {
		return all
	}
	return []Reason{{Kind: ReasonSetting, Text: "it was built by another version of genoci"}}
}

// unusable says why an entry that the cache has does not serve.
func (b *Builder) unusable(e cache.Entry) Reason {
	if e.Lent != "" && e.Lent != b.busyboxDigest() {
		return Reason{Kind: ReasonBusybox, Text: "the busybox that was lent changed", Changes: []Change{{"busybox", e.Lent, b.busyboxDigest()}}}
	}
	if len(e.Blobs) > 0 && b.blobOf(e).Digest == "" {
		old, now := compressionNames(slices.Sorted(maps.Keys(e.Blobs))), compressionNames([]string{b.blobID(b.Recompress)})
		return Reason{Kind: ReasonCompression, Text: arrow("compression changed: ", old, now), Changes: []Change{{"compression", old, now}}}
	}
	return Reason{Kind: ReasonLost, Text: "the layer's blob is gone from the layout"}
}

// compressionNames returns the IDs of blobs (blobID) without those that say the same as another.
func compressionNames(ids []string) string {
	ids = slices.DeleteFunc(ids, func(id string) bool {
		plain, ok := strings.CutPrefix(id, asTheyAre)
		return ok && slices.Contains(ids, plain)
	})
	return strings.Join(ids, ", ")
}

// fields are a JSON object.
type fields map[string]json.RawMessage

// fieldsOf returns the fields of v, or of JSON text; none where it is no object.
func fieldsOf(v any) fields {
	var f fields
	text, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if text, err = json.Marshal(v); err != nil {
			return fields{}
		}
	}
	if json.Unmarshal(text, &f) != nil {
		return fields{}
	}
	return f
}

// text returns a string field, "" where there is none.
func (f fields) text(name string) string {
	var s string
	_ = json.Unmarshal(f[name], &s) // what is no string is none
	return s
}

// list returns a field that is a list of strings.
func (f fields) list(name string) []string {
	var l []string
	_ = json.Unmarshal(f[name], &l)
	return l
}

// value returns a field as people write it.
func (f fields) value(name string) string {
	v, ok := f[name]
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

// differing returns the names of the fields that differ, sorted.
func differing(old, now fields) []string {
	var names []string
	for name := range now {
		if string(old[name]) != string(now[name]) {
			names = append(names, name)
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// comparison is that of a step with what it was.
type comparison struct {
	b    *Builder
	n    *node
	s    *plan.Step
	ins  []*input
	open unknown

	about json.RawMessage // of the step as it was: a shownStep, or nothing
}

// all returns all differences: what the user did first, then what others did.
func (c *comparison) all(old fields, now *stepNode) []Reason {
	all := c.ops(old, now)
	all = append(all, environmentChanges(old.list("env"), now.Env)...)
	all = append(all, c.settings(old, fieldsOf(now))...)
	return append(all, c.parents(old, now)...)
}

// settings compares what is the same for all of a build.
func (c *comparison) settings(old, now fields) []Reason {
	names := map[string]string{
		"epoch": "epoch", "clamp": "SOURCE_DATE_EPOCH", "realTimes": "--reproducible", "platform": "platform", "semantics": "version of genoci",
	}
	var all []Reason
	for _, name := range differing(old, now) {
		if what := names[name]; what != "" {
			all = append(all, Reason{Kind: ReasonSetting, Text: arrow(what+" changed: ", old.value(name), now.value(name)), Changes: []Change{{what, old.value(name), now.value(name)}}})
		}
	}
	return all
}

// arrow writes what became of a value.
func arrow(what, old, now string) string {
	none := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return what + none(old) + " -> " + none(now)
}

// parents tells of what the step stands on.
func (c *comparison) parents(old fields, now *stepNode) []Reason {
	what := fmt.Sprintf("base %q", c.n.Base)
	if c.s.Index > 0 {
		what = "the step before it"
	}
	if c.open.base {
		return []Reason{{Kind: ReasonBase, Text: what + " is not cached (see its own reasons)"}}
	}
	if before := old.text("parent"); before != string(now.Parent) {
		return []Reason{{Kind: ReasonBase, Text: what + " changed", Changes: []Change{{"base", before, string(now.Parent)}}}}
	}
	return nil
}

// environmentChanges names the variables that differ between two lists of NAME=DIGEST.
func environmentChanges(old, now []string) []Reason {
	was, is := byName(old), byName(now)
	var all []Reason
	add := func(name, what string) {
		all = append(all, Reason{Kind: ReasonEnvironment, Text: fmt.Sprintf("environment %s %s", name, what)})
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if v, ok := was[name]; !ok {
			add(name, "added")
		} else if v != is[name] {
			add(name, "changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[name]; !ok {
			add(name, "removed")
		}
	}
	if len(all) == 0 && !slices.Equal(old, now) {
		all = append(all, Reason{Kind: ReasonEnvironment, Text: "the order of the environment changed"})
	}
	return all
}

func byName(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		name, digest, _ := strings.Cut(kv, "=")
		m[name] = digest
	}
	return m
}
