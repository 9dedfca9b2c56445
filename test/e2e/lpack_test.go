package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"genoci/test/program"
	"genoci/test/strict"
)

// The session of the original's README and of that of its lpack, word for word but for the folder
// of the files and the tags: settings, setup, a build with them, unpack, checkout, a change,
// checkin with a tag and without, unsetup.
func TestOriginalLpack(t *testing.T) {
	strict.NeedRoot(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		strict.Lack(t, "btrfs", err.Error())
	}
	w := newWorkspace(t)
	busyboxRoot(w)
	w.write("data.yaml", "cirros:\n  base: empty\n  expand: sys.tgz\n"+
		"modified:\n  base: cirros\n  run: |\n    echo \"Hello, world\" > /hw\n  entrypoint: /bin/echo \"hello world\"\n")
	bin, home := filepath.Join(w.Dir, "bin"), filepath.Join(w.Dir, "home")
	for _, dir := range []string{bin, home} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"genoci", "lpack"} {
		if err := os.Symlink(program.Path(t), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.Runner = w.With("HOME="+home, "PATH="+bin+":"+os.Getenv("PATH"), "TMP="+w.Dir)
	sh := func(text string) {
		t.Helper()
		w.Tool(t, "sh", "-ec", text)
	}
	t.Cleanup(func() {
		_ = w.Other(t, filepath.Join(bin, "lpack"), "abort").Run() // where the test has failed
		_ = w.Other(t, filepath.Join(bin, "lpack"), "unsetup", "--force").Run()
	})

	// Of genoci's README.
	sh(`mkdir -p ~/.config/atom
cat > ~/.config/atom/config.yaml << EOF
driver: btrfs
lofile: $TMP/lofile
btrfsmount: $TMP/btrfs.mount
EOF
lpack setup`)
	mount := filepath.Join(w.Dir, "btrfs.mount")
	if m := mounts(t, mount); len(m) != 1 {
		t.Fatalf("mounted: %q", m)
	}
	sh("genoci data.yaml")
	if trees, err := os.ReadDir(filepath.Join(mount, "genoci/snapshots")); err != nil || len(trees) != 2 {
		t.Errorf("the build kept the trees %v in the btrfs, %v", trees, err)
	}

	// Of lpack's.
	sh("lpack setup")
	sh("lpack unpack")
	sh("lpack checkout modified")
	mounted := filepath.Join(mount, "mounted")
	if text, err := os.ReadFile(filepath.Join(mounted, "hw")); err != nil || string(text) != "Hello, world\n" {
		t.Errorf("in the checkout: %q, %v", text, err)
	}
	sh("echo changed >" + mounted + "/by-hand")
	sh("lpack checkin newtag")
	equal(t, "the file that was made by hand", w.file("newtag", "by-hand"), "changed\n")
	if n := len(w.layout.Image(t, "newtag").Manifest.Layers); n != 3 {
		t.Errorf("newtag has %d layers", n)
	}
	sh("lpack checkout newtag && echo again >" + mounted + "/by-hand && lpack checkin")
	if n := builds(w.layout.TagNames(t))["newtag"]; n != 1 {
		t.Errorf("%d dated tags of newtag", n)
	}

	// Unsetup asks, on a terminal.
	for _, c := range []struct {
		answer string
		gone   bool
	}{{"n\n", false}, {"y\n", true}} {
		cmd := w.Other(t, "script", "-qec", "lpack unsetup", "/dev/null")
		cmd.Stdin = strings.NewReader(c.answer)
		out, _ := cmd.CombinedOutput() // what is there afterwards tells how it ended
		_, err := os.Stat(filepath.Join(w.Dir, "lofile"))
		if gone := os.IsNotExist(err); gone != c.gone {
			t.Errorf("unsetup, answered %q: gone is %v\n%s", c.answer, gone, out)
		}
	}
	w.nothingLeft()
	if tags := w.layout.TagNames(t); len(tags) != 6 {
		t.Errorf("%d tags are left: %q", len(tags), tags)
	}
	w.Run(t, "verify")
}
