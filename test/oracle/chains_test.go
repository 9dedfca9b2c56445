package oracle

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/treetest"
)

// chain is an image, as the trees that its layers make one after the other, in treetest's language.
type chain struct {
	name        string
	compression string
	trees       []string
}

// long is a name of 120 bytes; two of them need PAX records in place of the name field of tar.
var long = strings.Repeat("long-name-", 12)

// hard are images in which each layer has something that a tool may get wrong.
var hard = []chain{
	{"types", "gzip", []string{`
		bin symlink usr/bin
		absolute symlink /usr/bin/tool
		dangling symlink no/such/file
		dev/ dir 0755 0:0
		dev/null c 1:3 0666 0:0
		dev/disk b 8:0 0660 0:6
		empty/ dir 0755 0:0
		etc/ dir 0755 0:0
		etc/empty file 0644 0:0 ""
		etc/hostname file 0644 0:0 "genoci\n" mtime=1600000000
		pipe fifo 0600 33:33
		tmp/ dir 1777 0:0
		usr/ dir 0755 0:0
		usr/bin/ dir 0755 0:0
		usr/bin/big file 0755 0:0 size=3000000
		usr/bin/su file 4755 0:0 "#!/bin/su\n"
		usr/bin/wall file 2755 0:5 "#!/bin/wall\n"
		var/ dir 2775 0:50
		var/private/ dir 0000 0:0
		var/private/secret file 0000 1000:1000 "secret\n"
	`}},
	{"links", "gzip", []string{`
		a/ dir 0755 0:0
		a/first file 0644 1:2 <1> "shared\n"
		a/second file 0644 1:2 <1> "shared\n"
		b/ dir 0755 0:0
		b/third file 0644 1:2 <1> "shared\n"
		b/other file 4755 0:0 <2> "other\n"
		c file 4755 0:0 <2> "other\n"
		to-a symlink a
	`, `
		a/ dir 0755 0:0
		a/first file 0644 1:2 <1> "changed\n"
		a/second file 0644 1:2 <1> "changed\n"
		b/ dir 0755 0:0
		b/third file 0644 1:2 <1> "changed\n"
		b/other file 4755 0:0 <2> "other\n"
		c file 4755 0:0 <2> "other\n"
		to-a symlink b
	`}},
	{"names", "gzip", []string{fmt.Sprintf(`
		"-rf" file 0644 0:0 "dash\n"
		"blank in name" file 0644 0:0 "blank\n"
		"line\nbreak" file 0644 0:0 "break\n"
		"back\\slash" file 0644 0:0 "slash\n"
		%[1]s/ dir 0755 0:0
		%[1]s/%[1]s file 0644 0:0 "long\n"
		%[1]s/link symlink %[1]s/%[1]s
		"grüße-日本" file 0644 0:0 "utf-8\n"
		.hidden file 0644 0:0 "hidden\n"
		wh.ite file 0644 0:0 "no whiteout\n"
		sort/ dir 0755 0:0
		sort/a file 0644 0:0 "1\n"
		sort-a file 0644 0:0 "2\n"
		"sort.a" file 0644 0:0 "3\n"
	`, long)}},
	{"owners-and-times", "gzip", []string{`
		huge file 0644 3000000:4000000 "ids\n"
		nobody file 0644 65534:65534 "ids\n"
		old file 0644 0:0 "1970\n" mtime=0
		late file 0644 0:0 "2300\n" mtime=10413792000
		dir/ dir 0755 0:0 mtime=1500000000
		dir/file file 0644 0:0 "in\n" mtime=1400000000
		link symlink old mtime=1300000000
	`, `
		huge file 0600 3000000:4000000 "ids\n"
		nobody file 0644 65534:7 "ids\n"
		old file 0644 0:0 "1970\n" mtime=1
		late file 0644 0:0 "2300\n" mtime=10413792000
		dir/ dir 0750 0:0 mtime=1500000001
		dir/file file 0644 0:0 "in\n" mtime=1400000000
		link symlink old mtime=1300000000
	`}},
	{"removals", "gzip", []string{`
		dir/ dir 0755 0:0
		dir/kept file 0644 0:0 "kept\n"
		dir/removed file 0644 0:0 "removed\n"
		dir/sub/ dir 0755 0:0
		dir/sub/deep/ dir 0755 0:0
		dir/sub/deep/file file 0644 0:0 "deep\n"
		link symlink dir
		single file 0644 0:0 "single\n"
		tmp/ dir 1777 0:0
		tmp/x file 0644 0:0 "x\n"
	`, `
		dir/ dir 0755 0:0
		dir/kept file 0644 0:0 "kept\n"
		tmp/ dir 1777 0:0
	`, `
		dir/ dir 0755 0:0
		dir/kept file 0644 0:0 "kept\n"
		dir/sub/ dir 0700 1:1
		dir/sub/new file 0644 0:0 "new\n"
		single file 0644 0:0 "again\n"
		tmp/ dir 1777 0:0
		tmp/y file 0644 0:0 "y\n"
	`}},
	{"replacements", "gzip", []string{`
		dir-file/ dir 0755 0:0
		dir-file/in file 0644 0:0 "in\n"
		dir-link/ dir 0755 0:0
		dir-link/in file 0644 0:0 "in\n"
		file-dir file 0644 0:0 "file\n"
		file-link file 0644 0:0 "file\n"
		link-dir symlink target
		link-file symlink target
		target/ dir 0755 0:0
		target/stays file 0644 0:0 "stays\n"
	`, `
		dir-file file 0644 0:0 "was a folder\n"
		dir-link symlink target
		file-dir/ dir 0755 0:0
		file-dir/in file 0644 0:0 "was a file\n"
		file-link symlink target
		link-dir/ dir 0755 0:0
		link-dir/in file 0644 0:0 "was a link\n"
		link-file file 0644 0:0 "was a link\n"
		target/ dir 0755 0:0
		target/stays file 0644 0:0 "stays\n"
	`}},
	// That a folder loses an attribute cannot be said: the others keep those that a layer does not
	// name. Files are replaced.
	{"attributes", "gzip", []string{`
		capable file 0755 0:0 "cap\n" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		marked file 0644 0:0 "user\n" user.note="a\x00b" user.empty=""
		folder/ dir 0755 0:0 user.note="folder"
	`, `
		capable file 0755 0:0 "cap\n" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		marked file 0644 0:0 "user\n" user.note="changed"
		folder/ dir 0755 0:0 user.note="changed" user.more="1"
	`}},
	{"zstd", "zstd", []string{`
		file file 0644 0:0 size=200000
	`}},
	{"uncompressed", "none", []string{`
		file file 0644 0:0 size=200000
	`}},
}

// chains returns a layout with all of hard. Only root can make what they hold.
func chains(t *testing.T) judged {
	t.Helper()
	j := judged{dir: filepath.Join(t.TempDir(), "chains"), want: map[string]string{}}
	l, err := layout.Create(j.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range hard {
		img, tree := c.pack(t, l)
		img, err := l.WriteImage(img)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Update(context.Background(), func(x *layout.Index) error { x.Set(c.name, img.Descriptor); return nil }); err != nil {
			t.Fatal(err)
		}
		j.want[c.name] = tree
	}
	return j
}

// pack stores the layers of a chain, and returns the image that they make, and its tree.
func (c chain) pack(t *testing.T, l *layout.Layout) (image.Image, string) {
	t.Helper()
	e := image.Extension{Platform: image.Host(), Created: time.Unix(epoch, 0)}
	var below []*layer.TOC
	var dir string
	for i, tree := range c.trees {
		dir = t.TempDir()
		before := time.Now().Add(-time.Second)
		treetest.Make(t, dir, tree)
		changes, err := layer.Diff(context.Background(), dir, layer.Merge(below...), layer.DiffOptions{Start: before, Epoch: epoch, Settle: true})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		packed, toc := store(t, l, c.compression, changes)
		packed.CreatedBy = fmt.Sprintf("layer %d of %s", i+1, c.name)
		e.Layers = append(e.Layers, packed)
		below = append(below, toc)
	}
	return image.Extend(image.Image{}, e), treetest.Dump(t, dir, treetest.MTimes)
}

// epoch is the time of all files of the chains that have none of their own.
const epoch = 315532800

// store packs changes as a layer into l.
func store(t *testing.T, l *layout.Layout, compression string, changes []layer.Change) (image.Layer, *layer.TOC) {
	t.Helper()
	c, err := layer.CompressionByName(compression)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := l.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	compressed, err := c.NewWriter(blob)
	if err != nil {
		t.Fatal(err)
	}
	toc, diffID, err := layer.Pack(context.Background(), compressed, changes)
	if err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	desc, err := blob.Commit(c.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return image.Layer{Descriptor: desc, DiffID: diffID}, toc
}
