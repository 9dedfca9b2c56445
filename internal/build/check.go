package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"genoci/internal/action"
	"genoci/internal/image"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// CheckInputs looks for what the plan needs from outside: files of the host, bases in other
// layouts, and tags of l, which is nil where there is no layout yet. It returns an error for each
// that is not there or cannot be an input, in the order of the file. It looks at names only: what
// files hold is seen when they are used, and URLs are not asked for. A file that is missing may be
// there when the pre hooks of the target have run: then that is no error. p may be the plan of a
// spec with mistakes (plan.New). A nil result means that all are there.
func CheckInputs(p *plan.Plan, l *layout.Layout) error {
	c := checker{spec: p.Spec, src: &source.Source{Dir: p.Spec.Dir}, layout: l, bases: map[string]error{}}
	for _, img := range p.Images {
		c.base(img)
		for _, s := range img.Steps {
			for _, a := range s.Ops {
				c.action(s, a)
			}
		}
	}
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs.Sorted()
}

// checker is the state of CheckInputs.
type checker struct {
	spec   *spec.Spec
	src    *source.Source
	layout *layout.Layout
	bases  map[string]error // of what was looked at, by Base.String or tag
	errs   spec.Errors
}

// base looks for the base of an image where that is not an image of the plan.
func (c *checker) base(img *plan.Image) {
	name := img.Base.String()
	var err error
	switch img.Base.Kind {
	case plan.OCI:
		err = c.once(name, func() error {
			l, _, err := layout.Find(img.Base.Ref, c.src.Abs, image.BuiltHere())
			if err == nil {
				err = l.Close()
			}
			return err
		})
	case plan.Tag:
		err = c.tag(name)
	default: // nothing, or an image of the plan
	}
	if err != nil {
		c.errs = append(c.errs, c.spec.Errorf(img.Target.BasePos, img.String(), "base %s: %v", name, err))
	}
}

// tag looks for the image of a tag of the layout.
func (c *checker) tag(name string) error {
	if c.layout == nil {
		return nil
	}
	return c.once(name, func() error {
		_, err := c.layout.Image(name, image.BuiltHere())
		return err
	})
}

// once looks at what many images may stand on.
func (c *checker) once(name string, look func() error) error {
	err, known := c.bases[name]
	if !known {
		err = look()
		c.bases[name] = err
	}
	return err
}

// action looks for what an action reads from outside.
func (c *checker) action(s *plan.Step, a spec.Action) {
	img := s.Image
	for _, from := range a.Op.Images() {
		if c.spec.Target(from) != nil {
			continue
		}
		if err := c.tag(from); err != nil {
			c.errs = append(c.errs, c.spec.Errorf(a.Pos, img.String(), "copy from %s: %v", from, err))
		}
	}
	of, err := action.New(s, a)
	reader, ok := of.(action.Reader)
	if err != nil || !ok {
		return
	}
	names, find := reader.Names(c.src)
	for _, name := range names {
		if err := lookFor(find, name); err != nil && !(errors.Is(err, fs.ErrNotExist) && len(img.Target.Pre) > 0) {
			c.errs = append(c.errs, inputError(c.spec, img, a, name, err))
		}
	}
}

// lookFor returns an error where a path or glob of the spec names nothing, or a symlink to nothing.
func lookFor(find func(string) ([]string, error), name string) error {
	paths, err := find(name)
	for i := 0; i < len(paths) && err == nil; i++ {
		err = source.Dangling(paths[i])
	}
	return err
}

// inputError is the error of a file that is not there, with the name beside it that was probably
// meant.
func inputError(s *spec.Spec, img *plan.Image, a spec.Action, name string, err error) *spec.Error {
	if !errors.Is(err, fs.ErrNotExist) {
		return s.Errorf(a.Pos, img.String(), "%s: %v", a.Op, err)
	}
	if d := (*source.DanglingError)(nil); errors.As(err, &d) {
		return s.Errorf(a.Pos, img.String(), "%s: %v", a.Op, d)
	}
	if source.IsGlob(name) {
		return s.Errorf(a.Pos, img.String(), "%s: no file matches %q", a.Op, name)
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Dir, name)
	}
	if _, err := os.Stat(path); err == nil {
		return s.Errorf(a.Pos, img.String(), "%s: there is no .deb or .rpm file in %q", a.Op, name)
	}
	e := s.Errorf(a.Pos, img.String(), "%s: there is no file %q", a.Op, name)
	entries, _ := os.ReadDir(filepath.Dir(path)) // without them there is no suggestion, no more
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if near := spec.Nearest(filepath.Base(path), names); near != "" {
		e.Suggest = fmt.Sprintf("did you mean %q?", filepath.Join(filepath.Dir(name), near))
	}
	return e
}
