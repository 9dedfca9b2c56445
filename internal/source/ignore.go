package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ignoreFiles are the names of the file that says what copies leave out; the first that is there
// counts.
var ignoreFiles = [...]string{".genociignore", ".dockerignore"}

// ignored is what the ignore file of a folder says, in the syntax of .dockerignore
// (https://docs.docker.com/build/concepts/context/#dockerignore-files).
type ignored struct {
	file  string // its name; "" where there is none
	globs Globs  // of paths below the folder
}

// ignored reads the ignore file beside the spec, once.
func (s *Source) ignored() (*ignored, error) {
	s.ignoreOnce.Do(func() {
		s.ignore = &ignored{}
		for _, name := range ignoreFiles {
			text, err := os.ReadFile(filepath.Join(s.Dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			s.ignore.file, s.ignoreErr = name, err
			if err == nil {
				s.ignore.globs, s.ignoreErr = parseIgnored(name, string(text))
			}
			return
		}
	})
	return s.ignore, s.ignoreErr
}

// parseIgnored reads the text of an ignore file.
func parseIgnored(name, text string) (Globs, error) {
	var all Globs
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		if strings.HasPrefix(line, "#") {
			continue
		}
		pattern, exception := strings.CutPrefix(strings.TrimSpace(line), "!")
		if pattern = strings.TrimSpace(pattern); pattern == "" {
			if exception {
				return nil, fmt.Errorf("%s:%d: a pattern must follow \"!\"", name, n)
			}
			continue
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("%s:%d: invalid pattern %q: a [ is not closed, or the \\ at the end escapes nothing", name, n, pattern)
		}
		pattern = strings.TrimPrefix(path.Clean(pattern), "/")
		if pattern == ".." || strings.HasPrefix(pattern, "../") {
			continue // nothing there is below the folder
		}
		for _, e := range ignoredElems(elems(pattern)) {
			all = append(all, glob{elems: e, exception: exception})
		}
	}
	return all, nil
}

// ignoredElems returns the patterns, in elements as matchElems has them, that together mean one of
// an ignore file. There, "**" may stand in the middle of a name, and stands for at least one name
// at the end.
func ignoredElems(pattern []string) [][]string {
	for i, e := range pattern {
		left, right, deep := strings.Cut(e, "**")
		last := i == len(pattern)-1
		before, after := pattern[:i:i], pattern[i+1:]
		switch {
		case !deep:
		case left == "" && right == "" && last:
			return [][]string{append(before, "**", "*")}
		case left == "" && right == "":
		case left == "" && i == 0 && !IsGlob(right+strings.Join(after, "")): // the end of a path
			return [][]string{append([]string{"**", "*" + right}, after...)}
		case right == "" && last:
			return [][]string{append(before, left+"*")}
		case right == "": // takes the / with it
			right, after = after[0], after[1:]
			fallthrough
		default:
			var all [][]string
			if left != "" {
				all = ignoredElems(append(append(before, left+right), after...))
				left += "*"
				before = append(before, left)
			}
			rest := ignoredElems(append([]string{right}, after...))
			for _, r := range rest {
				all = append(all, append(append(before[:len(before):len(before)], "**"), r...))
			}
			return all
		}
	}
	return [][]string{pattern}
}

// below returns what the ignore file says of what is below a folder that a spec names itself, at a
// path below that of the spec: without the patterns that ignore that folder, since naming it says
// more.
func (ig *ignored) below(folder string) Globs {
	if !ig.globs.Match(folder) {
		return ig.globs
	}
	var left Globs
	e := elems(folder)
	for _, g := range ig.globs {
		if g.exception || !g.match(e) {
			left = append(left, g)
		}
	}
	return left
}

// relative returns the path below the folder of the spec that an absolute path is, or "" where it
// is not below it.
func (s *Source) relative(p string) string {
	rel, err := filepath.Rel(filepath.Clean(s.Dir), p)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return ""
	}
	return filepath.ToSlash(rel)
}
