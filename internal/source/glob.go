package source

import (
	"path"
	"strings"
)

// IsGlob reports whether a path of a spec is a pattern: whether it holds *, ? or [.
func IsGlob(p string) bool { return strings.ContainsAny(p, "*?[") }

// CheckGlob returns path.ErrBadPattern for a pattern that is not well formed.
func CheckGlob(pattern string) error {
	_, err := path.Match(pattern, "")
	return err
}

// MatchPath reports whether a slash-separated path matches the pattern as a whole. Each element of a
// pattern matches one element of the path, in the way of path.Match; ** matches any number of
// elements, none too. A pattern that is not well formed matches nothing.
func MatchPath(pattern, p string) bool {
	return matchElems(elems(pattern), elems(p))
}

// MatchAny reports whether p, or a folder above it, matches one of the patterns: the rule of include
// and exclude lists. A pattern without a slash matches the last element at any depth.
func MatchAny(patterns []string, p string) bool { return newGlobs(patterns).match(p) }

// globs are patterns of include and exclude lists, taken to pieces.
type globs [][]string

func newGlobs(patterns []string) globs {
	g := make(globs, len(patterns))
	for i, pattern := range patterns {
		g[i] = elems(pattern)
		if !strings.Contains(strings.TrimSuffix(pattern, "/"), "/") {
			g[i] = append([]string{"**"}, g[i]...)
		}
	}
	return g
}

// match is MatchAny.
func (g globs) match(p string) bool {
	if len(g) == 0 {
		return false
	}
	e := elems(p)
	for _, pat := range g {
		for n := len(e); n > 0; n-- {
			if matchElems(pat, e[:n]) {
				return true
			}
		}
	}
	return false
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
