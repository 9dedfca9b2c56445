// Package plan decides what a build does, from a spec alone: a graph of images and steps, bases
// first, rings refused by name. It is pure, reads no file, and adds nothing that the spec does not
// say; a build carries out exactly what is here.
//
// Terms. An *image* is what one target makes. A *step* is one layer of it: a run of actions that is
// carried out, cached and stored as one. An image has no step when its target only changes the
// config.
package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"genoci/internal/ref"
	"genoci/internal/spec"
)

// BaseKind says what an image stands on.
type BaseKind int

// The kinds of bases.
const (
	Empty  BaseKind = iota // nothing
	Target                 // another image of the plan
	Tag                    // a tag of the output layout
	OCI                    // an image of another layout
)

// Base is what an image stands on.
type Base struct {
	Kind  BaseKind
	Image *Image // Target
	Tag   string // Tag
	Ref   string // OCI: DIR:TAG, DIR@DIGEST or DIR:TAG@DIGEST as written, DIR relative to the spec's folder (layout.Find)
}

// Image is one target to be built.
type Image struct {
	Target *spec.Target
	Base   Base
	Steps  []*Step
	From   []*Image // images of the plan that Copy ops with "from" read, without repeats
}

// Step is one layer of an image.
type Step struct {
	Image *Image
	Index int // in Image.Steps, from 0
	Ops   []spec.Action
	Pre   []*spec.Hook // in the first step only
	Post  []*spec.Hook // in the last step only; they run whenever Pre began, on failure too
}

// Plan is all that a build does.
type Plan struct {
	Spec   *spec.Spec
	Images []*Image // bases before what is built on them, else in the order of the file
}

// New plans the named targets of s with all that they need, or all targets where none is named.
// tags are the tags of the output layout. The error is a spec.Errors for what is wrong in the spec
// (unknown bases, rings), with "did you mean"; or an *UnknownTargetError. With a spec.Errors it
// also returns the plan of what could be planned. That is good for finding further mistakes, and
// for nothing else.
func New(s *spec.Spec, targets []string, tags []string) (*Plan, error) {
	p := &planner{spec: s, tags: tags, images: map[string]*Image{}, plan: &Plan{Spec: s}}
	wanted := s.Targets
	if len(targets) > 0 {
		wanted = nil
		for _, name := range targets {
			t := s.Target(name)
			if t == nil {
				return nil, &UnknownTargetError{Name: name, Nearest: spec.Nearest(name, p.names()), File: s.File}
			}
			wanted = append(wanted, t)
		}
	}
	for _, t := range wanted {
		p.visit(t)
	}
	if len(p.errs) > 0 {
		return p.plan, p.errs.Sorted()
	}
	return p.plan, nil
}

// Executes reports whether the step needs a root filesystem, because it runs something.
func (s *Step) Executes() bool {
	if s.Hooked() {
		return true
	}
	return slices.ContainsFunc(s.Ops, func(a spec.Action) bool { return a.Op.Runs() })
}

// Hooked reports whether hooks run during the step. What they do on the host is not known, so such
// a step is never taken from a cache.
func (s *Step) Hooked() bool { return len(s.Pre) > 0 || len(s.Post) > 0 }

// Name returns NAME, or NAME#2 for the second step of an image with several.
func (s *Step) Name() string {
	if len(s.Image.Steps) < 2 {
		return s.Image.String()
	}
	return fmt.Sprintf("%s#%d", s.Image, s.Index+1)
}

// String returns the name of the target.
func (i *Image) String() string { return i.Target.Name }

// String returns the base as it can be written in a spec.
func (b Base) String() string {
	switch b.Kind {
	case Target:
		return b.Image.String()
	case Tag:
		return b.Tag
	case OCI:
		return string(ref.OCI) + ":" + b.Ref
	default:
		return "empty"
	}
}

// UnknownTargetError is returned by New for a target that the spec does not have.
type UnknownTargetError struct{ Name, Nearest, File string }

func (e *UnknownTargetError) Error() string {
	msg := fmt.Sprintf("no target %q in %s", e.Name, e.File)
	if e.Nearest != "" {
		msg += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return msg
}

// planner is the state of New.
type planner struct {
	spec   *spec.Spec
	tags   []string
	plan   *Plan
	images map[string]*Image // a nil value: being visited
	path   []*spec.Target    // from a wanted target down to the one being visited
	errs   spec.Errors
}

// visit plans t after everything that it needs, and returns its image. Mistakes are noted in
// p.errs.
func (p *planner) visit(t *spec.Target) *Image {
	if img, ok := p.images[t.Name]; ok {
		return img
	}
	p.images[t.Name] = nil
	p.path = append(p.path, t)
	img := &Image{Target: t}
	img.Base = p.base(t)
	for _, a := range t.Actions {
		for _, name := range a.Op.Images() {
			p.from(img, a.Pos, name)
		}
	}
	img.Steps = steps(img)
	p.path = p.path[:len(p.path)-1]
	p.images[t.Name] = img
	p.plan.Images = append(p.plan.Images, img)
	return img
}

// needs visits the target name that t needs at pos, and reports a ring.
func (p *planner) needs(pos spec.Pos, name string) *Image {
	next := p.spec.Target(name)
	if i := slices.Index(p.path, next); i >= 0 {
		p.ring(pos, p.path[i:])
		return nil
	}
	return p.visit(next)
}

func (p *planner) ring(pos spec.Pos, ring []*spec.Target) {
	last := ring[len(ring)-1]
	if len(ring) == 1 {
		p.errorf(pos, last, "", "it depends on itself")
		return
	}
	var b strings.Builder
	for _, t := range ring {
		fmt.Fprintf(&b, "%s needs ", t.Name)
	}
	p.errorf(pos, last, "", "circular dependency between targets: %s%s", &b, ring[0].Name)
}

func (p *planner) base(t *spec.Target) Base {
	name := t.Base
	switch {
	case name == "empty":
		return Base{}
	case p.spec.Target(name) != nil:
		if img := p.needs(t.BasePos, name); img != nil {
			return Base{Kind: Target, Image: img}
		}
	case slices.Contains(p.tags, name):
		return Base{Kind: Tag, Tag: name}
	case isOCI(name):
		return Base{Kind: OCI, Ref: strings.TrimPrefix(name, string(ref.OCI)+":")}
	default:
		p.unknown(t.BasePos, t, name, "its base is then %[2]s", "base %q is neither a target of this file nor a tag of the layout", name)
	}
	return Base{}
}

func (p *planner) from(img *Image, pos spec.Pos, name string) {
	switch {
	case p.spec.Target(name) != nil:
		if from := p.needs(pos, name); from != nil && !slices.Contains(img.From, from) {
			img.From = append(img.From, from)
		}
	case slices.Contains(p.tags, name):
	default:
		p.unknown(pos, img.Target, name, "a target with base: %[2]s can then stand here",
			"copy from %q: neither a target of this file nor a tag of the layout", name)
	}
}

func (p *planner) errorf(pos spec.Pos, t *spec.Target, suggest, format string, args ...any) {
	e := p.spec.Errorf(pos, t.Name, format, args...)
	e.Suggest = suggest
	p.errs = append(p.errs, e)
}

// unknown is the error about the name of an image that is not there. It suggests a similar name, or
// else how an image of a registry comes here; then says what follows, with the image's name in the
// registry and its new one.
func (p *planner) unknown(pos spec.Pos, t *spec.Target, name, then, format string, args ...any) {
	suggest := ""
	if near := spec.Nearest(name, append(p.names(), p.tags...)); near != "" {
		suggest = fmt.Sprintf("did you mean %q?", near)
	} else if ref := localName(name); ref != "" {
		suggest = fmt.Sprintf("an image of a registry is copied first: skopeo copy docker://%s %s; "+then, name, ref)
	}
	p.errorf(pos, t, suggest, format, args...)
}

// isOCI reports whether name is that of an image of another layout.
func isOCI(name string) bool {
	r, err := ref.Parse(name)
	return err == nil && r.Transport == ref.OCI
}

// localName returns a name for the copy of an image of a registry, as oci:DIR:TAG, or "" where name
// cannot be one: [HOST/]PATH[:TAG][@DIGEST].
func localName(name string) string {
	r, err := ref.Parse("docker://" + name)
	if err != nil {
		return ""
	}
	local := ref.Ref{Transport: ref.OCI, Path: "images", Tag: path.Base(r.Name)}
	if r.Tag != "" {
		local.Tag += "-" + r.Tag
	}
	return local.String()
}

func (p *planner) names() []string {
	names := make([]string, len(p.spec.Targets))
	for i, t := range p.spec.Targets {
		names[i] = t.Name
	}
	return names
}

// steps cuts the actions of an image's target into steps.
func steps(img *Image) []*Step {
	t := img.Target
	var all []*Step
	var ops []spec.Action
	add := func() {
		all = append(all, &Step{Image: img, Index: len(all), Ops: ops})
		ops = nil
	}
	for _, a := range t.Actions {
		ops = append(ops, a)
		if a.Layer {
			add()
		}
	}
	if len(ops) > 0 || len(all) == 0 && len(t.Pre)+len(t.Post) > 0 {
		add()
	}
	if len(all) > 0 {
		all[0].Pre = t.Pre
		all[len(all)-1].Post = t.Post
	}
	return all
}
