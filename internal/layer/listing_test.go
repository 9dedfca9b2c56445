package layer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/treetest"
)

// require skips the test where the machine lacks what it needs, and fails it where GENOCI_REQUIRE promises that.
func require(t testing.TB, feature string, ok bool, why string) {
	t.Helper()
	switch {
	case ok:
	case slices.Contains(strings.Split(os.Getenv("GENOCI_REQUIRE"), ","), feature):
		t.Fatalf("%s is required: %s", feature, why)
	default:
		t.Skip(why)
	}
}

// needRoot is for tests that give files away, make devices or mount.
func needRoot(t testing.TB) {
	t.Helper()
	require(t, "root", os.Geteuid() == 0, "needs root")
}

// asUser are the options with which the process that runs the tests unpacks.
func asUser() UnpackOptions { return UnpackOptions{KeepOwner: os.Geteuid() == 0} }

// listing shows changes as text, a line each. Whatever belongs to the user who runs the tests is shown as root's.
func listing(t testing.TB, changes []Change) string {
	t.Helper()
	var b strings.Builder
	for _, ch := range changes {
		name := ch.Path
		dir, base := split(name)
		switch ch.Type {
		case TypeWhiteout:
			fmt.Fprintf(&b, "%s\n", join(dir, ".wh."+base))
			continue
		case TypeDir:
			name += "/"
		}
		if ch.Parent {
			fmt.Fprintf(&b, "%s parent\n", name)
			continue
		}
		if ch.Group != "" && ch.Group != ch.Path {
			fmt.Fprintf(&b, "%s = %s\n", name, ch.Group)
			continue
		}
		fmt.Fprintf(&b, "%s %s %04o %d:%d", name, typeNames[ch.Type], ch.Mode, owner(ch.UID, os.Getuid()), owner(ch.GID, os.Getgid()))
		switch ch.Type {
		case TypeFile:
			fmt.Fprintf(&b, " %q", content(t, ch))
		case TypeSymlink:
			fmt.Fprintf(&b, " -> %s", ch.Link)
		case TypeChar, TypeBlock:
			fmt.Fprintf(&b, " %d:%d", ch.Major, ch.Minor)
		}
		if ch.MTime != 0 {
			fmt.Fprintf(&b, " mtime=%d", ch.MTime)
		}
		for _, name := range slices.Sorted(maps.Keys(ch.Xattrs)) {
			fmt.Fprintf(&b, " %s=%q", name, ch.Xattrs[name])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

var typeNames = map[Type]string{
	TypeFile: "file", TypeSymlink: "symlink", TypeChar: "char", TypeBlock: "block", TypeDir: "dir", TypeFIFO: "fifo",
}

func owner(id, me int) int {
	if id == me {
		return 0
	}
	return id
}

func content(t testing.TB, ch Change) string {
	t.Helper()
	if ch.Open == nil {
		return ""
	}
	r, err := ch.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// file is a change that puts a regular file, 0644 and mtime 0, with the text as its content.
func file(path, text string) Change {
	return Change{Entry: Entry{Path: path, Type: TypeFile, Mode: 0o644, Size: int64(len(text))}, Open: opening(text)}
}

// opening opens text.
func opening(text string) Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func mustPack(t testing.TB, changes []Change) ([]byte, *TOC) {
	t.Helper()
	var b bytes.Buffer
	toc, id, err := Pack(context.Background(), &b, changes)
	if err != nil {
		t.Fatal(err)
	}
	if want := digest.FromBytes(b.Bytes()); id != want {
		t.Errorf("the DiffID is %s, not %s", id, want)
	}
	return b.Bytes(), toc
}

func mustDiff(t testing.TB, dir string, base View, o DiffOptions) []Change {
	t.Helper()
	changes, err := Diff(context.Background(), dir, base, o)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func mustApply(t testing.TB, dir string, changes []Change, o UnpackOptions) {
	t.Helper()
	if err := Apply(context.Background(), dir, changes, o); err != nil {
		t.Fatal(err)
	}
}

// makeBase makes the tree that text describes, all times at 1970, in a folder and as a view.
func makeBase(t testing.TB, text string) (dir string, view *Merged) {
	t.Helper()
	made := t.TempDir()
	var o []treetest.Option
	if os.Geteuid() != 0 {
		o = append(o, treetest.NoOwners)
	}
	treetest.Make(t, made, text, o...)
	changes := mustDiff(t, made, Merge(), DiffOptions{Start: time.Unix(1, 0)})
	_, toc := mustPack(t, changes)
	dir = newFolder(t)
	mustApply(t, dir, changes, asUser())
	return dir, Merge(toc)
}

// newFolder returns an empty folder, mode 0755.
func newFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir() + "/root"
	must(t, mkdir(dir, 0o755))
	t.Cleanup(func() {
		if err := RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func wantText(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s\n", got, want)
	}
}
