package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustMerge(t testing.TB, layers ...[]member) *Merged {
	t.Helper()
	var tocs []*TOC
	for _, members := range layers {
		tocs = append(tocs, mustIndex(t, makeTar(t, members...)))
	}
	return Merge(tocs...)
}

func TestMerged(t *testing.T) {
	secret := dirMember("d")
	secret.Mode, secret.Uid = 0o700, 7
	tests := []struct {
		name   string
		layers [][]member
		want   []string
	}{
		{"no layers", nil, nil},
		{"empty layers", [][]member{{}, {}}, nil},
		{"a file over a file", [][]member{{fileMember("f", "1")}, {fileMember("f", "22")}},
			[]string{". dir 0755 @0", "f file 0644 " + sizeAndSum("22")}},
		{"folders merge, sorted", [][]member{
			{dirMember("."), dirMember("d"), fileMember("d/b", ""), fileMember("d/d", ""), fileMember("d-", "")}, {dirMember("d"), fileMember("d/a", ""), fileMember("d/c", "")},
		}, []string{
			". dir 0755", "d dir 0755", "d/a file 0644 " + sizeAndSum(""), "d/b file 0644 " + sizeAndSum(""),
			"d/c file 0644 " + sizeAndSum(""), "d/d file 0644 " + sizeAndSum(""), "d- file 0644 " + sizeAndSum(""),
		}},
		{"a file over a folder", [][]member{{fileMember("d/x", "")}, {fileMember("d", "")}},
			[]string{". dir 0755 @0", "d file 0644 " + sizeAndSum("")}},
		{"a folder over a file", [][]member{{fileMember("d/x", "")}, {fileMember("d", "")}, {dirMember("d"), fileMember("d/y", "")}},
			[]string{". dir 0755 @0", "d dir 0755", "d/y file 0644 " + sizeAndSum("")}},
		{"a folder over a symlink", [][]member{{linkMember("lib", "usr/lib")}, {fileMember("lib/x", "")}},
			[]string{". dir 0755 @0", "lib dir 0755 @0", "lib/x file 0644 " + sizeAndSum("")}},
		{"whiteouts", [][]member{
			{fileMember("a", ""), fileMember("b", ""), fileMember("d/x/y", "")}, {fileMember(".wh.a", ""), fileMember("d/.wh.x", ""), fileMember(".wh.none", "")},
		}, []string{". dir 0755 @0", "b file 0644 " + sizeAndSum(""), "d dir 0755 @0"}},
		{"what comes back", [][]member{
			{fileMember("a", "1"), secret, fileMember("d/x", "")}, {fileMember(".wh.a", ""), fileMember(".wh.d", "")}, {fileMember("a", "2"), fileMember("d/y", "")},
		}, []string{". dir 0755 @0", "a file 0644 " + sizeAndSum("2"), "d dir 0755 @0", "d/y file 0644 " + sizeAndSum("")}},
		{"opaque folders", [][]member{
			{secret, fileMember("d/x", ""), fileMember("d/e/z", "")}, {fileMember("d/e/.wh..wh..opq", "")},
			{dirMember("d"), fileMember("d/.wh..wh..opq", ""), fileMember("d/y", "")}, {fileMember("d/z", "")},
		}, []string{
			". dir 0755 @0", "d dir 0755", "d/y file 0644 " + sizeAndSum(""), "d/z file 0644 " + sizeAndSum(""),
		}},
		{"implied folders have the metadata of lower layers", [][]member{
			{secret, fileMember("d/x", "")}, {fileMember("d/y", "")}, {fileMember("d/.wh.x", "")},
		}, []string{". dir 0755 @0", "d dir 0700 7:0", "d/y file 0644 " + sizeAndSum("")}},
		{"of the folder itself if it is opaque, but not in it", [][]member{
			{secret, secret.with(func(h *tar.Header) { h.Name = "d/e/" }), fileMember("d/e/x", "")}, {fileMember("d/.wh..wh..opq", ""), fileMember("d/e/y", "")},
		}, []string{". dir 0755 @0", "d dir 0700 7:0", "d/e dir 0755 @0", "d/e/y file 0644 " + sizeAndSum("")}},
		{"hard links to lower layers", [][]member{
			{fileMember("f", "x"), linkMember("lib", "usr/lib"), fileMember("usr/lib/y", "y")}, {hardMember("g", "f")}, {fileMember(".wh.f", ""), hardMember("h", "g"), hardMember("i", "lib/y")},
		}, []string{
			". dir 0755 @0", "g file 0644 " + sizeAndSum("x"), "h file 0644 " + sizeAndSum("x"), "i file 0644 " + sizeAndSum("y"), "lib symlink 0777 -> usr/lib",
			"usr dir 0755 @0", "usr/lib dir 0755 @0", "usr/lib/y file 0644 " + sizeAndSum("y"),
		}},
		{"groups are those of the layer", [][]member{
			{fileMember("a", "x"), hardMember("b", "a"), hardMember("c", "a")}, {fileMember("a", "y")},
		}, []string{
			". dir 0755 @0", "a file 0644 " + sizeAndSum("y"), "b file 0644 " + sizeAndSum("x") + " group a", "c file 0644 " + sizeAndSum("x") + " group a",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(joinLines(tt.want...), describeView(t, mustMerge(t, tt.layers...))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMergedChildrenOfNoFolder(t *testing.T) {
	m := mustMerge(t, []member{fileMember("d/x", ""), fileMember("f", "")}, []member{fileMember(".wh.d", "")})
	for _, path := range []string{"none", "f", "f/x", "d", "d/x"} {
		for e, err := range m.Children(path) {
			t.Errorf("%s: %v, %v", path, e, err)
		}
	}
	for range m.Children(".") {
		break // a loop may be left early
	}
}

func TestMergedDanglingHardLink(t *testing.T) {
	for target, want := range map[string]string{
		"none": "l: hard link to none, which is not a file of a lower layer", "d": "l: hard link to d, which is not a file of a lower layer",
		"ring/x": "l: resolve ring/x: too many levels of symbolic links",
	} {
		m := mustMerge(t, []member{fileMember("d/x", ""), linkMember("ring", "ring")}, []member{hardMember("l", target)})
		if _, _, err := m.Lookup("l"); err == nil || err.Error() != want {
			t.Errorf("Lookup: got %v, want %s", err, want)
		}
		var last error
		for _, last = range m.Children(".") {
		}
		if last == nil || last.Error() != want {
			t.Errorf("Children: got %v, want %s", last, want)
		}
		if _, err := m.ReadFile("l"); err == nil {
			t.Error("ReadFile: no error")
		}
		if _, _, ok := m.Locate("l"); ok {
			t.Error("Locate: found")
		}
	}
}

func TestMergedReadFileAndLocate(t *testing.T) {
	layers := [][]member{
		{fileMember("etc/passwd", "low"), fileMember("etc/group", "g"), fileMember("f", "content")},
		{fileMember("etc/passwd", "high"), fileMember("etc/.wh.group", ""), hardMember("l", "f"), hardMember("usr/lib/os-release", "etc/group")},
	}
	m := mustMerge(t, layers...)
	for path, want := range map[string]string{"etc/passwd": "high", "usr/lib/os-release": "g"} {
		if got, err := m.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := m.ReadFile("etc/group"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed file: %v", err)
	}
	for path, want := range map[string]string{"f": "content", "l": "content", "etc/passwd": "high"} {
		i, offset, ok := m.Locate(path)
		if !ok || !bytes.HasPrefix(makeTar(t, layers[i]...)[offset:], []byte(want)) {
			t.Errorf("%s: %d in layer %d, %v", path, offset, i, ok)
		}
	}
	for _, path := range []string{"etc", "etc/group", "none"} {
		if _, _, ok := m.Locate(path); ok {
			t.Errorf("%s: found", path)
		}
	}
}

// model is a tree that is changed as unpacking a layer, entry by entry, changes one.
type model struct {
	tree  map[string]Entry
	below map[string]Entry    // the tree before this layer, less what the layer's whiteouts removed
	mine  map[string]struct{} // paths that this layer has put there
}

func (m *model) remove(dir string, self bool) {
	for p := range m.tree {
		if Below(p, dir) && (self || p != dir) {
			if _, mine := m.mine[p]; !mine {
				delete(m.tree, p)
			}
		}
	}
}

func (m *model) put(e Entry) {
	if dir, _ := split(e.Path); e.Path != "." {
		if m.tree[dir].Type != TypeDir {
			m.put(Entry{Path: dir, Type: TypeDir, Mode: 0o755})
		} else if _, mine := m.mine[dir]; !mine {
			m.put(m.tree[dir])
		}
	}
	if old, ok := m.tree[e.Path]; ok && (old.Type != TypeDir || e.Type != TypeDir) {
		for p := range m.tree {
			if Below(p, e.Path) {
				delete(m.tree, p)
				delete(m.mine, p)
			}
		}
	}
	m.tree[e.Path] = e
	m.mine[e.Path] = struct{}{}
}

// apply applies a layer: whiteouts first, as they concern lower layers only, then all else in its
// order.
func (m *model) apply(members []member) {
	m.below, m.mine = maps.Clone(m.tree), map[string]struct{}{}
	for _, mb := range members {
		dir, name := split(mb.Name)
		switch {
		case name == whiteoutOpaque:
			m.remove(dir, false)
		case strings.HasPrefix(name, whiteoutPrefix):
			m.remove(join(dir, name[len(whiteoutPrefix):]), true)
		}
	}
	for _, mb := range members {
		dir, name := split(mb.Name)
		switch {
		case name == whiteoutOpaque:
			m.ensure(dir)
		case strings.HasPrefix(name, whiteoutPrefix):
			m.ensure(dir)
		case mb.Linkname != "" && mb.Typeflag == '1':
			target, ok := m.tree[mb.Linkname]
			if _, mine := m.mine[mb.Linkname]; !ok || !mine {
				target = m.below[mb.Linkname]
			}
			target.Path, target.Group = mb.Name, ""
			m.put(target)
		default:
			e, err := entryFromHeader(&mb.Header)
			if err != nil {
				panic(err)
			}
			e.Size, e.MTime = int64(len(mb.body)), 100
			if e.Type == TypeFile {
				e.Digest = sha256.Sum256([]byte(mb.body))
			}
			m.put(e)
		}
	}
}

// ensure makes a folder where a layer has something in it.
func (m *model) ensure(dir string) {
	switch e, ok := m.tree[dir]; {
	case !ok || e.Type != TypeDir:
		m.put(Entry{Path: dir, Type: TypeDir, Mode: 0o755})
	default:
		if _, mine := m.mine[dir]; !mine {
			m.put(e)
		}
	}
}

func (m *model) String() string {
	b := new(strings.Builder)
	for _, p := range slices.SortedFunc(maps.Keys(m.tree), Compare) {
		b.WriteString(describeEntry(m.tree[p]) + "\n")
	}
	return b.String()
}

// randomLayer makes a layer that can be unpacked on the tree. Names are few, so that layers meet.
func randomLayer(r *rand.Rand, tree map[string]Entry) []member {
	names := []string{"a", "a-", "b", "c.d"}
	types := map[string]byte{} // of what the layer has so far
	pick := func() string {
		p := names[r.IntN(len(names))]
		for range r.IntN(3) {
			p += "/" + names[r.IntN(len(names))]
		}
		return p
	}
	fits := func(p string) bool {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if t := types[dir]; t != 0 && t != '5' {
				return false
			}
		}
		return true
	}
	folders := func(p string) {
		for ; p != "."; p = path.Dir(p) {
			types[p] = '5'
		}
	}
	var members []member
	for range r.IntN(12) {
		p := pick()
		if !fits(p) {
			continue
		}
		dir, name := split(p)
		var mb member
		switch r.IntN(9) {
		case 0, 1, 2:
			mb = fileMember(p, fmt.Sprint(r.IntN(1000)))
		case 3, 4:
			mb = dirMember(p).with(func(h *tar.Header) { h.Mode = 0o700 | int64(r.IntN(0o100)) })
		case 5:
			mb = linkMember(p, "nowhere")
		case 6:
			members = append(members, fileMember(join(dir, whiteoutPrefix+name), ""))
			folders(dir)
			continue
		case 7:
			if types[p] == 0 || types[p] == '5' {
				members = append(members, fileMember(join(p, whiteoutOpaque), ""))
				folders(p)
			}
			continue
		case 8:
			target := pick()
			if e, ok := tree[target]; types[target] != 0 || !ok || e.Type == TypeDir || Below(target, p) || !fits(target) {
				continue
			}
			mb = hardMember(p, target)
		}
		for q := range types {
			if Below(q, p) && mb.Typeflag != '5' {
				delete(types, q)
			}
		}
		types[p] = mb.Typeflag
		folders(dir)
		members = append(members, mb)
	}
	return members
}

// A merged view of random layers is the tree that unpacking them one after the other gives.
func TestMergedIsUnpacking(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := &model{tree: map[string]Entry{}}
		var layers [][]member
		for range 1 + r.IntN(4) {
			l := randomLayer(r, m.tree)
			m.apply(slices.Clone(l))
			layers = append(layers, l)
		}
		if diff := cmp.Diff(m.String(), describeView(t, mustMerge(t, layers...))); diff != "" {
			for i, l := range layers {
				for _, mb := range l {
					t.Logf("layer %d: %c %s %s", i, mb.Typeflag, mb.Name, mb.Linkname)
				}
			}
			t.Fatalf("seed %d (-model +merged):\n%s", seed, diff)
		}
	}
}

// withParents adds a header for each folder on the way, as all tools that write layers do.
func withParents(members []member) []member {
	out := []member{dirMember(".")}
	have := map[string]bool{".": true}
	for _, mb := range members {
		p := path.Clean(mb.Name)
		var missing []member
		for dir := path.Dir(p); !have[dir]; dir = path.Dir(dir) {
			missing = append(missing, dirMember(dir))
			have[dir] = true
		}
		slices.Reverse(missing)
		out = append(append(out, missing...), mb)
		switch {
		case mb.Typeflag == tar.TypeDir:
			have[p] = true
		case !hasWhiteout(p):
			maps.DeleteFunc(have, func(q string, _ bool) bool { return Below(q, p) })
		}
	}
	return out
}

// soundLinks drops hard links to files of lower layers that the layer removes or replaces as well:
// Unpack finds no such target, depending on the order.
func soundLinks(members []member) []member {
	return slices.DeleteFunc(slices.Clone(members), func(link member) bool {
		return link.Typeflag == tar.TypeLink && slices.ContainsFunc(members, func(mb member) bool {
			dir, name := split(path.Clean(mb.Name))
			at := join(dir, strings.TrimPrefix(name, whiteoutPrefix))
			if name == whiteoutOpaque {
				at = dir
			}
			return Below(link.Linkname, at) || Below(at, link.Linkname)
		})
	})
}

// outline lists a view with all that Unpack promises for any layer: no digests, no times, no hard
// link groups.
func outline(t *testing.T, v View) string {
	b := new(strings.Builder)
	var walk func(dir string)
	walk = func(dir string) {
		for e, err := range v.Children(dir) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(b, "%s %c %#o %d %s\n", e.Path, e.Type, e.Mode, e.Size, e.Link)
			walk(e.Path)
		}
	}
	walk(".")
	return b.String()
}

// A merged view of random layers is the tree that Unpack makes of them.
func TestMergedIsUnpacked(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &model{tree: map[string]Entry{}}
		dir := t.TempDir()
		var layers [][]member
		for range 1 + r.IntN(4) {
			l := withParents(soundLinks(randomLayer(r, m.tree)))
			m.apply(l)
			layers = append(layers, l)
			if err := Unpack(t.Context(), dir, bytes.NewReader(makeTar(t, l...)), UnpackOptions{}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if diff := cmp.Diff(outline(t, Dir(dir)), outline(t, mustMerge(t, layers...))); diff != "" {
			for i, l := range layers {
				for _, mb := range l {
					t.Logf("layer %d: %c %s %s", i, mb.Typeflag, mb.Name, mb.Linkname)
				}
			}
			t.Fatalf("seed %d (-unpacked +merged):\n%s", seed, diff)
		}
	}
}
