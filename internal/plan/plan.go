// Package plan decides what a build does, from a spec alone: a graph of images and steps, bases first, rings refused by name.
// It is pure, reads no file, and adds nothing that the spec does not say; a build carries out exactly what is here.
//
// Terms. An *image* is what one target makes. A *step* is one layer of it: a run of actions that is carried out,
// cached and stored as one. An image has no step when its target only changes the config.
package plan

import "genoci/internal/spec"

// BaseKind says what an image stands on.
type BaseKind int

// The kinds of bases.
const (
	Empty  BaseKind = iota // nothing
	Target                 // another image of the plan
	Tag                    // a tag of the output layout
	OCI                    // oci:DIR:TAG, an image of another layout
)

// Base is what an image stands on.
type Base struct {
	Kind  BaseKind
	Image *Image // Target
	Dir   string // OCI: the folder of the layout as written, relative to the spec's folder
	Tag   string // Tag, OCI
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
	Ops   []spec.Op
	Pre   []*spec.Hook // in the first step only
	Post  []*spec.Hook // in the last step only; they run when Pre began, on failure too
}

// Plan is all that a build does.
type Plan struct {
	Spec   *spec.Spec
	Images []*Image // bases before what is built on them
}

// New plans the named targets of s with all that they need, or all targets where none is named. isTag says whether the output layout has
// a tag. The error is a spec.Errors for what is wrong in the spec (unknown bases, rings), with "did you mean"; an unknown name among targets is an *UnknownTargetError.
func New(s *spec.Spec, targets []string, tags []string) (*Plan, error) { panic("stub") }

// Executes reports whether the step needs a root filesystem, because it runs something.
func (s *Step) Executes() bool { panic("stub") }

// Name returns NAME, or NAME#2 for the second step of an image with several.
func (s *Step) Name() string { panic("stub") }

// String returns the name of the target.
func (i *Image) String() string { panic("stub") }

// UnknownTargetError is returned by New for a target that the spec does not have.
type UnknownTargetError struct{ Name, Nearest, File string }

func (e *UnknownTargetError) Error() string { panic("stub") }
