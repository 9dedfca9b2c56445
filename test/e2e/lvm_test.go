package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"genoci/test/killat"
	"genoci/test/program"
	"genoci/test/strict"
)

// lvmStorage is a workspace whose settings name a file with a thin pool. Its tests run in a virtual
// machine, where all that is attached is theirs.
type lvmStorage struct {
	*workspace
	image string
}

func newLvm(t *testing.T) *lvmStorage {
	t.Helper()
	strict.NeedRoot(t)
	if _, err := os.Stat("/sys/class/misc/device-mapper"); err != nil {
		strict.Lack(t, "lvm", err.Error())
	}
	strict.Need(t, "lvm")
	w := newWorkspace(t)
	s := &lvmStorage{w, filepath.Join(w.Dir, "lvm.img")}
	w.write("atom_config.yaml", "driver: lvm\nlofile: ./lvm.img\nlvbasedir: ./lvm\nvg: stacker\nlvsize: 512M\nthinsize: 600M\nlvdev: /dev/nbd0\n")
	t.Cleanup(func() { s.Run(t, "storage", "unsetup", "--force") })
	busyboxRoot(w)
	return s
}

// checkTruth compares what status says with what lvm and the kernel say.
func (s *lvmStorage) checkTruth() {
	s.t.Helper()
	var all struct {
		Drivers []struct {
			Name, Why string
			Works     bool
			Backing   backing
		}
	}
	if err := json.Unmarshal([]byte(s.Run(s.t, "storage", "status", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	var got, want backing
	for _, d := range all.Drivers {
		if d.Name == "lvm" {
			got = d.Backing
			got.Works = d.Works
		}
	}
	_, err := os.Stat(s.image)
	want.Made = err == nil
	for _, name := range globbed(s.t, "/sys/block/loop*/loop/backing_file") {
		if path, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(path)) == s.image {
			want.Device = "/dev/" + strings.Split(name, "/")[3]
		}
	}
	pools := strings.Fields(s.Tool(s.t, "lvm", "lvs", "--noheadings", "-o", "lv_name", "-S", "segtype=thin-pool && lv_active=active"))
	want.Mounted = want.Made && len(pools) == 1
	want.Works = want.Mounted
	if got != want {
		s.t.Errorf("status says %+v, and it is %+v", got, want)
	}
}

func globbed(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// gone wants nothing of the storage to be left.
func (s *lvmStorage) gone() {
	s.t.Helper()
	if left := strings.Fields(s.Tool(s.t, "lvm", "vgs", "--noheadings", "-o", "vg_name")); len(left) > 0 {
		s.t.Errorf("volume groups are left: %q", left)
	}
	if left := s.Tool(s.t, "sh", "-c", "cat /sys/block/loop*/loop/backing_file || true"); left != "" {
		s.t.Errorf("loop devices are left: %s", left)
	}
	if left := append(globbed(s.t, s.image+"*"), globbed(s.t, filepath.Join(s.Dir, ".lvm.img*"))...); len(left) > 0 {
		s.t.Errorf("files are left: %q", left)
	}
	s.nothingLeft()
}

const lvmSpec = "sys: {expand: sys.tgz}\none: {base: sys, run: echo 1 > /one}\ntwo: {base: one, run: echo 2 > /two}\n"

// The words of the original, with its settings: setup, a build, a checkout, again after detach,
// unsetup.
func TestLvm(t *testing.T) {
	s := newLvm(t)
	s.Run(t, "storage", "setup")
	s.checkTruth()
	s.write("genoci.yaml", lvmSpec)
	s.build()
	equal(t, "/two", s.file("two", "two"), "2\n")
	s.build("--driver", "vfs", "--layout", "vfs", "--cache-dir", filepath.Join(s.Dir, ".cache/vfs"))
	other := program.Layout(filepath.Join(s.Dir, "vfs"))
	for _, tag := range []string{"sys", "one", "two"} {
		equal(t, tag+" by lvm", s.layout.Image(t, tag).Digest, other.Image(t, tag).Digest)
	}
	dir := filepath.Join(s.Dir, "checkout")
	s.Run(t, "checkout", "two", dir)
	s.write("checkout/new", "made by hand\n")
	if res := s.Try(t, "storage", "detach"); res.Code != 1 || !strings.Contains(res.Stderr, "in use") {
		t.Errorf("detach with a checkout: status %d\n%s", res.Code, res.Stderr)
	}
	if res := s.Try(t, "storage", "unsetup", "--force"); res.Code != 1 || !strings.Contains(res.Stderr, "1 checkout in it: ") {
		t.Errorf("unsetup with a checkout: status %d\n%s", res.Code, res.Stderr)
	}
	s.Run(t, "checkin", "three")
	equal(t, "/new", s.file("three", "new"), "made by hand\n")
	s.Run(t, "storage", "detach")
	s.checkTruth()
	if res := s.Try(t, "build", "--no-cache"); res.Code != program.Lacking || !strings.Contains(res.Stderr, "genoci storage setup") {
		t.Errorf("a build without its storage: status %d\n%s", res.Code, res.Stderr)
	}
	s.Run(t, "storage", "setup")
	s.checkTruth()
	s.write("genoci.yaml", strings.ReplaceAll(lvmSpec, "echo 2", "cat /one"))
	s.build()
	equal(t, "/two", s.file("two", "two"), "1\n")
	s.Run(t, "storage", "unsetup", "--force")
	s.gone()
}

// Of a volume group and a thin pool that are there, genoci uses what it makes itself, and removes
// nothing else.
func TestLvmGiven(t *testing.T) {
	s := newLvm(t)
	disk := filepath.Join(s.Dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<30); err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(s.Tool(t, "losetup", "-f"))
	s.Tool(t, "losetup", device, disk)
	t.Cleanup(func() { s.Tool(t, "losetup", "-d", device) })
	config := []string{"--config", "activation/udev_rules=0 activation/udev_sync=0", "--yes"}
	lvm := func(name string, args ...string) string {
		return s.Tool(t, "lvm", append(append([]string{name}, config...), args...)...)
	}
	lvm("vgcreate", "vg-0", device)
	t.Cleanup(func() { lvm("vgremove", "--force", "vg-0") })
	lvm("lvcreate", "--type", "thin-pool", "-L", "512m", "-n", "pool-1", "vg-0")
	lvm("lvcreate", "-V", "100m", "--thinpool", "pool-1", "-n", "theirs", "vg-0")
	s.write("atom_config.yaml", "driver: lvm\nvg: vg-0\nthinpool: pool-1\n")
	s.write("genoci.yaml", lvmSpec)
	s.Run(t, "storage", "setup")
	s.build()
	equal(t, "/two", s.file("two", "two"), "2\n")
	volumes := func() []string {
		return strings.Fields(lvm("lvs", "--noheadings", "-o", "lv_name", "vg-0"))
	}
	if got := volumes(); len(got) != 5 {
		t.Errorf("volumes after the build: %q", got)
	}
	s.Run(t, "storage", "unsetup", "--force")
	if got := strings.Join(volumes(), " "); got != "pool-1 theirs" {
		t.Errorf("volumes after unsetup: %s", got)
	}
	s.write("atom_config.yaml", "driver: lvm\nvg: vg-0\nthinpool: other\n")
	if res := s.Try(t, "storage", "setup"); res.Code != 1 || !strings.Contains(res.Stderr, "not made by genoci storage setup") {
		t.Errorf("setup in a group of somebody else's: status %d\n%s", res.Code, res.Stderr)
	}
	if res := s.Try(t, "storage", "unsetup", "--force"); res.Code != 1 || !strings.Contains(res.Stderr, "not made by genoci storage setup") {
		t.Errorf("unsetup of a group of somebody else's: status %d\n%s", res.Code, res.Stderr)
	}
	s.write("atom_config.yaml", "driver: lvm\n")
}

// Commands that are killed at any moment leave what status tells, and what the same command mends.
func TestLvmKilled(t *testing.T) {
	s := newLvm(t)
	s.write("genoci.yaml", lvmSpec)
	r := killat.Moments(t)
	changes := make(map[string]int)
	for round := range 3 {
		for _, verb := range []string{"storage setup", "build --no-cache", "storage detach", "storage setup", "storage unsetup --force"} {
			args := strings.Fields(verb)
			at := 0
			if round > 0 { // the first is there to count
				at = 1 + r.IntN(changes[verb])
				s.killed(at, args...)
				strict.Eventually(t, s.lvmRunning)
				s.checkTruth()
			}
			changes[verb] = max(changes[verb], s.changes(args...))
			if t.Failed() {
				t.Fatalf("after round %d, %q killed before change %d", round, verb, at)
			}
		}
		s.gone()
	}
}

// TestLvmCheckoutKilled is TestCheckoutKilled with lvm.
func TestLvmCheckoutKilled(t *testing.T) {
	s := newLvm(t)
	s.Run(t, "storage", "setup")
	idle := func() {
		strict.Eventually(t, s.lvmRunning)
	}
	moments := 8
	if testing.Short() {
		moments = 4
	}
	testCheckoutKilled(s.workspace, moments, func() []string { idle(); return mounts(t, s.Dir) }, func() {
		idle()
		s.checkTruth()
		s.nothingLeft()
	})
	s.Run(t, "storage", "unsetup", "--force")
	s.gone()
}

// TestLvmCollectKilled is TestCollectKilled with lvm.
func TestLvmCollectKilled(t *testing.T) {
	s := newLvm(t)
	s.Run(t, "storage", "setup")
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\n"+spacedSpec)
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	testCollectKilled(s.workspace, rounds)
	strict.Eventually(t, s.lvmRunning)
	s.checkTruth()
	s.Run(t, "storage", "unsetup", "--force")
	s.gone()
}

// lvmRunning returns the lvm commands that run: they outlive who has started them.
func (s *lvmStorage) lvmRunning() string {
	return strings.TrimSpace(s.Tool(s.t, "sh", "-c", "pidof lvm || true"))
}
