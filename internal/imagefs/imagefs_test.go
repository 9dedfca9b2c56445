package imagefs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/imagetest"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/treetest"
)

func check[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// file is an entry of a layer. With a target it is a symlink, or a hard link where that begins with
// "=".
type file struct{ name, content, target string }

// newImage makes an image of layers, each compressed in another way.
func newImage(t *testing.T, layers ...[]file) (Store, image.Image) {
	t.Helper()
	s := Store{Layout: check(layout.Create(filepath.Join(t.TempDir(), "oci")))(t), Cache: check(cache.Open(t.TempDir()))(t)}
	t.Cleanup(func() { s.Layout.Close() })
	var stored []imagetest.Layer
	for i, files := range layers {
		var members []imagetest.Member
		for _, f := range files {
			m := imagetest.File(f.name, f.content)
			switch target, hard := strings.CutPrefix(f.target, "="); {
			case hard:
				m = imagetest.HardLink(f.name, target)
			case target != "":
				m = imagetest.Link(f.name, target)
			}
			members = append(members, m)
		}
		stored = append(stored, layerOf(layer.Compressions[i%len(layer.Compressions)], imagetest.Tar(members...)))
	}
	return s, check(imagetest.Write(s.Layout, imagetest.Linux, stored...))(t)
}

// layerOf returns a layer with a tar, compressed.
func layerOf(c layer.Compression, tar []byte) imagetest.Layer {
	return imagetest.Layer{
		Tar: tar, MediaType: c.MediaType, Compress: func(w io.Writer) (io.WriteCloser, error) { return c.NewWriter(w) },
	}
}

// What stands below a path comes from all layers, whatever compresses them, with hard links; what
// is removed does not.
func TestSubtree(t *testing.T) {
	big := strings.Repeat("0123456789", 50_000)
	s, img := newImage(t,
		[]file{{"d/z", "low", ""}, {"d/gone", "x", ""}, {"big", big, ""}, {"d/l", "", "../big"}, {"d/z2", "", "=d/z"}},
		[]file{{"d/.wh.gone", "", ""}, {"d/b", "b", ""}, {"d/a", "", "=d/b"}, {"d/big", "", "=big"}},
		[]file{{"d/empty", "", ""}, {"d/z3", "high", ""}},
	)
	opened := check(s.Open(t.Context(), img))(t)
	changes, release, err := opened.Subtree(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := layer.Apply(t.Context(), dir, changes, layer.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	want := `a file 0644 <1> "b"
b file 0644 <1> "b"
big file 0644 size=500000 sha256:` + digest.FromString(big).Encoded()[:12] + `
empty file 0644 ""
l symlink ../big
z file 0644 <2> "low"
z2 file 0644 <2> "low"
z3 file 0644 "high"
`
	if diff := cmp.Diff(want, treetest.Dump(t, dir, treetest.NoOwners)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// One file comes straight from its layer, and can be opened again.
	one, _, err := opened.Subtree(t.Context(), "d/a")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := check(one[0].Open())(t)
		if got := check(io.ReadAll(r))(t); string(got) != "b" || one[0].Path != "." || len(one) != 1 {
			t.Errorf("d/a: %q, %v", got, one)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := opened.Subtree(t.Context(), "d/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is removed: %v", err)
	}
}

// Content with many names is taken out once: a link takes a few bytes in a layer, the file may be
// as large as it likes.
func TestManyNamesOfOneContent(t *testing.T) {
	low := []file{{"big", strings.Repeat("x", 1000), ""}}
	for i := range 100 {
		low = append(low, file{fmt.Sprint("link", i), "", "=big"})
	}
	s, img := newImage(t, low, []file{{"lower", "", "=big"}})
	opened := check(s.Open(t.Context(), img))(t)
	x := &Extraction{Store: s, View: opened.Tree, Layers: img.Manifest.Layers, Spool: check(s.Cache.Temp())(t)}
	defer x.Spool.Close()
	var opens []layer.Opener
	for e, err := range opened.Tree.Children(".") {
		if err != nil {
			t.Fatal(err)
		}
		open, _ := x.Want(e)
		opens = append(opens, open)
	}
	if err := x.Extract(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, open := range opens {
		r := check(open())(t)
		if got := check(io.ReadAll(r))(t); string(got) != low[0].content {
			t.Errorf("%d bytes", len(got))
		}
		r.Close()
	}
	if size := check(x.Spool.Stat())(t).Size(); len(opens) != 102 || size != 1000 {
		t.Errorf("%d names, %d bytes", len(opens), size)
	}
}

// A layer is damaged where nobody reads it to the end: what comes out of it is an error all the
// same.
func TestDamagedContent(t *testing.T) {
	files := []file{{"d/a", "content", ""}, {"d/b", "other", ""}, {"d/c", "more", ""}}
	at := slices.IndexFunc(layer.Compressions, func(c layer.Compression) bool { return c.Name == "none" })
	layers := make([][]file, at+1)
	layers[at] = files
	s, img := newImage(t, layers...)
	view := check(s.View(t.Context(), img))(t)
	path := filepath.Join(s.Layout.Dir(), "blobs", "sha256", img.Manifest.Layers[at].Digest.Encoded())
	data := check(os.ReadFile(path))(t)
	if err := os.WriteFile(path, bytes.Replace(data, []byte("content"), []byte("CONTENT"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]bool{"d/a": true, "d/b": false} {
		x := Extraction{Store: s, View: view, Layers: img.Manifest.Layers, Spool: check(s.Cache.Temp())(t)}
		e, _, err := view.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		x.Want(e)
		err = x.Extract(t.Context())
		if damaged != (err != nil && strings.Contains(err.Error(), name+": the content is not what the index of its layer says")) || !damaged && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := x.Spool.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An index that cannot be used is made anew, and that is said; one of another content is none.
func TestTOC(t *testing.T) {
	s, img := newImage(t, []file{{"a", "A", ""}})
	var said []string
	s.Warn = func(text string) { said = append(said, text) }
	diffID := img.Config.RootFS.DiffIDs[0]
	if s.HasTOC(diffID) {
		t.Error("an index that nobody made")
	}
	check(s.View(t.Context(), img))(t)
	if !s.HasTOC(diffID) {
		t.Error("the index was not kept")
	}
	path := check(s.tocPath(diffID))(t)
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	view := check(s.View(t.Context(), img))(t)
	if e, ok, err := view.Lookup("a"); err != nil || !ok || e.Size != 1 {
		t.Errorf("%v, %v, %v", e, ok, err)
	}
	if len(said) != 1 || !strings.HasSuffix(said[0], "it is made anew") {
		t.Errorf("said %q", said)
	}
	check(s.View(t.Context(), img))(t)
	if len(said) != 1 {
		t.Errorf("said again: %q", said)
	}
	img.Config.RootFS.DiffIDs[0] = digest.FromString("other")
	if _, err := s.View(t.Context(), img); err == nil || !strings.Contains(err.Error(), "as the config says") {
		t.Errorf("a layer of another content: %v", err)
	}
}

// An index does not vouch for another blob whose image claims the same layer. Once a blob has been
// looked into, it is not read again.
func TestCheck(t *testing.T) {
	s, img := newImage(t, []file{{"a", "1", ""}})
	other := layerOf(layer.Compressions[0], make([]byte, 1024))
	other.DiffID = img.Config.RootFS.DiffIDs[0]
	lie := check(imagetest.Write(s.Layout, imagetest.Linux, other))(t)
	for range 2 { // cold and warm
		if _, err := s.Open(t.Context(), lie); err == nil || !strings.Contains(err.Error(), "as the config says") {
			t.Errorf("opened an image that lies: %v", err)
		}
		check(s.Open(t.Context(), img))(t)
	}
	path := filepath.Join(s.Layout.Dir(), "blobs/sha256", img.Manifest.Layers[0].Digest.Encoded())
	if err := os.WriteFile(path, make([]byte, img.Manifest.Layers[0].Size), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), img); err != nil {
		t.Errorf("it was read again: %v", err)
	}
}
