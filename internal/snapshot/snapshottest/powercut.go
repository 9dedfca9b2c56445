package snapshottest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot/mounts"
	"genoci/test/strict"
)

// PowerCut tests what is there when the machine has lost what the driver, which keeps all of its
// data in its folder, had not waited for: on each kind of file system, in a file that is copied
// while it is in use. That takes root.
func PowerCut(t *testing.T, open Opener, kinds ...string) {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		strict.Lack(t, "loop", err.Error())
	}
	_ = f.Close()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(s *suite) (after func()){"Keep": cutAfterKeep, "Commit": cutAfterCommit} {
				t.Run(name, func(t *testing.T) { powerCut(t, kind, open, test) })
			}
		})
	}
}

// powerCut calls test, has the power cut, and calls what test has returned.
func powerCut(t *testing.T, kind string, open Opener, test func(s *suite) (after func())) {
	dir := t.TempDir()
	image, rest, mount := filepath.Join(dir, "image"), filepath.Join(dir, "rest"), filepath.Join(dir, "mount")
	s := &suite{T: t, dir: filepath.Join(mount, "driver"), open: open}
	s.must(os.Mkdir(mount, 0o755))
	run := func(name string, args ...string) {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			s.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	makeLoop(t, kind, image)
	run("mount", "-o", "loop", image, mount)
	s.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	s.driver = s.reopen()
	after := test(s)
	run("cp", "--sparse=always", image, rest)
	s.must(mounts.Unmount(mount))
	run("mount", "-o", "loop", rest, mount)
	s.must(os.WriteFile(filepath.Join(s.dir, "boot"), []byte("another"), 0o600))
	s.driver = s.reopen()
	after()
	s.must(mounts.Unmount(mount))
}

// cutAfterKeep: what was kept is there.
func cutAfterKeep(s *suite) func() {
	s.snapshot("base", "", `f file "x"`)
	s.keep("work", "base", `g file "1"`)
	return func() {
		s.wantKept("work")
		t := s.resume("work")
		s.wantTree("the kept tree", t.Dir(), oneFile+"g file 0644 \"1\"\n")
		s.must(t.Close())
	}
}

// cutAfterCommit: what was kept, changed and committed then is whole or gone.
func cutAfterCommit(s *suite) func() {
	s.snapshot("base", "", "f file \"x\"\n d/g file \"1\"\n d/h file \"1\"")
	s.keep("work", "base", "")
	t := s.resume("work")
	s.change(t.Dir(), "mv d e\n late file \"2\"\n append e/g 2")
	s.commit(t, "child")
	return func() {
		if s.driver.Has("child") {
			s.wantTreeOf("child", "e/ dir 0755\ne/g file 0644 \"12\"\ne/h file 0644 \"1\"\n"+oneFile+"late file 0644 \"2\"\n")
		}
	}
}
