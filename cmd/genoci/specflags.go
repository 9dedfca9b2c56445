package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/pflag"

	"genoci/internal/build"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/spec"
)

// defaultSpec is the spec where nobody names one.
const defaultSpec = "genoci.yaml"

// manyErrors is how many errors in the text of a spec are enough to look for no others: spec stops
// at 100, and says so at the end.
const manyErrors = 100

// specFlags name a spec and the layout that its bases may come from.
type specFlags struct {
	file   string
	args   args
	layout string
}

func (s *specFlags) add(fs *pflag.FlagSet) {
	s.args = make(args)
	fs.StringVarP(&s.file, "file", "f", defaultSpec, "the spec, `FILE`")
	fs.Var(s.args, argFlag, "value of an argument that the spec names as ${{NAME}}")
	layoutVar(fs, &s.layout)
}

// load reads the spec. With errors in its content it also returns what could be read of it, as
// spec.Load does.
func (s *specFlags) load() (*spec.Spec, error) {
	sp, err := spec.Load(s.file, spec.Options{Args: s.args})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = withHint(usagef("%w", err), "%s", s.missingHint())
	case err != nil && !isSpecError(err):
		err = usagef("%w", err)
	}
	return sp, err
}

// missingHint says what the user can do where the spec is not there.
func (s *specFlags) missingHint() string {
	for _, name := range []string{"Dockerfile", "Containerfile"} {
		if _, err := os.Stat(name); err == nil && s.file == defaultSpec {
			return "genoci reads a YAML spec, not the " + name + " that is here: write a target for each of its stages"
		}
	}
	return "name the spec: -f FILE; genoci --help shows how to begin"
}

// plan reads the spec and plans targets, or all if there are none. All that they need from outside
// is there. The error holds every mistake of the spec, in the order of the file.
func (s *specFlags) plan(targets []string) (*plan.Plan, error) {
	sp, err := s.load()
	if errors.Is(err, fs.ErrNotExist) && s.file == defaultSpec && len(targets) > 0 && isSpecName(targets[0]) {
		return nil, withHint(err, "a spec is named with -f: genoci build -f %s", shellQuote(targets[0]))
	}
	if sp == nil {
		return nil, err
	}
	found := specErrors(err)
	if len(found) > manyErrors {
		return nil, found
	}
	p, l, err := s.planOf(sp, targets)
	if l != nil {
		defer l.Close()
	}
	switch {
	case err == nil || len(specErrors(err)) > 0:
		found = append(found, specErrors(err)...)
		found = append(found, specErrors(build.CheckInputs(p, l))...)
	case len(found) == 0:
		return nil, err
	}
	if len(found) > 0 {
		return nil, found.Sorted()
	}
	return p, nil
}

// planOf plans a spec. Where that names tags, or what may be some, it opens the layout and returns
// it, to be closed.
func (s *specFlags) planOf(sp *spec.Spec, targets []string) (*plan.Plan, *layout.Layout, error) {
	// Targets come before tags, and a layout may have thousands: they are read only for what is no
	// target.
	p, err := plan.New(sp, targets, nil)
	if len(specErrors(err)) == 0 {
		return p, nil, err
	}
	l, openErr := layout.Open(s.layout)
	if errors.Is(openErr, layout.ErrNotExist) {
		return p, nil, err
	}
	if openErr != nil {
		return nil, nil, openErr
	}
	tags, err := tagNames(l)
	if err == nil {
		p, err = plan.New(sp, targets, tags)
	}
	return p, l, err
}

// tagsOf returns the names of the tags of the layout in dir; none when it does not exist yet.
func tagsOf(dir string) ([]string, error) {
	l, err := layout.Open(dir)
	if errors.Is(err, layout.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return tagNames(l)
}

func tagNames(l *layout.Layout) ([]string, error) {
	tags, err := l.Tags()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range tags {
		names = append(names, t.Name)
	}
	return names, nil
}
