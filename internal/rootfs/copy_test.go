package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/treetest"
)

// What a copy left that was killed goes with the next one into the same folder; what another is
// still at work with stays, and what only has such a name.
func TestCopyKilled(t *testing.T) {
	from := t.TempDir()
	treetest.Make(t, from, "d/ dir 0555\nd/f file 0755 \"d/f\"\n", treetest.NoOwners)
	root := OfTree(Tree{Dir: from})
	work := t.TempDir()
	dead, err := newUnfinished(work)
	if err != nil {
		t.Fatal(err)
	}
	treetest.Make(t, filepath.Join(dead.dir, "half"), "sub/ dir 0500\nsub/file file 0400 \"x\"\n", treetest.NoOwners)
	live, err := newUnfinished(work)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.dir); err != nil {
		t.Errorf("one that was at work: %v", err)
	}
	dead.mark.Close()
	others := ".genoci-get-file file 0644 \"\"\n.genoci-get-mine/ dir 0755\n.genoci-get-mine/work file 0644 \"\"\n.genoci-get-to symlink .genoci-get-mine\n"
	treetest.Make(t, work, others, treetest.NoOwners)
	for _, what := range []string{"d", "d/f"} {
		found, err := Find(root.View, what)
		if err != nil {
			t.Fatal(err)
		}
		o := CopyOptions{KeepOwner: os.Geteuid() == 0}
		if _, err := Copy(t.Context(), root, found, filepath.Join(work, filepath.Base(what)), o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dead.dir); !os.IsNotExist(err) {
		t.Errorf("what was left is there: %v", err)
	}
	if _, err := os.Stat(live.markName()); err != nil {
		t.Errorf("one that is at work: %v", err)
	}
	if err := live.remove(); err != nil {
		t.Error(err)
	}
	want := others + "d/ dir 0555\nd/f file 0755 \"d/f\"\nf file 0755 \"d/f\"\n"
	if diff := cmp.Diff(want, treetest.Dump(t, work, treetest.NoOwners)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, dir := range []string{work, from} {
		if err := os.Chmod(filepath.Join(dir, "d"), 0o755); err != nil { // so that it can be removed
			t.Error(err)
		}
	}
}
