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
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"genoci/test/strict"
)

// packChanges has something of all that a layer can hold, in canonical order.
func packChanges() []Change {
	long := strings.Repeat("long/", 30) + "name"
	linked := file("etc/first", "linked")
	linked.Group, linked.Xattrs = "etc/first", map[string]string{"user.b": "\x00\xff", "user.a": ""}
	second := linked
	second.Path, second.Open = "etc/second", nil
	changes := []Change{
		{Entry: Entry{Path: ".", Type: TypeDir, Mode: 0o755}, Parent: true},
		{Entry: Entry{Path: "gone", Type: TypeWhiteout}},
		{Entry: Entry{Path: "dev", Type: TypeDir, Mode: 0o1777, MTime: -5}},
		{Entry: Entry{Path: "dev/null", Type: TypeChar, Mode: 0o666, Major: 1, Minor: 3}},
		{Entry: Entry{Path: "dev/sda", Type: TypeBlock, Mode: 0o660, Major: 8, Minor: 1048575}},
		{Entry: Entry{Path: "etc", Type: TypeDir, Mode: 0o755, UID: 4000000, GID: 33}},
		{Entry: Entry{Path: "etc/removed", Type: TypeWhiteout}},
		linked,
		file("etc/os-release", "ID=none\n"),
		file("etc/passwd", ""),
		second,
		{Entry: Entry{Path: "fifo", Type: TypeFIFO, Mode: 0o600, MTime: 1 << 34}},
		file("no-utf8-é\xff", "x"),
		file(strings.Repeat("n", 101), ""),
		{Entry: Entry{Path: "link", Type: TypeSymlink, Mode: 0o777, Link: long}},
	}
	for dir := strings.TrimSuffix(long, "/name"); ; dir, _ = split(dir) {
		changes = append(changes, Change{Entry: Entry{Path: dir, Type: TypeDir, Mode: 0o755}})
		if dir == "long" {
			break
		}
	}
	changes = append(changes, file(long, "far"))
	Sort(changes)
	return changes
}

func TestPackBytes(t *testing.T) {
	changes := packChanges()
	packed, _ := mustPack(t, changes)
	var got strings.Builder
	for tr := tar.NewReader(bytes.NewReader(packed)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "long/long/long/") && h.Typeflag == tar.TypeDir {
			continue
		}
		fmt.Fprintf(&got, "%q %c %o %d:%d %d %d", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.Unix())
		if h.Linkname != "" {
			fmt.Fprintf(&got, " link=%q", h.Linkname)
		}
		if h.Devmajor != 0 || h.Devminor != 0 {
			fmt.Fprintf(&got, " dev=%d:%d", h.Devmajor, h.Devminor)
		}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			fmt.Fprintf(&got, " %s", key)
		}
		got.WriteByte('\n')
		if h.Uname != "" || h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() || h.ModTime.Nanosecond() != 0 {
			t.Errorf("%s says more than the entry does: %+v", h.Name, h)
		}
	}
	long := strings.Repeat("long/", 30) + "name"
	wantText(t, got.String(), `"./" 5 755 0:0 0 0
".wh.gone" 0 0 0:0 0 0
"dev/" 5 1777 0:0 0 -5 mtime
"dev/null" 3 666 0:0 0 0 dev=1:3
"dev/sda" 4 660 0:0 0 0 dev=8:1048575
"etc/" 5 755 4000000:33 0 0 uid
"etc/.wh.removed" 0 0 0:0 0 0
"etc/first" 0 644 0:0 6 0 SCHILY.xattr.user.a SCHILY.xattr.user.b
"etc/os-release" 0 644 0:0 8 0
"etc/passwd" 0 644 0:0 0 0
"etc/second" 1 644 0:0 0 0 link="etc/first" SCHILY.xattr.user.a SCHILY.xattr.user.b
"fifo" 6 600 0:0 0 15032385535 mtime
"link" 2 777 0:0 0 0 link="`+long+`" linkpath
"long/" 5 755 0:0 0 0
"long/long/" 5 755 0:0 0 0
"`+long+`" 0 644 0:0 3 0
"`+strings.Repeat("n", 101)+`" 0 644 0:0 0 0 path
"no-utf8-é\xff" 0 644 0:0 1 0 path
`)
	// The very bytes, which no version of Go and no architecture may change: layers are cached and
	// compared by them.
	sum := sha256.Sum256(packed)
	if got, want := hex.EncodeToString(sum[:]), packSum; got != want {
		t.Errorf("the tar has the digest %s, not %s", got, want)
	}
}

const packSum = "2b9c2a684089f05f7f250ba328ffa87fba2aa8b09c52adb19cc0ab4002422e92"

func TestPackTOC(t *testing.T) {
	packed, toc := mustPack(t, packChanges())
	indexed, id, err := Index(context.Background(), bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(packed); id.Encoded() != hex.EncodeToString(sum[:]) {
		t.Errorf("DiffID %s", id)
	}
	if !bytes.Equal(toc.data, indexed.data) {
		t.Errorf("the TOC that Pack made is not the one of its tar")
		for e, at := range toc.All() {
			if f, offset, _ := indexed.Lookup(e.Path); fmt.Sprint(e, at) != fmt.Sprint(f, offset) {
				t.Errorf("%+v %d\n%+v %d", e, at, f, offset)
			}
		}
	}
	_, offset, _ := toc.Lookup("etc/second")
	if got := string(packed[offset:][:6]); got != "linked" {
		t.Errorf("at the offset of etc/second: %q", got)
	}
	for path, want := range map[string]string{"etc/os-release": "ID=none\n", "etc/passwd": ""} {
		if got, err := Merge(toc).ReadFile(path); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func TestPackErrors(t *testing.T) {
	grown, shrunk, other, unknown, failing := file("f", "12345"), file("f", "123"), file("f", "1234"), file("f", "1234"), file("f", "1234")
	for _, ch := range []*Change{&grown, &shrunk, &other, &unknown, &failing} {
		ch.Size = 4
	}
	other.Digest = sha256.Sum256([]byte("4321"))
	unknown.Open = nil
	failing.Open = func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(fs.ErrPermission)), nil }
	dir := func(path string) Change { return Change{Entry: Entry{Path: path, Type: TypeDir}} }
	gone := func(path string) Change { return Change{Entry: Entry{Path: path, Type: TypeWhiteout}} }
	tests := []struct {
		name    string
		changes []Change
		want    string
	}{
		{"grown", []Change{grown}, "pack f: changed while it was read"},
		{"shrunk", []Change{shrunk}, "pack f: changed while it was read"},
		{"other content", []Change{other}, "pack f: changed while it was read"},
		{"no content", []Change{unknown}, "pack f: the content is unknown"},
		{"unreadable", []Change{failing}, "pack f: permission denied"},
		{"out of order", []Change{dir("b"), dir("a")}, "pack a: out of order after b"},
		{"twice", []Change{dir("a"), dir("a")}, "pack a: out of order after a"},
		{"whiteout behind other names", []Change{dir("a"), file("a/b", ""), gone("a/c")}, "pack a/c: out of order after a/b"},
		{"name of a whiteout", []Change{file("a/.wh.b", "")}, "pack a/.wh.b: in layers, a name that begins with .wh. means a removed file"},
		{"opaque", []Change{{Entry: Entry{Path: "a", Type: TypeDir, Opaque: true}}}, "pack a: opaque folders are written as whiteouts"},
		{"link to nothing", []Change{{Entry: Entry{Path: "b", Type: TypeFile, Group: "a"}}}, "pack b: hard link to a, which is not in the layer"},
	}
	for _, test := range tests {
		_, _, err := Pack(context.Background(), io.Discard, test.changes)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Pack(ctx, io.Discard, []Change{dir("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// manyChanges fill several batches, with large files among the small, of random sizes.
func manyChanges(seed uint64) []Change {
	r := rand.New(rand.NewPCG(seed, 0))
	changes := []Change{{Entry: Entry{Path: ".", Type: TypeDir, Mode: 0o755}}}
	sizes := []int{0, 1, 511, 512, 513, 5000, 100_000, largeFile - 1, largeFile, largeFile + 1, batchSize, 3*largeFile + 77}
	for i := range 300 {
		size := sizes[r.IntN(6)]
		if r.IntN(20) == 0 {
			size = sizes[r.IntN(len(sizes))]
		}
		f := file(fmt.Sprintf("f%04d", i), string(noise(uint64(i), size)))
		if r.IntN(10) == 0 {
			f.Group = f.Path
			link := f
			link.Path, link.Open = f.Path+"-link", nil
			changes = append(changes, link)
		}
		if size > 0 && r.IntN(3) == 0 {
			f.Digest = sha256.Sum256(noise(uint64(i), size))
		}
		changes = append(changes, f)
	}
	Sort(changes)
	return changes
}

// The bytes and the TOC are those that archive/tar and Index make, through whatever writer, and
// goroutines end.
func TestPackMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(5) {
			changes := manyChanges(seed)
			var want bytes.Buffer
			tw := tar.NewWriter(&want)
			for _, ch := range changes {
				e := canonical(ch.Entry)
				e.Group = ch.Group
				strict.Must(t, tw.WriteHeader(headerOf(e)))
				if ch.Open != nil {
					strict.Must(t, copyContent(context.Background(), tw, ch.Size, ch.Open, make([]byte, 1000)))
				}
			}
			strict.Must(t, tw.Close())
			packed, toc := mustPack(t, changes)
			if !bytes.Equal(packed, want.Bytes()) {
				t.Fatalf("seed %d: %d bytes, archive/tar makes %d others", seed, len(packed), want.Len())
			}
			indexed, _, err := Index(context.Background(), bytes.NewReader(packed))
			strict.Must(t, err)
			if !bytes.Equal(toc.data, indexed.data) {
				t.Errorf("seed %d: the TOC is not that of the tar", seed)
			}
			for _, c := range Compressions {
				if c.NewWriter == nil {
					continue
				}
				var out, tap bytes.Buffer
				w, err := c.NewWriter(&out, &tap)
				strict.Must(t, err)
				toc, _, err := Pack(context.Background(), w, changes)
				strict.Must(t, errors.Join(err, w.Close()))
				if !bytes.Equal(tap.Bytes(), packed) || !bytes.Equal(toc.data, indexed.data) {
					t.Errorf("seed %d, %s: packed into a compressor it is something else", seed, c.Name)
				}
				checkDecompress(t, &out, c.Name, packed)
			}
		}
	})
}

// The error that is told is that of the first change that has one, and what was read ahead is
// closed.
func TestPackManyErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		counted := func(ch *Change) {
			content := ch.Open
			ch.Open = func() (io.ReadCloser, error) {
				r, err := content()
				open.Add(1)
				return closing{r, func() { open.Add(-1) }}, err
			}
		}
		for seed := range uint64(6) {
			changes := manyChanges(seed % 3)
			r := rand.New(rand.NewPCG(seed, 1))
			first := len(changes)
			for range 1 + r.IntN(4) {
				at := r.IntN(len(changes))
				if ch := &changes[at]; ch.Open != nil {
					ch.Size++
					first = min(first, at)
				}
			}
			if first == len(changes) {
				continue
			}
			for i := range changes {
				if changes[i].Open != nil {
					counted(&changes[i])
				}
			}
			_, _, err := Pack(context.Background(), io.Discard, changes)
			if want := "pack " + changes[first].Path + ": changed while it was read"; err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			if n := open.Load(); n != 0 {
				t.Errorf("%d files are open", n)
			}
		}
	})
}

// Where the writer fails or the context ends, Pack does, and leaves nothing behind.
func TestPackStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := manyChanges(1)
		full := errors.New("disk full")
		for _, after := range []int{0, 700_000, 3_000_000} {
			ctx, cancel := context.WithCancel(context.Background())
			n := 0
			stopping := func(err func() error) io.Writer {
				n = 0
				return writerFunc(func(p []byte) (int, error) {
					if n += len(p); n > after {
						return len(p), err()
					}
					return len(p), nil
				})
			}
			if _, _, err := Pack(ctx, stopping(func() error { return full }), changes); !errors.Is(err, full) {
				t.Errorf("full after %d bytes: %v", after, err)
			}
			if _, _, err := Pack(ctx, stopping(func() error { cancel(); return nil }), changes); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled after %d bytes: %v", after, err)
			}
			cancel()
		}
	})
}

// closing calls a function when it is closed.
type closing struct {
	io.ReadCloser
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return c.ReadCloser.Close()
}

// A sorted list stays in order whichever order it had before.
func TestSort(t *testing.T) {
	want := packChanges()
	for seed := range uint64(20) {
		got := packChanges()
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		Sort(got)
		for i := range got {
			if got[i].Path != want[i].Path {
				t.Fatalf("%d: %s where %s should be", i, got[i].Path, want[i].Path)
			}
		}
	}
}
