package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// CheckInputs returns an error for each file of the host that the plan needs and that is not there, in
// the order of the file. It looks at names only: what the files hold is seen when they are used, and
// URLs are not asked for. A nil result means that all are there.
func CheckInputs(p *plan.Plan) error {
	src := &source.Source{Dir: p.Spec.Dir}
	var errs spec.Errors
	for _, img := range p.Images {
		for _, s := range img.Steps {
			for _, a := range s.Ops {
				for _, name := range localInputs(a.Op) {
					if _, err := src.Find(name); err != nil {
						errs = append(errs, inputError(p.Spec, img, a, name, err))
					}
				}
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs.Sorted()
}

// localInputs are the files of the host that an op cannot do without.
func localInputs(op spec.Op) []string {
	if r, ok := op.(*spec.Run); ok && !r.IsFile {
		return nil // a word that is no file is shell text
	}
	var names []string
	for _, name := range op.Inputs() {
		if !source.IsURL(name) {
			names = append(names, name)
		}
	}
	return names
}

// inputError is the error of a file that is not there, with the name beside it that was probably meant.
func inputError(s *spec.Spec, img *plan.Image, a spec.Action, name string, err error) *spec.Error {
	if !errors.Is(err, fs.ErrNotExist) {
		return s.Errorf(a.Pos, img.String(), "%s: %v", a.Op, err)
	}
	if source.IsGlob(name) {
		return s.Errorf(a.Pos, img.String(), "%s: no file matches %q", a.Op, name)
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Dir, name)
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
