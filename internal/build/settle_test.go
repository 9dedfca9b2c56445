package build

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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
	bind := func(path string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}
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

// A tree that a step leaves is, in all that can be seen, what unpacking makes of its layer, whatever was done to it.
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

// settled makes trees of one driver, on a tree called base.
type settled struct {
	t      *testing.T
	driver snapshot.Driver
	base   *layer.TOC
}

// root makes the base.
func (s *settled) root(text string) {
	s.t.Helper()
	dir := s.t.TempDir()
	treetest.Make(s.t, dir, text)
	var tar bytes.Buffer
	s.base, _, _ = s.pack(&tar, check(layer.Diff(s.t.Context(), dir, layer.Merge(), layer.DiffOptions{}))(s.t))
	s.unpack("", "base", &tar)
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

// step changes a tree on the base, makes a layer of that, and returns how the tree looks then, what unpacking makes of the
// layer, and the layer's DiffID.
func (s *settled) step(change func(at func(string) string) error) (kept, unpacked, id string) {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.driver.Remove(ctx, "kept", "unpacked"); err != nil {
		s.t.Fatal(err)
	}
	tree := check(s.driver.New(ctx, "base"))(s.t)
	defer tree.Close()
	o := layer.DiffOptions{Start: coarseNow(), Epoch: defaultEpoch, Settle: true, Strict: true}
	o.Since = o.Start
	if err := change(func(name string) string { return filepath.Join(tree.Dir(), name) }); err != nil {
		s.t.Fatal(err)
	}
	o.Touched = check(snapshot.Touched(ctx, tree))(s.t)
	var tar bytes.Buffer
	_, id, _ = s.pack(&tar, check(layer.Diff(ctx, tree.Dir(), layer.Merge(s.base), o))(s.t))
	if err := tree.Commit(ctx, "kept"); err != nil {
		s.t.Fatal(err)
	}
	s.unpack("base", "unpacked", &tar)
	return s.dump("kept"), s.dump("unpacked"), id
}

func (s *settled) dump(name string) string {
	s.t.Helper()
	view := check(s.driver.View(s.t.Context(), name))(s.t)
	defer view.Close()
	return treetest.Dump(s.t, view.Dir(), treetest.Root, treetest.MTimes)
}
