package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"genoci/test/killat"
	"genoci/test/program"
	"genoci/test/strict"
)

// storage is a workspace whose settings name a file with a btrfs.
type storage struct {
	*workspace
	file, mount string
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	strict.NeedRoot(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		strict.Lack(t, "btrfs", err.Error())
	}
	w := newWorkspace(t)
	s := &storage{w, filepath.Join(w.Dir, "lofile"), filepath.Join(w.Dir, "btrfs.mount")}
	w.write(".home/.config/atom/config.yaml", "driver: btrfs\nlofile: ~/../lofile\nbtrfsmount: ~/../btrfs.mount\n")
	s.Runner = s.With("HOME="+filepath.Join(w.Dir, ".home"), "XDG_CONFIG_HOME="+filepath.Join(w.Dir, ".home/.config"))
	t.Cleanup(func() { s.Run(t, "storage", "unsetup", "--force") })
	return s
}

// backing is what storage status says of the btrfs.
type backing struct {
	Made, Mounted bool
	Device        string
	Works         bool
}

func (s *storage) status() backing {
	s.t.Helper()
	var all struct {
		Drivers []struct {
			Name    string
			Works   bool
			Backing backing
		}
	}
	if err := json.Unmarshal([]byte(s.Run(s.t, "storage", "status", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, d := range all.Drivers {
		if d.Name == "btrfs" {
			d.Backing.Works = d.Works
			return d.Backing
		}
	}
	s.t.Fatal("no btrfs")
	return backing{}
}

// devices returns the loop devices that the file is.
func (s *storage) devices() []string {
	s.t.Helper()
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		s.t.Fatal(err)
	}
	var devices []string
	for _, name := range found {
		if path, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(path)) == s.file {
			devices = append(devices, "/dev/"+strings.Split(name, "/")[3])
		}
	}
	return devices
}

// mountedAnywhere reports whether a device is mounted in the mount namespace of any process: one
// that is started gets copies of all mounts.
func mountedAnywhere(t *testing.T, device string) bool {
	t.Helper()
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		table, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(table), " "+device+" ") {
			return true
		}
	}
	return false
}

// checkTruth compares what status says with what the kernel does.
func (s *storage) checkTruth() {
	s.t.Helper()
	strict.Eventually(s.t, func() string { // the device of a process that was killed takes a moment to go
		stray := slices.DeleteFunc(s.devices(), func(device string) bool { return mountedAnywhere(s.t, device) })
		if len(stray) == 0 {
			return ""
		}
		return fmt.Sprintf("%q are attached, and not mounted", stray)
	})
	strict.Eventually(s.t, func() string { // devices that others had copies of come to their end in between
		got := s.status()
		devices, mounts := s.devices(), mounts(s.t, s.mount)
		_, err := os.Stat(s.file)
		want := backing{Made: err == nil, Mounted: len(mounts) > 0, Device: strings.Join(devices, " "), Works: len(mounts) > 0}
		if got == want && len(mounts) < 2 {
			return ""
		}
		return fmt.Sprintf("status says %+v, and it is %+v, with the mounts %q", got, want, mounts)
	})
}

// The words of the original, with its settings: setup makes a btrfs and mounts it, and again after
// it was detached; unsetup removes it.
func TestStorage(t *testing.T) {
	s := newStorage(t)
	s.checkTruth()
	s.Run(t, "storage", "setup")
	s.checkTruth()
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nrun: {base: sys, run: echo 1 > /one}\n")
	busyboxRoot(s.workspace)
	s.build()
	s.Run(t, "storage", "setup")
	s.Run(t, "storage", "detach")
	s.checkTruth()
	if res := s.Try(t, "build", "--no-cache"); res.Code != program.Lacking || !strings.Contains(res.Stderr, "genoci storage setup") {
		t.Errorf("a build without its storage: status %d\n%s", res.Code, res.Stderr)
	}
	s.Run(t, "storage", "setup")
	s.checkTruth()
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nrun: {base: sys, run: echo 2 > /two}\n")
	s.build()
	if res := s.Try(t, "storage", "unsetup"); res.Code != 2 || !strings.Contains(res.Stderr, "3 snapshots may be removed") {
		t.Errorf("unsetup that nobody confirmed: status %d\n%s", res.Code, res.Stderr)
	}
	s.checkTruth()
	s.Run(t, "storage", "unsetup", "--force")
	s.checkTruth()
	s.nothingLeft()
}

// What was checked out when the driver's folder was in the cache folder is found when the settings
// name another one.
func TestStorageBefore(t *testing.T) {
	s := newStorage(t)
	s.write("genoci.yaml", "sys: {copy: {content: x, dest: /x}}\n")
	s.Run(t, "storage", "setup")
	s.Runner = s.With("GENOCI_CACHE_DIR=" + filepath.Join(s.mount, "cache"))
	before := s.With("HOME="+s.Dir, "XDG_CONFIG_HOME="+filepath.Join(s.Dir, "none"), "GENOCI_DRIVER=btrfs")
	before.Run(t, "build")
	dir := filepath.Join(s.Dir, "checkout")
	before.Run(t, "checkout", "sys", dir)
	if out := s.Run(t, "status"); !strings.Contains(out, dir) {
		t.Errorf("status:\n%s", out)
	}
	s.Run(t, "abort", dir)
}

// On a btrfs that is there, unsetup removes the driver's folder, also for an ordinary user, and
// nothing else.
func TestStorageGiven(t *testing.T) {
	w := newWorkspace(t)
	env := program.NeedDriver(t, "btrfs")
	_, parent, _ := strings.Cut(env[0], "=")
	mount := filepath.Join(parent, "given")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	program.Write(t, mount, "others", "x")
	w.Env = append(w.Env, "GENOCI_DRIVER=btrfs", "GENOCI_BTRFSMOUNT="+mount)
	w.write("genoci.yaml", "sys: {expand: sys.tgz}\nrun: {base: sys, run: chown 5:5 /bin/*}\nbad: {base: run, run: exit 1}\n")
	busyboxRoot(w)
	if res := w.Try(t, "storage", "setup"); res.Code != 0 || strings.Contains(res.Stderr, "note:") {
		t.Errorf("setup: status %d\n%s", res.Code, res.Stderr)
	}
	if res := w.Try(t, "storage", "setup", "--driver", "auto"); !strings.Contains(res.Stderr, "note: builds and checkouts use it with --driver btrfs, ") {
		t.Errorf("setup of what auto does not take: %s", res.Stderr)
	}
	w.fail(1, "exit status 1", "--keep-going")
	dir := filepath.Join(w.Dir, "checkout")
	w.Run(t, "checkout", "run", dir)
	w.Run(t, "storage", "detach")
	if res := w.Try(t, "storage", "unsetup", "--force"); res.Code != 1 || !strings.Contains(res.Stderr, "1 checkout in it: "+dir+" (run)") {
		t.Errorf("unsetup with a checkout: status %d\n%s", res.Code, res.Stderr)
	}
	w.Run(t, "abort", dir)
	for _, want := range []string{"removed " + mount + "/genoci, 2 snapshots, 1 tree of failed steps\n", "not set up: nothing to remove\n"} {
		res := w.Try(t, "storage", "unsetup", "--force")
		if res.Code != 0 || res.Stderr != want {
			t.Errorf("unsetup: status %d\n%s, want %s", res.Code, res.Stderr, want)
		}
	}
	if left, err := filepath.Glob(mount + "/*"); err != nil || len(left) != 1 || filepath.Base(left[0]) != "others" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Where somebody has removed the file while it is mounted, nothing pretends that it is a btrfs like
// others, and unsetup ends it.
func TestStorageFileRemoved(t *testing.T) {
	s := newStorage(t)
	busyboxRoot(s.workspace)
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nrun: {base: sys, run: echo 1 > /one}\n")
	s.Run(t, "storage", "setup")
	s.build()
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	if out := s.Run(t, "storage", "status"); !strings.Contains(out, s.file+" was removed: all in it is lost when that ends") {
		t.Errorf("status does not say it:\n%s", out)
	}
	for _, verb := range []string{"setup", "detach"} {
		want := s.file + ": removed while it was mounted\nhint: all in it is lost when the mount ends; genoci storage unsetup does that\n"
		if res := s.Try(t, "storage", verb); res.Code != 1 || !strings.HasSuffix(res.Stderr, want) {
			t.Errorf("%s: status %d\n%s, want %s", verb, res.Code, res.Stderr, want)
		}
	}
	if res := s.Try(t, "storage", "unsetup"); res.Code != 2 || !strings.Contains(res.Stderr, "what is left of "+s.file+", 2 snapshots may be removed") {
		t.Errorf("unsetup that nobody confirmed: status %d\n%s", res.Code, res.Stderr)
	}
	s.Run(t, "storage", "unsetup", "--force")
	s.checkTruth()
	s.nothingLeft()
	s.Run(t, "storage", "setup")
	s.build()
}

// While somebody works in a tree, it stays.
func TestStorageInUse(t *testing.T) {
	s := newStorage(t)
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nslow: {base: sys, pre: echo started > pipe, run: exec sleep 1000}\n")
	busyboxRoot(s.workspace)
	s.Tool(t, "mkfifo", "pipe")
	s.Run(t, "storage", "setup")
	s.build("sys")
	dir := filepath.Join(s.Dir, "checkout")
	s.Run(t, "checkout", "sys", dir)
	for _, attached := range []bool{true, false} {
		if !attached {
			s.Run(t, "storage", "detach")
		}
		res := s.Try(t, "storage", "unsetup", "--force")
		if res.Code != 1 || !strings.Contains(res.Stderr, "1 checkout in it: "+dir+" (sys)") {
			t.Errorf("unsetup with a checkout: status %d\n%s", res.Code, res.Stderr)
		}
		if s.status().Mounted != attached {
			t.Error("it is no longer as it was")
		}
	}
	// While it is detached, nobody is told that nothing is checked out, and no more.
	for _, args := range [][]string{{"status"}, {"abort"}, {"diff", dir}, {"checkin", "--dir", dir}, {"checkout", "sys", dir}} {
		if res := s.Try(t, args...); !strings.Contains(res.Stderr, "genoci storage setup --driver btrfs --lofile ") {
			t.Errorf("%s without the storage: status %d, and not what attaches it\n%s", args, res.Code, res.Stderr)
		}
	}
	s.Run(t, "storage", "setup")
	s.Run(t, "abort", dir)

	cmd := s.Command(t, "build")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(s.Dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"detach"}, {"unsetup", "--force"}} {
		res := s.Try(t, append([]string{"storage"}, verb...)...)
		if res.Code != 1 || !strings.Contains(res.Stderr, "a command of genoci is using it") {
			t.Errorf("%s during a build: status %d\n%s", verb, res.Code, res.Stderr)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	noProcesses(t, s.Dir)
	s.Run(t, "storage", "unsetup", "--force")
	s.checkTruth()
}

// Commands that are killed at any moment leave what status tells, and what the same command mends.
func TestStorageKilled(t *testing.T) {
	s := newStorage(t)
	changes := make(map[string]int)
	for _, verb := range []string{"setup", "detach", "setup", "unsetup --force", "setup"} {
		changes[verb] = max(changes[verb], s.changes(append([]string{"storage"}, strings.Fields(verb)...)...))
	}
	r := killat.Moments(t)
	for i := range 60 {
		verb := []string{"setup", "setup", "detach", "unsetup --force"}[r.IntN(4)]
		args := append([]string{"storage"}, strings.Fields(verb)...)
		at := 1 + r.IntN(changes[verb])
		s.killed(at, args...)
		s.checkTruth()
		if i%2 == 0 {
			s.Run(t, args...)
			s.checkTruth()
		}
		if t.Failed() {
			t.Fatalf("after round %d, %q killed before change %d", i, verb, at)
		}
	}
	s.Run(t, "storage", "unsetup", "--force")
	s.checkTruth()
	if left, err := filepath.Glob(s.file + "*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Several commands at once set up one storage.
func TestStorageAtOnce(t *testing.T) {
	s := newStorage(t)
	for range 5 {
		var wg sync.WaitGroup
		for range 4 {
			cmd := s.Command(t, "storage", "setup")
			wg.Go(func() {
				if err := cmd.Run(); err != nil {
					t.Errorf("setup: %v", err)
				}
			})
		}
		wg.Wait()
		s.checkTruth()
		s.Run(t, "storage", "unsetup", "--force")
		s.checkTruth()
	}
}

// A build fills the file system below the file, while the btrfs in it has space. That is told; and
// when there is space again, all is there that was.
func TestStorageHostFull(t *testing.T) {
	s := newStorage(t)
	below := filepath.Join(s.Dir, "below")
	s.Tool(t, "sh", "-euc", `mkdir below; truncate -s 300M below.img; mkfs.ext4 -q -m 0 -b 4096 below.img; mount -o loop below.img below; head -c 100M /dev/zero >below/ballast`)
	t.Cleanup(func() { s.Tool(t, "umount", below) })
	s.file = filepath.Join(below, "lofile")
	s.Runner = s.With("GENOCI_LOFILE=" + s.file)
	t.Cleanup(func() {
		s.Run(t, "storage", "detach")
		s.Run(t, "storage", "unsetup", "--force")
	})
	s.Run(t, "storage", "setup", "--size", "2GB")
	busyboxRoot(s.workspace)
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nkept: {base: sys, run: echo kept > /kept}\n")
	s.build()
	tags := s.layout.TagNames(t)

	s.write("full.yaml", "sys: {expand: sys.tgz}\nfull: {base: sys, run: head -c 400000000 /dev/urandom > /big}\n")
	res := s.fail(1, "no space left on device on the filesystem of "+s.file+" (", "-f", "full.yaml")
	if !strings.HasSuffix(res.Stderr, "\nhint: make space where its file is, then: genoci storage detach, genoci storage setup; what was committed is there again\n") {
		t.Errorf("no hint at the end of\n%s", res.Stderr)
	}
	if got := s.layout.TagNames(t); !slices.Equal(got, tags) {
		t.Errorf("tags are %q, and were %q", got, tags)
	}
	s.fail(1, "no space left on device", "--no-cache")
	if err := os.Remove(filepath.Join(below, "ballast")); err != nil {
		t.Fatal(err)
	}
	s.Run(t, "storage", "detach")
	strict.Eventually(t, func() string { return strings.Join(s.devices(), " ") })
	s.Run(t, "storage", "setup")
	s.checkTruth()
	if res := s.Try(t, "storage", "unsetup"); !strings.Contains(res.Stderr, "2 snapshots may be removed") {
		t.Errorf("there were 2 snapshots: %s", res.Stderr)
	}
	s.write("genoci.yaml", "sys: {expand: sys.tgz}\nkept: {base: sys, run: echo kept > /kept}\nmore: {base: kept, run: cat /kept /kept > /more}\n")
	s.build("more")
	if got := s.workspace.file("more", "more"); got != "kept\nkept\n" {
		t.Errorf("the next step made %q", got)
	}
}
