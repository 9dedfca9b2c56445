package e2e

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/test/program"
	"genoci/test/strict"
)

// The same spec gives the same digests as root on each driver, and as an ordinary user on those
// that work anywhere.
func TestSameDigests(t *testing.T) {
	strict.NeedRoot(t)
	name := os.Getenv("GENOCI_TEST_USER")
	if name == "" {
		strict.Lack(t, "userns", "GENOCI_TEST_USER names no ordinary user")
	}
	if _, err := user.Lookup(name); err != nil {
		strict.Lack(t, "userns", err.Error())
	}
	program.NeedDriver(t, "overlay")
	onBtrfs := program.NeedDriver(t, "btrfs")
	archive := program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS")
	deb := program.Input(t, "deb", "GENOCI_TEST_DEB")
	bin := filepath.Join(program.Temp(t), "genoci")
	data, err := os.ReadFile(program.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, data, 0o755); err != nil {
		t.Fatal(err)
	}

	var first map[string]string
	for _, c := range []struct{ name, driver, user string }{
		{"root on overlay", "overlay", ""},
		{"root on btrfs", "btrfs", ""},
		{"root on vfs", "vfs", ""},
		{name + " on overlay", "overlay", name},
		{name + " on vfs", "vfs", name},
	} {
		w := newWorkspace(t)
		w.link("debian.tar.gz", archive)
		w.link("hello.deb", deb)
		w.write("tree/etc/conf", "conf\n")
		w.write("tree/run.sh", "#!/bin/sh\n")
		w.write("genoci.yaml", sameSpec)
		w.Bin = bin
		if c.user != "" {
			program.Give(t, w.Dir, c.user)
			w.As = c.user
		}
		if c.driver == "btrfs" {
			w.Runner = w.With(onBtrfs...)
		}
		w.build("--driver", c.driver)
		got := make(map[string]string)
		for _, tag := range []string{"debian", "worked", "installed", "copied"} {
			got[tag] = w.layout.Image(t, tag).Digest
		}
		if first == nil {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("%s: digests (-root on overlay +this):\n%s", c.name, diff)
			w.explain(c.name)
		}
		w.nothingLeft()
	}
}

const sameSpec = `
debian: {expand: debian.tar.gz}
worked:
  base: debian
  run: |
    useradd -m -u 1234 worker
    su worker -c 'echo mine > ~/file; ln ~/file ~/link; ln -s file ~/symlink; mkfifo ~/pipe'
    chgrp shadow /home/worker/link
    cp /bin/true /usr/local/bin/setuid && chmod 4755 /usr/local/bin/setuid
    rm -rf /usr/share/doc && mkdir /usr/share/doc && touch /usr/share/doc/new
    mv /etc/issue /etc/issue.moved
    rm /etc/debian_version && mkdir /etc/debian_version
    truncate -s 100M /var/sparse
    touch -d @1234567890 /var/old
    chmod 0700 /srv
    # Holds the time of day of the password's change.
    sed -i 's/^worker:!:[0-9]*:/worker:!:0:/' /etc/shadow
    cp /etc/shadow /etc/shadow-
installed:
  base: worked
  install: hello.deb
  run: rm -f /var/log/dpkg.log /var/cache/ldconfig/aux-cache
copied:
  base: installed
  copy: [{src: tree, dest: /opt/tree, chown: worker}]
  remove: /home/worker/link
`

// explain logs the top layers of the images.
func (w *workspace) explain(name string) {
	for _, tag := range []string{"worked", "installed", "copied"} {
		img := w.layout.Image(w.t, tag)
		for _, line := range w.layout.Layer(w.t, img, len(img.Manifest.Layers)-1) {
			w.t.Logf("%s: %s: %s", name, tag, line)
		}
	}
}
