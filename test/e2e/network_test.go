package e2e

import (
	"strings"
	"testing"

	"genoci/test/program"
	"genoci/test/strict"
)

// apt-get from the distribution's mirror, in a run. As an ordinary user this takes subordinate ids:
// apt drops to a user of its own.
func TestAptGet(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
run:
  base: debian
  run: apt-get update && apt-get install -y --no-install-recommends sudo
packages:
  base: debian
  install: {packages: [sudo], clean: true}
`)
	if res := w.Try(t, "build", "--progress", "plain", "run"); res.Code != 0 {
		if strings.Contains(res.Stderr, "Temporary failure resolving") || strings.Contains(res.Stderr, "Could not connect") {
			strict.Lack(t, "network", "the mirror cannot be reached from a sandbox: "+res.Stderr)
		}
		t.Fatal(res.Stderr)
	}
	w.build("packages")
	for _, tag := range []string{"run", "packages"} {
		img := w.layout.Image(t, tag)
		lines := w.layout.Layer(t, img, 1)
		layer := strings.Join(lines, "\n")
		for _, want := range []string{"file 4755 0:0", " usr/bin/sudo ", "file 0440 0:0"} {
			if !strings.Contains(layer, want) {
				t.Errorf("%s: the layer has no %q", tag, want)
			}
		}
		for _, path := range []string{"etc/resolv.conf", "etc/hosts", "dev/shm", "proc/"} {
			if strings.Contains(layer, " "+path) {
				t.Errorf("%s: the layer has %s, which is the sandbox's", tag, path)
			}
		}
		for _, line := range lines {
			if _, name, ok := strings.Cut(line, " var/lib/apt/lists/"); tag == "packages" && ok && name != "" && !strings.HasPrefix(name, ".wh.") {
				t.Errorf("packages: clean left apt's lists: %s", line)
			}
		}
	}
}
