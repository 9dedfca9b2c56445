package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	sorted := []string{".", "-", "a", "a/-", "a/b", "a/b/c", "a/b-", "a/b.", "a!", "a-", "a-/x", "a.", "aa", "b", "\xff"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare(a, b); got != compareInts(i, j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
			if got := compare([]byte(a), b); got != compareInts(i, j) {
				t.Errorf("compare(%q as bytes, %q) = %d", a, b, got)
			}
		}
	}
}

func compareInts(i, j int) int {
	switch {
	case i < j:
		return -1
	case i > j:
		return 1
	}
	return 0
}

func TestBelow(t *testing.T) {
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{
		{".", ".", true}, {"a", ".", true}, {"a", "a", true}, {"a/b", "a", true}, {"a/b/c", "a/b", true},
		{"ab", "a", false}, {"a", "a/b", false}, {"a-/b", "a", false}, {".", "a", false},
	} {
		if got := Below(tt.path, tt.dir); got != tt.want {
			t.Errorf("Below(%q, %q) = %v", tt.path, tt.dir, got)
		}
	}
}

// fullEntries uses every field of Entry.
func fullEntries() map[string]Entry {
	digest := sha256.Sum256([]byte("x"))
	entries := make(map[string]Entry)
	for _, e := range []Entry{
		{Path: ".", Type: TypeDir, Mode: 0o1777},
		{Path: "d", Type: TypeDir, Mode: 0o755, UID: 1<<32 - 2, GID: 7, MTime: -1 << 62, Opaque: true},
		{Path: "d/a", Type: TypeFile, Mode: 0o6755, Size: 1 << 50, MTime: 1<<63 - 1, Digest: digest, Group: "d/a",
			Xattrs: map[string]string{"user.a": "", "security.capability": "\x00\x01", "user.long": strings.Repeat("v", 300)}},
		{Path: "d/b", Type: TypeFile, Mode: 0o6755, Size: 1 << 50, Digest: digest, Group: "d/a"},
		{Path: "dev", Type: TypeBlock, Major: 4095, Minor: 1<<20 - 1},
		{Path: "etc", Type: TypeDir, Mode: 0o755, Implied: true},
		{Path: "etc/passwd", Type: TypeFile, Size: 4},
		{Path: "gone", Type: TypeWhiteout},
		{Path: "link", Type: TypeSymlink, Mode: 0o777, Link: "../x"},
		{Path: "p", Type: TypeFIFO, Mode: 0o644},
		{Path: "tty", Type: TypeChar, Major: 5},
	} {
		entries[e.Path] = e
	}
	return entries
}

func fullTOC() *TOC {
	var b tocBuilder
	for _, e := range fullEntries() {
		if !e.Implied {
			b.add(e, e.Size/2)
		}
	}
	b.keep("etc/passwd", []byte("root"))
	return b.finish()
}

func checkFull(t *testing.T, toc *TOC) {
	t.Helper()
	want := fullEntries()
	if toc.Len() != len(want) {
		t.Errorf("%d entries, want %d", toc.Len(), len(want))
	}
	for path, e := range want {
		got, offset, ok := toc.Lookup(path)
		if diff := cmp.Diff(e, got); diff != "" || !ok || offset != e.Size/2 {
			t.Errorf("%s: %v, at %d (-want +got):\n%s", path, ok, offset, diff)
		}
	}
	for _, path := range []string{"", "a", "d/", "d/c", "d/a/x", "zz", "gone/x", "./d"} {
		if e, _, ok := toc.Lookup(path); ok {
			t.Errorf("%q: found %v", path, e)
		}
	}
	var paths []string
	for e := range toc.All() {
		paths = append(paths, e.Path)
	}
	if !slices.IsSortedFunc(paths, Compare) || len(paths) != len(want) {
		t.Errorf("All yields %q", paths)
	}
	if body, err := Merge(toc).ReadFile("etc/passwd"); err != nil || string(body) != "root" {
		t.Errorf("kept content is %q, %v", body, err)
	}
}

func TestTOC(t *testing.T) {
	toc := fullTOC()
	checkFull(t, toc)
	if again := fullTOC(); !bytes.Equal(toc.data, again.data) {
		t.Error("the order of additions changes the bytes")
	}
	if err := toc.Close(); err != nil || toc.Len() != 0 {
		t.Errorf("after Close: %d entries, %v", toc.Len(), err)
	}
}

func TestTOCOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "toc")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fullTOC().Save(path); err != nil {
		t.Fatal(err)
	}
	toc, err := OpenTOC(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // a mapping outlives its name
		t.Fatal(err)
	}
	checkFull(t, toc)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("Save left %v, %v", left, err)
	}
	e, _, _ := toc.Lookup("d/a")
	for range 2 {
		if err := toc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(fullEntries()["d/a"], e); diff != "" {
		t.Errorf("entry after Close (-want +got):\n%s", diff)
	}
}

func TestSaveErrors(t *testing.T) {
	dir := t.TempDir()
	if err := fullTOC().Save(filepath.Join(dir, "none", "toc")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a missing folder: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fullTOC().Save(taken); err == nil {
		t.Error("over a folder: no error")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("Save left %v, %v", left, err)
	}
}

// OpenTOC refuses whatever Save has not written as a whole.
func TestOpenTOCErrors(t *testing.T) {
	good := fullTOC().data
	changed := func(at int, b byte) []byte {
		data := bytes.Clone(good)
		data[at] = b
		return data
	}
	cases := map[string][]byte{
		"empty":          {},
		"foreign":        bytes.Repeat([]byte("text"), 100),
		"header only":    good[:tocHeaderSize],
		"magic":          changed(hdrMagic, 'X'),
		"version":        changed(hdrVersion, tocVersion+1),
		"count":          changed(hdrCount, 200),
		"total":          changed(hdrTotal, 0),
		"checksum":       changed(hdrChecksum, ^good[hdrChecksum]),
		"longer":         append(bytes.Clone(good), 0),
		"reserved bytes": changed(24, 1),
	}
	for i := 1; i < len(good); i += 97 {
		cases[fmt.Sprintf("cut off at %d", i)] = good[:i]
	}
	path := filepath.Join(t.TempDir(), "toc")
	for name, data := range cases {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		toc, err := OpenTOC(path)
		if err == nil {
			t.Errorf("%s: opened with %d entries", name, toc.Len())
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %q does not name the file", name, err)
		}
	}
	if _, err := OpenTOC(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// A header with a right checksum over too many records is refused too.
func TestOpenTOCCount(t *testing.T) {
	data := bytes.Clone(fullTOC().data)
	binary.LittleEndian.PutUint32(data[hdrCount:], 1<<32-1)
	binary.LittleEndian.PutUint32(data[hdrChecksum:], headerChecksum(data))
	if _, err := parseTOC(data); err == nil {
		t.Error("opened")
	}
}

// Whatever byte of a TOC is damaged after it was opened, using it neither panics nor hangs.
func TestDamagedTOC(t *testing.T) {
	good := fullTOC().data
	for i := tocHeaderSize; i < len(good); i++ {
		for _, flip := range []byte{0xff, 0x01, 0x80, good[i]} {
			data := bytes.Clone(good)
			data[i] ^= flip
			useTOC(t, data)
		}
	}
}

// useTOC does all that can be done with the TOC in data, if it is one.
func useTOC(t *testing.T, data []byte) {
	toc, err := parseTOC(data)
	if err != nil {
		return
	}
	m := Merge(fullTOC(), toc, toc)
	for e := range toc.All() {
		toc.Lookup(e.Path + "/x")
		m.Lookup(e.Path)
		m.Locate(e.Path)
		m.ReadFile(e.Path)
	}
	steps := 0
	var walk func(path string)
	walk = func(path string) {
		for e, err := range m.Children(path) {
			if steps++; steps > 4*(toc.Len()+100) {
				t.Fatalf("endless walk at %q", path)
			}
			if err == nil {
				walk(e.Path)
			}
		}
	}
	walk(".")
}

func FuzzTOC(f *testing.F) {
	f.Add(fullTOC().data)
	f.Add(new(tocBuilder).finish().data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < tocHeaderSize || len(data) > 1<<14 {
			return
		}
		data = bytes.Clone(data)
		copy(data, tocMagic)
		binary.LittleEndian.PutUint32(data[hdrVersion:], tocVersion)
		binary.LittleEndian.PutUint64(data[hdrTotal:], uint64(len(data)))
		binary.LittleEndian.PutUint32(data[hdrChecksum:], headerChecksum(data))
		useTOC(t, data)
	})
}

func TestTOCBuilderKeep(t *testing.T) {
	var b tocBuilder
	b.keep("etc/passwd", []byte("too early"))
	b.add(Entry{Path: "etc/passwd", Type: TypeFile}, 0)
	b.add(Entry{Path: "etc/group", Type: TypeSymlink, Link: "x"}, 0)
	b.add(Entry{Path: "etc/shadow", Type: TypeFile}, 0)
	b.add(Entry{Path: "etc/os-release", Type: TypeFile}, 0)
	b.keep("etc/group", []byte("x"))
	b.keep("etc/shadow", []byte("x"))
	b.keep("etc/os-release", make([]byte, maxKept+1))
	toc := b.finish()
	for i := range toc.Len() {
		if toc.hasBody(i) {
			t.Errorf("content of %s is kept", toc.path(i))
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	var build tocBuilder
	paths := make([]string, 100000)
	for i := range paths {
		paths[i] = filepath.Join("usr/share/doc", string(rune('a'+i%26)), strings.Repeat("p", 1+i%13), string(rune('a'+i/26%26))+"-"+string(rune('a'+i/676%26))+"/"+string(rune('a'+i/17576)))
		build.add(Entry{Path: paths[i], Type: TypeFile}, 0)
	}
	path := filepath.Join(b.TempDir(), "toc")
	if err := build.finish().Save(path); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			toc, err := OpenTOC(path)
			if err != nil {
				b.Fatal(err)
			}
			toc.Close()
		}
	})
	b.Run("lookup", func(b *testing.B) {
		toc, err := OpenTOC(path)
		if err != nil {
			b.Fatal(err)
		}
		defer toc.Close()
		m := Merge(toc)
		i := 0
		for b.Loop() {
			if _, ok, _ := m.Lookup(paths[i%len(paths)]); !ok {
				b.Fatal(paths[i%len(paths)])
			}
			i += 7919
		}
	})
}
