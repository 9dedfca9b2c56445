package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/cache"
	"genoci/internal/imagefs"
	"genoci/internal/imagetest"
	"genoci/internal/layout"
	"genoci/internal/rootfs"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

// imageOf makes an image of layers with these headers, each file with its own name as content, and
// opens it to look into.
func imageOf(t *testing.T, layers ...[]tar.Header) *imagefs.Image {
	t.Helper()
	l, err := layout.Create(filepath.Join(t.TempDir(), "oci"))
	strict.Must(t, err)
	t.Cleanup(func() { l.Close() })
	c, err := cache.Open(t.TempDir())
	strict.Must(t, err)
	var stored []imagetest.Layer
	for _, headers := range layers {
		var members []imagetest.Member
		for _, h := range headers {
			m := imagetest.Member{Header: h}
			if h.Mode == 0 {
				m.Mode = 0o755
			}
			if h.Typeflag == tar.TypeReg {
				m.Body = h.Name
			}
			members = append(members, m)
		}
		stored = append(stored, imagetest.Layer{Tar: imagetest.Tar(members...)})
	}
	img, err := imagetest.Write(l, imagetest.Linux, stored...)
	strict.Must(t, err)
	opened, err := imagefs.Store{Layout: l, Cache: c}.Open(t.Context(), img)
	strict.Must(t, err)
	return opened
}

// Devices are left out, and that is said.
func TestGetDevices(t *testing.T) {
	img := imageOf(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "dev"}, {Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeFifo, Name: "dev/initctl"}, {Typeflag: tar.TypeBlock, Name: "dev/a\nb", Devmajor: 8}, {Typeflag: tar.TypeReg, Name: "dev/file"},
	})
	var said bytes.Buffer
	g := getter{stdout: io.Discard, stderr: &said, root: os.Geteuid() == 0}
	dest := filepath.Join(t.TempDir(), "copy")
	if err := g.get(t.Context(), rootfs.OfImage(imagefs.Store{}, img), "dev", dest); err != nil {
		t.Fatal(err)
	}
	if got, want := said.String(), "note: left out 2 devices: \"a\\nb\", null\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if diff := cmp.Diff("file file 0755 \"dev/file\"\ninitctl fifo 0755\n", treetest.Dump(t, dest, treetest.NoOwners)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for path, want := range map[string]string{"dev/null": "character", "dev/a\nb": "block"} {
		if err := g.get(t.Context(), rootfs.OfImage(imagefs.Store{}, img), path, dest+"2"); err == nil || err.Error() != "it is a "+want+" device; devices are not copied" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Whatever an image calls its files and wherever its symlinks lead, nothing outside the copy is
// touched.
func TestGetHostile(t *testing.T) {
	outside := t.TempDir()
	const secret = "secret file 0600 \"\"\n"
	treetest.Make(t, outside, secret, treetest.NoOwners)
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
	}
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
	tests := []struct {
		name   string
		layers [][]tar.Header
		get    string
		want   string // what is there then; OUT is the folder outside
		err    string
	}{
		{"a path through a symlink", [][]tar.Header{{link("d", outside), file("d/f")}}, "d/f", "copy file 0755 \"d/f\"\n", ""},
		{"a path through one of a lower layer", [][]tar.Header{{link("d", outside)}, {file("d/f")}}, "d/f", "copy file 0755 \"d/f\"\n", ""},
		{
			"a folder that was a symlink", [][]tar.Header{{link("d/e", outside)}, {dir("d/e"), file("d/e/secret")}}, "d",
			"copy/ dir 0755\ncopy/e/ dir 0755\ncopy/e/secret file 0755 \"d/e/secret\"\n", "",
		},
		{
			"a symlink that was a folder", [][]tar.Header{{dir("d/e"), file("d/e/secret")}, {link("d/e", outside)}}, "d",
			"copy/ dir 0755\ncopy/e symlink OUT\n", "",
		},
		{
			"a folder after a symlink of its name", [][]tar.Header{{link("d/l", outside), dir("d/l"), file("d/l/f")}}, "d",
			"copy/ dir 0755\ncopy/l/ dir 0755\ncopy/l/f file 0755 \"d/l/f\"\n", "",
		},
		{
			"a symlink to the host", [][]tar.Header{{link("l", outside+"/secret")}}, "l", "",
			"/l is a symlink to OUT/secret, and there is no OUT/secret",
		},
		{
			"a symlink that leads up", [][]tar.Header{{link("d/l", "../../../.."+outside+"/secret")}}, "d/l", "",
			"/d/l is a symlink to ../../../..OUT/secret, and there is no OUT/secret",
		},
		{
			"names that lead up", [][]tar.Header{{file("d/../../../../../../../../genoci-evil")}}, "",
			"copy/ dir 0755\ncopy/genoci-evil file 0755 \"d/../../../../../../../../genoci-evil\"\n", "",
		},
		{
			"a hard link to the host", [][]tar.Header{{dir("d"), hard("d/h", outside+"/secret")}}, "d", "",
			"d/h: hard link to OUT/secret, which is not a file of a lower layer",
		},
		{
			"a hard link through a symlink", [][]tar.Header{{link("l", outside), dir("d"), hard("d/h", "l/secret")}}, "d", "",
			"d/h: hard link to OUT/secret, which is not a file of a lower layer",
		},
	}
	hide := strings.NewReplacer(outside, "OUT", outside[1:], "OUT").Replace
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			work, failed := t.TempDir(), ""
			g := getter{stdout: io.Discard, stderr: io.Discard, root: os.Geteuid() == 0}
			if err := g.get(t.Context(), rootfs.OfImage(imagefs.Store{}, imageOf(t, tt.layers...)), tt.get, filepath.Join(work, "copy")); err != nil {
				failed = hide(err.Error())
			}
			if failed != tt.err {
				t.Errorf("error %q, want %q", failed, tt.err)
			}
			if diff := cmp.Diff(tt.want, hide(treetest.Dump(t, work, treetest.NoOwners))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := treetest.Dump(t, outside, treetest.NoOwners); got != secret {
				t.Errorf("outside: %s", got)
			}
			if _, err := os.Lstat("/genoci-evil"); err == nil {
				t.Error("/genoci-evil is there")
			}
		})
	}
}
