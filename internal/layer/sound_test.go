package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// soundTar writes the headers as a tar. Files have their name as content.
func soundTar(t *testing.T, headers []tar.Header, end bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = h.Name
			h.Size = int64(len(content))
		}
		if h.ModTime.IsZero() && h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = time.Unix(1e9, 0)
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Flush(); err != nil {
		t.Fatal(err)
	}
	if end {
		buf.Write(make([]byte, 2*blockSize))
	}
	return buf.Bytes()
}

func TestSound(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
	}
	pax := func(key string) tar.Header {
		h := file("x")
		h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{key: "v"}
		return h
	}
	clamp := int64(999)
	for _, c := range []struct {
		name    string
		headers []tar.Header
		clamp   *int64
		noEnd   bool
		want    string // "" is sound
	}{
		{name: "plain", headers: []tar.Header{dir("./"), dir("./a/"), file("./a/b"), link("./c", "./a/b"), {Name: "./l", Typeflag: tar.TypeSymlink, Linkname: "/a"}}},
		{name: "without dots", headers: []tar.Header{dir("./"), dir("a"), file("a/b"), link("c", "a/b")}},
		{name: "long names, attributes", headers: []tar.Header{dir("./"), dir(strings.Repeat("n", 200)), pax("SCHILY.xattr.user.x")}},
		{name: "device", headers: []tar.Header{dir("./"), {Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}},
		{name: "no root", headers: []tar.Header{dir("a"), file("a/b")}},
		{name: "root later", headers: []tar.Header{dir("a"), dir("./")}},
		{name: "nothing", headers: nil, want: "it has no entry"},
		{name: "twice", headers: []tar.Header{dir("./"), file("a"), file("./a")}, want: "./a: no sound layer as it is: the path comes twice"},
		{name: "root twice", headers: []tar.Header{dir("./"), dir("./")}, want: "the path comes twice"},
		{name: "folder twice", headers: []tar.Header{dir("./"), dir("a"), dir("a")}, want: "the path comes twice"},
		{name: "folder missing", headers: []tar.Header{dir("./"), file("a/b")}, want: "there is no entry before it for the folder a"},
		{name: "folder later", headers: []tar.Header{dir("./"), file("a/b"), dir("a")}, want: "there is no entry before it for the folder a"},
		{name: "through a symlink", headers: []tar.Header{dir("./"), dir("a"), {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"}, file("l/b")}, want: "there is no entry before it for the folder l"},
		{name: "below a file", headers: []tar.Header{dir("./"), file("a"), file("a/b")}, want: "there is no entry before it for the folder a"},
		{name: "absolute", headers: []tar.Header{dir("./"), file("/a")}, want: "the name is not a plain path"},
		{name: "upwards", headers: []tar.Header{dir("./"), dir("a"), file("a/../b")}, want: "the name is not a plain path"},
		{name: "two slashes", headers: []tar.Header{dir("./"), dir("a"), file("a//b")}, want: "the name is not a plain path"},
		{name: "whiteout", headers: []tar.Header{dir("./"), file(".wh.a")}, want: "the name is that of a whiteout"},
		{name: "below a whiteout", headers: []tar.Header{dir("./"), dir(".wh.a"), file(".wh.a/b")}, want: "the name is that of a whiteout"},
		{name: "link before target", headers: []tar.Header{dir("./"), link("a", "b"), file("b")}, want: `it links to b, of which there is no entry before it`},
		{name: "absolute target", headers: []tar.Header{dir("./"), file("b"), link("c", "/b")}, want: `it links to "/b", not a plain path`},
		{name: "device of whiteouts", headers: []tar.Header{dir("./"), {Name: "w", Typeflag: tar.TypeChar}}, want: "device 0:0"},
		{name: "file or folder", headers: []tar.Header{dir("./"), {Name: "w/", Typeflag: tar.TypeLink, Linkname: "a"}}, want: "its name ends in /, but it is not a folder"},
		{name: "contiguous file", headers: []tar.Header{dir("./"), {Name: "w", Typeflag: tar.TypeCont}}, want: `is of the type '7'`},
		{name: "foreign attribute", headers: []tar.Header{dir("./"), pax("SCHILY.xattr.trusted.x")}, want: "it has the extended attribute trusted.x"},
		{name: "attribute of overlay", headers: []tar.Header{dir("./"), pax("SCHILY.xattr.user.overlay.opaque")}, want: "it has the extended attribute user.overlay.opaque"},
		{name: "attribute of bsdtar", headers: []tar.Header{dir("./"), pax("LIBARCHIVE.xattr.user.x")}, want: "LIBARCHIVE.xattr.user.x, which tools for images do not read"},
		{name: "access control list", headers: []tar.Header{dir("./"), pax("SCHILY.acl.access")}, want: "SCHILY.acl.access, which tools for images do not read"},
		{name: "global header", headers: []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"uid": "5"}}, dir("./")}, want: "a global header stands before it"},
		{name: "before 1970", headers: []tar.Header{dir("./"), {Name: "x", Typeflag: tar.TypeReg, ModTime: time.Unix(-1, 0), Format: tar.FormatPAX}}, want: "its time would have to be changed"},
		{name: "after the clamp", headers: []tar.Header{dir("./")}, clamp: &clamp, want: "its time would have to be changed"},
		{name: "no end", headers: []tar.Header{dir("./"), file("a")}, noEnd: true, want: "it has no end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := soundTar(t, c.headers, !c.noEnd)
			toc, id, err := Sound(context.Background(), bytes.NewReader(data), c.clamp)
			if c.want != "" {
				if err == nil || !errors.Is(err, ErrUnsound) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, wantID, err := Index(context.Background(), bytes.NewReader(data))
			if err != nil || id != wantID || toc.Len() != want.Len() {
				t.Errorf("%d entries, %s; Index: %d, %s, %v", toc.Len(), id, want.Len(), wantID, err)
			}
		})
	}
}

// What GNU tar makes of a folder is sound in each of its formats.
func TestSoundGNUTar(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "A", "sub/" + strings.Repeat("deep/", 30) + "b": "B"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub/hard")); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix", "ustar"} {
		out, err := exec.Command("tar", "-c", "--format="+format, "-C", dir, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Sound(context.Background(), bytes.NewReader(out), nil); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
	out, err := exec.Command("tar", "-c", "--label=volume", "-C", dir, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Sound(context.Background(), bytes.NewReader(out), nil); err == nil || !strings.Contains(err.Error(), "volume label") {
		t.Errorf("with a label: %v", err)
	}
}

// What git archive and GNU tar make for other uses is no layer, whatever stands in it.
func TestSoundSparse(t *testing.T) {
	for name, want := range map[string]string{"sparse-*": "is a sparse file", "pax-global": "a global header"} {
		paths, err := filepath.Glob("testdata/tar/" + name + ".tar")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := Sound(t.Context(), bytes.NewReader(data), nil); !errors.Is(err, ErrUnsound) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// GNU tar skips as many bytes behind a symlink, a device or a fifo as its size says, where tools
// for images read on.
func TestSoundSizes(t *testing.T) {
	for _, h := range []tar.Header{
		{Name: "x/", Typeflag: tar.TypeDir},
		{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "y"},
		{Name: "x", Typeflag: tar.TypeLink, Linkname: "a"},
		{Name: "x", Typeflag: tar.TypeFifo},
		{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "x", Typeflag: tar.TypeBlock, Devmajor: 1, Devminor: 3},
	} {
		data := soundTar(t, []tar.Header{{Name: "a", Typeflag: tar.TypeReg}, h, {Name: "hidden", Typeflag: tar.TypeReg}}, true)
		if _, _, err := Sound(t.Context(), bytes.NewReader(data), nil); err != nil {
			t.Fatalf("type %q: %v", h.Typeflag, err)
		}
		header := data[2*blockSize : 3*blockSize]
		copy(header[124:], "00000002000\x00")
		putSum((*[tarBlock]byte)(header))
		_, _, err := Sound(t.Context(), bytes.NewReader(data), nil)
		if err == nil || !errors.Is(err, ErrUnsound) || !strings.Contains(err.Error(), "it has no content, but a size") {
			t.Errorf("type %q with a size: %v", h.Typeflag, err)
		}
	}
}
