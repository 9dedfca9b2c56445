package treecopy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/sandboxtest"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

func TestMain(m *testing.M) { sandboxtest.Main(m.Run) }

// TestCopyStack: merging folders as an overlay does; user.opaque stands for the overlay's mark.
func TestCopyStack(t *testing.T) {
	whiteout := func(t *testing.T, dir string, names ...string) {
		for _, name := range names {
			strict.Must(t, unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR, 0))
		}
	}
	dir := t.TempDir()
	at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for i, text := range []string{`
			a file "0"
			merged/0 file
			opaque/0 file
			opaque/ dir 0755 user.opaque="y"
			overfile/0 file
		`, `
			./ dir 0755
			a file "1"
			merged/1 file
			merged/ dir 0700 user.x="1"
			opaque/1 file
			overfile file
			overgone/ dir
		`, `
			./ dir 0755
			merged/2 file
			opaque/2 file
			overfile/2 file
			only/ dir
			only/sub/f file
		`, `
			merged/below file
		`} {
		treetest.Make(t, at(i), text, treetest.NoOwners)
	}
	whiteout(t, at(1), "gone", "merged/gone")
	whiteout(t, at(2), "merged/1", "only/gone", "only/sub/gone", "opaque/gone")
	strict.Must(t, os.Mkdir(at(4), 0o755))
	err := Copy(t.Context(), at(4), []string{at(0), at(1), at(2)}, Options{
		Opaque: "user.opaque",
		Below:  []string{at(3)},
		Keep:   func(name string) bool { return name != "user.x" },
	})
	strict.Must(t, err)
	const want = `a file 0644 "0"
gone c 0:0 0000
merged/ dir 0755
merged/0 file 0644 ""
merged/1 file 0644 ""
merged/2 file 0644 ""
merged/gone c 0:0 0000
only/ dir 0755
only/sub/ dir 0755
only/sub/f file 0644 ""
opaque/ dir 0755 user.opaque="y"
opaque/0 file 0644 ""
overfile/ dir 0755 user.opaque="y"
overfile/0 file 0644 ""
overgone/ dir 0755
`
	if diff := treetest.Diff(want, treetest.Dump(t, at(4), treetest.NoOwners)); diff != "" {
		t.Error(diff)
	}
}
