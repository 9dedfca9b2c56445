package oracle

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
	"genoci/internal/layout"
	"genoci/internal/treetest"
	"genoci/test/program"
	"genoci/test/strict"
)

// run runs a program, which has to succeed, and returns its stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// tree returns the tree that an image stands for: as it is known, or as genoci unpacks it.
func tree(t *testing.T, j judged, tag string, img image.Image) string {
	t.Helper()
	if want, ok := j.want[tag]; ok {
		return want
	}
	dir := t.TempDir()
	genoci := appliers()[0]
	err := eachLayer(t, j.dir, img, func(tar io.Reader) error { return genoci.apply(dir, tar) })
	if err != nil {
		t.Fatal(err)
	}
	return treetest.Dump(t, dir, treetest.MTimes)
}

// sameTree compares what a program has unpacked into dir with the image's tree.
func sameTree(t *testing.T, want, dir string) {
	t.Helper()
	if diff := treetest.Diff(want, treetest.Dump(t, dir, treetest.MTimes)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The program itself unpacks what its own code makes of the layers, and finds nothing wrong.
func TestGenoci(t *testing.T) {
	strict.NeedRoot(t)
	bin, err := binary()
	if err != nil {
		strict.Lack(t, "genoci", err.Error())
	}
	eachImage(t, func(t *testing.T, j judged, tag string, img image.Image) {
		genoci := &program.Runner{Dir: t.TempDir(), Bin: bin}
		genoci.Run(t, "verify", "--layout", j.dir)
		genoci.Run(t, "unpack", "--layout", j.dir, tag, "root")
		sameTree(t, tree(t, j, tag, img), filepath.Join(genoci.Dir, "root"))
	})
}

func TestUmoci(t *testing.T) {
	strict.NeedRoot(t)
	strict.Need(t, "umoci")
	eachImage(t, func(t *testing.T, j judged, tag string, img image.Image) {
		if !allGzip(img) {
			t.Skip("umoci 0.4 knows gzip only")
		}
		bundle := filepath.Join(t.TempDir(), "bundle")
		run(t, "umoci", "unpack", "--image", j.dir+":"+tag, bundle)
		sameTree(t, tree(t, j, tag, img), filepath.Join(bundle, "rootfs"))
	})
}

func TestSkopeo(t *testing.T) {
	strict.Need(t, "skopeo")
	eachImage(t, func(t *testing.T, j judged, tag string, img image.Image) {
		run(t, "skopeo", "inspect", "oci:"+j.dir+":"+tag)
		run(t, "skopeo", "inspect", "--config", "oci:"+j.dir+":"+tag)
		copied := filepath.Join(t.TempDir(), "copied")
		run(t, "skopeo", "copy", "--preserve-digests", "oci:"+j.dir+":"+tag, "oci:"+copied+":"+tag)
		l, err := layout.Open(copied)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := l.Image(tag, v1.Platform{})
		if err != nil || theirs.Descriptor.Digest != img.Descriptor.Digest {
			t.Errorf("the copy is %s, not %s: %v", theirs.Descriptor.Digest, img.Descriptor.Digest, err)
		}
	})
}

// buildah keeps images in podman's overlay store, the strictest of all: it refuses paths that stand
// in a layer twice. It runs in a mount namespace that ends with it, and with it all that it has
// mounted.
func TestBuildah(t *testing.T) {
	strict.NeedRoot(t)
	strict.Need(t, "buildah")
	if os.Getenv("GENOCI_ORACLE_INSIDE") == "" {
		again := exec.Command(os.Args[0], "-test.run=^TestBuildah$", "-test.v")
		again.Env = append(os.Environ(), "GENOCI_ORACLE_INSIDE=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := again.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	store := t.TempDir()
	eachImage(t, func(t *testing.T, j judged, tag string, img image.Image) {
		buildah := func(args ...string) string {
			t.Helper()
			all := append([]string{"--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "overlay"}, args...)
			return strings.TrimSpace(run(t, "buildah", all...))
		}
		// buildah makes an image name of the path, and wants it in lower case.
		t.Chdir(t.TempDir())
		if err := os.Symlink(j.dir, "layout"); err != nil {
			t.Fatal(err)
		}
		container := buildah("from", "--pull-never", "oci:layout:"+tag)
		sameTree(t, tree(t, j, tag, img), buildah("mount", container))
		buildah("rm", container)
	})
}
