package spec

import (
	"fmt"
	"path"
	"strings"
)

// Remove deletes paths of the image.
type Remove struct {
	Paths   []string // paths or globs
	Written *Written // where arguments stand in it
}

func (r *Remove) written() **Written { return &r.Written }

func (*Remove) whole(text string) Op { return &Remove{Paths: []string{text}} }

// Runs implements Op.
func (*Remove) Runs() bool { return false }

// Images implements Op.
func (*Remove) Images() []string { return nil }

// Inputs implements Op.
func (*Remove) Inputs() []string { return nil }

// String implements Op.
func (r *Remove) String() string { return summary("remove", strings.Join(shownAs(r).Paths, " ")) }

func removeShape() shape[[]Action] {
	var out shape[[]Action]
	for _, f := range wordsShape(nonBlank+"+", nonBlank, checkRemove) {
		out = append(out, writtenForm(placed(convert(f, func(paths []string) Op { return &Remove{Paths: paths} }))))
	}
	return out
}

// checkRemove refuses the root of the image, and what is no glob.
func checkRemove(p string) error {
	if path.Clean("/"+p) == "/" {
		return fmt.Errorf("%q is the whole image", p)
	}
	return checkGlob(p)
}
