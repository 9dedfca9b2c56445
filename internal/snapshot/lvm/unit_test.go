package lvm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot/store"
)

func TestNames(t *testing.T) {
	if got, want := (volume{"vg-a", "lv-b_c"}).device(), "/dev/mapper/vg--a-lv--b_c"; got != want {
		t.Errorf("device %s, want %s", got, want)
	}
	v, err := parseVolume("vg/genoci_A\n")
	if err != nil || v != (volume{"vg", "genoci_A"}) {
		t.Errorf("parsed %v, %v", v, err)
	}
	if _, err := parseVolume("vg"); err == nil {
		t.Error("half a name is one")
	}
	// A tag holds no other characters (lvm(8)).
	if got, want := storeTag("/a b/ä@\"x/y-1.2_3+"), "genoci=/a#20b/#c3#a4#40#22x/y-1.2_3+"; got != want {
		t.Errorf("tag %s, want %s", got, want)
	}
	for tags, want := range map[string]bool{"": false, "genoci": true, "a,genoci": true, "genoci=/x": false, "nogenoci": false} {
		if hasTag(tags) != want {
			t.Errorf("hasTag(%q) is not %v", tags, want)
		}
	}
}

func TestSizes(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		size, pool         int64
		wantFile, wantPool int64
	}{
		{0, 0, DefaultSize, DefaultSize - 64<<20 - 320<<20 - 16<<20},
		{2 * gib, 0, 2 * gib, 2*gib - 64<<20 - 32<<20 - 16<<20},
		{2 * gib, gib, 2 * gib, gib},
		{15 * gib, 80 * gib, 80*gib + 64<<20 + 1280<<20 + 16<<20, 80 * gib}, // as in a config file of the original
		{0, 1, 64<<20 + 32<<20 + 16<<20 + 4<<20, 4 << 20},
	} {
		l := Loopback{Size: test.size, PoolSize: test.pool}
		if file, pool := l.sizes(); file != test.wantFile || pool != test.wantPool {
			t.Errorf("sizes of %d and %d are %d and %d, want %d and %d", test.size, test.pool, file, pool, test.wantFile, test.wantPool)
		}
	}
}

// fakeLvm puts a script in the place of the lvm command.
func fakeLvm(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lvm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestCommandError: what the command says against it is the error, without its warnings.
func TestCommandError(t *testing.T) {
	fakeLvm(t, "echo '  WARNING: never mind' >&2\necho '  Volume group \"x\" not found' >&2\necho '  Cannot process it' >&2\nexit 5\n")
	_, err := lvm(nil, "lvs")
	var failed *commandError
	if want := `lvm lvs: Volume group "x" not found; Cannot process it`; err == nil || err.Error() != want || !errors.As(err, &failed) || failed.code != 5 {
		t.Errorf("error %v, want %s", err, want)
	}
	fakeLvm(t, "exit 1\n")
	if _, err := lvm(nil, "lvs"); err == nil || err.Error() != "lvm lvs: exit status 1" {
		t.Errorf("error %v", err)
	}
}

func TestReport(t *testing.T) {
	fakeLvm(t, `printf '  a b\tgenoci,genoci=/x\t\n  c\t\t1.5\n'`)
	got, err := report("lvs", "lv_name,lv_tags,data_percent")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, fields := range got {
		lines = append(lines, strings.Join(fields, "|"))
	}
	if want := "a b|genoci,genoci=/x|\nc||1.5"; strings.Join(lines, "\n") != want {
		t.Errorf("got %q, want %q", lines, want)
	}
}

// TestLockIsHeld: a command holds the part that it is for, when the process that has started it no
// longer does.
func TestLockIsHeld(t *testing.T) {
	s, err := store.Open(t.TempDir(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	fakeLvm(t, "readlink /proc/self/fd/0\n")
	out, err := lvm(part.Lock(), "lvcreate")
	if want := filepath.Join(part.Dir(), "lowers"); err != nil || !strings.HasPrefix(out, want+"\n") {
		t.Errorf("standard input is %s, %v, want %s", out, err, want)
	}
}

func TestFileSystems(t *testing.T) {
	for name, want := range map[string]string{"": "ext4", "ext4": "ext4", "xfs": "xfs"} {
		if f, err := fileSystemOf(name); err != nil || f.name != want {
			t.Errorf("%q: %s, %v", name, f.name, err)
		}
	}
	if _, err := fileSystemOf("btrfs"); err == nil {
		t.Error("btrfs is one")
	}
}

// TestMarkedFile: a file that begins as Setup makes one is Setup's if only root can write to it.
func TestMarkedFile(t *testing.T) {
	l := &Loopback{File: filepath.Join(t.TempDir(), "file")}
	for content, made := range map[string]bool{mark: true, mark + "more": true, "": false, "another": false} {
		if err := os.WriteFile(l.File, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		wantMade(t, l, made && os.Geteuid() == 0)
		if err := os.Chown(l.File, 1, 1); err == nil {
			wantMade(t, l, false)
		}
		if err := os.Remove(l.File); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFifo: what is no file is not waited for.
func TestFifo(t *testing.T) {
	l := &Loopback{File: filepath.Join(t.TempDir(), "file")}
	if err := unix.Mkfifo(l.File, 0o600); err != nil {
		t.Fatal(err)
	}
	wantMade(t, l, false)
}

func wantMade(t *testing.T, l *Loopback, want bool) {
	t.Helper()
	var s State
	if err := l.lookAtFile(&s); err != nil || s.Made != want || s.Foreign == want {
		t.Errorf("made: %v, foreign: %v, %v, want made: %v", s.Made, s.Foreign, err, want)
	}
}
