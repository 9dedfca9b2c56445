package snapshottest

import (
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"genoci/internal/snapshot"
	"genoci/internal/treetest"
)

// touched returns what the tree says was touched, or nil if it does not say.
func (s *suite) touched(t snapshot.Tree) []string {
	s.Helper()
	toucher, ok := t.(snapshot.Toucher)
	if !ok {
		return nil
	}
	var paths []string
	for p, err := range toucher.Touched(s.Context()) {
		s.must(err)
		if clean := strings.TrimSuffix(p, "/"); clean != path.Clean(clean) || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
			s.Errorf("%q is touched, which is no path", p)
		}
		paths = append(paths, p)
	}
	return paths
}

// testTouched: after random changes, every path that differs from the parent is touched, or lies
// below one that is touched with all that it holds, or below one that no longer is a folder.
func testTouched(s *suite) {
	r := newRandom(s)
	base := s.tree("")
	r.change(200, base.Dir())
	s.commit(base, "round 0")
	for i := range 40 {
		parent := fmt.Sprintf("round %d", i)
		before := s.dumpOf(parent)
		t := s.tree(parent)
		r.change(1+r.IntN(20), t.Dir())
		after := s.dump(t.Dir())
		touched := s.touched(t)
		if touched != nil {
			CheckTouched(s, before, after, touched)
		}
		if s.Failed() || touched == nil && i == 3 { // there is nothing to be tested
			return
		}
		s.commit(t, fmt.Sprintf("round %d", i+1))
	}
}

// lines returns the lines of a dump by path.
func lines(dump string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(dump) {
		name, rest, _ := strings.Cut(line, " ")
		lines[strings.TrimSuffix(name, "/")] = rest
	}
	return lines
}

// CheckTouched wants each path that differs between two dumps, in which no names have spaces, to be
// among those that are touched, or covered by them, see snapshot.Toucher.
func CheckTouched(t testing.TB, dumpBefore, dumpAfter string, touched []string) {
	t.Helper()
	before, after := lines(dumpBefore), lines(dumpAfter)
	exact, whole := map[string]bool{}, map[string]bool{}
	for _, p := range touched {
		if clean, ok := strings.CutSuffix(p, "/"); ok {
			whole[clean] = true
		} else {
			exact[p] = true
		}
	}
	isFolder := func(p string) bool { return strings.HasPrefix(after[p], "dir") }
	covered := func(p string) bool {
		if exact[p] || whole[p] {
			return true
		}
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if whole[dir] || exact[dir] && !isFolder(dir) {
				return true
			}
			if dir == "." {
				return false
			}
		}
	}
	for _, tree := range []map[string]string{before, after} {
		for p := range tree {
			if before[p] != after[p] && !covered(p) {
				t.Errorf("%s differs but is not touched:\n- %s+ %stouched: %q", p, before[p], after[p], touched)
			}
		}
	}
}

// testTouchedFew: what is touched depends on the changes, and not on the size of the tree.
func testTouchedFew(s *suite) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "d%d/f%d file\n", i%10, i)
	}
	base := s.tree("")
	treetest.Make(s, base.Dir(), text.String(), treetest.NoOwners)
	s.commit(base, "base")
	t := s.tree("base")
	s.must(os.RemoveAll(t.Dir() + "/d1"))
	s.change(t.Dir(), "rm d2/f2\n append d3/f3 x\n new file")
	touched := s.touched(t)
	if len(touched) > 10 {
		s.Errorf("4 changes touch %d paths: %q", len(touched), touched)
	}
	for _, p := range touched {
		if p == "./" {
			s.Error("the whole tree is touched")
		}
	}
}
