package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/test/program"
	"genoci/test/strict"
)

// busyboxRoot makes sys.tgz in the workspace: a root filesystem of a static busybox.
func busyboxRoot(w *workspace) {
	w.t.Helper()
	strict.Need(w.t, "busybox")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		w.t.Fatal(err)
	}
	w.Tool(w.t, "sh", "-euc", `mkdir -p sys/bin sys/tmp sys/etc sys/srv
		for n in $(busybox --list); do ln -s busybox sys/bin/$n; done; rm -f sys/bin/busybox; cp `+busybox+` sys/bin/busybox
		chmod 755 sys sys/bin sys/etc sys/srv sys/bin/busybox; echo ID=busybox > sys/etc/os-release; chmod 1777 sys/tmp; echo root:x:0:0:root:/:/bin/sh > sys/etc/passwd`)
	w.archive("sys.tgz", "sys")
	if err := os.RemoveAll(filepath.Join(w.Dir, "sys")); err != nil {
		w.t.Fatal(err)
	}
}

func behave(t *testing.T, spec string) *workspace {
	t.Helper()
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	busyboxRoot(w)
	w.write("genoci.yaml", "sys: {expand: sys.tgz}\n"+spec)
	return w
}

func TestRunForms(t *testing.T) {
	w := behave(t, `
line: {base: sys, run: echo one > /out}
list:
  base: sys
  run:
    - X=kept; cd /tmp
    - echo "${X:-lost} $(pwd)" > /out
block:
  base: sys
  run: |
    X=kept; cd /tmp
    echo "${X:-lost} $(pwd)" > /out
script: {base: sys, run: host.sh}
dotted: {base: sys, run: ./host.sh}
`)
	w.write("host.sh", "#!/bin/busybox ash\necho from the host: $0 > /dev/null; echo script > /out\n")
	w.build()
	for tag, want := range map[string]string{
		"line": "one\n", "list": "lost /\n", "block": "kept /tmp\n", "script": "script\n", "dotted": "script\n",
	} {
		equal(t, tag, w.file(tag, "out"), want)
	}
	for _, tag := range []string{"script", "dotted"} {
		img := w.layout.Image(t, tag)
		for _, line := range w.layout.Layer(t, img, 1) {
			if strings.Contains(line, "host.sh") {
				t.Errorf("%s: the script stayed: %s", tag, line)
			}
		}
	}
}

func TestExpandList(t *testing.T) {
	w := newWorkspace(t)
	w.write("a/one", "1\n")
	w.write("a/both", "a\n")
	w.write("b/two", "2\n")
	w.write("b/both", "b\n")
	w.archive("a.tgz", "a")
	w.archive("b.tar.xz", "b")
	w.write("genoci.yaml", "list: {expand: [a.tgz, b.tar.xz]}\nblanks: {expand: a.tgz ./b.tar.xz}\n")
	w.build()
	for _, tag := range []string{"list", "blanks"} {
		equal(t, "one", w.file(tag, "one"), "1\n")
		equal(t, "two", w.file(tag, "two"), "2\n")
		equal(t, "both", w.file(tag, "both"), "b\n")
	}
}

func TestCopyForms(t *testing.T) {
	w := newWorkspace(t)
	w.write("a", "a\n")
	w.write("b", "b\n")
	w.write("folder/in", "in\n")
	w.write("folder/deep/er", "er\n")
	w.write("genoci.yaml", `
pair: {copy: a /etc/}
renamed: {copy: a etc/b}
list: {copy: [a /x/, b /x/c]}
folder: {copy: folder /srv}
slash: {copy: folder/ /srv/}
glob: {copy: "[ab] /all/"}
`)
	w.build()
	for _, c := range []struct{ tag, path, want string }{
		{"pair", "etc/a", "a\n"},
		{"renamed", "etc/b", "a\n"},
		{"list", "x/a", "a\n"},
		{"list", "x/c", "b\n"},
		{"folder", "srv/in", "in\n"},
		{"folder", "srv/deep/er", "er\n"},
		{"slash", "srv/deep/er", "er\n"},
		{"glob", "all/a", "a\n"},
		{"glob", "all/b", "b\n"},
	} {
		equal(t, c.tag+" "+c.path, w.file(c.tag, c.path), c.want)
	}
}

func TestHooks(t *testing.T) {
	w := behave(t, `
hooked:
  base: sys
  pre: touch %ROOT%/from-pre
  run: test -e /from-pre && echo seen > /out
  post: rm %ROOT%/from-pre
mounting:
  base: sys
  pre: mkdir $GENOCI_ROOT/mnt && mount -t tmpfs none $GENOCI_ROOT/mnt && echo mounted > $GENOCI_ROOT/mnt/file
  run: cp /mnt/file /out
  post: umount %ROOT%/mnt && rmdir %ROOT%/mnt
`)
	w.build()
	equal(t, "run saw what pre made", w.file("hooked", "out"), "seen\n")
	equal(t, "run saw what pre mounted", w.file("mounting", "out"), "mounted\n")
	if !w.missing("hooked", "from-pre") || !w.missing("mounting", "mnt") {
		t.Error("what post removed is in the image")
	}
	w.fail(2, "hooks", "--no-hooks")
	w.nothingLeft()
}

// post runs when run failed, and nothing is left: no tag, no file, no mount.
func TestPostAfterFailure(t *testing.T) {
	w := behave(t, `
broken:
  base: sys
  pre: mount -t tmpfs none %ROOT%/tmp
  run: echo about to fail >&2; exit 7
  post: echo "$GENOCI_ROOT" > post-ran
`)
	before := w.listing()
	res := w.fail(1, "exit status 7")
	for _, want := range []string{"genoci.yaml:6:8: ", `target "broken"`, "about to fail"} {
		if !strings.Contains(res.Stderr, want) {
			t.Errorf("%q is missing in\n%s", want, res.Stderr)
		}
	}
	if err := os.Remove(filepath.Join(w.Dir, "post-ran")); err != nil {
		t.Errorf("post did not run: %v", err)
	}
	if tags := w.layout.TagNames(t); len(tags) > 0 {
		t.Errorf("tags moved: %q", tags)
	}
	if diff := cmp.Diff(before, w.listing()); diff != "" {
		t.Errorf("left in the folder (-before +after):\n%s", diff)
	}
	w.nothingLeft()

	w.fail(1, "exit status 7", "--keep-going")
	if got := builds(w.layout.TagNames(t)); got["sys"] != 1 || got["broken"] != 0 {
		t.Errorf("with --keep-going: %v", got)
	}
}

func TestEnvAnnotation(t *testing.T) {
	w := newWorkspace(t)
	w.write("genoci.yaml", "app:\n  copy: {content: x, dest: /x}\n  annotations: [{env: FOO=bar}]\n")
	before := w.listing()
	w.build()
	if env := w.layout.Image(t, "app").Config.Config.Env; !slices.Contains(env, "FOO=bar") {
		t.Errorf("Env: %q", env)
	}
	if diff := cmp.Diff(before, w.listing()); diff != "" {
		t.Errorf("left in the folder (-before +after):\n%s", diff)
	}
	w.nothingLeft()
}

// A step that runs nothing needs nothing: no program, no namespace, no device, and no writable
// place but layout and cache.
func TestNothingNeeded(t *testing.T) {
	w := newWorkspace(t)
	w.write("a", "a\n")
	w.write("genoci.yaml", "app: {copy: a /a}\n")
	w.Env = append(w.Env, "PATH=/nonexistent")
	w.build()
	img := w.layout.Image(t, "app")
	if lines := w.layout.Layer(t, img, 0); len(lines) != 2 || !strings.Contains(lines[1], " 1980-01-01T00:00:00 a ") {
		t.Errorf("layer: %q", lines)
	}
	strict.Need(t, "strace")
	w.Tool(t, "strace", "-f", "-o", "trace", "-e", "trace=mount,umount2,unshare,setns,clone,clone3,fork,vfork,execve,fsopen",
		program.Path(t), "build", "--no-cache")
	data, err := os.ReadFile(filepath.Join(w.Dir, "trace"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "mount(") || strings.Contains(line, "unshare(") || strings.Contains(line, "CLONE_NEW") || strings.Contains(line, "fsopen(") {
			t.Errorf("a build that runs nothing called %s", line)
		}
	}
}
