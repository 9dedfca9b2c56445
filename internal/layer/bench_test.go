package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/test/strict"
)

// benchChanges are a first layer of n files, a hundred in a folder.
func benchChanges(b *testing.B, n int) []Change {
	b.Helper()
	c := NewComposer(Merge(), 0)
	text := strings.Repeat("0123456789abcdef", 256)
	for i := range n {
		strict.Must(b, c.Put(file(fmt.Sprintf("usr/share/%03d/%02d/file%02d", i/10000, i/100%100, i%100), text[:i%len(text)])))
	}
	changes, err := c.Changes()
	strict.Must(b, err)
	return changes
}

// What a change of one file costs on a base of a hundred thousand.
func BenchmarkComposeOne(b *testing.B) {
	_, toc := mustPack(b, benchChanges(b, 100_000))
	base := Merge(toc)
	for b.Loop() {
		c := NewComposer(base, 0)
		strict.Must(b, c.Put(file("usr/share/005/50/file50", "new")))
		changes, err := c.Changes()
		strict.Must(b, err)
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

// Layers of files on disk, with all that a build does: reading, both digests, compressing, and the
// digest of the blob.
func BenchmarkPackCompressed(b *testing.B) {
	var many []Change
	dir := b.TempDir()
	for i := range 5000 {
		many = append(many, onDisk(b, dir, fmt.Sprintf("%05d", i), fmt.Appendf(nil, "%x", noise(uint64(i), 1+i%4096))))
	}
	program, err := os.ReadFile("/proc/self/exe")
	strict.Must(b, err)
	layers := map[string][]Change{
		"many":    many,
		"random":  {onDisk(b, dir, "random", noise(1, 128<<20))},
		"program": {onDisk(b, dir, "program", program)},
	}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		changes := layers[name]
		for _, c := range Compressions {
			if c.NewWriter == nil {
				continue
			}
			b.Run(name+"/"+c.Name, func(b *testing.B) {
				var out counter
				packed := int64(0)
				before := processorTime(b)
				for b.Loop() {
					out = counter{w: sha256.New()}
					var tar counter
					tar.w = io.Discard
					w, err := c.NewWriter(&out, &tar)
					strict.Must(b, err)
					_, _, err = Pack(context.Background(), w, changes)
					strict.Must(b, errors.Join(err, w.Close()))
					packed = tar.n
				}
				b.SetBytes(packed)
				reportSize(b, out.n, packed, before)
			})
		}
	}
}

// onDisk is a file with data in it, that is on disk.
func onDisk(b *testing.B, dir, name string, data []byte) Change {
	b.Helper()
	strict.Must(b, os.WriteFile(dir+"/"+name, data, 0o600))
	return Change{
		Entry: Entry{Path: name, Type: TypeFile, Mode: 0o644, Size: int64(len(data))},
		Open:  func() (io.ReadCloser, error) { return os.Open(dir + "/" + name) },
	}
}

// The levels of deflate, on a program.
func BenchmarkGzip(b *testing.B) {
	data, err := os.ReadFile("/proc/self/exe")
	strict.Must(b, err)
	for level := 1; level <= 9; level++ {
		b.Run(fmt.Sprintf("level%d", level), func(b *testing.B) {
			coding := blockCoding{size: gzipBlock, history: gzipHistory, newCoder: func() (blockCoder, error) { return &deflater{level: level}, nil }}
			b.SetBytes(int64(len(data)))
			var out counter
			before := processorTime(b)
			for b.Loop() {
				out = counter{w: io.Discard}
				w := newBlockWriter(&out, coding)
				_, err := w.Write(data)
				strict.Must(b, errors.Join(err, w.Close()))
			}
			reportSize(b, out.n, int64(len(data)), before)
		})
	}
}

// reportSize reports the size of what was made of a tar, and the processor time since before, which
// on a busy machine says more than the clock.
func reportSize(b *testing.B, size, of int64, before time.Duration) {
	b.Helper()
	b.ReportMetric(float64(size)/float64(of), "size")
	b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
}

// processorTime is what the process has used, user and system.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	strict.Must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkUnpack(b *testing.B) {
	packed, _ := mustPack(b, benchChanges(b, 10_000))
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		b.StopTimer()
		dir := newFolder(b)
		b.StartTimer()
		strict.Must(b, Unpack(context.Background(), dir, bytes.NewReader(packed), asUser()))
		b.StopTimer()
		strict.Must(b, beneath.RemovePath(dir))
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
	strict.Must(b, write(dir+"/"+changed, "new"))
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

// counter counts the bytes that it passes on.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
