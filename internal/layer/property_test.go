package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"genoci/internal/treetest"
	"genoci/test/strict"

	"golang.org/x/sys/unix"
)

// The layer of a step is the same bytes whichever way it is made: composed on the index of the
// base, or carried out in a folder and found again there, by a walk, with the help of ctimes, or
// with hints. Random steps are carried out in all these ways, the second with plain calls of
// package os, and all trees and all bytes must be equal.
func TestComposedEqualsExecuted(t *testing.T) {
	if os.Geteuid() != 0 {
		inUserNamespace(t)
		return
	}
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { composedEqualsExecuted(t, seed) })
	}
}

// inUserNamespace runs the test once more as the root of a user namespace that has this one user.
func inUserNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.short="+fmt.Sprint(testing.Short()))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		strict.Lack(t, "userns", err)
	}
	if err != nil {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	}
}

const propertyEpoch = 1500000000

func composedEqualsExecuted(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	options := UnpackOptions{KeepOwner: true, Placeholders: !realRoot() || r.IntN(2) == 0}

	// The base: one or two layers, on disk and as a view.
	var toc []*TOC
	var layers [][]Change
	source := newFolder(t) // stays as the base is
	for range 1 + r.IntN(2) {
		c := NewComposer(Merge(toc...), propertyEpoch)
		for range 15 {
			randomStep(r).compose(c, folder(source))
		}
		changes, err := c.Changes()
		if err != nil {
			t.Fatal(err)
		}
		_, index := mustPack(t, changes)
		mustApply(t, source, changes, options)
		toc, layers = append(toc, index), append(layers, changes)
	}
	base := Merge(toc...)
	newTree := func() string {
		dir := newFolder(t)
		for _, l := range layers {
			mustApply(t, dir, l, options)
		}
		return dir
	}

	// The same steps composed, and carried out in a folder.
	executed := newTree()
	since := tick(t, executed)
	c := NewComposer(base, propertyEpoch)
	var script strings.Builder
	for range 1 + r.IntN(12) {
		s := randomStep(r)
		fmt.Fprintln(&script, s)
		composed := s.compose(c, folder(source))
		inFolder := s.execute(executed, folder(source), options)
		if (composed == nil) != (inFolder == nil) {
			t.Fatalf("%scomposed: %v, executed: %v", &script, composed, inFolder)
		}
	}
	changes, err := c.Changes()
	if err != nil {
		t.Fatal(err)
	}
	want, top := mustPack(t, changes)

	all := make(map[string]bool)
	for _, view := range []View{base, Dir(executed)} {
		for path := range paths(t, view, ".") {
			all[path] = true
		}
	}
	changed := make(map[string]bool)
	for _, ch := range changes {
		if !ch.Parent {
			changed[ch.Path] = true
		}
	}
	for name, o := range map[string]DiffOptions{
		"walk":            {},
		"since":           {Since: since},
		"all touched":     {Touched: hints(all)},
		"changed touched": {Touched: hints(changed)},
		"root touched":    {Touched: hints(map[string]bool{"./": true})},
	} {
		found := mustDiff(t, executed, base, o)
		if got, _ := mustPack(t, found); !bytes.Equal(got, want) {
			t.Errorf("%s%s: executed:\n%s\ncomposed:\n%s", &script, name, listing(t, found), listing(t, changes))
		}
	}

	// All trees are what the steps made, and what the views say.
	tree := treetest.Dump(t, executed, treetest.MTimes, treetest.Root)
	applied, unpacked := newTree(), newTree()
	mustApply(t, applied, changes, options)
	if err := Unpack(context.Background(), unpacked, bytes.NewReader(want), options); err != nil {
		t.Fatal(err)
	}
	same := treetest.Dump(t, applied, treetest.MTimes, treetest.Root)
	if diff := treetest.Diff(same, treetest.Dump(t, unpacked, treetest.MTimes, treetest.Root)); diff != "" {
		t.Errorf("%sunpacked is not as applied:\n%s", &script, diff)
	}
	if diff := treetest.Diff(tree, same); diff != "" {
		t.Errorf("%sapplied is not as executed:\n%s", &script, diff)
	}
	view := describe(t, Dir(executed))
	for name, v := range map[string]View{"Dir of applied": Dir(applied), "Composer": c, "Merge": Merge(append(slices.Clone(toc), top)...)} {
		if diff := treetest.Diff(view, describe(t, v)); diff != "" {
			t.Errorf("%s%s:\n%s", &script, name, diff)
		}
	}
}

// realRoot reports whether the process may make devices and own files of anyone: whether it is root
// of the initial user namespace.
func realRoot() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}

// tick returns a time on the clock of dir's file system that is later than all ctimes in it so far.
func tick(t testing.TB, dir string) time.Time {
	t.Helper()
	var before unix.Stat_t
	if err := unix.Stat(dir, &before); err != nil {
		t.Fatal(err)
	}
	probe := filepath.Join(t.TempDir(), "probe")
	for {
		if err := os.WriteFile(probe, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		var now unix.Stat_t
		if err := unix.Stat(probe, &now); err != nil {
			t.Fatal(err)
		}
		if now.Ctim.Nano() > before.Ctim.Nano() {
			return time.Unix(now.Ctim.Unix())
		}
	}
}

func hints(paths map[string]bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path := range paths {
			if !yield(path, nil) {
				return
			}
		}
	}
}

// paths yields all paths of a view below dir.
func paths(t *testing.T, v View, dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for e, err := range v.Children(dir) {
			if err != nil {
				t.Fatal(err)
			}
			if !yield(e.Path) {
				return
			}
			for p := range paths(t, v, e.Path) {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// describe shows a view as text, but for content and hard links.
func describe(t *testing.T, v View) string {
	t.Helper()
	var b strings.Builder
	for p := range paths(t, v, ".") {
		e, ok, err := v.Lookup(p)
		if !ok || err != nil {
			t.Fatalf("%s is a child but is not there: %v", p, err)
		}
		e = canonical(e)
		fmt.Fprintf(&b, "%s %s %04o %d:%d %d %d %s %d:%d %q\n", e.Path, typeNames[e.Type], e.Mode, e.UID, e.GID, e.Size, e.MTime, e.Link, e.Major, e.Minor, e.Xattrs)
	}
	return b.String()
}

// step is one thing done to a tree.
type step struct {
	do     string // put, mkdir, remove, link
	path   string
	put    Change
	target string // of link
}

func (s step) String() string {
	switch s.do {
	case "put":
		return fmt.Sprintf("put %s %s %04o link=%q mtime=%d %q", s.path, typeNames[s.put.Type], s.put.Mode, s.put.Link, s.put.MTime, s.put.Xattrs)
	case "link":
		return fmt.Sprintf("link %s to %s", s.path, s.target)
	}
	return s.do + " " + s.path
}

func randomStep(r *rand.Rand) step {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	path := func() string {
		p := pick("a", "b", "c", "d-e", "d")
		for r.IntN(3) > 0 && len(p) < 8 {
			p += "/" + pick("a", "b", "c", "d.", "é\xff", strings.Repeat("long", 40))
		}
		return p
	}
	s := step{do: "put", path: path()}
	switch r.IntN(10) {
	case 0:
		s.do = "mkdir"
		return s
	case 1, 2:
		s.do = "remove"
		return s
	case 3:
		s.do, s.target = "link", path()
		return s
	}
	e := Entry{Path: s.path, Type: TypeFile, MTime: int64(1000 + r.IntN(2)), Mode: uint32([]int{0o644, 0o755, 0o4755, 0}[r.IntN(4)])}
	if realRoot() {
		e.UID, e.GID = r.IntN(2)*33, r.IntN(2)*4000000
	}
	text := pick("", "one", "two", "three")
	switch r.IntN(8) {
	case 0, 1:
		e.Type = TypeDir
		e.Mode |= 0o1500
	case 2:
		e.Type, e.Link = TypeSymlink, pick("a", "b/a", "c", "none", "d")
	case 3:
		e.Type = TypeFIFO
	case 4:
		e.Type, e.Major, e.Minor = TypeChar, 1, uint32(3+r.IntN(2))
	default:
		e.Size = int64(len(text))
	}
	if e.Type == TypeFile || e.Type == TypeDir {
		switch r.IntN(8) {
		case 0:
			e.Xattrs = map[string]string{"user.x": pick("1", "2", "")}
		case 1:
			if e.Type == TypeFile { // CAP_NET_BIND_SERVICE, effective, version 2
				e.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14)}
			}
		}
	}
	s.put = Change{Entry: canonical(e)}
	if e.Size > 0 {
		s.put.Open = opening(text)
	}
	return s
}

// errSkip is returned for steps that mean something else to package os than to a layer.
var errSkip = errors.New("left out")

// leftOut reports whether a step links a file that the base has under several names: new names for
// different ones of them are one group in a folder, and separate in a composed layer.
func (s step) leftOut(source folder) bool {
	if s.do != "link" {
		return false
	}
	info, err := os.Stat(filepath.Join(string(source), s.target))
	if err != nil {
		info, err = os.Lstat(filepath.Join(string(source), s.target))
	}
	return err == nil && info.Sys().(*syscall.Stat_t).Nlink > 1
}

func (s step) compose(c *Composer, source folder) error {
	if s.leftOut(source) {
		return errSkip
	}
	switch s.do {
	case "put":
		return c.Put(s.put)
	case "mkdir":
		return c.MkdirAll(s.path, 0, 0)
	case "remove":
		return c.Remove(s.path)
	}
	target, err := c.Resolve(s.target, false)
	if err != nil {
		return err
	}
	return c.Link(s.path, target, inMemory(source.opener(target)))
}

// inMemory opens what open yields at the first call: the folder that it reads from may be written
// to later.
func inMemory(open Opener) Opener {
	r, err := open()
	if err != nil {
		return open
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), err }
}

// execute does the step in the folder root with package os. Times of folders are put back, as the
// step sets them on its own.
func (s step) execute(root string, source folder, o UnpackOptions) error {
	if s.leftOut(source) {
		return errSkip
	}
	path := filepath.Join(root, s.path)
	switch s.do {
	case "mkdir":
		return mkdirAll(root, s.path)
	case "remove":
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		} else if err != nil {
			return err
		}
		return keepTime(filepath.Dir(path), func() error { return os.RemoveAll(path) })
	case "link":
		target := filepath.Join(root, s.target)
		from, err := os.Lstat(target)
		if err != nil {
			return err
		}
		if from.IsDir() {
			return syscall.EISDIR
		}
		if err := mkdirAll(root, filepath.Dir(s.path)); err != nil {
			return err
		}
		if to, err := os.Lstat(path); err == nil && os.SameFile(from, to) {
			return nil
		}
		tmp := filepath.Join(filepath.Dir(root), "tmp")
		if err := os.Link(target, tmp); err != nil {
			return err
		}
		return keepTime(filepath.Dir(path), func() error { return errors.Join(os.RemoveAll(path), os.Rename(tmp, path)) })
	}
	if err := mkdirAll(root, filepath.Dir(s.path)); err != nil {
		return err
	}
	return keepTime(filepath.Dir(path), func() error { return make1(path, s.put, o) })
}

// make1 makes what a change puts at path, of which the parent is there.
func make1(path string, ch Change, o UnpackOptions) error {
	info, err := os.Lstat(path)
	isDir := err == nil && info.IsDir()
	if ch.Type != TypeDir || !isDir {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	attributes := maps.Clone(ch.Xattrs)
	err = nil
	switch {
	case ch.Type == TypeDir:
		if !isDir {
			err = os.Mkdir(path, 0o700)
		} else {
			for _, a := range []string{"user.x", "security.capability"} {
				_ = unix.Lremovexattr(path, a)
			}
		}
	case ch.Type == TypeSymlink:
		err = os.Symlink(ch.Link, path)
	case ch.Type == TypeFIFO:
		err = unix.Mkfifo(path, 0o600)
	case ch.Type == TypeChar && o.Placeholders:
		err = os.WriteFile(path, nil, 0o600)
		attributes = map[string]string{"user.genoci.node": fmt.Sprintf("c %d %d", ch.Major, ch.Minor)}
	case ch.Type == TypeChar:
		err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(ch.Major, ch.Minor)))
	default:
		var text []byte
		if ch.Open != nil {
			text = make([]byte, ch.Size)
			r, _ := ch.Open()
			_, err = r.Read(text)
		}
		err = errors.Join(err, os.WriteFile(path, text, 0o600))
	}
	err = errors.Join(err, os.Lchown(path, ch.UID, ch.GID))
	if ch.Type != TypeSymlink {
		err = errors.Join(err, unix.Chmod(path, ch.Mode))
	}
	for name, value := range attributes {
		err = errors.Join(err, unix.Lsetxattr(path, name, []byte(value), 0))
	}
	return errors.Join(err, setTimeOf(path, unix.Timespec{Sec: ch.MTime}))
}

func setTimeOf(path string, t unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// mkdirAll makes folders as a step does: 0755, with the time that steps give, those around them
// unchanged.
func mkdirAll(root, path string) error {
	full := filepath.Join(root, path)
	if path == "." {
		return nil
	}
	if err := mkdirAll(root, filepath.Dir(path)); err != nil {
		return err
	}
	if link, err := os.Readlink(full); err == nil {
		if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
			return mkdirAll(root, filepath.Join(filepath.Dir(path), link))
		}
	}
	info, err := os.Stat(full)
	switch {
	case err == nil && !info.IsDir():
		return syscall.ENOTDIR
	case err == nil, !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return keepTime(filepath.Dir(full), func() error {
		return errors.Join(os.Mkdir(full, 0o700), os.Chmod(full, 0o755), setTimeOf(full, unix.Timespec{Sec: propertyEpoch}))
	})
}

// keepTime runs do, which changes the folder, and gives this its time back.
func keepTime(dir string, do func() error) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0))
}
