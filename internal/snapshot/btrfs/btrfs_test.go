package btrfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/sandbox"
	"genoci/internal/sandboxtest"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/snapshottest"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

func open(dir string) (snapshot.Driver, error) {
	if err := sandboxtest.Entered(); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrUnsupported, err)
	}
	return Open(dir)
}

func TestBtrfs(t *testing.T) { snapshottest.Run(t, "btrfs", open, "btrfs") }

func TestPowerCut(t *testing.T) { snapshottest.PowerCut(t, open, "btrfs") }

func BenchmarkBtrfs(b *testing.B) { snapshottest.Bench(b, "btrfs", open, "btrfs") }

// onBtrfs runs test with a driver on a new btrfs.
func onBtrfs(t *testing.T, test func(t *testing.T, d *Driver)) {
	snapshottest.OnFileSystem(t, "btrfs", func(t *testing.T, tempDir func(*testing.T) string) {
		d, err := open(tempDir(t))
		strict.Must(t, err)
		test(t, d.(*Driver))
	})
}

func newTree(t *testing.T, d *Driver, parent string) snapshot.Tree {
	t.Helper()
	tree, err := d.New(t.Context(), parent)
	strict.Must(t, err)
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// commit makes a snapshot of what change leaves in a tree.
func commit(t *testing.T, d *Driver, parent, name string, change func(dir string)) {
	t.Helper()
	tree := newTree(t, d, parent)
	change(tree.Dir())
	strict.Must(t, tree.Commit(t.Context(), name))
}

// touching returns the tree as one that says what was touched, which the kernel lets root find out.
// For others it is to be looked for everywhere, and touching returns nil.
func touching(t *testing.T, tree snapshot.Tree) *sentTree {
	t.Helper()
	s, ok := tree.(*sentTree)
	if ok == sandbox.Rootless() {
		t.Fatalf("the tree says what was touched: %v, as root: %v", ok, !sandbox.Rootless())
	}
	if touched, err := snapshot.Touched(t.Context(), tree); err != nil || (touched != nil) != ok {
		t.Fatalf("where to look: everywhere: %v, %v; as root: %v", touched == nil, err, !sandbox.Rootless())
	}
	return s
}

func makes(t *testing.T, text string) func(dir string) {
	return func(dir string) { treetest.Make(t, dir, text, treetest.NoOwners) }
}

// run runs a shell script in dir.
func run(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// TestTouched: what the kernel sends becomes the paths that were touched, although files have other
// names on the way.
func TestTouched(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", makes(t, `
			a/b/c/f file "1"
			dir/f file "1"
			empty/ dir
			f file "1"
			g file "1"
			l symlink f
			many/1 file
			many/2 file
			many/sub/3 file
			one file <1> "1"
			sub/two file <1> "1"
			three file <1> "1"
		`))
		for _, test := range []struct{ name, script, want string }{
			{"nothing", "", ""},
			{"content", "echo 2 > f", "f"},
			{"same content", "cat f > x; cat x > f; rm x", ". f"},
			{"mode", "chmod 700 dir", "dir"},
			{"new file", "echo > dir/new", "dir dir/new"},
			{"new folder", "mkdir -p dir/new/sub; echo > dir/new/sub/f", "dir dir/new/"},
			{"removed", "rm f", ". f"},
			{"removed folder", "rm -r many", ". many/"},
			{"moved folder", "mv many moved", ". many/ moved/"},
			{"moved, and changed in it", "mv many moved; echo > moved/1; rm moved/2; mv moved/sub/3 3", ". 3 many/ moved/"},
			{"moved into a new folder", "mkdir new; mv many new/many", ". many/ new/"},
			{"moved out of a removed folder", "mv many/sub kept; rm -r many", ". kept/ many/"},
			{"swapped folders", "mv many x; mv dir many; mv x dir", ". dir/ many/"},
			{"swapped files", "mv f x; mv g f; mv x g", ". f/ g/"},
			{"parent and child swapped", "mv a/b x; mv a x/a; mv x b", ". a/ b/"},
			{"another type", "rm f; mkdir f; rm -r dir; ln -s f dir; rm l; echo > l", ". dir/ f/ l"},
			{"folder made anew", "rm -r many; mkdir many; echo > many/4", ". many/"},
			{"folder made anew with one of its files", "mv many x; mkdir many; mv x/1 many/1; rm -r x", ". many/"},
			{"hard link", "ln f h", ". f h"},
			{"file with links", "echo 2 >> sub/two", "one sub/two three"},
			{"link removed", "rm sub/two", "one sub sub/two three"},
			{"link moved into a folder, and changed", "mkdir new; mv one new; echo 2 >> new/one", ". new/ one sub/two three"},
			{"attribute", "setfattr -n user.x -v 1 f", "f"},
			{"name like the kernel's", "echo > o257-7-0; mv o257-7-0 o258-7-0", ". o258-7-0"},
			{"odd name", "touch " + "'\xff'", ". \xff"},
		} {
			t.Run(test.name, func(t *testing.T) {
				tree := newTree(t, d, "base")
				toucher := touching(t, tree)
				if toucher == nil {
					return
				}
				run(t, tree.Dir(), test.script)
				var got []string
				for path, err := range toucher.Touched(t.Context()) {
					strict.Must(t, err)
					got = append(got, path)
				}
				slices.Sort(got)
				if got := strings.Join(got, " "); got != test.want {
					t.Errorf("%s: touched\n%q, want\n%q", test.script, got, test.want)
				}
				strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), "later"), nil, 0o644)) // it is writable again
			})
		}
	})
}

// TestTouchedRandom: after random changes, such as an overlay does not allow, every path that
// differs is touched. Hard links of one file are one to whoever changes it.
func TestTouchedRandom(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		r := mathrand.New(mathrand.NewPCG(1, 2))
		path := func(dir string) string {
			for range 1 + r.IntN(4) {
				dir = filepath.Join(dir, string(rune('a'+r.IntN(4))))
			}
			return dir
		}
		dump := func(dir string) string {
			text := treetest.Dump(t, dir, treetest.Root, treetest.MTimes)
			return regexp.MustCompile(`(?m) <\d+>`).ReplaceAllString(text, "") // what has which names is not said of each of them
		}
		commit(t, d, "", "round 0", func(string) {})
		for round := range 150 {
			parent := fmt.Sprint("round ", round)
			tree := newTree(t, d, parent)
			toucher := touching(t, tree)
			if toucher == nil {
				return
			}
			before := dump(tree.Dir())
			var done []string
			for i := range 1 + r.IntN(20) {
				one, other := path(tree.Dir()), path(tree.Dir())
				op := r.IntN(10)
				err := []func() error{
					func() error { return os.MkdirAll(one, 0o755) },
					func() error { return os.WriteFile(one, fmt.Appendf(nil, "%d %d", round, i), 0o644) },
					func() error { return os.WriteFile(one, nil, 0o644) },
					func() error { return os.Rename(one, other) },
					func() error { return os.Rename(one, other) },
					func() error { return unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE) },
					func() error { return os.Link(one, other) },
					func() error { return os.RemoveAll(one) },
					func() error { return os.Symlink("target", one) },
					func() error { return unix.Lsetxattr(one, "user.x", fmt.Append(nil, round, i), 0) },
				}[op]()
				done = append(done, fmt.Sprint(op, one, other, err))
			}
			after := dump(tree.Dir())
			var touched []string
			for path, err := range toucher.Touched(t.Context()) {
				strict.Must(t, err)
				touched = append(touched, path)
			}
			if snapshottest.CheckTouched(t, before, after, touched); t.Failed() {
				t.Fatalf("round %d: %s", round, strings.Join(done, "\n"))
			}
			strict.Must(t, tree.Commit(t.Context(), fmt.Sprint("round ", round+1)))
		}
	})
}

// TestManyLinks: the kernel tells the names of a file up to a limit. Where there are more, the
// whole tree is touched.
func TestManyLinks(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", func(dir string) {
			strict.Must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
			for i := range 500 {
				strict.Must(t, os.Link(filepath.Join(dir, "f"), filepath.Join(dir, fmt.Sprintf("a long name, of which there are many: %d", i))))
			}
		})
		tree := newTree(t, d, "base")
		strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), "f"), []byte("x"), 0o644))
		toucher := touching(t, tree)
		if toucher == nil {
			return
		}
		for path, err := range toucher.Touched(t.Context()) {
			strict.Must(t, err)
			if path != "./" {
				t.Errorf("%s is touched, want ./", path)
			}
		}
	})
}

// makeReadOnly makes subvolumes read-only, as btrfs property set does.
func makeReadOnly(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		f, err := openDir(filepath.Join(dir, path))
		strict.Must(t, err, setReadOnly(int(f.Fd()), true), f.Close())
	}
}

// TestSubvolumes: subvolumes that a command makes in a tree become folders, with all that is in
// them, and times can be set in them before the commit.
func TestSubvolumes(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", makes(t, "d/f file\n e/ dir mtime=5"))
		for _, touch := range []bool{false, true} {
			tree := newTree(t, d, "base")
			dir := tree.Dir()
			for _, path := range []string{"top", "d/sub", "d/sub/in", "e/ro", "e/ro/in"} {
				strict.Must(t, inParent("make subvolume", filepath.Join(dir, path), createSubvolume))
			}
			strict.Must(t, makeSnapshot(filepath.Join(dir, "copy"), filepath.Join(dir, "d/sub")))
			treetest.Make(t, dir, `
				d/sub/ dir 0750 user.x="1" mtime=7
				d/sub/f file 4755 "x" mtime=1
				d/sub/g file <1> "y"
				d/sub/h file <1> "y"
				d/sub/in/l symlink ../f
				e/ro/f file
				e/ro/in/f file
				e/ dir mtime=5
			`, treetest.NoOwners)
			makeReadOnly(t, dir, "e/ro/in", "e/ro", ".")
			dump := func(dir string) string {
				text := treetest.Dump(t, dir, treetest.Root, treetest.MTimes)
				// What stands for a subvolume in a copy of the one that it is in has the time at
				// which it is looked at.
				return regexp.MustCompile(`(?m)^(copy/in/.*) mtime=.*`).ReplaceAllString(text, "$1")
			}
			want := dump(dir)
			if touch {
				touched, err := snapshot.Touched(t.Context(), tree)
				strict.Must(t, err, os.Chtimes(filepath.Join(dir, "e/ro/in/f"), time.Unix(1, 0), time.Unix(1, 0)))
				want = dump(dir)
				if touched == nil {
					touched = func(func(string, error) bool) {}
				}
				paths := map[string]bool{}
				for path, err := range touched {
					strict.Must(t, err)
					paths[path] = true
				}
				for _, path := range []string{"top/", "d/sub/", "e/ro/", "copy/"} {
					if d.sends && !paths[path] {
						t.Errorf("%s is not touched: %v", path, paths)
					}
				}
			}
			name := fmt.Sprint("child ", touch)
			strict.Must(t, tree.Commit(t.Context(), name))
			view, err := d.View(t.Context(), name)
			strict.Must(t, err)
			if diff := treetest.Diff(want, dump(view.Dir())); diff != "" {
				t.Errorf("the snapshot (- wanted, + got):\n%s", diff)
			}
			strict.Must(t, view.Close())
			if diff := treetest.Diff(want, dump(newTree(t, d, name).Dir())); diff != "" {
				t.Errorf("a tree of it (- wanted, + got):\n%s", diff)
			}
		}
	})
}

// TestKeptReadOnly: a kept tree that a killed process left read-only can be changed again by who is
// shown it, or goes on with it.
func TestKeptReadOnly(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		tree := newTree(t, d, "")
		strict.Must(t, tree.Keep(t.Context(), "kept", nil))
		for i, begin := range []func() error{
			func() error { _, err := d.Show(t.Context(), "kept"); return err },
			func() error {
				resumed, err := d.Resume(t.Context(), "kept")
				return errors.Join(err, resumed.Close())
			},
		} {
			makeReadOnly(t, tree.Dir(), ".")
			strict.Must(t, begin(), os.WriteFile(filepath.Join(tree.Dir(), fmt.Sprint(i)), nil, 0o644))
		}
		strict.Must(t, d.Drop(t.Context(), "kept"))
	})
}

// TestDropSubvolumes: a tree goes with the subvolumes in it, read-only ones too, also when its
// process was killed.
func TestDropSubvolumes(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		tree := newTree(t, d, "")
		dir := tree.Dir()
		for _, path := range []string{"sub", "sub/in", "sub/in/in"} {
			strict.Must(t, inParent("make subvolume", filepath.Join(dir, path), createSubvolume))
			strict.Must(t, os.WriteFile(filepath.Join(dir, path, "f"), nil, 0o644))
		}
		makeReadOnly(t, dir, "sub/in/in", "sub/in", "sub", ".")
		strict.Must(t, tree.Close())
		if _, err := os.Lstat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the tree is still there: %v", err)
		}
	})
}

// TestRemoveAll: the subvolumes that a command has made in a folder of any driver go with it,
// read-only ones too.
func TestRemoveAll(t *testing.T) {
	snapshottest.OnFileSystem(t, "btrfs", func(t *testing.T, tempDir func(*testing.T) string) {
		dir := filepath.Join(tempDir(t), "dir")
		strict.Must(t, os.Mkdir(dir, 0o755))
		for _, path := range []string{"sub", "sub/in"} {
			strict.Must(t, inParent("make subvolume", filepath.Join(dir, path), createSubvolume))
			strict.Must(t, os.MkdirAll(filepath.Join(dir, path, "d/e"), 0o755))
		}
		makeReadOnly(t, dir, "sub/in", "sub")
		strict.Must(t, beneath.RemovePath(dir))
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
		strict.Must(t, inParent("make subvolume", dir, createSubvolume))
		makeReadOnly(t, dir, ".")
		strict.Must(t, beneath.RemovePath(dir))
	})
}

// TestSiblingsTouched: trees of one parent may be asked at once what was touched, by several
// processes too, and no snapshot stays read-only.
func TestSiblingsTouched(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", makes(t, "f file"))
		var wg sync.WaitGroup
		for i := range 8 {
			other, err := open(d.dir) // which knows nothing of the others, like another process
			strict.Must(t, err)
			tree := newTree(t, other.(*Driver), "base")
			toucher := touching(t, tree)
			if toucher == nil {
				return
			}
			name := fmt.Sprint("new", i)
			wg.Go(func() {
				for range 10 {
					if err := os.WriteFile(filepath.Join(tree.Dir(), name), nil, 0o644); err != nil {
						t.Error(err)
					}
					var paths []string
					for path, err := range toucher.Touched(t.Context()) {
						if err != nil {
							t.Error(err)
						}
						paths = append(paths, path)
					}
					if !slices.Equal(paths, []string{".", name}) {
						t.Errorf("touched: %q", paths)
					}
				}
			})
		}
		wg.Wait()
		base := root(newTree(t, d, "base").(*sentTree).part.Lowers()[0])
		strict.Must(t, os.WriteFile(filepath.Join(base, "g"), nil, 0o644))
	})
}

// TestCancelSend: the sending ends with the context.
func TestCancelSend(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", func(string) {})
		tree := newTree(t, d, "base")
		for i := range 5000 {
			strict.Must(t, os.WriteFile(filepath.Join(tree.Dir(), fmt.Sprint(i)), nil, 0o644))
		}
		toucher := touching(t, tree)
		if toucher == nil {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := changes(ctx, tree.Dir(), root(toucher.part.Lowers()[0]), toucher.write, func(command) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	})
}

// TestSpaceOfPart: of a large file that is changed in the middle, only that counts for the tree in
// which it is.
func TestSpaceOfPart(t *testing.T) {
	onBtrfs(t, func(t *testing.T, d *Driver) {
		const size = 4 << 20
		write := func(offset int64, length int) func(dir string) {
			return func(dir string) {
				block := make([]byte, length)
				rand.Read(block)
				f, err := os.OpenFile(filepath.Join(dir, "big"), os.O_WRONLY|os.O_CREATE, 0o644)
				strict.Must(t, err)
				_, err = f.WriteAt(block, offset)
				strict.Must(t, err, f.Close())
			}
		}
		commit(t, d, "", "base", write(0, size))
		commit(t, d, "base", "child", write(size/2, 4096))
		space, err := d.Space(t.Context())
		strict.Must(t, err)
		var all int64
		for _, n := range space.Parts {
			all += n
		}
		if all < size || all > size+size/8 {
			t.Errorf("%d bytes are taken, want %d and some", all, size)
		}
		for _, tree := range space.Trees {
			var own int64
			for _, id := range tree.Parts {
				own += space.Parts[id]
			}
			if own < size || own > size+size/8 {
				t.Errorf("%s is made of %d bytes, want %d and some", tree.Name, own, size)
			}
		}
	})
}

// TestFull: a full file system is told as such, and what is there stays good.
func TestFull(t *testing.T) {
	if dir := os.Getenv("GENOCI_TEST_BTRFS"); dir != "" {
		t.Skipf("%s is not for this test alone", dir)
	}
	onBtrfs(t, func(t *testing.T, d *Driver) {
		commit(t, d, "", "base", makes(t, `f file "x"`))
		tree := newTree(t, d, "base")
		f, err := os.Create(filepath.Join(tree.Dir(), "big"))
		strict.Must(t, err)
		block := make([]byte, 1<<20)
		for err == nil {
			rand.Read(block)
			_, err = f.Write(block)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		_ = f.Close()
		if err := tree.Commit(t.Context(), "full"); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("commit: %v, want success, or an error that is %q", err, unix.ENOSPC)
		}
		strict.Must(t, tree.Close(), d.Remove(t.Context(), "full"))
		view, err := d.View(t.Context(), "base")
		strict.Must(t, err)
		defer view.Close()
		if got := treetest.Dump(t, view.Dir(), treetest.NoOwners); got != "f file 0644 \"x\"\n" {
			t.Errorf("the base is now %q", got)
		}
	})
}
