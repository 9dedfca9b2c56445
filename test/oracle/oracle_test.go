// Package oracle lets others judge what genoci writes: the image-spec's own JSON schemas,
// go-containerregistry, the code with which containerd, docker and podman unpack layers, and the
// programs umoci, skopeo and buildah. It is a module of its own, so that what the judges stand on
// stays out of genoci's.
//
// The layouts named by GENOCI_ORACLE_LAYOUT (a list as in PATH) are judged; without it, those made
// here: chains of layers that are made to be hard, images that the program bin/genoci (or
// GENOCI_BIN) builds, and random trees in all ways that it has to make a layer.
package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/test/program"
	"genoci/test/strict"
)

func TestMain(m *testing.M) {
	unix.Umask(0) // some judges leave it to their callers
	os.Exit(m.Run())
}

// judged is a layout that is judged.
type judged struct {
	dir  string
	want map[string]string // tag -> the tree that it stands for, where that is known
}

// layouts returns all layouts to be judged. Those made here are made once.
func layouts(t *testing.T) []judged {
	t.Helper()
	if list := os.Getenv("GENOCI_ORACLE_LAYOUT"); list != "" {
		var all []judged
		for _, dir := range filepath.SplitList(list) {
			all = append(all, judged{dir: dir})
		}
		return all
	}
	var all []judged
	if os.Getuid() == 0 { // the chains hold files of many owners
		all = append(all, chains(t))
	}
	if bin, err := binary(); err == nil {
		all = append(all, built(t, bin))
		if os.Getuid() == 0 {
			all = append(all, sameWays(t, bin, 100), sameWays(t, bin, 101))
		}
	}
	if len(all) == 0 {
		strict.Lack(t, "genoci", "there is no bin/genoci to build images, and only root can make other layouts")
	}
	return all
}

// binary returns the program under test, where it was built.
func binary() (string, error) {
	bin := os.Getenv("GENOCI_BIN")
	if bin == "" {
		bin = "../../bin/genoci"
	}
	if _, err := os.Stat(bin); err != nil {
		return "", err
	}
	return filepath.Abs(bin)
}

// built returns a layout of images that the program has built. Their steps run nothing, so that it
// can be done everywhere.
func built(t *testing.T, bin string) judged {
	t.Helper()
	dir := t.TempDir()
	program.Write(t, dir, "files/usr/bin/tool.sh", "#!/bin/sh\n")
	program.Write(t, dir, "files/etc/motd", "hello\n")
	program.Write(t, dir, "genoci.yaml", spec)
	genoci := program.In(dir)
	genoci.Bin = bin
	genoci.Run(t, "build", "--progress", "plain")
	return judged{dir: filepath.Join(dir, "oci")}
}

const spec = `
base:
  copy:
    - files /
    - {content: "app:x:1000:1000::/:/bin/sh\n", dest: /etc/passwd}
    - {content: "data\n", dest: /srv/data/one, chown: "1000:1000", chmod: 0600}
  entrypoint: [/usr/bin/tool.sh]
  environment: {PATH: /usr/bin}
  labels: {a: "1 < 2 && b"}
changed:
  base: base
  remove: [/etc/motd, /srv/data]
  copy: {content: "changed\n", dest: /usr/bin/tool.sh, chmod: 0700}
  expose: [80]
  healthcheck: {test: "true", interval: 5s}
config-only:
  base: changed
  user: app
  cmd: [--help]
`

// eachImage runs judge on each tag of each layout.
func eachImage(t *testing.T, judge func(t *testing.T, j judged, tag string, img image.Image)) {
	for _, j := range layouts(t) {
		l, err := layout.Open(j.dir)
		if err != nil {
			t.Fatal(err)
		}
		tags, err := l.Tags()
		if err != nil {
			t.Fatal(err)
		}
		if len(tags) == 0 {
			t.Errorf("%s has no tags", j.dir)
		}
		for _, tag := range tags {
			t.Run(filepath.Base(j.dir)+"/"+tag.Name, func(t *testing.T) {
				img, err := l.Image(tag.Name, v1.Platform{})
				if err != nil {
					t.Fatal(err)
				}
				judge(t, j, tag.Name, img)
			})
		}
	}
}

// blob returns the content of a blob.
func blob(t *testing.T, dir string, d v1.Descriptor) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// eachLayer calls apply with the uncompressed tar of each layer, lowest first.
func eachLayer(t *testing.T, dir string, img image.Image, apply func(tar io.Reader) error) error {
	t.Helper()
	for i, d := range img.Manifest.Layers {
		tar, _, err := layer.Decompress(bytes.NewReader(blob(t, dir, d)))
		if err != nil {
			t.Fatal(err)
		}
		err = apply(tar)
		if err = errors.Join(err, tar.Close()); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}
