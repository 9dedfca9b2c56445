package spec

import (
	"fmt"
	"path"
	"strings"
)

// Remove deletes paths of the image.
type Remove struct{ Paths []string } // paths or globs

func (*Remove) isOp() {}

// Inputs implements Op.
func (*Remove) Inputs() []string { return nil }

// String implements Op.
func (r *Remove) String() string { return summary("remove", strings.Join(r.Paths, " ")) }

func removeShape() shape[[]Action] {
	paths := checked(wordsShape(), func(paths []string) error {
		for _, p := range paths {
			if path.Clean("/"+p) == "/" {
				return fmt.Errorf("%q is the whole image", p)
			}
		}
		return nil
	})
	var out shape[[]Action]
	for _, f := range paths {
		out = append(out, placed(convert(f, func(p []string) Op { return &Remove{p} })))
	}
	return out
}
