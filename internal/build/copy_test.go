package build

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/test/copytable"
)

const copyDoc = "../../docs/copy.md"

// worlds is an archive of what the image of the table has, once for each cell from the host and
// from an image in a folder of its own, and once for all that are errors.
func worlds(cells []copytable.Cell) string {
	var all []string
	for i := range 2*len(cells) + 1 {
		if i < 2*len(cells) && cells[i/2].Want == nil {
			continue
		}
		root := fmt.Sprint(i)
		all = append(all, root+"/")
		for _, f := range copytable.Image("/" + root) {
			switch name := root + "/" + f.Name; {
			case f.Link != "":
				all = append(all, name+" -> "+f.Link)
			case f.Content != "":
				all = append(all, name+"="+f.Content)
			default:
				all = append(all, name)
			}
		}
	}
	return archive(all...)
}

// copyOf returns the op of a cell as YAML, with the destination in the folder root: from the host
// where i is even, else from an image.
func copyOf(c copytable.Cell, i, root int) string {
	src, from := "files/"+c.Src, ""
	if i%2 == 1 {
		src, from = "/"+c.Src, ", from: files"
	}
	return fmt.Sprintf(`copy: {src: "%s", dest: "/%d%s"%s}`, src, root, c.Dest, from)
}

// Each cell of the table of docs/copy.md gives what it says: from the host and from an image,
// composed and beside a run, and the layers are equal.
func TestCopyTable(t *testing.T) {
	cells := copytable.Cells(t, copyDoc)
	if len(cells) < 300 {
		t.Fatalf("%d cells found in %s", len(cells), copyDoc)
	}
	forDrivers(t, map[string]string{"files/": "", "worlds.tgz": worlds(cells)}, func(t *testing.T, w *work) {
		copytable.Make(t, filepath.Join(w.dir, "files"), copytable.Sources())
		w.build("files: {copy: files /}\nbase: {expand: [root.tgz, worlds.tgz]}\n")
		w.build(fmt.Sprintf("one: {expand: root.tgz, copy: {from: base, src: /%d, dest: /%[1]d}}\n", 2*len(cells)))
		var steps, errs strings.Builder
		for i := range 2 * len(cells) {
			c := cells[i/2]
			if c.Want != nil {
				fmt.Fprintf(&steps, "  - %s\n", copyOf(c, i, i))
				continue
			}
			fmt.Fprintf(&errs, "composed-%d: {base: one, %s}\n", i, copyOf(c, i, 2*len(cells)))
			if i%12 < 2 { // each is found wrong by the same code before anything runs
				fmt.Fprintf(&errs, "executed-%d: {base: one, steps: [{%s}, {run: 'true'}]}\n", i, copyOf(c, i, 2*len(cells)))
			}
		}
		w.build("composed:\n  base: base\n  steps:\n" + steps.String() + "executed:\n  base: base\n  steps:\n  - run: 'true'\n" + steps.String())
		composed, executed := w.image("composed"), w.image("executed")
		if a, b := composed.Config.RootFS.DiffIDs, executed.Config.RootFS.DiffIDs; a[len(a)-1] != b[len(b)-1] {
			t.Error("composed and executed layers differ")
		}
		view := check((&Builder{Layout: w.layout, Cache: w.cache}).images().View(t.Context(), composed))(t)
		for i := range 2 * len(cells) {
			if c := cells[i/2]; c.Want != nil {
				if diff := c.Differs(fmt.Sprintf("/%d", i), newFiles(t, view, fmt.Sprint(i)), lookIn(t, view)); diff != "" {
					t.Errorf("from %t: %s", i%2 == 1, diff)
				}
			}
		}
		change := w.change
		w.change = func(b *Builder) {
			change(b)
			b.KeepGoing = true
		}
		res, err := w.try(errs.String())
		if err == nil {
			t.Fatal("no copy is an error")
		}
		for _, img := range res.Images {
			var i int
			_, number, _ := strings.Cut(img.Target, "-")
			check(fmt.Sscan(number, &i))(t)
			t.Errorf("%s, from %t: built", cells[i/2], i%2 == 1)
		}
	})
}

// Each copy of the table of owners, modes and what is left out puts what it says.
func TestCopyOptionsTable(t *testing.T) {
	rows := copytable.Rows(t, copyDoc, "copy")
	if len(rows) < 12 {
		t.Fatalf("%d rows found in %s", len(rows), copyDoc)
	}
	w := newWork(t, map[string]string{"own/x": "x", "own/s/y": "y", "old": "old"})
	for name, mode := range map[string]fs.FileMode{"own": 0o700, "own/x": 0o755 | fs.ModeSetuid, "own/s": 0o750, "own/s/y": 0o640} {
		if err := os.Chmod(filepath.Join(w.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	w.build("own: {copy: {src: own, dest: /own, chown: '5:6'}}\nbase: {copy: old /dir/old}\n")
	for i, row := range rows[1:] {
		tag := fmt.Sprint("t", i)
		w.build(fmt.Sprintf("%s: {base: base, copy: {%s}}\n", tag, row[0]))
		var got []string
		for line := range strings.Lines(w.list(tag, 1)) {
			f := strings.Fields(line)
			if name := "/" + strings.TrimSuffix(f[0], "/"); name != "/." && name != "/dir" {
				got = append(got, name+" "+f[1]+" "+f[2])
			}
		}
		if got := strings.Join(got, ", "); got != row[1] {
			t.Errorf("%s:\n got %s\nwant %s", row[0], got, row[1])
		}
	}
}

// Names of users and groups are looked up through symlinks of the image, absolute and relative,
// whichever layer holds the files.
func TestOwnersThroughLinks(t *testing.T) {
	files := map[string]string{"f": "F", "a.tgz": archive("a=A")}
	forDrivers(t, files, func(t *testing.T, w *work) {
		if sandbox.Rootless() && strings.HasSuffix(t.Name(), "/overlay") {
			return // an overlay of an ordinary user renames no folder of the base (EXDEV), so that etc cannot be moved
		}
		w.build(`root: {expand: root.tgz}
moved:
  base: root
  run: |
    mkdir -p usr/cfg lists
    busybox mv etc/passwd lists/users
    busybox ln -s /lists/users etc/passwd
    busybox mv etc/group usr/cfg/group
    busybox ln -s ../cfg/group etc/group
    busybox mv etc usr/etc
    busybox ln -s usr/etc etc
`)
		const ops = "{copy: {src: f, dest: /f, chown: 'app:staff'}}, {expand: {src: a.tgz, chown: app}}"
		w.build("composed: {base: moved, steps: [" + ops + "]}\n" +
			"executed: {base: moved, steps: [{run: {script: 'test $(busybox id -u):$(busybox id -g) = 5:50', user: 'app:staff'}}, " + ops + "]}\n" +
			"before: {base: moved, steps: [" + ops + ", {run: 'test -e f'}]}\n")
		want := "./ 0755 0:0 0\na 0644 5:6 1000000000 \"A\"\nf 0644 5:50 315532800 \"F\"\n"
		for _, tag := range []string{"composed", "executed", "before"} {
			if d := cmp.Diff(want, w.list(tag, 2)); d != "" {
				t.Errorf("%s: %s", tag, d)
			}
		}
	})
}

// newFiles returns the paths of the files in the folder root that hold what is copied, below it.
func newFiles(t *testing.T, view layer.View, root string) []string {
	t.Helper()
	var files []string
	err := layer.Walk(view, root, func(e layer.Entry) (bool, error) {
		if e.Type == layer.TypeFile && e.Digest == sha256.Sum256([]byte(copytable.New)) {
			files = append(files, strings.TrimPrefix(e.Path, root))
		}
		return true, nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// lookIn looks things up in a tree whose files hold what those of the table do.
func lookIn(t *testing.T, view layer.View) copytable.Look {
	return func(p string) (byte, string) {
		t.Helper()
		e, ok, err := view.Lookup(path.Clean(strings.TrimPrefix(path.Clean("/"+p), "/")))
		switch {
		case err != nil:
			t.Fatal(err)
		case !ok:
			return 0, ""
		case e.Type == layer.TypeSymlink:
			return 'l', e.Link
		case e.Type == layer.TypeDir:
			return 'd', ""
		case e.Digest == sha256.Sum256([]byte(copytable.Old)):
			return 'f', copytable.Old
		}
		return 'f', "something else"
	}
}
