package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var attributeNames = []string{"type", "content", "size", "mode", "owner", "link", "device", "xattrs", "hard link", "time"}

// describeDifferences shows differences as text, a line each.
func describeDifferences(all []Difference) string {
	var b strings.Builder
	for _, d := range all {
		switch {
		case d.Old == nil:
			fmt.Fprintf(&b, "A %s", d.Path())
		case d.New == nil:
			fmt.Fprintf(&b, "D %s", d.Path())
		default:
			fmt.Fprintf(&b, "M %s:", d.Path())
			for i, name := range attributeNames {
				if d.Attributes.Has(1 << i) {
					fmt.Fprintf(&b, " %s", name)
				}
			}
		}
		for i, e := range []*Entry{d.Old, d.New} {
			if e != nil && e.Group != "" {
				fmt.Fprintf(&b, ", %s %s", []string{"was", "is"}[i], e.Group)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestBetween(t *testing.T) {
	mode := func(m member, mode int64) member { return m.with(func(h *tar.Header) { h.Mode = mode }) }
	time := func(m member) member { return m.with(func(h *tar.Header) { h.ModTime = h.ModTime.AddDate(1, 0, 0) }) }
	base := []member{
		dirMember("."), dirMember("d"), fileMember("d/x", "x"), fileMember("d/y", "y"), dirMember("e"), fileMember("e/f", ""), fileMember("f", "1"),
		linkMember("l", "f"), nodeMember('3', "null", 1, 3), fileMember("one", "same"), hardMember("two", "one"), hardMember("three", "one"),
	}
	tests := []struct {
		name     string
		old, now [][]member // on base
		times    bool
		want     []string
	}{
		{name: "nothing"},
		{
			name: "a layer that says what is there already",
			now:  [][]member{{dirMember("d"), fileMember("d/x", "x"), linkMember("l", "f"), nodeMember('3', "null", 1, 3)}},
		},
		{
			name: "each attribute",
			now: [][]member{{
				fileMember("d/x", "z"), fileMember("d/y", "yy"), mode(fileMember("f", "1"), 0o600), linkMember("l", "d"), nodeMember('3', "null", 1, 5),
				dirMember("e").with(func(h *tar.Header) { h.Gid = 7 }), linkMember("e/f", "x"),
				fileMember("one", "same").with(func(h *tar.Header) { h.PAXRecords = map[string]string{paxXattr + "user.a": "b"} }), hardMember("two", "one"), hardMember("three", "one"),
			}},
			want: []string{
				"M d/x: content", "M d/y: content size", "M e: owner", "M e/f: type", "M f: mode", "M l: link", "M null: device",
				"M one: xattrs, was one, is one", "M three: xattrs, was one, is one", "M two: xattrs, was one, is one",
			},
		},
		{name: "times are left out", now: [][]member{{time(dirMember("d")), time(fileMember("f", "1"))}}},
		{name: "or not", now: [][]member{{time(dirMember("d")), time(fileMember("f", "1"))}}, times: true, want: []string{"M d: time", "M f: time"}},
		{
			name: "folders come and go with all that is in them",
			old:  [][]member{{dirMember("n"), dirMember("n/m"), fileMember("n/m/x", "")}},
			now:  [][]member{{fileMember(".wh.d", ""), fileMember("e/.wh.f", "")}},
			want: []string{"D d", "D d/x", "D d/y", "D e/f", "D n", "D n/m", "D n/m/x"},
		},
		{
			name: "a folder in place of a file, a file in place of a folder",
			now:  [][]member{{fileMember("d", ""), dirMember("f"), fileMember("f/x", "")}},
			want: []string{"M d: type", "D d/x", "D d/y", "M f: type", "A f/x"},
		},
		{
			name: "an opaque folder, and one that comes back",
			now:  [][]member{{fileMember("d/.wh..wh..opq", ""), dirMember("d"), fileMember("d/y", "y"), fileMember(".wh.e", "")}, {dirMember("e"), fileMember("e/g", "")}},
			want: []string{"D d/x", "D e/f", "A e/g"},
		},
		{
			name: "both sides",
			old:  [][]member{{fileMember("d/x", "z"), fileMember("a", "")}},
			now:  [][]member{{fileMember("d/x", "z"), fileMember("b", "")}},
			want: []string{"D a", "A b"},
		},
		{
			name: "names that are no longer one file",
			now:  [][]member{{fileMember("two", "same")}},
			want: []string{"M two: hard link, was one"},
		},
		{
			name: "nor are those that stay",
			now:  [][]member{{fileMember("one", "same")}},
			want: []string{"M three: hard link, was one, is three", "M two: hard link, was one, is three"},
		},
		{
			name: "a name that goes leaves the others alone",
			now:  [][]member{{fileMember(".wh.one", "")}},
			want: []string{"D one, was one"},
		},
		{
			name: "a name that comes",
			now:  [][]member{{fileMember("one", "same"), hardMember("three", "one"), hardMember("two", "one"), hardMember("four", "one")}},
			want: []string{"A four, is four"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for shared := range 2 {
				old := mustMerge(t, append([][]member{base}, tt.old...)...)
				now := mustMerge(t, append([][]member{base}, tt.now...)...)
				all, err := Between(t.Context(), old, now, shared, tt.times)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(joinLines(tt.want...), describeDifferences(all)); diff != "" {
					t.Errorf("%d shared layers, -want +got:\n%s", shared, diff)
				}
			}
		})
	}
}

func TestBetweenEmptyTrees(t *testing.T) {
	none, some := Merge(), mustMerge(t, []member{dirMember("."), fileMember("f", "")})
	for _, tt := range []struct {
		old, now *Merged
		want     string
	}{{none, none, ""}, {none, some, "A .\nA f\n"}, {some, none, "D .\nD f\n"}} {
		if all, err := Between(t.Context(), tt.old, tt.now, 0, false); err != nil || describeDifferences(all) != tt.want {
			t.Errorf("%v %q, want %q", err, describeDifferences(all), tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Between(ctx, none, some, 0, false); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// differencesBySight is Between without any cleverness: all of both trees is looked at.
func differencesBySight(t *testing.T, old, now *Merged) []Difference {
	t.Helper()
	entries := func(m *Merged) map[string]Entry {
		all := map[string]Entry{}
		err := Walk(m, ".", func(e Entry) (bool, error) { all[e.Path] = e; return true, nil })
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no layer has anything
			t.Fatal(err)
		}
		return all
	}
	was, is := entries(old), entries(now)
	same := func(m *Merged, a, b string) bool { // two names of one file
		ea, ata, _, _ := m.lookup(a, len(m.layers))
		eb, atb, _, _ := m.lookup(b, len(m.layers))
		return a == b || ea.Group != "" && ea.Group == eb.Group && ata.layer == atb.layer
	}
	// The first of the paths that are one file with path.
	first := func(m *Merged, path string, of map[string]Entry) string {
		return slices.MinFunc(slices.Collect(func(yield func(string) bool) {
			for q, e := range of {
				if e.Type != TypeDir && (q == path || same(m, path, q)) && !yield(q) {
					return
				}
			}
		}), Compare)
	}
	named := func(m *Merged, e Entry, of map[string]Entry) *Entry {
		e.Group = ""
		for q := range of {
			if e.Type != TypeDir && q != e.Path && same(m, e.Path, q) {
				e.Group = first(m, e.Path, of)
			}
		}
		return &e
	}
	both := map[string]Entry{}
	for p, e := range was {
		if f, ok := is[p]; ok && (e.Type != TypeDir) == (f.Type != TypeDir) {
			both[p] = e
		}
	}
	paths := maps.Clone(was)
	maps.Copy(paths, is)
	var all []Difference
	for _, p := range slices.SortedFunc(maps.Keys(paths), Compare) {
		a, had := was[p]
		b, has := is[p]
		var d Difference
		if had {
			d.Old = named(old, a, was)
		}
		if has {
			d.New = named(now, b, is)
		}
		if had && has {
			d.Attributes = attributes(a, b) &^ AttrTime
			if d.Attributes&AttrType == 0 && a.Type != TypeDir && first(old, p, both) != first(now, p, both) {
				d.Attributes |= AttrHardLink
			}
			if d.Attributes == 0 {
				continue
			}
		}
		all = append(all, d)
	}
	return all
}

// withLinks adds hard links to files of the same layer.
func withLinks(t *testing.T, r *rand.Rand, members []member) []member {
	t.Helper()
	toc := mustIndex(t, makeTar(t, members...))
	for _, mb := range slices.Clone(members) {
		if e, _, ok := toc.Lookup(mb.Name); ok && e.Type == TypeFile && !isLowerLink(e) && r.IntN(2) == 0 {
			members = append(members, hardMember(fmt.Sprint("link", r.IntN(3)), mb.Name))
		}
	}
	return members
}

// Whatever layers two trees are made of and share, Between finds what a look at all of both finds.
func TestBetweenRandomTrees(t *testing.T) {
	found := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 2))
		stack := func(on [][]member, n int) [][]member {
			m := &model{tree: map[string]Entry{}}
			for _, l := range on {
				m.apply(slices.Clone(l))
			}
			layers := slices.Clip(on)
			for range n {
				l := withLinks(t, r, randomLayer(r, m.tree))
				m.apply(slices.Clone(l))
				layers = append(layers, l)
			}
			return layers
		}
		common := stack(nil, r.IntN(3))
		oldLayers, nowLayers := stack(common, r.IntN(3)), stack(common, r.IntN(3))
		old, now := mustMerge(t, oldLayers...), mustMerge(t, nowLayers...)
		want := describeDifferences(differencesBySight(t, old, now))
		if strings.Contains(want, "hard link") {
			found++
		}
		for shared := range len(common) + 1 {
			all, err := Between(t.Context(), old, now, shared, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, describeDifferences(all)); diff != "" {
				for i, l := range slices.Concat(oldLayers, nowLayers[len(common):]) {
					for _, mb := range l {
						t.Logf("layer %d: %c %s %s", i, mb.Typeflag, mb.Name, mb.Linkname)
					}
				}
				t.Fatalf("seed %d, %d layers, %d common, %d said (-by sight +Between):\n%s", seed, len(oldLayers), len(common), shared, diff)
			}
		}
	}
	if found == 0 {
		t.Error("no trees with other hard links")
	}
}
