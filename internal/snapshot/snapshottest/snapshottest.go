// Package snapshottest holds the conformance suite and the benchmarks that every storage driver
// passes, without waivers. A driver's own tests call [Run] and [Bench], and then test what only
// that driver promises.
//
// The driver's test binary must be in a mount namespace of its own (sandbox.Enter in TestMain). The
// suite starts that binary again for the tests of several processes, which must lead to the same
// call of Run.
package snapshottest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

// Opener opens the driver's folder dir, as a program that uses the driver does.
type Opener func(dir string) (snapshot.Driver, error)

// Run runs the whole suite for the driver called name, on each kind of file system that can be had,
// and in t.TempDir. It skips where open says snapshot.ErrUnsupported, unless the environment
// variable GENOCI_REQUIRE has the driver's name.
//
// A driver that is for some kinds of file systems only names them. On all others open must say
// snapshot.ErrUnsupported.
func Run(t *testing.T, name string, open Opener, only ...string) {
	if asHelper(t, open) {
		return
	}
	on := func(kind string, tempDir func(*testing.T) string) func(t *testing.T) {
		if len(only) > 0 && !slices.Contains(only, kind) {
			return func(t *testing.T) { refuse(t, open, tempDir) }
		}
		return func(t *testing.T) { run(t, name, open, tempDir) }
	}
	OnFileSystem(t, "tmpfs", func(t *testing.T, tempDir func(*testing.T) string) { on("tmpfs", tempDir)(t) })
	if testing.Short() {
		return
	}
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		on(kindOf(t, t.TempDir()), (*testing.T).TempDir)(t)
	})
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		OnFileSystem(t, kind, func(t *testing.T, tempDir func(*testing.T) string) { on(kind, tempDir)(t) })
	}
}

// RunIn is Run in the folder that mount returns, on whatever file system that is. The driver has to
// work there.
func RunIn(t *testing.T, name string, open Opener, mount func(t *testing.T) string) {
	if asHelper(t, open) {
		return
	}
	run(t, name, open, tempDirsIn(mount(t)))
}

// refuse wants the driver to refuse the file system, with a reason.
func refuse(t *testing.T, open Opener, tempDir func(*testing.T) string) {
	dir := filepath.Join(tempDir(t), "try")
	_, err := open(dir)
	if !errors.Is(err, snapshot.ErrUnsupported) || err.Error() == snapshot.ErrUnsupported.Error() {
		t.Errorf("Open: %v, want an error that is %q, with a reason", err, snapshot.ErrUnsupported)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made, though the driver cannot use it: %v", err)
	}
}

// run runs the suite in folders that tempDir makes, one for each call.
func run(t *testing.T, name string, open Opener, tempDir func(*testing.T) string) {
	if _, err := open(filepath.Join(tempDir(t), "try")); errors.Is(err, snapshot.ErrUnsupported) {
		strict.Lack(t, name, err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"Name", func(s *suite) { s.equal("String()", s.driver.String(), name) }},
		{"Empty", testEmpty},
		{"Changes", testChanges},
		{"Attributes", testAttributes},
		{"Sparse", testSparse},
		{"Siblings", testSiblings},
		{"Concurrent", testConcurrent},
		{"Drop", testDrop},
		{"SameName", testSameName},
		{"Names", testNames},
		{"NotExist", testNotExist},
		{"View", testView},
		{"RemoveBase", testRemoveBase},
		{"RemoveInUse", testRemoveInUse},
		{"Cancelled", testCancelled},
		{"TwoDrivers", testTwoDrivers},
		{"TwoProcesses", testTwoProcesses},
		{"Kill", testKill},
		{"Touched", testTouched},
		{"TouchedFew", testTouchedFew},
		{"LongChain", testLongChain},
		{"Keep", testKeep},
		{"KeepUnsynced", testKeepUnsynced},
		{"KeepAgain", testKeepAgain},
		{"KeepAlone", testKeepAlone},
		{"Held", testHeld},
		{"KeepTouched", testKeepTouched},
		{"KeepKill", testKeepKill},
		{"Show", testShow},
		{"Space", testSpace},
		{"Discard", testDiscard},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, dir: filepath.Join(tempDir(t), name), open: open}
			s.driver = s.reopen()
			test.run(s)
		})
	}
}

// suite is one test with a driver on a folder of its own.
type suite struct {
	*testing.T
	dir    string
	open   Opener
	driver snapshot.Driver
}

func (s *suite) reopen() snapshot.Driver {
	s.Helper()
	d, err := s.open(s.dir)
	s.must(err)
	return d
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("%s is %v, want %v", what, got, want)
	}
}

func (s *suite) is(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: error %v, want one that is %q", what, err, want)
	}
}

// tree makes a tree from parent, and closes it at the end of the test.
func (s *suite) tree(parent string) snapshot.Tree {
	s.Helper()
	t, err := s.driver.New(s.Context(), parent)
	s.must(err)
	s.closeAtEnd(t)
	return t
}

// view is tree for a read-only one.
func (s *suite) view(name string) snapshot.Tree {
	s.Helper()
	t, err := s.driver.View(s.Context(), name)
	s.must(err)
	s.closeAtEnd(t)
	return t
}

func (s *suite) closeAtEnd(t snapshot.Tree) {
	s.Cleanup(func() {
		if err := t.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
	})
}

func (s *suite) commit(t snapshot.Tree, name string) {
	s.Helper()
	s.must(t.Commit(s.Context(), name))
}

// snapshot commits name: parent, changed by script (see change).
func (s *suite) snapshot(name, parent, script string) {
	s.Helper()
	t := s.tree(parent)
	s.change(t.Dir(), script)
	s.commit(t, name)
}

// dump returns all that there is to be said about a tree.
func (s *suite) dump(dir string) string {
	s.Helper()
	return treetest.Dump(s, dir, treetest.Root, treetest.MTimes)
}

// dumpOf returns the dump of a snapshot.
func (s *suite) dumpOf(name string) string {
	s.Helper()
	v := s.view(name)
	defer func() { s.must(v.Close()) }()
	return s.dump(v.Dir())
}

func (s *suite) equalTrees(what, want, got string) {
	s.Helper()
	if diff := treetest.Diff(want, got); diff != "" {
		s.Errorf("%s (- wanted, + got):\n%s", what, diff)
	}
}

// wantTree compares names, types, modes and contents.
func (s *suite) wantTree(what, dir, want string) {
	s.Helper()
	s.equalTrees(what, want, treetest.Dump(s, dir, treetest.NoOwners))
}

// wantTreeOf is wantTree for a snapshot.
func (s *suite) wantTreeOf(name, want string) {
	s.Helper()
	v := s.view(name)
	defer func() { s.must(v.Close()) }()
	s.wantTree("snapshot "+name, v.Dir(), want)
}

// leftovers returns the paths in the driver's folder that have a file called name.
func (s *suite) leftovers(name string) []string {
	s.Helper()
	var found []string
	s.must(filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func (s *suite) wantGone(name, why string) {
	s.Helper()
	if found := s.leftovers(name); len(found) > 0 {
		s.Errorf("%s, but there still is %s", why, strings.Join(found, ", "))
	}
}

// mayChown reports whether the process may give files away.
func (s *suite) mayChown() bool { return os.Lchown(s.TempDir(), 1, 2) == nil }

// mayMknod reports whether the process may make devices.
func (s *suite) mayMknod() bool {
	return unix.Mknod(filepath.Join(s.TempDir(), "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
}
