package e2e

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/treetest"
	"genoci/test/program"
	"genoci/test/strict"
)

// The first example of the original's README, on a real root filesystem in the place of cirros.
const originalSpec = `
cirros:
  base: empty
  expand: ./cirros.tar.gz
modified:
  base: cirros
  run: |
    echo "Hello, world" > /hw
  entrypoint: /bin/echo "hello world"
`

// Each build of a target moves the tag of its name, and adds a dated one. Other implementations see
// the same.
func TestOriginal(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	w.link("cirros.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	w.write("first.yaml", originalSpec)

	w.Run(t, "first.yaml") // as the original was called
	first := w.layout.Tags(t)
	if diff := cmp.Diff(map[string]int{"cirros": 1, "modified": 1}, builds(w.layout.TagNames(t))); diff != "" {
		t.Errorf("dated tags (-want +got):\n%s", diff)
	}
	if len(first) != 4 {
		t.Errorf("tags: %q, want two for each target", w.layout.TagNames(t))
	}
	for tag, d := range first {
		if m := dated.FindStringSubmatch(tag); m != nil && (d.Digest != first[m[1]].Digest || m[3] != "1") {
			t.Errorf("%s is %s, and %s is %s", tag, d.Digest, m[1], first[m[1]].Digest)
		}
	}
	equal(t, "hw", w.file("modified", "hw"), "Hello, world\n")
	img := w.layout.Image(t, "modified")
	if want := []string{"/bin/echo", "hello world"}; !slices.Equal(img.Config.Config.Entrypoint, want) {
		t.Errorf("entrypoint: %q, want %q", img.Config.Config.Entrypoint, want)
	}

	w.Run(t, "build", "-f", "first.yaml")
	if diff := cmp.Diff(map[string]int{"cirros": 2, "modified": 2}, builds(w.layout.TagNames(t))); diff != "" {
		t.Errorf("dated tags after the second build (-want +got):\n%s", diff)
	}
	if second := w.layout.Tags(t)["modified"]; second.Digest != first["modified"].Digest {
		t.Errorf("the second build gave %s, the first %s", second.Digest, first["modified"].Digest)
	}

	t.Run("umoci ls", func(t *testing.T) {
		strict.Need(t, "umoci")
		got := strings.Fields(w.Tool(t, "umoci", "ls", "--layout", "oci"))
		slices.Sort(got)
		if diff := cmp.Diff(w.layout.TagNames(t), got); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
	})
	t.Run("genoci ls", func(t *testing.T) {
		out := w.Run(t, "ls")
		for _, tag := range w.layout.TagNames(t) {
			if !strings.Contains(out, tag) {
				t.Errorf("%s is missing in\n%s", tag, out)
			}
		}
	})
	t.Run("skopeo inspect", func(t *testing.T) {
		strict.Need(t, "skopeo")
		var got struct {
			Digest string
			Layers []string
		}
		if err := json.Unmarshal([]byte(w.Tool(t, "skopeo", "inspect", "oci:oci:modified")), &got); err != nil {
			t.Fatal(err)
		}
		var layers []string
		for _, l := range img.Manifest.Layers {
			layers = append(layers, l.Digest)
		}
		if got.Digest != img.Digest || !slices.Equal(got.Layers, layers) {
			t.Errorf("skopeo: %v, want %s with %q", got, img.Digest, layers)
		}
	})
	t.Run("umoci unpack", func(t *testing.T) {
		strict.NeedRoot(t)
		strict.Need(t, "umoci")
		for _, tag := range []string{"cirros", "modified"} {
			w.Tool(t, "umoci", "unpack", "--image", "oci:"+tag, "bundle-"+tag)
			theirs := treetest.Dump(t, filepath.Join(w.Dir, "bundle-"+tag, "rootfs"), treetest.MTimes)
			ours := treetest.Dump(t, w.unpack(tag), treetest.MTimes)
			if diff := treetest.Diff(theirs, ours); diff != "" {
				t.Errorf("%s: -umoci, +genoci:\n%s", tag, diff)
			}
			if n := strings.Count(ours, "\n"); n < 5000 {
				t.Errorf("%s: only %d paths", tag, n)
			}
		}
	})
	t.Run("verify", func(t *testing.T) { w.Run(t, "verify") })
}

// A sound archive itself is the layer: nothing is compressed a second time.
func TestArchiveIsLayer(t *testing.T) {
	w := newWorkspace(t)
	archive := program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS")
	w.link("debian.tar.gz", archive)
	w.write("genoci.yaml", "debian: {expand: debian.tar.gz}\n")
	w.build()
	want, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	layer := w.layout.Image(t, "debian").Manifest.Layers[0]
	got, err := os.ReadFile(filepath.Join(string(w.layout), "blobs", strings.Replace(layer.Digest, ":", "/", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the layer has %d bytes of its own, the archive %d", len(got), len(want))
	}
}

// A .deb and an .rpm, into a Debian root filesystem with rpm in it.
func TestPackages(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_RPM_ROOTFS"))
	w.link("hello.deb", program.Input(t, "deb", "GENOCI_TEST_DEB"))
	w.link("tiny.rpm", program.Input(t, "rpm", "GENOCI_TEST_RPM"))
	strict.Need(t, "dpkg-deb")
	// Two packages of which one needs the other, given in the wrong order: one transaction.
	w.write("lib/DEBIAN/control", "Package: genoci-lib\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: a library\n")
	w.write("lib/usr/share/genoci-lib", "lib\n")
	w.write("app/DEBIAN/control", "Package: genoci-app\nVersion: 1\nArchitecture: all\nDepends: genoci-lib\nMaintainer: nobody <nobody@example.com>\nDescription: a program\n")
	w.write("app/DEBIAN/postinst", "#!/bin/sh\nset -e\ncat /usr/share/genoci-lib > /usr/share/genoci-app\n")
	if err := os.Chmod(filepath.Join(w.Dir, "app/DEBIAN/postinst"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.Tool(t, "dpkg-deb", "--root-owner-group", "--build", "lib", "lib.deb")
	w.Tool(t, "dpkg-deb", "--root-owner-group", "--build", "app", "app.deb")
	w.write("genoci.yaml", `
debian: {expand: debian.tar.gz}
one: {base: debian, install: hello.deb}
both: {base: debian, install: [hello.deb, tiny.rpm]}
chain: {base: debian, install: app.deb lib.deb, run: "cat /usr/share/genoci-app > /out"}
`)
	w.build()
	if w.missing("one", "usr/bin/hello") || w.missing("both", "usr/bin/hello") {
		t.Error("hello.deb is not installed")
	}
	equal(t, "tiny.rpm", w.file("both", "etc/tiny.conf"), "tiny=1\n")
	equal(t, "postinst", w.file("chain", "out"), "lib\n")
	status := w.file("both", "var/lib/dpkg/status")
	if !strings.Contains(status, "Package: hello\nStatus: install ok installed\n") {
		t.Error("dpkg does not know of hello")
	}
	for _, tag := range []string{"one", "both", "chain"} {
		img := w.layout.Image(t, tag)
		for _, line := range w.layout.Layer(t, img, len(img.Manifest.Layers)-1) {
			if strings.Contains(line, ".deb") || strings.Contains(line, ".rpm ") {
				t.Errorf("%s holds the package file: %s", tag, line)
			}
		}
	}
	if got := slices.Sorted(maps.Keys(builds(w.layout.TagNames(t)))); !slices.Equal(got, []string{"both", "chain", "debian", "one"}) {
		t.Errorf("targets: %q", got)
	}
}

// An OCI runtime starts the bundle.
func TestBundle(t *testing.T) {
	strict.NeedRoot(t)
	strict.Need(t, "runc")
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	w.link("cirros.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	w.write("genoci.yaml", originalSpec)
	w.build()
	w.Run(t, "unpack", "--bundle", "modified", "bundle")
	config, err := os.ReadFile(filepath.Join(w.Dir, "bundle/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	// Without a terminal, which a test does not have.
	plain := strings.Replace(string(config), `"terminal": true`, `"terminal": false`, 1)
	if err := os.WriteFile(filepath.Join(w.Dir, "bundle/config.json"), []byte(plain), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := w.Other(t, "runc", "--root", filepath.Join(w.Dir, "runc"), "run", "--bundle", "bundle", "genoci-test-"+filepath.Base(w.Dir))
	equal(t, "output", output(t, cmd), "hello world\n")
}
