package layer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// benchChanges are a first layer of n files, a hundred in a folder.
func benchChanges(b *testing.B, n int) []Change {
	b.Helper()
	c := NewComposer(Merge(), 0)
	text := strings.Repeat("0123456789abcdef", 256)
	for i := range n {
		must(b, c.Put(file(fmt.Sprintf("usr/share/%03d/%02d/file%02d", i/10000, i/100%100, i%100), text[:i%len(text)])))
	}
	changes, err := c.Changes()
	must(b, err)
	return changes
}

// What a change of one file costs on a base of a hundred thousand.
func BenchmarkComposeOne(b *testing.B) {
	_, toc := mustPack(b, benchChanges(b, 100_000))
	base := Merge(toc)
	for b.Loop() {
		c := NewComposer(base, 0)
		must(b, c.Put(file("usr/share/005/50/file50", "new")))
		changes, err := c.Changes()
		must(b, err)
		if _, _, err := Pack(context.Background(), io.Discard, changes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	changes := benchChanges(b, 10_000)
	packed, _ := mustPack(b, changes)
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		if _, _, err := Pack(context.Background(), io.Discard, changes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	packed, _ := mustPack(b, benchChanges(b, 10_000))
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		b.StopTimer()
		dir := newFolder(b)
		b.StartTimer()
		must(b, Unpack(context.Background(), dir, bytes.NewReader(packed), asUser()))
		b.StopTimer()
		must(b, RemoveAll(dir))
		b.StartTimer()
	}
}

// One changed file in a tree of ten thousand, found in the ways that there are.
func BenchmarkDiff(b *testing.B) {
	changes := benchChanges(b, 10_000)
	_, toc := mustPack(b, changes)
	base, dir := Merge(toc), newFolder(b)
	mustApply(b, dir, changes, UnpackOptions{})
	since := tick(b, dir)
	changed := "usr/share/000/50/file50"
	must(b, write(dir+"/"+changed, "new"))
	for name, o := range map[string]DiffOptions{
		"walk":    {},
		"since":   {Since: since},
		"touched": {Touched: hints(map[string]bool{changed: true})},
	} {
		o.Start = time.Unix(1, 0)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				found := mustDiff(b, dir, base, o)
				if found[len(found)-1].Path != changed && asUser().KeepOwner {
					b.Fatal(listing(b, found))
				}
			}
		})
	}
}
