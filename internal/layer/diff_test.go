package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"genoci/internal/beneath"
	"genoci/internal/treetest"
	"genoci/test/strict"

	"golang.org/x/sys/unix"
)

// write writes a file, 0644 whatever the umask.
func write(path, text string) error {
	return errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644))
}

// mkdir makes a folder, with the mode whatever the umask.
func mkdir(path string, mode os.FileMode) error {
	return errors.Join(os.Mkdir(path, mode), os.Chmod(path, mode))
}

func TestDiff(t *testing.T) {
	const base = `
./ dir 0755 0:0
a/ dir 0755 0:0
a/one file 0644 0:0 "1"
a/two file 0644 0:0 "2"
b/ dir 0700 0:0
b/deep/ dir 0755 0:0
b/deep/file file 0644 0:0 "x"
link symlink a
one file 0644 0:0 <1> "linked"
two file 0644 0:0 <1> "linked"
`
	epoch := unix.Timespec{}
	tests := []struct {
		name string
		do   func(dir string) error
		want string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"touched, with the old content", func(dir string) error { return write(dir+"/a/one", "1") }, `./ parent
a/ parent
a/one file 0644 0:0 "1" mtime=99
`},
		{"new content of the old size and time", func(dir string) error {
			return errors.Join(write(dir+"/a/one", "X"), setTimeOf(dir+"/a/one", epoch))
		}, `./ parent
a/ parent
a/one file 0644 0:0 "X"
`},
		{"removed", func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/b"), os.Remove(dir+"/a/two"), os.Remove(dir+"/link"))
		}, `./ parent
.wh.b
.wh.link
a/ parent
a/.wh.two
`},
		{"made and removed", func(dir string) error { return errors.Join(write(dir+"/a/new", ""), os.Remove(dir+"/a/new")) }, ""},
		{"folder to file", func(dir string) error { return errors.Join(os.RemoveAll(dir+"/b"), write(dir+"/b", "file")) }, `./ parent
b file 0644 0:0 "file" mtime=99
`},
		{"file to folder", func(dir string) error {
			return errors.Join(os.Remove(dir+"/one"), mkdir(dir+"/one", 0o711), write(dir+"/one/x", ""))
		}, `./ parent
one/ dir 0711 0:0 mtime=99
one/x file 0644 0:0 "" mtime=99
`},
		{"folder to symlink", func(dir string) error { return errors.Join(os.RemoveAll(dir+"/b"), os.Symlink("a", dir+"/b")) }, `./ parent
b symlink 0777 0:0 -> a mtime=99
`},
		{"symlink to folder", func(dir string) error {
			return errors.Join(os.Remove(dir+"/link"), mkdir(dir+"/link", 0o755), write(dir+"/link/one", "1"))
		}, `./ parent
link/ dir 0755 0:0 mtime=99
link/one file 0644 0:0 "1" mtime=99
`},
		{"removed and made again", func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/b"), mkdir(dir+"/b", 0o711), write(dir+"/b/new", ""))
		}, `./ parent
b/ dir 0711 0:0
b/.wh.deep
b/new file 0644 0:0 "" mtime=99
`},
		{"hard links", func(dir string) error {
			return errors.Join(write(dir+"/a/z", "z"), os.Link(dir+"/a/z", dir+"/b/y"), os.Link(dir+"/a/z", dir+"/a/a"))
		}, `./ parent
a/ parent
a/a file 0644 0:0 "z" mtime=99
a/z = a/a
b/ parent
b/y = a/a
`},
		{"hard link to a file of the base", func(dir string) error { return os.Link(dir+"/a/one", dir+"/new") }, `./ parent
a/ parent
a/one file 0644 0:0 "1"
new = a/one
`},
		{"written through one of two names", func(dir string) error { return write(dir+"/one", "both") }, `./ parent
one file 0644 0:0 "both" mtime=99
two = one
`},
		{"hard links become two files", func(dir string) error {
			return errors.Join(os.Remove(dir+"/one"), write(dir+"/one", "linked"), setTimeOf(dir+"/one", epoch))
		}, "./ parent\ntwo file 0644 0:0 \"linked\"\n"},
		{"folder moved", func(dir string) error { return os.Rename(dir+"/b", dir+"/c") }, `./ parent
.wh.b
c/ dir 0700 0:0
c/deep/ dir 0755 0:0
c/deep/file file 0644 0:0 "x"
`},
		{"mode of the root", func(dir string) error { return os.Chmod(dir, 0o700) }, "./ dir 0700 0:0\n"},
		{"fifo", func(dir string) error { return unix.Mkfifo(dir+"/a/pipe", 0o600) }, `./ parent
a/ parent
a/pipe fifo 0600 0:0 mtime=99
`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, view := makeBase(t, base)
			since := tick(t, dir)
			strict.Must(t, test.do(dir))
			o := DiffOptions{Start: time.Unix(1, 0), Epoch: 99}
			wantText(t, listing(t, mustDiff(t, dir, view, o)), test.want)
			o.Since = since
			wantText(t, listing(t, mustDiff(t, dir, view, o)), test.want)
			// Left with the times of its layer, the tree is compared alike without any care for
			// times.
			o.Settle = true
			wantText(t, listing(t, mustDiff(t, dir, view, o)), test.want)
			wantText(t, listing(t, mustDiff(t, dir, view, DiffOptions{})), test.want)
		})
	}
}

func TestDiffOfNothing(t *testing.T) {
	dir := newFolder(t)
	if got := mustDiff(t, dir, Merge(), DiffOptions{}); len(got) != 0 {
		t.Errorf("an empty tree differs from an empty one:\n%s", listing(t, got))
	}
	strict.Must(t, write(dir+"/x", "x"))
	wantText(t, listing(t, mustDiff(t, dir, Merge(), DiffOptions{Start: time.Unix(1, 0)})), `./ dir 0755 0:0
x file 0644 0:0 "x"
`)
}

// Files below a moved folder have old ctimes: they are compared all the same.
func TestDiffMovedBelowSince(t *testing.T) {
	const base = `
v1/deep/version file 0644 0:0 "1.0.1"
v2/deep/version file 0644 0:0 "1.0.2"
z/v/deep/version file 0644 0:0 "1.0.2"
`
	dir, view := makeBase(t, base)
	o := DiffOptions{Since: tick(t, dir), Start: time.Unix(1, 0)}
	strict.Must(t, os.RemoveAll(dir+"/v2"), os.Rename(dir+"/v1", dir+"/v2"), os.RemoveAll(dir+"/z"), mkdir(dir+"/z", 0o755),
		mkdir(dir+"/z/v", 0o755), os.Rename(dir+"/v2/deep", dir+"/z/v/deep"), mkdir(dir+"/v2/deep", 0o755))
	wantText(t, listing(t, mustDiff(t, dir, view, o)), `./ parent
.wh.v1
v2/ parent
v2/deep/ parent
v2/deep/.wh.version
z/ parent
z/v/ parent
z/v/deep/ parent
z/v/deep/version file 0644 0:0 "1.0.1"
`)
}

// With Since, nothing is asked of the base and nothing read of the tree where nothing has changed.
func TestDiffSinceSkips(t *testing.T) {
	dir, _ := makeBase(t, "a/b/c file 0644 0:0 \"x\"\nd file 0644 0:0 \"y\"\n")
	o := DiffOptions{Since: tick(t, dir)}
	if got := mustDiff(t, dir, lyingView{}, o); len(got) != 0 {
		t.Errorf("looked at what cannot have changed:\n%s", listing(t, got))
	}
}

// lyingView has a root with nothing in it, of which all metadata is that of any folder it is
// compared with.
type lyingView struct{ View }

func (lyingView) Lookup(path string) (Entry, bool, error) {
	if path != "." {
		return Entry{}, false, fmt.Errorf("looked up %s", path)
	}
	return Entry{Path: ".", Type: TypeDir, Mode: 0o755, UID: os.Getuid(), GID: os.Getgid()}, true, nil
}

func TestDiffTimes(t *testing.T) {
	dir, view := makeBase(t, "old/ dir 0755 0:0\nold/kept file 0644 0:0 \"x\"\n")
	at := func(path string, seconds, nanos int64) error {
		return setTimeOf(filepath.Join(dir, path), unix.Timespec{Sec: seconds, Nsec: nanos})
	}
	const far = 4102444800
	strict.Must(t,
		mkdir(dir+"/new", 0o755), os.Symlink("x", dir+"/link"), write(dir+"/before", ""), write(dir+"/start", ""), write(dir+"/later", ""),
		write(dir+"/given", ""), write(dir+"/given too", ""), unix.Mkfifo(dir+"/fifo", 0o644),
		at("link", far, 0), at("new", far, 0), at("old", far, 0), at("before", 100, 499), at("start", 100, 500), at("later", far, 501), at("fifo", far, 0),
		at("given", far, 0), at("given too", far, 1), at(".", 160, 0),
	)
	o := DiffOptions{Start: time.Unix(100, 500), Epoch: 7, Given: map[string]int64{"given": far, "given too": far, "start": far}}
	wantText(t, listing(t, mustDiff(t, dir, view, o)), `./ parent
before file 0644 0:0 "" mtime=100
fifo fifo 0644 0:0 mtime=7
given file 0644 0:0 "" mtime=4102444800
given too file 0644 0:0 "" mtime=7
later file 0644 0:0 "" mtime=7
link symlink 0777 0:0 -> x mtime=7
new/ dir 0755 0:0 mtime=7
start file 0644 0:0 "" mtime=7
`)
	strict.Must(t, at("old", -1, 999), at(".", 0, 1))
	found := mustDiff(t, dir, view, DiffOptions{})
	i := slices.IndexFunc(found, func(ch Change) bool { return ch.Path == "old" })
	if i < 0 || found[i].MTime != -1 {
		t.Errorf("times are not rounded down:\n%s", listing(t, found))
	}
	if !found[0].Parent {
		t.Errorf("a fraction of a second is a difference:\n%s", listing(t, found))
	}
}

func TestDiffTouched(t *testing.T) {
	const base = `
a/x file 0644 0:0 "x"
a/y file 0644 0:0 "y"
b/c/d file 0644 0:0 "d"
b/e file 0644 0:0 "e"
`
	dir, view := makeBase(t, base)
	strict.Must(t, write(dir+"/a/x", "X"), write(dir+"/a/y", "Y"), os.RemoveAll(dir+"/b/c"), mkdir(dir+"/b/n", 0o755), write(dir+"/b/n/m", "m"),
		os.RemoveAll(dir+"/b/e"), os.Symlink("n", dir+"/b/e"))
	tests := []struct {
		touched string
		want    string
	}{
		{"", ""},
		{".", ""},
		{"none none/x a/x/y", "./ parent\na/ parent\na/x file 0644 0:0 \"X\"\n"},
		{"a/x", "./ parent\na/ parent\na/x file 0644 0:0 \"X\"\n"},
		{"a", ""},
		{"a/", "./ parent\na/ parent\na/x file 0644 0:0 \"X\"\na/y file 0644 0:0 \"Y\"\n"},
		{"b/c", "./ parent\nb/ parent\nb/.wh.c\n"},
		{"b/c/d", "./ parent\nb/ parent\nb/.wh.c\n"},
		{"b/c/", "./ parent\nb/ parent\nb/.wh.c\n"},
		{"b/e/m", "./ parent\nb/ parent\nb/e symlink 0777 0:0 -> n\n"},
		{"b/n/m", "./ parent\nb/ parent\nb/n/ dir 0755 0:0\nb/n/m file 0644 0:0 \"m\"\n"},
		{"b/n/ b/n b/n/m", "./ parent\nb/ parent\nb/n/ dir 0755 0:0\nb/n/m file 0644 0:0 \"m\"\n"},
	}
	for _, test := range tests {
		paths := make(map[string]bool)
		for _, p := range strings.Fields(test.touched) {
			paths[p] = true
		}
		o := DiffOptions{Touched: hints(paths), Start: time.Unix(1, 0), Since: time.Now().Add(time.Hour)}
		if got := listing(t, mustDiff(t, dir, view, o)); got != test.want {
			t.Errorf("%q:\n%s\nwant\n%s", test.touched, got, test.want)
		}
	}
	for _, bad := range []string{"", "/", "a//b", "../x", "a/../b", "/a", "a/./b", "a//", "\x00"} {
		_, err := Diff(context.Background(), dir, view, DiffOptions{Touched: hints(map[string]bool{bad: true})})
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	failing := func(yield func(string, error) bool) { yield("", fs.ErrPermission) }
	if _, err := Diff(context.Background(), dir, view, DiffOptions{Touched: failing}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error of the hints: %v", err)
	}
}

// What no layer can hold is told of, and what the base had in its place is removed.
func TestDiffWarns(t *testing.T) {
	dir, view := makeBase(t, "a/f file 0644 0:0 \"x\"\n")
	strict.Must(t, os.Remove(dir+"/a/f"), os.MkdirAll(dir+"/.wh.b/c", 0o755), write(dir+"/a/.wh..wh..opq", ""))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/a/f", Net: "unix"})
	strict.Must(t, err)
	defer l.Close()
	var warned []string
	o := DiffOptions{Start: time.Unix(1, 0), Warn: func(path, what string) { warned = append(warned, path+": "+what) }}
	wantText(t, listing(t, mustDiff(t, dir, view, o)), "./ parent\na/ parent\na/.wh.f\n")
	slices.Sort(warned)
	wantText(t, strings.Join(warned, "\n"), `.wh.b: in layers, a name that begins with .wh. means a removed file
a/.wh..wh..opq: in layers, a name that begins with .wh. means a removed file
a/f: a layer cannot hold a socket`)
	o.Warn = nil
	mustDiff(t, dir, view, o)
	o.Strict = true
	if _, err := Diff(t.Context(), dir, view, o); !errors.Is(err, ErrReserved) || !strings.HasPrefix(err.Error(), "put into the layer /") {
		t.Errorf("strict: %v", err)
	}
	var names []string
	for e, err := range Dir(dir).Children("a") {
		strict.Must(t, err)
		names = append(names, e.Path)
	}
	if len(names) != 0 {
		t.Errorf("Dir shows %s", names)
	}
	if _, ok, err := Dir(dir).Lookup("a/f"); ok || err != nil {
		t.Errorf("Dir has the socket: %v, %v", ok, err)
	}
}

func TestDiffMount(t *testing.T) {
	withMount(t, func(dir string) {
		_, err := Diff(context.Background(), dir, Merge(), DiffOptions{})
		if !errors.Is(err, errMount) || !strings.Contains(err.Error(), "mnt") {
			t.Errorf("%v", err)
		}
	})
}

func TestDiffDeep(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	makeDeep(t, top, 250)
	defer func() { strict.Must(t, beneath.RemovePath(top)) }()
	if _, err := Diff(context.Background(), top, Merge(), DiffOptions{}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a tree that no path leads to the end of: %v", err)
	}
}

func TestDiffDevices(t *testing.T) {
	strict.NeedRoot(t)
	dir, view := makeBase(t, "dev/null c 1:3 0666 0:0\n")
	strict.Must(t, unix.Mknod(dir+"/dev/sda", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))), os.Remove(dir+"/dev/null"),
		os.WriteFile(dir+"/dev/null", nil, 0o666), os.Chmod(dir+"/dev/null", 0o666), setTimeOf(dir+"/dev/null", unix.Timespec{}))
	o := DiffOptions{Start: time.Unix(1, 0)}
	wantText(t, listing(t, mustDiff(t, dir, view, o)), `./ parent
dev/ parent
dev/null file 0666 0:0 ""
dev/sda block 0600 0:0 8:0
`)
	// The same file is the device that it stands for.
	strict.Must(t, unix.Setxattr(dir+"/dev/null", nodeXattr, []byte("c 1 3"), 0), os.Remove(dir+"/dev/sda"))
	wantText(t, listing(t, mustDiff(t, dir, view, o)), "")
}

func TestDiffCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Diff(ctx, t.TempDir(), Merge(), DiffOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Content is read when it is opened; what has changed since shows in Pack.
func TestDiffThenWrite(t *testing.T) {
	dir := newFolder(t)
	treetest.Make(t, dir, `a file 0644 0:0 "1234"`, treetest.NoOwners)
	changes := mustDiff(t, dir, Merge(), DiffOptions{})
	strict.Must(t, write(dir+"/a", "12345"))
	if _, _, err := Pack(context.Background(), &strings.Builder{}, changes); !errors.Is(err, errChanged) {
		t.Errorf("grown: %v", err)
	}
	strict.Must(t, os.Remove(dir+"/a"), os.Symlink("/etc/passwd", dir+"/a"))
	if _, _, err := Pack(context.Background(), &strings.Builder{}, changes); !errors.Is(err, unix.ELOOP) {
		t.Errorf("became a symlink: %v", err)
	}
}

func TestSubtree(t *testing.T) {
	dir := newFolder(t)
	treetest.Make(t, dir, `a/ dir 0755 0:0
a/b/ dir 0700 0:0
a/b/one file 0644 0:0 <1> "x"
a/b/sub/ dir 0755 0:0
a/b/sub/two file 0644 0:0 <1> "x"
a/b.c file 0644 0:0 ""
a/up symlink ../c
outer file 0644 0:0 <1> "x"
`, treetest.NoOwners)
	subtree := func(path string) string {
		t.Helper()
		changes, err := Subtree(t.Context(), dir, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range changes {
			changes[i].MTime = 0
		}
		copied := newFolder(t)
		if changes[0].Type == TypeDir { // it is what Apply takes
			mustApply(t, copied, changes, asUser())
			original := treetest.Dump(t, filepath.Join(dir, path), treetest.NoOwners)
			if diff := treetest.Diff(original, treetest.Dump(t, copied, treetest.NoOwners)); diff != "" {
				t.Errorf("%s: the copy is another: %s", path, diff)
			}
		}
		return listing(t, changes)
	}
	wantText(t, subtree("a/b"), "./ dir 0700 0:0\none file 0644 0:0 \"x\"\nsub/ dir 0755 0:0\nsub/two = one\n")
	wantText(t, subtree("a/b/sub"), "./ dir 0755 0:0\ntwo file 0644 0:0 \"x\"\n")
	wantText(t, subtree("a/b/sub/two"), ". file 0644 0:0 \"x\"\n")
	wantText(t, subtree("a/up"), ". symlink 0777 0:0 -> ../c\n")
	if all := subtree("."); strings.Count(all, "\n") != 9 {
		t.Errorf("all: %s", all)
	}
	for _, path := range []string{"none", "none/x", "outer/x", "a/b/on"} {
		if changes, err := Subtree(t.Context(), dir, path, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", path, changes, err)
		}
	}
}
