package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// newSpool returns a nameless temporary file.
func newSpool(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "spool")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	return f
}

func readArchive(t testing.TB, data []byte) (*Archive, error) {
	t.Helper()
	a, err := ReadArchive(t.Context(), bytes.NewReader(data), newSpool(t))
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// describeArchive lists the entries of an archive, and checks what their openers give.
func describeArchive(t testing.TB, a *Archive) string {
	t.Helper()
	b := new(strings.Builder)
	for _, e := range a.Entries {
		if e.HardLink != "" {
			fmt.Fprintf(b, "%s hard link to %s\n", e.Path, e.HardLink)
			continue
		}
		b.WriteString(describeEntry(e.Entry) + "\n")
		if (e.Open != nil) != (e.Type == TypeFile && e.Size > 0) {
			t.Errorf("%s: Open is nil: %v", e.Path, e.Open == nil)
		}
		for range 2 {
			if e.Open != nil {
				checkOpen(t, e.Change)
			}
		}
	}
	return b.String()
}

func checkOpen(t testing.TB, ch Change) {
	t.Helper()
	r, err := ch.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	if n, err := io.Copy(h, r); err != nil || n != ch.Size || [32]byte(h.Sum(nil)) != ch.Digest {
		t.Errorf("%s: opened, it has %d bytes, %v, digest %x", ch.Path, n, err, h.Sum(nil))
	}
}

func TestReadArchive(t *testing.T) {
	tests := []struct {
		name    string
		members []member
		want    []string
	}{
		{"nothing", nil, nil},
		{"the archive's order, duplicates and all", []member{
			fileMember("./b", "1"), dirMember("."), fileMember("a/x", ""), fileMember("b", "22"), dirMember("a"),
		}, []string{
			"b file 0644 " + sizeAndSum("1"), ". dir 0755", "a/x file 0644 " + sizeAndSum(""), "b file 0644 " + sizeAndSum("22"), "a dir 0755",
		}},
		{"names that leave the root are clamped to it", []member{
			fileMember("../../a", ""), fileMember("/b", ""), fileMember("c/../../d", ""), linkMember("l", "../../../etc"),
		}, []string{
			"a file 0644 " + sizeAndSum(""), "b file 0644 " + sizeAndSum(""), "d file 0644 " + sizeAndSum(""), "l symlink 0777 -> ../../../etc",
		}},
		{"hard links", []member{
			fileMember("a", "x"), hardMember("b", "/a"), hardMember("c", "../x/../a"), hardMember("d", "not/here"),
		}, []string{"a file 0644 " + sizeAndSum("x"), "b hard link to a", "c hard link to a", "d hard link to not/here"}},
		{"devices", []member{nodeMember(tar.TypeChar, "n", 1, 3), nodeMember(tar.TypeBlock, "s", 8, 1), nodeMember(tar.TypeFifo, "p", 0, 0)},
			[]string{"n char 0600 1,3", "s block 0600 8,1", "p fifo 0600"}},
		{"sockets are dropped", []member{
			nodeMember(tar.TypeFifo, "s", 0, 0).with(func(h *tar.Header) { h.Mode = 0o140755 }), fileMember("f", ""),
		}, []string{"f file 0644 " + sizeAndSum("")}},
		{"contiguous files are files", []member{fileMember("f", "x").with(func(h *tar.Header) { h.Typeflag = tar.TypeCont })},
			[]string{"f file 0644 " + sizeAndSum("x")}},
		{"extended attributes of all tools", []member{
			fileMember("f", "").with(func(h *tar.Header) {
				h.PAXRecords = map[string]string{
					"SCHILY.xattr.user.both": "schily", "LIBARCHIVE.xattr.user.both": "bGlidGFy", "LIBARCHIVE.xattr.user.a%20b": "AAECAw",
					"LIBARCHIVE.xattr.user.padded": "YQ==", "LIBARCHIVE.xattr.trusted.x": "YQ", "SCHILY.xattr.security.selinux": "x",
					"LIBARCHIVE.creationtime": "1",
				}
			}),
		}, []string{"f file 0644 " + sizeAndSum("") + ` user.a b="\x00\x01\x02\x03" user.both="schily" user.padded="a"`}},
		{"a name with .wh. in it", []member{fileMember("x.wh.y", "")}, []string{"x.wh.y file 0644 " + sizeAndSum("")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := readArchive(t, makeTar(t, tt.members...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(joinLines(tt.want...), describeArchive(t, a)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Each compression of each real tar gives the same entries, which are those of its index.
func TestReadArchiveRealTars(t *testing.T) {
	names, err := filepath.Glob("testdata/tar/*.tar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no tars: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			toc := mustIndex(t, data)
			for compression, packed := range map[string][]byte{
				"none": data, "gzip": compressWith(t, "gzip", data), "zstd": compressWith(t, "zstd", data), "xz": compressXz(t, data),
			} {
				a, err := readArchive(t, packed)
				if err != nil {
					t.Fatal(err)
				}
				describeArchive(t, a)
				for _, e := range a.Entries {
					want, _, ok := toc.Lookup(e.Path)
					if e.HardLink != "" {
						want, _, ok = toc.Lookup(e.HardLink)
						e.Size, e.Digest = want.Size, want.Digest
					}
					want.Path, want.Group = e.Path, ""
					if filepath.Base(name) == "pax-global.tar" { // only tar(1) heeds global headers
						want.UID, want.MTime = 33, 981173106
					}
					if diff := cmp.Diff(want, e.Entry); diff != "" || !ok {
						t.Errorf("%s: %s is not as in the index (-index +archive):\n%s", compression, e.Path, diff)
					}
				}
				if a.Compression.Name != compression {
					t.Errorf("compression is %s, want %s", a.Compression.Name, compression)
				}
			}
		})
	}
}

func TestReadArchiveErrors(t *testing.T) {
	data := makeTar(t, fileMember("first", "x"), fileMember("second", strings.Repeat("x", 3000)))
	notes := []byte(strings.Repeat("text ", 1000))
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty file", nil, "empty file"},
		{"gzip of nothing", compressWith(t, "gzip", nil), "empty file (after gzip)"},
		{"text", notes, "not a tar archive"},
		{"gzip of text", compressWith(t, "gzip", notes), "not a tar archive (after gzip)"},
		{"zstd of short text", compressWith(t, "zstd", notes[:4]), "not a tar archive (after zstd)"},
		{"xz of gzip of a tar", compressXz(t, compressWith(t, "gzip", data)), "not a tar archive (after xz)"},
		{"cut off", data[:2000], "second: unexpected EOF"},
		{"gzip of what is cut off", compressWith(t, "gzip", data[:1200]), "after first: unexpected EOF (after gzip)"},
		{"garbage after gzip", append(compressWith(t, "gzip", data), 'x'), "garbage after the end of the gzip stream (after gzip)"},
		{"whiteout", makeTar(t, fileMember("d/.wh.x", "")), "d/.wh.x: in layers, a name that begins with .wh. means a removed file"},
		{"opaque marker", makeTar(t, fileMember("d/.wh..wh..opq", "")), "d/.wh..wh..opq: in layers, a name that begins with .wh. means a removed file"},
		{"whiteout as folder", makeTar(t, fileMember(".wh.d/x", "")), ".wh.d/x: in layers, a name that begins with .wh. means a removed file"},
		{"root", makeTar(t, linkMember(".", "x")), ".: the root is not a folder"},
		{"hard link to nothing", makeTar(t, hardMember("l", "")), "l: hard link: empty name"},
		{"type", makeTar(t, fileMember("f", "").with(func(h *tar.Header) { h.Typeflag = 'N' })), "f: entry of unknown type 'N'"},
		{"name of an attribute", makeTar(t, fileMember("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"LIBARCHIVE.xattr.user.%zz": ""}
		})), `f: extended attribute: invalid URL escape "%zz"`},
		{"value of an attribute", makeTar(t, fileMember("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"LIBARCHIVE.xattr.user.x": "!"}
		})), `f: extended attribute user.x: illegal base64 data at input byte 0`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spool := newSpool(t)
			_, err := ReadArchive(t.Context(), bytes.NewReader(tt.data), spool)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err := spool.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("the spool is left open: %v", err)
			}
		})
	}
}

func TestArchiveClose(t *testing.T) {
	sparse, err := os.ReadFile("testdata/tar/sparse-gnu.tar")
	if err != nil {
		t.Fatal(err)
	}
	a, err := readArchive(t, sparse)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range a.Entries {
		if _, err := e.Open(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Open after Close: %v", e.Path, err)
		}
	}
}

func TestReadArchiveCanceled(t *testing.T) {
	for _, name := range []string{"none", "gzip", "zstd"} {
		ctx, cancel := context.WithCancel(t.Context())
		data := compressWith(t, name, makeTar(t, fileMember("f", string(sample(4<<20)))))
		half := len(data) / 2
		r := io.MultiReader(bytes.NewReader(data[:half]), readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }), bytes.NewReader(data[half:]))
		if _, err := ReadArchive(ctx, r, newSpool(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context canceled", name, err)
		}
	}
}

func TestReadArchiveFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadArchive(t.Context(), bytes.NewReader(makeTar(t, fileMember("f", "x"))), full); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func TestReadArchiveLimits(t *testing.T) {
	members := makeTar(t, fileMember("one", ""), fileMember("two", ""), fileMember("three", ""))
	for _, l := range []limits{{entries: 2, text: 1000}, {entries: 10, text: 10}} {
		a := &Archive{spool: newSpool(t)}
		if err := a.read(t.Context(), bytes.NewReader(members), l); !errors.Is(err, errTooMuch) {
			t.Errorf("%+v: got %v", l, err)
		}
		a.Close()
	}
}

// zeros gives zero bytes for ever, without work.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestBombReader(t *testing.T) {
	for _, tt := range []struct {
		name             string
		compressed, read int64
		bomb             bool
	}{
		{"small, any ratio", 1, maxUnratioed, false},
		{"too large for its ratio", 1 << 20, maxUnratioed + 1, true},
		{"large, usual ratio", 1 << 30, 1 << 35, false},
		{"larger than any", 1 << 40, maxUnpacked + 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := new(countingReader)
			in.n.Store(tt.compressed)
			b := &bombReader{r: zeros{}, compressed: in, n: tt.read - 1}
			_, err := b.Read(make([]byte, 1))
			if (err != nil) != tt.bomb {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPaxTime(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1.999999999": 1, "-1": -1, "-1.5": -2, "-0.5": -1, "-3.000": -3, "981173106.5": 981173106, "99999999999999": 99999999999999,
	} {
		if got, err := paxTime(s); err != nil || got.Unix() != want {
			t.Errorf("%s: %d, %v; want %d", s, got.Unix(), err, want)
		}
	}
	for _, s := range []string{"", "x", ".5", "1e9", "99999999999999999999"} {
		if got, err := paxTime(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func FuzzArchive(f *testing.F) {
	addTars(f)
	f.Add(compressWith(f, "gzip", makeTar(f, fileMember("f", "x"))))
	f.Add(compressWith(f, "zstd", makeTar(f, fileMember("f", "x"))))
	spoolDir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if c := sniff(data[:min(16, len(data))]); c.Name == "none" {
			data = fixChecksums(data)
		}
		spool, err := os.CreateTemp(spoolDir, "spool")
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(spool.Name())
		a := &Archive{spool: spool}
		defer a.Close()
		if a.read(t.Context(), iotest.HalfReader(bytes.NewReader(data)), fuzzLimits) != nil {
			return
		}
		for _, e := range a.Entries {
			for _, p := range []string{e.Path, e.HardLink} {
				if clean, err := cleanPath(p); p != "" && (err != nil || clean != p) {
					t.Errorf("%q is not clean: %v", p, err)
				}
			}
			if hasWhiteout(e.Path) {
				t.Errorf("%q means a removal", e.Path)
			}
			if e.Open != nil {
				checkOpen(t, e.Change)
			}
		}
	})
}
