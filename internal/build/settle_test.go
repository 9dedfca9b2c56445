package build

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/imagetest"
	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/treetest"
)

// mutation is what is done to a tree by hand.
type mutation struct {
	name   string
	change func(at func(string) string) error
	want   string // is in the tree afterwards, so that the change did something
}

const settleBase = `
a file 0644 mtime=1000 "A"
future file 0644 mtime=4102444800 "later"
d/ dir 0755 mtime=1000
d/x file 0644 mtime=1000 "x"
old/ dir 0755 mtime=1000
old/sock file 0644 mtime=1000 "no socket"
`

func mutations() []mutation {
	bind := func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o755, 0) }
	set := func(path, attr string) error {
		err := unix.Lsetxattr(path, attr, []byte("1"), 0)
		if errors.Is(err, unix.EPERM) && !strings.HasPrefix(attr, "user.") { // outside the initial user namespace
			return nil
		}
		return err
	}
	times := func(path string, sec, nsec int64) error {
		t := unix.Timespec{Sec: sec, Nsec: nsec}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	}
	return []mutation{
		{"sockets", func(at func(string) string) error {
			return errors.Join(bind(at("s")), bind(at("d/s")), os.Mkdir(at("n"), 0o755), bind(at("n/s")), os.Remove(at("old/sock")), bind(at("old/sock")))
		}, "n/ dir 0755"},
		{"fractions of seconds", func(at func(string) string) error {
			return errors.Join(times(at("a"), 1000, 5), times(at("d/x"), 77, 9), times(at("d"), 1000, 1), os.Symlink("a", at("l")), times(at("l"), 5, 5))
		}, "d/x file 0644 0:0 \"x\" mtime=77\n"},
		{"times to come", func(at func(string) string) error {
			return errors.Join(os.WriteFile(at("new"), nil, 0o644), times(at("new"), 4102444800, 0), os.Symlink("a", at("l")), times(at("l"), 4102444800, 0),
				times(at("d"), 4102444800, 0), os.Mkdir(at("n"), 0o755), times(at("n"), 4102444800, 7), os.Chmod(at("future"), 0o600))
		}, "new file 0644 0:0 \"\" mtime=315532800\n"},
		{"extended attributes", func(at func(string) string) error {
			return errors.Join(os.WriteFile(at("new"), []byte("N"), 0o644), set(at("new"), "user.kept"), set(at("new"), "user.a=b"), set(at("new"), "trusted.t"),
				set(at("a"), "user.a=b"), set(at("d"), "user.genoci.x"), set(at("d"), "trusted.d"), set(at("d"), "user.kept"))
		}, "user.kept="},
		{"all sorts", func(at func(string) string) error {
			return errors.Join(unix.Mkfifo(at("fifo"), 0o620), os.WriteFile(at("suid"), []byte("S"), 0o755), unix.Chmod(at("suid"), 0o4755), os.Remove(at("a")), os.Mkdir(at("a"), 0o700),
				os.WriteFile(at("1"), []byte("1"), 0o644), os.Link(at("1"), at("d/2")), os.Truncate(at("1"), 1<<20), os.RemoveAll(at("old")), os.Symlink("d", at("old")))
		}, "d/2 file 0644"},
	}
}

// A tree that a step leaves is, in all that can be seen, what unpacking makes of its layer,
// whatever was done to it.
func TestTreeIsWhatItsLayerMakes(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		s := settled{t: t, driver: check(w.driver())(t)}
		s.root(settleBase)
		for _, m := range mutations() {
			t.Run(m.name, func(t *testing.T) {
				s.t = t
				kept, unpacked, _ := s.step(m.change)
				if kept != unpacked {
					t.Errorf("kept tree, and unpacked one:\n%s", treetest.Diff(kept, unpacked))
				}
				if !strings.Contains(unpacked, m.want) {
					t.Errorf("no %q in\n%s", m.want, unpacked)
				}
			})
		}
	})
}

const linkedBase = `
A file 0644 <1> "data" mtime=1000
Z file 0644 <1> "data" mtime=1000
d/ dir 0755 mtime=1000
d/Y file 0644 <1> "data" mtime=1000
d/one file 0644 "one" mtime=1000
p file 0644 <2> "same" mtime=315532800
q file 0644 <2> "same" mtime=315532800
`

func linkMutations() []mutation {
	appendTo := func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(" more")
		return errors.Join(err, f.Close())
	}
	opened := func(path string) error { // which is enough for an overlay to copy it up
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	replace := func(path, content string) error {
		return errors.Join(os.WriteFile(path+".new", []byte(content), 0o644), os.Rename(path+".new", path))
	}
	rename := func(at func(string) string) error {
		err := os.Rename(at("d"), at("e"))
		if errors.Is(err, unix.EXDEV) { // as an ordinary user, on overlay: what mv does then
			_, err = exec.Command("busybox", "mv", at("d"), at("e")).Output()
		}
		return err
	}
	return []mutation{
		{"nothing", func(func(string) string) error { return nil }, `Z file 0644 0:0 <1> "data" mtime=1000`},
		{"opened", func(at func(string) string) error { return opened(at("Z")) }, `d/Y file 0644 0:0 <1> "data" mtime=1000`},
		{"mode there and back", func(at func(string) string) error {
			return errors.Join(os.Chmod(at("Z"), 0o600), os.Chmod(at("A"), 0o644))
		},
			`d/Y file 0644 0:0 <1> "data" mtime=1000`},
		{"opened, and unlink", func(at func(string) string) error { return errors.Join(opened(at("Z")), os.Remove(at("A"))) }, `d/Y file 0644 0:0 <1> "data" mtime=1000`},
		{"append", func(at func(string) string) error { return appendTo(at("Z")) }, `d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"append by two names", func(at func(string) string) error { return errors.Join(appendTo(at("Z")), appendTo(at("A"))) },
			`d/Y file 0644 0:0 <1> "data more more" mtime=315532800`},
		{"chmod", func(at func(string) string) error { return os.Chmod(at("d/Y"), 0o600) }, `A file 0600 0:0 <1> "data" mtime=1000`},
		{"time", func(at func(string) string) error { return os.Chtimes(at("Z"), time.Time{}, time.Unix(5, 0)) }, `A file 0644 0:0 <1> "data" mtime=5`},
		{"truncate", func(at func(string) string) error { return os.Truncate(at("A"), 1) }, `Z file 0644 0:0 <1> "d" mtime=315532800`},
		{"unlink", func(at func(string) string) error { return os.Remove(at("A")) }, `Z file 0644 0:0 <1> "data" mtime=1000`},
		{"unlink and append", func(at func(string) string) error { return errors.Join(os.Remove(at("A")), appendTo(at("Z"))) }, `d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"unlink all but one", func(at func(string) string) error { return errors.Join(os.Remove(at("A")), os.Remove(at("Z"))) }, `d/Y file 0644 0:0 "data" mtime=1000`},
		{"append, and unlink that name", func(at func(string) string) error { return errors.Join(appendTo(at("Z")), os.Remove(at("Z"))) }, `d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"append, and unlink all but one", func(at func(string) string) error {
			return errors.Join(appendTo(at("Z")), os.Remove(at("Z")), os.Remove(at("A")))
		},
			`d/Y file 0644 0:0 "data more" mtime=315532800`},
		{"chmod, and unlink that name of two", func(at func(string) string) error { return errors.Join(os.Chmod(at("p"), 0o600), os.Remove(at("p"))) }, `q file 0600 0:0 "same" mtime=315532800`},
		{"append, and remove its folder", func(at func(string) string) error { return errors.Join(appendTo(at("d/Y")), os.RemoveAll(at("d"))) }, `Z file 0644 0:0 <1> "data more" mtime=315532800`},
		{"append, and replace that name", func(at func(string) string) error { return errors.Join(appendTo(at("Z")), replace(at("Z"), "new")) },
			`d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"append, and rename another onto it", func(at func(string) string) error {
			return errors.Join(appendTo(at("Z")), os.Rename(at("d/one"), at("Z")))
		},
			`d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"opened, and unlink all but one", func(at func(string) string) error { return errors.Join(opened(at("p")), os.Remove(at("p"))) }, `q file 0644 0:0 "same" mtime=315532800`},
		{"replace", func(at func(string) string) error { return replace(at("A"), "new") }, `A file 0644 0:0 "new" mtime=315532800`},
		{"replace, and append", func(at func(string) string) error { return errors.Join(replace(at("A"), "new"), appendTo(at("Z"))) },
			`d/Y file 0644 0:0 <1> "data more" mtime=315532800`},
		{"replace by the same", func(at func(string) string) error { return replace(at("p"), "same") }, `q file 0644 0:0 "same" mtime=315532800`},
		{"rename", func(at func(string) string) error { return os.Rename(at("Z"), at("N")) }, `N file 0644 0:0 <1> "data" mtime=1000`},
		{"another name", func(at func(string) string) error { return os.Link(at("Z"), at("N")) }, `N file 0644 0:0 <1> "data" mtime=1000`},
		{"a name of a file that had one", func(at func(string) string) error {
			return errors.Join(os.Link(at("d/one"), at("N")), appendTo(at("N")))
		},
			`d/one file 0644 0:0 <2> "one more" mtime=315532800`},
		{"a name alone", func(at func(string) string) error { return os.Link(at("d/one"), at("N")) }, `d/one file 0644 0:0 <2> "one" mtime=1000`},
		{"a name of another", func(at func(string) string) error { return errors.Join(os.Remove(at("p")), os.Link(at("A"), at("p"))) }, `p file 0644 0:0 <1> "data" mtime=1000`},
		{"folder renamed", rename, `e/one file 0644 0:0 "one" mtime=1000`},
		{"folder renamed, and append", func(at func(string) string) error { return errors.Join(rename(at), appendTo(at("A"))) }, `Z file 0644 0:0 <1> "data more" mtime=315532800`},
		{"folder removed, and append", func(at func(string) string) error { return errors.Join(os.RemoveAll(at("d")), appendTo(at("A"))) }, `Z file 0644 0:0 <1> "data more" mtime=315532800`},
		{"in a folder that came before", func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("0"), 0o755), os.Rename(at("d/Y"), at("0/Y")), os.Remove(at("Z")))
		}, `0/Y file 0644 0:0 <1> "data" mtime=1000`},
	}
}

// The names of a file of the base stay together whatever is done by one of them: in the kept tree,
// in the layer, and on each driver as in plain files (vfs).
func TestHardLinksOfTheBase(t *testing.T) {
	type result struct{ tree, id string }
	written := []string{"opened", "mode there and back", "opened, and unlink", "append", "append by two names", "chmod", "time", "truncate", "unlink and append", "replace, and append", "rename", "another name",
		"folder renamed, and append", "folder removed, and append", "in a folder that came before"}
	// Of what was done by a name that is gone the kernel leaves no trace then.
	gone := []string{"append, and unlink that name", "append, and unlink all but one", "chmod, and unlink that name of two", "append, and remove its folder", "append, and replace that name",
		"append, and rename another onto it"}
	written = append(written, gone...)
	results := map[string]map[string]result{}
	forDrivers(t, nil, func(t *testing.T, w *work) {
		s := settled{t: t, driver: check(w.driver())(t)}
		s.root(linkedBase)
		of := map[string]result{}
		results[s.driver.String()] = of
		for _, m := range linkMutations() {
			t.Run(m.name, func(t *testing.T) {
				s.t = t
				kept, unpacked, id := s.step(m.change)
				if kept != unpacked {
					t.Errorf("kept tree, and unpacked one:\n%s", treetest.Diff(kept, unpacked))
				}
				if s.splits && (slices.Contains(written, m.name) || strings.HasPrefix(m.name, "folder") || m.name == "a name of another") {
					if strings.HasPrefix(m.name, "append") && !slices.Contains(gone, m.name) && !slices.ContainsFunc(s.warned, func(text string) bool { return strings.HasPrefix(text, "Z: was one file with A, d/Y in the base") }) {
						t.Errorf("warned of %q", s.warned)
					}
					if m.name == "rename" && !slices.ContainsFunc(s.warned, func(text string) bool {
						return strings.HasPrefix(text, "N: looks like Z, which was one file with A, d/Y in the base")
					}) {
						t.Errorf("warned of %q", s.warned)
					}
					return
				}
				if len(s.warned) > 0 && !s.splits {
					t.Errorf("warned of %q", s.warned)
				}
				if !strings.Contains(unpacked, m.want) {
					t.Errorf("no %q in\n%s", m.want, unpacked)
				}
				of[m.name] = result{unpacked, id}
			})
		}
	})
	for driver, of := range results {
		for name, got := range of {
			if want, ok := results["vfs"][name]; ok && got.id != want.id {
				t.Errorf("%s: %s, with vfs %s\n%s", name, driver, got.id, treetest.Diff(want.tree, got.tree))
			}
		}
	}
}

// Foreign layers have hard links to files of the layers below. What is done by such a name that is
// gone then has happened to the file's other names, too, on each driver.
func TestHardLinksAcrossLayers(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		s := settled{t: t, driver: check(w.driver())(t)}
		s.root("one file 0644 \"data\" mtime=1000\n")
		link := imagetest.HardLink("two", "one")
		link.ModTime = time.Unix(1000, 0)
		above := imagetest.Tar(link)
		toc, _, err := layer.Index(t.Context(), bytes.NewReader(above))
		if err != nil {
			t.Fatal(err)
		}
		s.base = append(s.base, toc)
		s.unpack("base", "linked", bytes.NewReader(above))
		s.name = "linked"
		for gone, stays := range map[string]string{"one": "two", "two": "one"} {
			kept, unpacked, _ := s.step(func(at func(string) string) error {
				return errors.Join(os.Chmod(at(gone), 0o600), os.Remove(at(gone)))
			})
			if kept != unpacked {
				t.Errorf("kept tree, and unpacked one:\n%s", treetest.Diff(kept, unpacked))
			}
			if want := stays + ` file 0600 0:0 "data" mtime=1000`; !s.splits && !strings.Contains(unpacked, want) {
				t.Errorf("no %q in\n%s", want, unpacked)
			}
		}
	})
}

// settled makes trees of one driver, on a tree called base.
type settled struct {
	t      *testing.T
	driver snapshot.Driver
	name   string       // of the base
	base   []*layer.TOC // its layers
	splits bool         // of the last step
	warned []string     // by it
}

// root makes the base.
func (s *settled) root(text string) {
	s.t.Helper()
	dir := s.t.TempDir()
	treetest.Make(s.t, dir, text)
	if err := os.Chtimes(dir, time.Time{}, time.Unix(1000, 0)); err != nil {
		s.t.Fatal(err)
	}
	var tar bytes.Buffer
	toc, _, _ := s.pack(&tar, check(layer.Diff(s.t.Context(), dir, layer.Merge(), layer.DiffOptions{}))(s.t))
	s.name, s.base = "base", []*layer.TOC{toc}
	s.unpack("", s.name, &tar)
}

func (s *settled) pack(w io.Writer, changes []layer.Change) (*layer.TOC, string, error) {
	s.t.Helper()
	toc, id, err := layer.Pack(s.t.Context(), w, changes)
	if err != nil {
		s.t.Fatal(err)
	}
	return toc, string(id), nil
}

func (s *settled) unpack(parent, name string, tar io.Reader) {
	s.t.Helper()
	tree := check(s.driver.New(s.t.Context(), parent))(s.t)
	defer tree.Close()
	if err := errors.Join(layer.Unpack(s.t.Context(), tree.Dir(), tar, layer.UnpackOptions{Placeholders: sandbox.Rootless(), KeepOwner: true}), tree.Commit(s.t.Context(), name)); err != nil {
		s.t.Fatal(err)
	}
}

// step changes a tree on the base, makes a layer of that, and returns how the tree looks then, what
// unpacking makes of the layer, and the layer's DiffID.
func (s *settled) step(change func(at func(string) string) error) (kept, unpacked, id string) {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.driver.Remove(ctx, "kept", "unpacked"); err != nil {
		s.t.Fatal(err)
	}
	tree := check(s.driver.New(ctx, s.name))(s.t)
	defer tree.Close()
	o := layer.DiffOptions{Start: coarseNow(), Epoch: defaultEpoch, Settle: true, Strict: true}
	o.Since = o.Start
	if err := change(func(name string) string { return filepath.Join(tree.Dir(), name) }); err != nil {
		s.t.Fatal(err)
	}
	o.Touched = check(snapshot.Touched(ctx, tree))(s.t)
	o.Splits, s.warned = snapshot.Splits(tree), nil
	s.splits = o.Splits
	o.Warn = func(path, what string) { s.warned = append(s.warned, path+": "+what) }
	var tar bytes.Buffer
	_, id, _ = s.pack(&tar, check(layer.Diff(ctx, tree.Dir(), layer.Merge(s.base...), o))(s.t))
	if err := tree.Commit(ctx, "kept"); err != nil {
		s.t.Fatal(err)
	}
	s.unpack(s.name, "unpacked", &tar)
	return s.dump("kept"), s.dump("unpacked"), id
}

func (s *settled) dump(name string) string {
	s.t.Helper()
	view := check(s.driver.View(s.t.Context(), name))(s.t)
	defer view.Close()
	return treetest.Dump(s.t, view.Dir(), treetest.Root, treetest.MTimes)
}
