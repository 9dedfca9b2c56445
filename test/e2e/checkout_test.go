package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"genoci/test/killat"
	"genoci/test/program"
)

// checkedOut is an element of what genoci status --json prints.
type checkedOut struct {
	Dir     string
	Shown   bool
	InUse   bool
	Changes int
	Error   string
}

// checkouts returns what genoci says is checked out.
func (w *workspace) checkouts() []checkedOut {
	w.t.Helper()
	var status struct{ Checkouts []checkedOut }
	if err := json.Unmarshal([]byte(w.Run(w.t, "status", "--json")), &status); err != nil {
		w.t.Fatal(err)
	}
	all := status.Checkouts
	for _, c := range all {
		if c.Error != "" || c.InUse {
			w.t.Errorf("status: %+v", c)
		}
	}
	return all
}

// A checkout or checkin that is killed at any moment leaves what status tells of, and works the
// next time. What was changed is never lost.
func TestCheckoutKilled(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "overlay" && os.Getuid() != 0 {
				t.Skip("only root's overlay outlives a command")
			}
			program.NeedDriver(t, driver)
			w := newWorkspace(t)
			w.Runner = w.With("GENOCI_DRIVER=" + driver)
			testCheckoutKilled(w, 16, func() []string { return mounts(t, w.Dir) }, w.nothingLeft)
		})
	}
	t.Run("btrfs", func(t *testing.T) {
		s := newStorage(t)
		s.Run(t, "storage", "setup")
		always := mounts(t, s.mount)
		shown := func() []string {
			return slices.DeleteFunc(mounts(t, s.Dir), func(dir string) bool { return slices.Contains(always, dir) })
		}
		testCheckoutKilled(s.workspace, 16, shown, func() {
			s.checkTruth()
			if left := shown(); len(left) > 0 {
				t.Errorf("still mounted: %q", left)
			}
		})
		s.Run(t, "storage", "unsetup", "--force")
		s.checkTruth()
	})
}

// testCheckoutKilled kills checkouts and checkins at so many moments each. Shown returns the mounts
// that a checkout makes, clean wants nothing to be left.
func testCheckoutKilled(w *workspace, moments int, shown func() []string, clean func()) {
	t := w.t
	t.Helper()
	w.write("files/a", "a\n")
	w.write("genoci.yaml", "web: {copy: files/ /srv}\n")
	w.build()
	checkout := []string{"checkout", "web", "tree"}
	tree := filepath.Join(w.Dir, "tree")

	work := func(round int) string {
		text := fmt.Sprintf("work of round %d\n", round)
		if err := os.WriteFile(filepath.Join(tree, "work"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return text
	}
	outs := w.changes(checkout...)
	work(-1)
	ins := w.changes("checkin", "whole")

	rng := killat.Moments(t)
	// The moments are spread over the whole command. The last may be after its end.
	moment := func(i, changes int) int { return 1 + (changes*i+rng.IntN(changes+1))*4/3/moments }
	for i := range moments {
		at := moment(i, outs)
		w.killed(at, checkout...)
		if all := w.checkouts(); len(all) > 1 || len(all) == 0 && len(shown()) > 0 {
			t.Fatalf("killed before change %d: status %+v, mounts %q", at, all, shown())
		}
		w.Run(t, checkout...)
		if all := w.checkouts(); len(all) != 1 || !all[0].Shown || all[0].Dir != tree {
			t.Fatalf("checkout after one that was killed before change %d: status %+v", at, all)
		}

		text := work(i)
		tag := fmt.Sprintf("round%d", i)
		at = moment(i, ins)
		ended := w.killed(at, "checkin", tag)
		tagged := slices.Contains(w.layout.TagNames(t), tag)
		all := w.checkouts()
		switch {
		case len(all) == 0 && !tagged, ended && (len(all) > 0 || !tagged):
			t.Fatalf("checkin killed before change %d, ended %v: tagged %v, status %+v", at, ended, tagged, all)
		case len(all) == 1:
			if all[0].Changes != 1 {
				t.Errorf("checkin killed before change %d: status %+v", at, all)
			}
			w.Run(t, checkout...) // what was hidden is shown again
			w.Run(t, "checkin", tag)
		}
		equal(t, "the file of "+tag, w.file(tag, "work"), text)
		if all := w.checkouts(); len(all) > 0 {
			t.Errorf("after the checkin: status %+v", all)
		}
		if _, err := os.Lstat(tree); err == nil {
			t.Error("after the checkin the link is still there")
		}
		clean()
	}
	w.Run(t, "verify")
}
