package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustIndex(t testing.TB, data []byte) *TOC {
	t.Helper()
	toc, _, err := Index(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return toc
}

func TestIndex(t *testing.T) {
	const root = ". dir 0755 implied"
	tests := []struct {
		name    string
		members []member
		want    []string
	}{
		{"nothing", nil, nil},
		{"all types", []member{
			dirMember("."), dirMember("d"), fileMember("d/f", "x"), linkMember("l", "/d/f"), nodeMember(tar.TypeChar, "null", 1, 3),
			nodeMember(tar.TypeBlock, "sda", 8, 0), nodeMember(tar.TypeFifo, "p", 0, 0),
		}, []string{
			". dir 0755", "d dir 0755", "d/f file 0644 " + sizeAndSum("x"), "l symlink 0777 -> /d/f", "null char 0600 1,3",
			"p fifo 0600", "sda block 0600 8,0",
		}},
		{"unsorted, names of all shapes", []member{
			fileMember("./z", ""), fileMember("/abs", ""), fileMember("b//c/./d", ""), fileMember("../../up", ""), fileMember("b-c", ""), fileMember("b.c", ""), fileMember("\xff\xfe", ""),
		}, []string{
			root, "abs file 0644 " + sizeAndSum(""), "b dir 0755 implied", "b/c dir 0755 implied", "b/c/d file 0644 " + sizeAndSum(""),
			"b-c file 0644 " + sizeAndSum(""), "b.c file 0644 " + sizeAndSum(""), "up file 0644 " + sizeAndSum(""), "z file 0644 " + sizeAndSum(""),
			"\xff\xfe file 0644 " + sizeAndSum(""),
		}},
		{"metadata", []member{
			fileMember("f", "").with(func(h *tar.Header) {
				h.Mode, h.Uid, h.Gid, h.ModTime = 0o106755, 1000, 5000000, time.Unix(-2, 5e8)
				h.PAXRecords = map[string]string{
					"SCHILY.xattr.user.x": "\x00y", "SCHILY.xattr.security.capability": "c", "SCHILY.xattr.trusted.overlay.opaque": "y",
					"SCHILY.xattr.security.selinux": "s", "comment": "c",
				}
				h.Format = tar.FormatPAX
			}),
		}, []string{
			root, `f file 06755 1000:5000000 ` + sizeAndSum("") + ` @-2 security.capability="c" user.x="\x00y"`,
		}},
		{"symlinks have no mode", []member{
			linkMember("l", "x").with(func(h *tar.Header) { h.Mode = 0o644 }),
		}, []string{root, "l symlink 0777 -> x"}},
		{"a header makes an implied folder a real one", []member{
			fileMember("d/f", ""), dirMember("d").with(func(h *tar.Header) { h.Mode = 0o700 }),
		}, []string{root, "d dir 0700", "d/f file 0644 " + sizeAndSum("")}},
		{"of duplicates the last counts", []member{
			fileMember("f", "1"), fileMember("./f", "22"), dirMember("d"), fileMember("d/x", ""), dirMember("d").with(func(h *tar.Header) { h.Mode = 0o700 }),
		}, []string{root, "d dir 0700", "d/x file 0644 " + sizeAndSum(""), "f file 0644 " + sizeAndSum("22")}},
		{"a file replaces a folder with all that is in it, and so on", []member{
			fileMember("d/x/y", ""), fileMember("d", "f"), dirMember("e"), fileMember("e/z", ""), linkMember("e", "d"),
			fileMember("g/x", ""), fileMember("g", "f"), dirMember("g"), fileMember("g/y", ""),
		}, []string{
			root, "d file 0644 " + sizeAndSum("f"), "e symlink 0777 -> d", "g dir 0755 opaque", "g/y file 0644 " + sizeAndSum(""),
		}},
		{"whiteouts", []member{
			fileMember(".wh.top", ""), fileMember("d/.wh.x", ""), dirMember("e"), fileMember("e/.wh..wh..opq", ""), fileMember("i/.wh..wh..opq", ""),
		}, []string{
			root, "d dir 0755 implied", "d/x whiteout", "e dir 0755 opaque", "i dir 0755 opaque implied", "top whiteout",
		}},
		{"an opaque marker before its folder", []member{
			fileMember("e/.wh..wh..opq", ""), dirMember("e").with(func(h *tar.Header) { h.Mode = 0o700 }),
		}, []string{root, "e dir 0700 opaque"}},
		{"a whiteout does not concern its own layer", []member{
			fileMember("a", ""), fileMember(".wh.a", ""), fileMember(".wh.b", ""), fileMember("b", ""),
			dirMember("c"), fileMember("c/x", ""), fileMember(".wh.c", ""), fileMember(".wh.d", ""), fileMember("d/x", ""),
		}, []string{
			root, "a file 0644 " + sizeAndSum(""), "b file 0644 " + sizeAndSum(""), "c dir 0755 opaque", "c/x file 0644 " + sizeAndSum(""),
			"d dir 0755 @0 opaque", "d/x file 0644 " + sizeAndSum(""),
		}},
		{"what aufs wrote for itself", []member{
			dirMember(".wh..wh.plnk"), fileMember(".wh..wh.plnk/12.34", ""), fileMember(".wh..wh.aufs", ""), fileMember("d/.wh..wh.orph/x", ""),
		}, nil},
		{"hard links", []member{
			fileMember("m", "x").with(func(h *tar.Header) { h.Mode = 0o600 }), hardMember("z", "m"), hardMember("d/a", "/./m"), hardMember("m", "m"),
		}, []string{
			root, "d dir 0755 implied", "d/a file 0600 " + sizeAndSum("x") + " group d/a", "m file 0600 " + sizeAndSum("x") + " group d/a",
			"z file 0600 " + sizeAndSum("x") + " group d/a",
		}},
		{"hard links of a file that is replaced later", []member{
			fileMember("a", "1"), hardMember("b", "a"), hardMember("c", "b"), fileMember("a", "2"), hardMember("d", "a"),
			fileMember("alone", "1"), hardMember("x", "alone"), fileMember("x", ""),
		}, []string{
			root, "a file 0644 " + sizeAndSum("2") + " group a", "alone file 0644 " + sizeAndSum("1"), "b file 0644 " + sizeAndSum("1") + " group b",
			"c file 0644 " + sizeAndSum("1") + " group b", "d file 0644 " + sizeAndSum("2") + " group a", "x file 0644 " + sizeAndSum(""),
		}},
		{"hard links of what is no file", []member{
			linkMember("s", "to"), hardMember("s2", "s"), nodeMember(tar.TypeChar, "n", 1, 3), hardMember("n2", "n"),
		}, []string{
			root, "n char 0600 1,3 group n", "n2 char 0600 1,3 group n", "s symlink 0777 -> to group s", "s2 symlink 0777 -> to group s",
		}},
		{"hard links to lower layers", []member{
			hardMember("a", "low"), hardMember("b", "later"), fileMember("later", ""), hardMember("c", "a"), fileMember(".wh.gone", ""), hardMember("d", "gone"),
		}, []string{
			root, "a file -> low", "b file -> later", "c file -> low", "d file -> gone", "gone whiteout", "later file 0644 " + sizeAndSum(""),
		}},
		{"through symlinks of the layer", []member{
			linkMember("lib", "usr/lib"), fileMember("lib/x", ""), dirMember("usr/lib"), linkMember("usr/abs", "/lib"), fileMember("usr/abs/y", ""),
			linkMember("up", "../../usr"), fileMember("up/z", ""), hardMember("h", "lib/x"), fileMember("lib/.wh.gone", ""),
		}, []string{
			root, "h file 0644 " + sizeAndSum("") + " group h", "lib symlink 0777 -> usr/lib", "up symlink 0777 -> ../../usr", "usr dir 0755 implied",
			"usr/abs symlink 0777 -> /lib", "usr/lib dir 0755", "usr/lib/gone whiteout", "usr/lib/x file 0644 " + sizeAndSum("") + " group h",
			"usr/lib/y file 0644 " + sizeAndSum(""), "usr/z file 0644 " + sizeAndSum(""),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := makeTar(t, tt.members...)
			toc, id, err := Index(t.Context(), iotest.OneByteReader(bytes.NewReader(data)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(joinLines(tt.want...), describeTOC(toc)); diff != "" {
				t.Errorf("TOC (-want +got):\n%s", diff)
			}
			if want := sha256.Sum256(data); id.Encoded() != hex.EncodeToString(want[:]) {
				t.Errorf("DiffID is %s, want %x", id, want)
			}
		})
	}
}

func TestIndexErrors(t *testing.T) {
	long := strings.Repeat("n", 256)
	tests := []struct {
		name    string
		members []member
		want    string
	}{
		{"below a file", []member{fileMember("f", ""), fileMember("f/x", "")}, "index: f/x: f is not a folder"},
		{"below a device", []member{nodeMember(tar.TypeChar, "n", 1, 3), dirMember("n/x")}, "index: n/x/: n is not a folder"},
		{"below a link to a file", []member{fileMember("f", ""), hardMember("l", "f"), fileMember("l/x", "")}, "index: l/x: l is not a folder"},
		{"ring of symlinks", []member{linkMember("a", "b"), linkMember("b", "a"), fileMember("a/x", "")}, "index: a/x: resolve a/x: too many levels of symbolic links"},
		{"hard link to a folder", []member{dirMember("d"), hardMember("l", "d")}, "index: l: hard link to the folder d"},
		{"hard link to nothing", []member{hardMember("l", "")}, "index: l: hard link: empty name"},
		{"long name", []member{fileMember(long, "")}, "index: " + long + ": name with an element of 256 bytes"},
		{"root", []member{fileMember(".", "")}, "index: .: the root is not a folder"},
		{"whiteout of nothing", []member{fileMember("d/.wh.", "")}, "index: d/.wh.: whiteout without a name"},
		{"whiteout of a folder itself", []member{fileMember("d/.wh..", "")}, "index: d/.wh..: whiteout without a name"},
		{"below a whiteout", []member{fileMember(".wh.d/x", "")}, "index: .wh.d/x: below a whiteout"},
		{"continued from another volume", []member{fileMember("f", "").with(func(h *tar.Header) { h.Typeflag = 'M' })}, `index: f: entry of unknown type 'M'`},
		{"device number", []member{nodeMember(tar.TypeChar, "n", 1<<12, 0)}, "index: n: device 4096:0"},
		{"owner", []member{fileMember("f", "").with(func(h *tar.Header) { h.Uid = 1<<32 - 1 })}, "index: f: owner 4294967295:0"},
		{"extended attribute", []member{fileMember("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 1<<16+1)}
		})}, "index: f: extended attribute of 65543 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Index(t.Context(), bytes.NewReader(makeTar(t, tt.members...)))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// A tar reader stops at the end of the archive; the DiffID is that of the whole stream.
func TestIndexTrailingBytes(t *testing.T) {
	data := append(makeTar(t, fileMember("f", "x")), "behind the end, and no whole block"...)
	_, id, err := Index(t.Context(), bytes.NewReader(data))
	if want := sha256.Sum256(data); err != nil || id.Encoded() != hex.EncodeToString(want[:]) {
		t.Errorf("DiffID is %s, %v, want %x", id, err, want)
	}
}

func TestIndexBrokenStreams(t *testing.T) {
	data := makeTar(t, fileMember("first", "x"), fileMember("second", strings.Repeat("x", 3000)))
	broken := errors.New("broken")
	tests := []struct {
		name string
		r    io.Reader
		want string
	}{
		{"no tar", strings.NewReader(strings.Repeat("text ", 1000)), "index: not a tar archive"},
		{"short text", strings.NewReader("text"), "index: not a tar archive"},
		{"cut off in a header", bytes.NewReader(data[:1300]), "index: after first: unexpected EOF"},
		{"cut off in content", bytes.NewReader(data[:3000]), "index: second: unexpected EOF"},
		{"broken header", bytes.NewReader(append(bytes.Clone(data[:1024]), strings.Repeat("x", 2000)...)),
			"index: after first: archive/tar: invalid tar header"},
		{"broken source", io.MultiReader(bytes.NewReader(data[:3000]), iotest.ErrReader(broken)), "index: second: broken"},
		{"broken behind the end", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), "index: broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Index(t.Context(), tt.r)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestIndexCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	data := makeTar(t, fileMember("f", strings.Repeat("x", 1<<20)))
	r := io.MultiReader(bytes.NewReader(data[:1<<19]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), bytes.NewReader(data[1<<19:]))
	if _, _, err := Index(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestIndexLimits(t *testing.T) {
	sparse, err := os.ReadFile("testdata/tar/sparse-pax-1.0.tar")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		data   []byte
		limits limits
		want   string
	}{
		{"entries", makeTar(t, fileMember("a/b/c/d", "")), limits{entries: 4, text: 1000}, errTooMuch.Error()},
		{"text", makeTar(t, fileMember(strings.Repeat("n", 200), "")), limits{entries: 10, text: 200}, errTooMuch.Error()},
		{"holes", sparse, limits{entries: 10, text: 1000, holes: 200000}, "sparse: no real archive has so many holes in sparse files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ix := indexer{scanner: newScanner(t.Context(), bytes.NewReader(tt.data), tt.limits)}
			if err := ix.run(); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// The tars in testdata are those of GNU tar 1.34, see the README there.
func TestIndexRealTars(t *testing.T) {
	const hello, mtime = "file 0644 ", " @1000000000"
	sparse := make([]byte, 300000)
	copy(sparse[65536:], "middle")
	copy(sparse[200000:], "end")
	sparseFiles := []string{
		". dir 0755 implied", "file file 0644 " + sizeAndSum("hello\n") + mtime, "sparse file 0644 " + sizeAndSum(string(sparse)) + mtime,
	}
	long := strings.Repeat("n", 150)
	links := []string{
		". dir 0755 implied", "dir dir 0755 implied", "dir/inner file 0644 " + sizeAndSum("x") + mtime, "file file 0644 " + sizeAndSum("hello\n") + mtime + " group file",
		"hard file 0644 " + sizeAndSum("hello\n") + mtime + " group file", "link symlink 0777" + mtime + " -> file",
	}
	tests := map[string][]string{
		"v7.tar":    links,
		"ustar.tar": links,
		"gnu.tar": {
			". dir 0755 implied", "dir dir 0755" + mtime, "dir/inner file 0644 " + sizeAndSum("x") + mtime, "dir/" + long + " file 0644 " + sizeAndSum("long") + mtime,
			"file file 0644 " + sizeAndSum("hello\n") + mtime + " group file", "hard file 0644 " + sizeAndSum("hello\n") + mtime + " group file",
			"longlink symlink 0777" + mtime + " -> " + strings.Repeat("t", 120),
		},
		"gnu-base256.tar":  {". dir 0755 implied", "file file 0644 3000000:3000000 " + sizeAndSum("hello\n") + mtime},
		"gnu-negative.tar": {". dir 0755 implied", "file file 0644 " + sizeAndSum("hello\n") + " @-5"},
		"gnu-incremental.tar": {
			". dir 0755 implied", "dir dir 0755" + mtime, "dir/inner file 0644 " + sizeAndSum("x") + mtime, "dir/" + long + " file 0644 " + sizeAndSum("long") + mtime,
		},
		"pax-global.tar":     {". dir 0755 implied", "file file 0644 " + sizeAndSum("hello\n") + mtime},
		"sparse-gnu.tar":     sparseFiles,
		"sparse-pax-0.0.tar": sparseFiles,
		"sparse-pax-0.1.tar": sparseFiles,
		"sparse-pax-1.0.tar": sparseFiles,
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata/tar", name))
			if err != nil {
				t.Fatal(err)
			}
			toc := mustIndex(t, data)
			if diff := cmp.Diff(joinLines(want...), describeTOC(toc)); diff != "" {
				t.Errorf("TOC (-want +got):\n%s", diff)
			}
			checkContents(t, toc, data)
		})
	}
}

// checkContents reads the content of each file as Content does, and compares its digest.
func checkContents(t testing.TB, toc *TOC, data []byte) {
	t.Helper()
	for e, offset := range toc.All() {
		if e.Type != TypeFile || isLowerLink(e) {
			continue
		}
		r, err := Content(bytes.NewReader(data), e, offset)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if n, err := io.Copy(h, r); err != nil || n != e.Size || [32]byte(h.Sum(nil)) != e.Digest {
			t.Errorf("%s: content at %d has %d bytes, %v, digest %x", e.Path, offset, n, err, h.Sum(nil))
		}
	}
}

func TestContentCutOff(t *testing.T) {
	data := makeTar(t, fileMember("f", "x"))
	_, offset, _ := mustIndex(t, data).Lookup("f")
	if _, err := Content(bytes.NewReader(data[:100]), Entry{Path: "f"}, offset); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want unexpected EOF", err)
	}
	if _, err := Content(bytes.NewReader(data[:100]), Entry{Path: "f"}, ^0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("sparse: got %v, want unexpected EOF", err)
	}
}

func TestIndexKeepsFiles(t *testing.T) {
	big := strings.Repeat("x", maxKept+1)
	toc := mustIndex(t, makeTar(t,
		fileMember("etc/passwd", "old"), fileMember("./etc/passwd", "root"), fileMember("etc/group", ""), hardMember("etc/os-release", "etc/passwd"),
		fileMember("usr/lib/os-release", big), fileMember("etc/shadow", "secret")))
	m := Merge(toc)
	for path, want := range map[string]string{"etc/passwd": "root", "etc/group": "", "etc/os-release": "root"} {
		if got, err := m.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"usr/lib/os-release", "etc/shadow", "etc/none", "etc"} {
		if _, err := m.ReadFile(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want that it does not exist", path, err)
		}
	}
	if bytes.Contains(toc.data, []byte("secret")) {
		t.Error("the TOC holds content of other files")
	}
}

// A tree of 20,000 files is indexed, and every one of them is found.
func TestIndexLarge(t *testing.T) {
	var members []member
	for i := range 20000 {
		members = append(members, fileMember(fmt.Sprintf("usr/share/d%d/f%d", i%211, i), fmt.Sprint(i)))
	}
	data := makeTar(t, members...)
	toc := mustIndex(t, data)
	if want := 20000 + 211 + 3; toc.Len() != want {
		t.Errorf("%d entries, want %d", toc.Len(), want)
	}
	for i := range 20000 {
		e, offset, ok := toc.Lookup(members[i].Name)
		if !ok || e.Digest != sha256.Sum256([]byte(fmt.Sprint(i))) || !bytes.HasPrefix(data[offset:], []byte(fmt.Sprint(i))) {
			t.Fatalf("%s: %v, %v", members[i].Name, e, ok)
		}
	}
	n := 0
	for range Merge(toc).Children("usr/share") {
		n++
	}
	if n != 211 {
		t.Errorf("%d children, want 211", n)
	}
}

// fuzzLimits keep a fuzz target from being slow for good reasons.
var fuzzLimits = limits{entries: 1 << 12, text: 1 << 20, holes: 1 << 22}

func FuzzIndex(f *testing.F) {
	addTars(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		data = fixChecksums(data)
		ix := indexer{scanner: newScanner(t.Context(), bytes.NewReader(data), fuzzLimits)}
		if ix.run() != nil {
			return
		}
		toc := ix.toc.finish()
		last := ""
		for e := range toc.All() {
			if last != "" && Compare(last, e.Path) >= 0 {
				t.Errorf("%q stands before %q", last, e.Path)
			}
			last = e.Path
			if clean, err := cleanPath(e.Path); err != nil || clean != e.Path {
				t.Errorf("%q is not clean: %v", e.Path, err)
			}
			if dir, _ := split(e.Path); e.Path != "." {
				if up, _, ok := toc.Lookup(dir); !ok || up.Type != TypeDir {
					t.Errorf("%q is in no folder", e.Path)
				}
			}
		}
		checkContents(t, toc, data)
		for range Merge(toc, toc).Children(".") {
		}
	})
}

// fixChecksums returns the tar with right checksums in all blocks, as if each were a header; a
// fuzzer would get past few headers without.
func fixChecksums(data []byte) []byte {
	data = bytes.Clone(data)
	for block := range slices.Chunk(data, blockSize) {
		if len(block) < blockSize || block[0] == 0 {
			continue
		}
		field := block[148:156]
		copy(field, "        ")
		sum := 0
		for _, b := range block {
			sum += int(b)
		}
		copy(field, fmt.Sprintf("%06o\x00 ", sum))
	}
	return data
}

// addTars seeds a fuzz target with tars of all kinds.
func addTars(f *testing.F) {
	names, err := filepath.Glob("testdata/tar/*.tar")
	if err != nil || len(names) == 0 {
		f.Fatalf("no tars: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(makeTar(f, dirMember("."), fileMember("d/.wh..wh..opq", ""), fileMember("a", "x"), hardMember("b", "a"), hardMember("c", "low"),
		linkMember("l", "d"), fileMember("l/x", "y"), fileMember(".wh.gone", ""), nodeMember(tar.TypeChar, "n", 1, 3), fileMember("a", "z")))
}
