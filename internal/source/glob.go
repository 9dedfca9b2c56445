package source

import (
	"path"
	"slices"
	"strings"
)

// IsGlob reports whether a source of a spec is a pattern: whether it holds *, ? or [, and is not a
// URL.
func IsGlob(p string) bool { return strings.ContainsAny(p, "*?[") && !IsURL(p) }

// CheckGlob returns path.ErrBadPattern for a pattern that is not well formed.
func CheckGlob(pattern string) error {
	_, err := path.Match(pattern, "")
	return err
}

// MatchPath reports whether a slash-separated path matches the pattern as a whole. Each element of
// a pattern matches one element of the path, in the way of path.Match; ** matches any number of
// elements, none too. A pattern that is not well formed matches nothing.
func MatchPath(pattern, p string) bool {
	return matchElems(elems(pattern), elems(p))
}

// MatchBelow reports whether the pattern may match something below the folder at p. It is true of
// "." and any pattern.
func MatchBelow(pattern, p string) bool { return matchStart(elems(pattern), elems(p)) }

// Globs is an include or exclude list. A pattern without a slash matches the last element of a path
// at any depth, and one that matches a folder matches all that is in it. A pattern after "!" is an
// exception. The last pattern that matches decides.
type Globs []glob

// glob is one pattern of a list, taken to pieces.
type glob struct {
	elems     []string
	exception bool
}

// NewGlobs reads the patterns of a list. One that is not well formed matches nothing.
func NewGlobs(patterns []string) Globs {
	g := make(Globs, len(patterns))
	for i, pattern := range patterns {
		pattern, g[i].exception = strings.CutPrefix(pattern, "!")
		g[i].elems = elems(pattern)
		if !strings.Contains(strings.TrimSuffix(pattern, "/"), "/") {
			g[i].elems = append([]string{"**"}, g[i].elems...)
		}
	}
	return g
}

// Match reports whether the list matches a slash-separated path.
func (g Globs) Match(p string) bool {
	if len(g) == 0 {
		return false
	}
	e := elems(p)
	matched := false
	for _, pat := range g {
		if pat.exception == matched && pat.match(e) {
			matched = !pat.exception
		}
	}
	return matched
}

// ExceptsBelow reports whether an exception of the list may match what is below the folder at p:
// whether a list that matches the folder may not match all that is in it.
func (g Globs) ExceptsBelow(p string) bool {
	e := elems(p)
	return slices.ContainsFunc(g, func(pat glob) bool { return pat.exception && matchStart(pat.elems, e) })
}

// match reports whether the pattern matches the path of these elements, or a folder above it.
func (g glob) match(e []string) bool {
	for n := len(e); n > 0; n-- {
		if matchElems(g.elems, e[:n]) {
			return true
		}
	}
	return false
}

// matchStart reports whether a pattern may match something below the path p.
func matchStart(pattern, p []string) bool {
	for i, elem := range p {
		switch {
		case i == len(pattern):
			return false
		case pattern[i] == "**":
			return true
		}
		if ok, err := path.Match(pattern[i], elem); !ok || err != nil {
			return false
		}
	}
	return len(pattern) > len(p)
}

// elems returns the elements of a path without empty and "." ones.
func elems(p string) []string {
	return strings.FieldsFunc(path.Clean("/"+p), func(r rune) bool { return r == '/' })
}

func matchElems(pattern, p []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(p) + 1 {
				if matchElems(pattern[1:], p[i:]) {
					return true
				}
			}
			return false
		}
		if len(p) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], p[0]); !ok || err != nil {
			return false
		}
		pattern, p = pattern[1:], p[1:]
	}
	return len(p) == 0
}
