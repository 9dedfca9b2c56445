package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What other tools wrote keeps its bytes, and its place.
func TestUpdateKeepsForeignBytes(t *testing.T) {
	ctx := t.Context()
	l := open(t, "foreign-fields")
	before := readFile(t, l.path("index.json"))
	if err := l.Update(ctx, func(*Index) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if after := readFile(t, l.path("index.json")); after != before {
		t.Errorf("an update without a change changed\n%s\nto\n%s", before, after)
	}
	img, err := l.Image("ours", linux)
	if err != nil {
		t.Fatal(err)
	}
	desc := img.Descriptor
	desc.Annotations = map[string]string{"com.example": "1"}
	if err := l.Update(ctx, func(x *Index) error { x.Set("ours", desc); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(desc.Annotations) != 1 {
		t.Errorf("Set changed the caller's annotations: %q", desc.Annotations)
	}
	rest := readFile(t, l.path("index.json"))
	for _, part := range []string{
		`{"x-top":{"b":1, "a":2},"annotations":{"k":"v"},"schemaVersion":2,"mediaType":`,
		`"annotations":{"com.example":"1","org.opencontainers.image.ref.name":"ours"}},{`,
		"\n    \"x-first\" : 1.50,\"annotations\": {\"com.example\": \"<&>\" }, \"x-last\": [ 1e3 ]\n  }]}",
	} {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("index.json lacks\n%s\nat its place:\n%s", part, rest)
		}
		rest = after
	}
}

func TestSetAndRemove(t *testing.T) {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("new"), Size: 1}
	for _, test := range []struct {
		name    string
		edit    func(x *Index) bool
		want    string
		changed bool
	}{
		{"add", func(x *Index) bool { x.Set("d", d); return true }, "a b a c d*", true},
		{"replace in place", func(x *Index) bool { x.Set("b", d); return true }, "a b* a c", true},
		{"replace all of the name", func(x *Index) bool { x.Set("a", d); return true }, "a* b c", true},
		{"remove all of the name", func(x *Index) bool { return x.Remove("a") }, "b c", true},
		{"remove nothing", func(x *Index) bool { return !x.Remove("z") }, "a b a c", false},
		{"replace and remove", func(x *Index) bool { x.Set("b", d); x.Set("e", d); return x.Remove("b") }, "a a c e*", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, err := parseIndex(`{"schemaVersion":2,"manifests":[]}`)
			if err != nil {
				t.Fatal(err)
			}
			old := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("old"), Size: 1}
			for _, name := range []string{"a", "b", "x", "c"} {
				x.Set(name, old)
			}
			x.entries[2] = x.entries[0] // a second entry of a name
			x.changed, x.places = false, nil
			if !test.edit(x) || x.changed != test.changed {
				t.Errorf("changed: %t, want %t", x.changed, test.changed)
			}
			data, err := x.encode()
			if err != nil {
				t.Fatal(err)
			}
			if x, err = parseIndex(string(data)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tag := range x.Tags() {
				if tag.Descriptor.Digest == d.Digest {
					tag.Name += "*"
				}
				got = append(got, tag.Name)
			}
			if have := strings.Join(got, " "); have != test.want {
				t.Errorf("%s, want %s", have, test.want)
			}
		})
	}
}

func TestUpdateError(t *testing.T) {
	l := create(t, filepath.Join(t.TempDir(), "oci"), "a")
	before := readFile(t, l.path("index.json"))
	refused := errors.New("refused")
	err := l.Update(t.Context(), func(x *Index) error { x.Remove("a"); return refused })
	if !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if after := readFile(t, l.path("index.json")); after != before {
		t.Errorf("index.json is now\n%s", after)
	}
}

func TestIndexErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                                   "index: unexpected end of JSON input",
		`[]`:                                 "index: unexpected array",
		`null`:                               "index: schemaVersion is 0, not 2",
		`{"schemaVersion":2,"manifests":{}}`: "index: manifests: unexpected object",
		`{"schemaVersion":2,"manifests":[{"size":"1"}]}`:       "index: manifests.size: unexpected string",
		`{"schemaVersion":2,"manifests":[{}]}`:                 "index: manifests[0]: mediaType is missing",
		`{"schemaVersion":1,"manifests":[]}`:                   "index: schemaVersion is 1, not 2",
		`{"schemaVersion":2,"manifests":[],"Manifests":[]}`:    `field "Manifests" twice`,
		`{"schemaVersion":2,"mediaType":"a/b","manifests":[]}`: `index: "a/b" is not the media type of an index`,
	} {
		if _, err := parseIndex(text); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

// Whatever index.json holds: what can be read can be edited, and nothing but the edited tag
// changes.
func FuzzIndex(f *testing.F) {
	files, err := filepath.Glob("testdata/*/index.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		f.Add([]byte(readFile(f, file)))
	}
	f.Add([]byte(`{"schemaVersion":2,"manifests":null,"x":[1e400,"\ud800",{"a":{}}]}`))
	desc := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("new"), Size: 1}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(string(data))
		if err != nil {
			return
		}
		if x, ok := parsePlain(string(data)); ok {
			same(t, data, x)
		}
		before := foreign(t, x)
		x.Set("genoci-fuzz", desc)
		encoded, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndex(string(encoded))
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%s\n%s", err, data, encoded)
		}
		if diff := cmp.Diff(before, foreign(t, again)); diff != "" {
			t.Errorf("what is not ours changed (-before +after):\n%s", diff)
		}
		var set []digest.Digest
		for _, tag := range again.Tags() {
			if tag.Name == "genoci-fuzz" {
				set = append(set, tag.Descriptor.Digest)
			}
		}
		if !cmp.Equal(set, []digest.Digest{desc.Digest}) {
			t.Errorf("the tag stands for %v", set)
		}
		if !again.Remove("genoci-fuzz") {
			t.Error("the tag cannot be removed")
		}
	})
}

// same compares an index that was parsed in the short way with what the long way makes of it.
func same(t *testing.T, data []byte, x *Index) {
	t.Helper()
	want, err := parseAny(data)
	if err != nil {
		t.Fatalf("taken, but it is wrong: %v\n%s", err, data)
	}
	if d := cmp.Diff(want.Tags(), x.Tags()); d != "" {
		t.Errorf("tags of\n%s\n%s", data, d)
	}
	for i, e := range want.entries {
		if e.raw != x.entries[i].raw || !cmp.Equal(e.desc, x.entries[i].desc) {
			t.Errorf("entry %d of %s: %s, want %s", i, data, x.entries[i].raw, e.raw)
		}
	}
	wantText, _ := want.encode()
	text, _ := x.encode()
	if string(text) != string(wantText) {
		t.Errorf("%s becomes %s", data, text)
	}
}

// What genoci writes is read in the short way; what is only like it, in the long way.
func TestParsePlain(t *testing.T) {
	sum := digest.FromString("x").String()
	one := `{"mediaType":"a/b","digest":"` + sum + `","size":12,"annotations":{"org.opencontainers.image.ref.name":"web","k":"v"}}`
	index := func(entries string) string {
		return `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[` + entries + `]}`
	}
	for text, plain := range map[string]bool{
		index(""):              true,
		index(one):             true,
		index(one + "," + one): true,
		index(`{"mediaType":"a/b","digest":"` + sum + `","size":0}`): true,
		index(strings.Replace(one, "12", "999999999999999999", 1)):   true,
		index(one) + "\n": false,
		index(one + ","):  false,
		index("," + one):  false,
		index(one) + "x":  false,
		index(one)[:100]:  false,
		strings.Replace(index(one), ":2", ":3", 1):                                       false,
		index(strings.Replace(one, "12", "012", 1)):                                      false,
		index(strings.Replace(one, "12", "1.5", 1)):                                      false,
		index(strings.Replace(one, "12", "-1", 1)):                                       false,
		index(strings.Replace(one, "12", "99999999999999999999", 1)):                     false,
		index(strings.Replace(one, "a/b", "", 1)):                                        false,
		index(strings.Replace(one, "web", `w\"b`, 1)):                                    false,
		index(strings.Replace(one, "web", "w\u00e4b", 1)):                                false,
		index(strings.Replace(one, "web", "w\xffb", 1)):                                  false,
		index(strings.Replace(one, "sha256:", "sha256:z", 1)):                            false,
		index(strings.Replace(one, `"size"`, `"Size"`, 1)):                               false,
		index(strings.Replace(one, `,"annotations"`, `,"platform":{},"annotations"`, 1)): false,
		index(strings.Replace(one, `{"org`, `{"a":{},"org`, 1)):                          false,
		index(`{"mediaType":"a/b","digest":"` + sum + `","size":1,"annotations":{}}`):    false,
	} {
		x, ok := parsePlain(text)
		if ok != plain {
			t.Errorf("%s: taken: %v, want %v", text, ok, plain)
		}
		if ok {
			same(t, []byte(text), x)
		}
	}

	long := index(strings.Repeat(one+",", 5000) + one) // in parts
	x, ok := parsePlain(long)
	if !ok || len(x.entries) != 5001 {
		t.Fatal("a long index is not taken")
	}
	same(t, []byte(long), x)
	for _, at := range []int{0, 2500, 4999} {
		wrong := index(strings.Repeat(one+",", at) + strings.Replace(one, "12", "012", 1) + strings.Repeat(","+one, 5000-at))
		if _, ok := parsePlain(wrong); ok {
			t.Errorf("taken with an entry %d that is wrong", at)
		}
	}

	l := create(t, filepath.Join(t.TempDir(), "oci"), "a")
	err := l.Update(t.Context(), func(x *Index) error {
		x.Set("b", x.Tags()[0].Descriptor)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text := readFile(t, l.path("index.json"))
	x, ok = parsePlain(text)
	if !ok || len(x.Tags()) != 2 {
		t.Errorf("not taken: %s", text)
	}
}

// Setting many tags costs each of them the same.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			desc := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
			for b.Loop() {
				x := &Index{}
				for i := range n {
					x.Set(strconv.Itoa(i), desc)
					x.Set(strconv.Itoa(i), desc)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/tag")
		})
	}
}

// foreign returns the text of all entries and fields of x but those of the tag that FuzzIndex sets.
func foreign(t *testing.T, x *Index) []string {
	var all []string
	add := func(text []byte) {
		var b bytes.Buffer
		if err := json.Compact(&b, text); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.String())
	}
	for _, e := range x.entries {
		if e.name() != "genoci-fuzz" {
			add([]byte(e.raw))
		}
	}
	for _, m := range x.members {
		if !isManifests(m) {
			all = append(all, m.Name)
			add(m.Value)
		}
	}
	return all
}
