package main

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/rootfs"
)

// What people and programs read of each kind of difference.
func TestDifferences(t *testing.T) {
	xattr := func(name, value string) map[string]string { return map[string]string{"SCHILY.xattr." + name: value} }
	old := imageOf(t, []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "a"},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeReg, Name: "x", PAXRecords: xattr("user.was", "1")},
		{Typeflag: tar.TypeReg, Name: "y", PAXRecords: xattr("user.both", "1")},
		{Typeflag: tar.TypeReg, Name: "one"}, {Typeflag: tar.TypeLink, Name: "two", Linkname: "one"},
		{Typeflag: tar.TypeReg, Name: "p"}, {Typeflag: tar.TypeLink, Name: "q", Linkname: "p"},
		{Typeflag: tar.TypeFifo, Name: "fifo"},
	})
	now := imageOf(t, []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "b\x1b[2J"},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 5},
		{Typeflag: tar.TypeReg, Name: "x", PAXRecords: xattr("user.is", "1"), Mode: 0o4755},
		{Typeflag: tar.TypeReg, Name: "y", PAXRecords: xattr("user.both", "2")},
		{Typeflag: tar.TypeReg, Name: "one"}, {Typeflag: tar.TypeReg, Name: "three"}, {Typeflag: tar.TypeLink, Name: "two", Linkname: "three"},
		{Typeflag: tar.TypeReg, Name: "p"}, {Typeflag: tar.TypeReg, Name: "q"},
		{Typeflag: tar.TypeBlock, Name: "fifo", Devmajor: 8},
	})
	d, err := rootfs.Compare(t.Context(), rootfs.StackOf(old), rootfs.StackOf(now), false)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	printDiff(&lines, d)
	want := `M /fifo (type fifo -> block device)
M /link (link a -> "b\x1b[2J")
M /null (device 1:3 -> 1:5)
M /q (content, hard link /p -> none)
A /three
M /two (content, size 3 -> 5, hard link /one -> /three)
M /x (mode 0755 -> 4755, xattr user.is added, xattr user.was removed)
M /y (xattr user.both changed)
`
	if diff := cmp.Diff(want, lines.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	byPath := map[string]jsonDifference{}
	for _, f := range newJSONDiff(d, jsonDiff{}, true).Files {
		byPath[f.Path] = f
	}
	if f := byPath["/x"]; !bytes.Equal(f.New.Xattrs["user.is"], []byte("1")) || f.New.Mode != "4755" || f.Old.Digest == "" || f.Old.Type != "file" {
		t.Errorf("%+v, %+v", f.Old, f.New)
	}
	if f := byPath["/null"]; f.Old.Device != "1:3" || f.New.Device != "1:5" || f.New.Digest != "" || !cmp.Equal(f.Attributes, []string{"device"}) {
		t.Errorf("%+v, %+v", f.Old, f.New)
	}
	if f := byPath["/link"]; f.Old.Link != "a" || f.Old.Type != "symlink" {
		t.Errorf("%+v", f.Old)
	}
	if f := byPath["/two"]; f.Old.HardLink != "/one" {
		t.Errorf("%+v", f.Old)
	}
	if f := byPath["/three"]; f.Old != nil || f.Change != "added" {
		t.Errorf("%+v", f)
	}
}
