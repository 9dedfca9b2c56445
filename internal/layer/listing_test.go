package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

// makeDeep makes folders n deep, with names of 20 bytes and a file beside each.
func makeDeep(t testing.TB, top string, n int) {
	t.Helper()
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := openRoot(top)
	for range n {
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Repeat("d", 20)
		if err := errors.Join(unix.Mkdirat(fd, name, 0o700), unix.Mknodat(fd, "file", unix.S_IFREG|0o600, 0)); err != nil {
			t.Fatal(err)
		}
		next, openErr := openBelow(fd, name, unix.O_PATH|unix.O_DIRECTORY)
		unix.Close(fd)
		fd, err = next, openErr
	}
	unix.Close(fd)
}

// withMount runs do with a folder that has a mount below it, in "mnt", with a file "inside". The
// mount is in a mount namespace of its own, which the path of the folder leads into.
func withMount(t *testing.T, do func(dir string)) {
	t.Helper()
	strict.NeedRoot(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/tree/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its last descriptor
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir+"/tree/mnt", "tmpfs", 0, ""); err != nil {
				return err
			}
			if err := os.WriteFile(dir+"/tree/mnt/inside", nil, 0o600); err != nil {
				return err
			}
			fd, err := openRoot(dir)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			do(procPath(fd, "tree"))
			return nil
		}()
	}()
	if err := <-done; err != nil {
		strict.Lack(t, "mount", err)
	}
}

// asUser are the options with which the process that runs the tests unpacks.
func asUser() UnpackOptions { return UnpackOptions{KeepOwner: os.Geteuid() == 0} }

// listing shows changes as text, a line each. Whatever belongs to the user who runs the tests is
// shown as root's.
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
	strict.Must(t, mkdir(dir, 0o755))
	t.Cleanup(func() {
		if err := beneath.RemovePath(dir); err != nil {
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
