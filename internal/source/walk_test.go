package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// walkDir lists a folder by means of the standard library, a line a node.
func walkDir(t *testing.T, root string, exclude []string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel != "." && NewGlobs(exclude).Match(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%q %v %d", rel, fi.Mode(), fi.ModTime().Unix())
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d %.4x", len(b), sha256.Sum256(b))
		case fi.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %q", link)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// nodes lists a match in the same way.
func nodes(m Match) string {
	var out strings.Builder
	for _, n := range m.Nodes {
		fmt.Fprintf(&out, "%q %v %d", n.Rel, n.Mode, n.MTime)
		switch {
		case n.Mode.IsRegular():
			fmt.Fprintf(&out, " %d %.4x", n.Size, n.Digest)
		case n.Mode&fs.ModeSymlink != 0:
			fmt.Fprintf(&out, " -> %q", n.Link)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// grow fills a folder with things of all sorts.
func grow(t *testing.T, r *rand.Rand, dir string, depth int) {
	t.Helper()
	names := []string{"a", "a.txt", "a-b", "a b", "B", "é", "\xff\xfe", "-", "~", "line\nend", "tab\t", strings.Repeat("n", 255), "x.o", "keep"}
	for _, name := range names {
		p := filepath.Join(dir, name)
		var err error
		switch k := r.IntN(12); {
		case k < 4 && depth > 0:
			if err = os.Mkdir(p, 0o700|fs.FileMode(r.IntN(64))); err == nil {
				grow(t, r, p, depth-1)
			}
		case k < 9:
			size := r.IntN(3) * r.IntN(1000)
			if r.IntN(40) == 0 {
				size = readSize * r.IntN(3)
			}
			if err = os.WriteFile(p, []byte(strings.Repeat("x", size)), 0o600); err == nil {
				err = os.Chmod(p, fs.FileMode(0o400|r.IntN(128))|fs.FileMode(r.IntN(2))*fs.ModeSetuid)
			}
		case k < 10:
			err = os.Symlink(strings.Repeat("../", r.IntN(200))+"a", p)
		case k < 11:
			err = unix.Mkfifo(p, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A walk finds what the standard library finds, in its order.
func TestWalkIsLikeWalkDir(t *testing.T) {
	for seed := range uint64(3) {
		s := newSource(t, map[string]string{"root/": ""})
		grow(t, rand.New(rand.NewPCG(seed, 0)), filepath.Join(s.Dir, "root"), 3)
		for _, exclude := range [][]string{nil, {"*.o", "a/B", "keep"}} {
			for _, pattern := range []string{"root", "root/"} {
				ms, err := match(s, context.Background(), pattern, exclude, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := walkDir(t, filepath.Join(s.Dir, "root"), exclude)
				if d := cmp.Diff(want, nodes(ms[0])); d != "" {
					t.Fatalf("seed %d, exclude %q: %s", seed, exclude, d)
				}
			}
		}
	}
}

// Digests that are known are not made again, and changed files are seen.
func TestWalkTakesKnownDigests(t *testing.T) {
	s := newSource(t, map[string]string{"d/f": "old", "d/g": "other"})
	old := time.Now().Add(-time.Hour)
	match := func() Match {
		t.Helper()
		ms, err := match(s, context.Background(), "d", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ms[0]
	}
	before := match()
	st := statOnce(t, filepath.Join(s.Dir, "d/f"))
	s.Stats.put(st, [32]byte{1, 2, 3}, false, time.Now().Add(time.Hour)) // as nobody would digest it
	if got := match().Nodes[1].Digest; got != [32]byte{1, 2, 3} {
		t.Errorf("a known digest was made again: %x", got)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "d/f"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(s.Dir, "d/f"), old, old); err != nil {
		t.Fatal(err)
	}
	after := match()
	if after.Nodes[1].Digest != sha256.Sum256([]byte("new")) || after.Nodes[2].Digest != before.Nodes[2].Digest {
		t.Errorf("after a change: %x, %x", after.Nodes[1].Digest, after.Nodes[2].Digest)
	}
}

// setXattr sets an extended attribute, where the file system of temporary folders knows them.
func setXattr(t *testing.T, path, name, value string) {
	t.Helper()
	err := unix.Lsetxattr(path, name, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) {
		strict.Lack(t, "xattr", "the temporary folder has no user attributes")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Extended attributes come along that are wanted, and count as content does: of files that are
// known too, and of those without any nobody asks again. A kernel without listxattrat gives the
// same.
func TestWalkTakesXattrs(t *testing.T) {
	t.Run("listxattrat", testWalkTakesXattrs)
	before := noListxattrAt.Swap(true)
	defer noListxattrAt.Store(before)
	t.Run("llistxattr", testWalkTakesXattrs)
}

func testWalkTakesXattrs(t *testing.T) {
	s := newSource(t, map[string]string{"d/f": "f", "d/bare": "", "d/sub/x": "x"})
	s.Keeps = func(name string) bool { return strings.HasPrefix(name, "user.k") }
	path := func(name string) string { return filepath.Join(s.Dir, name) }
	large := strings.Repeat("v", 3000)
	setXattr(t, path("d"), "user.kept", "of the match itself")
	setXattr(t, path("d/sub"), "user.kept", "sub")
	setXattr(t, path("d/f"), "user.kept", large)
	setXattr(t, path("d/f"), "user.k2", "")
	setXattr(t, path("d/f"), "user.other", "no")
	if err := os.Symlink("f", path("d/link")); err != nil {
		t.Fatal(err)
	}
	list := func(want ...string) {
		t.Helper()
		ms, err := match(s, context.Background(), "d", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range ms[0].Nodes {
			for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
				got = append(got, fmt.Sprintf("%s %s=%.8s", n.Rel, name, n.Xattrs[name]))
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	list("f user.k2=", "f user.kept=vvvvvvvv", "sub user.kept=sub")
	for _, name := range []string{"d/f", "d/bare"} { // as if they were older
		st := statOnce(t, path(name))
		s.Stats.put(st, [32]byte{1}, false, time.Now().Add(time.Hour))
	}
	list("f user.k2=", "f user.kept=vvvvvvvv", "sub user.kept=sub")
	today := day(time.Now())
	if known, ok := s.Stats.lookup(statOnce(t, path("d/bare")), today); !ok || !known.bare || known.sum != [32]byte{1} {
		t.Errorf("of a file without extended attributes is known: %+v, %v", known, ok)
	}
	if known, ok := s.Stats.lookup(statOnce(t, path("d/f")), today); !ok || known.bare {
		t.Errorf("of a file with extended attributes is known: %+v, %v", known, ok)
	}
	time.Sleep(20 * time.Millisecond) // the clock of file systems
	setXattr(t, path("d/bare"), "user.k", "1")
	list("bare user.k=1", "f user.k2=", "f user.kept=vvvvvvvv", "sub user.kept=sub")
}

// A capability that was set in a user namespace is that of an image, for any.
func TestPortableCapability(t *testing.T) {
	v2 := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	v3 := "\x01\x00\x00\x03" + v2[4:] + "\xe8\x03\x00\x00"
	for _, c := range []struct{ value, want string }{{v2, v2}, {v3, v2}, {"", ""}, {"odd", "odd"}, {v3[:20], v3[:20]}} {
		if got := string(portableCapability([]byte(c.value))); got != c.want {
			t.Errorf("%x becomes %x", c.value, got)
		}
	}
}

// With the modes of git, only what the owner may run counts: not the umask that was in force, nor
// bits that git does not keep.
func TestGitModes(t *testing.T) {
	var first string
	for _, umask := range []fs.FileMode{0, 0o002, 0o022, 0o077} {
		s := newSource(t, map[string]string{"d/sub/f": "f", "d/prog": "p"})
		s.GitModes = true
		for name, mode := range map[string]fs.FileMode{"d": 0o777, "d/sub": 0o777 | fs.ModeSetgid | fs.ModeSticky, "d/sub/f": 0o666, "d/prog": 0o777 | fs.ModeSetuid} {
			if err := os.Chmod(filepath.Join(s.Dir, name), mode&^umask); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mkfifo(filepath.Join(s.Dir, "d/fifo"), 0o600); err != nil {
			t.Fatal(err)
		}
		ms, err := match(s, context.Background(), "d", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, n := range ms[0].Nodes {
			got += fmt.Sprintln(n.Rel, n.Mode)
		}
		if first == "" {
			first = got
			if want := ". drwxr-xr-x\nfifo prw-r--r--\nprog -rwxr-xr-x\nsub drwxr-xr-x\nsub/f -rw-r--r--\n"; got != want {
				t.Errorf("got %swant %s", got, want)
			}
		}
		if got != first {
			t.Errorf("umask %03o: %s", umask, got)
		}
	}
}

func TestWalkFails(t *testing.T) {
	s := newSource(t, map[string]string{"d/a": "a", "d/sub/z": "z"})
	if err := unix.Mknod(filepath.Join(s.Dir, "d/sub/dev"), unix.S_IFCHR|0o600, 0); err == nil {
		if _, err := match(s, context.Background(), "d", nil, nil); err == nil || !strings.HasSuffix(err.Error(), "d/sub/dev: is a device") {
			t.Errorf("a device: %v", err)
		}
		if _, err := match(s, context.Background(), "d", []string{"dev"}, nil); err != nil {
			t.Errorf("a device that is excluded: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := match(s, ctx, "d", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := match(s, context.Background(), "none", nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
}

func BenchmarkMatch(b *testing.B) {
	dir := b.TempDir()
	for i := range 10000 {
		p := filepath.Join(dir, "many", fmt.Sprintf("d%03d", i/100), fmt.Sprintf("f%03d", i%100))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(p), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("10000 files, known=%v", known), func(b *testing.B) {
			stats, err := OpenStats(filepath.Join(b.TempDir(), "stats"))
			if err != nil {
				b.Fatal(err)
			}
			s := &Source{Dir: dir, Stats: stats}
			if known {
				for i := range 10000 {
					var st unix.Stat_t
					if err := unix.Stat(filepath.Join(dir, "many", fmt.Sprintf("d%03d", i/100), fmt.Sprintf("f%03d", i%100)), &st); err != nil {
						b.Fatal(err)
					}
					stats.put(&st, [32]byte{}, false, time.Now().Add(time.Hour))
				}
				if err := stats.Save(); err != nil {
					b.Fatal(err)
				}
				if stats, err = OpenStats(stats.path); err != nil {
					b.Fatal(err)
				}
				s.Stats = stats
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := match(s, context.Background(), "many", nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
