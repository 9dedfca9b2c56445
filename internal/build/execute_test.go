package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"genoci/internal/command"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
	"genoci/internal/snapshot/overlay"
	"genoci/internal/snapshot/snapshottest"
	"genoci/internal/snapshot/vfs"
	"genoci/test/strict"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintf(os.Stderr, "steps that run something are not tested: %v\n", err)
	}
	os.Exit(m.Run())
}

// drivers are those that steps are tested with.
var drivers = map[string]func(dir string) (snapshot.Driver, error){
	"overlay": func(dir string) (snapshot.Driver, error) {
		return overlay.Open(dir, overlay.Options{Rootless: sandbox.Rootless()})
	},
	"btrfs": func(dir string) (snapshot.Driver, error) { return btrfs.Open(dir) },
	"vfs":   func(dir string) (snapshot.Driver, error) { return vfs.Open(dir) },
}

// forDrivers runs a test with each driver, in a work with a busybox as root.tgz.
func forDrivers(t *testing.T, files map[string]string, test func(t *testing.T, w *work)) {
	bb, err := command.StaticBusybox()
	if err != nil {
		strict.Lack(t, "busybox", err)
	}
	content := string(check(os.ReadFile(bb))(t))
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			if !sandbox.Inside() {
				strict.Lack(t, name, "no namespace")
			}
			dir := t.TempDir()
			if name == "btrfs" {
				dir = snapshottest.Mount(t, "btrfs")
			}
			if _, err := open(dir); errors.Is(err, snapshot.ErrUnsupported) {
				strict.Lack(t, name, err)
			}
			w := newWork(t, files)
			w.write("root.tgz", archive("bin/", "bin/busybox!="+content, "bin/sh -> busybox", "etc/", "etc/passwd=root:x:0:0::/root:/bin/sh\napp:x:5:6::/home/app:/bin/sh\n",
				"etc/group=root:x:0:\nstaff:x:50:\n", "tmp/", "data/", "data/a=A", "data/b=B", "data/sub/", "data/sub/c=C", "hard1=H", "hard2 == hard1"))
			w.driver = func() (snapshot.Driver, error) { return open(dir) }
			w.change = func(b *Builder) { b.Rootless = sandbox.Rootless() }
			test(t, w)
			tops := map[string]bool{"root.tgz": true}
			for name := range files {
				top, _, _ := strings.Cut(name, "/")
				tops[top] = true
			}
			if left := check(os.ReadDir(w.dir))(t); len(left) != len(tops) {
				t.Errorf("left in the folder of the spec: %v", left)
			}
			if m := mountsBelow(t, dir+"/"); m != "" {
				t.Errorf("left mounted: %s", m)
			}
		})
	}
}

func mountsBelow(t *testing.T, dir string) string {
	var found []string
	for line := range strings.Lines(string(check(os.ReadFile("/proc/self/mounts"))(t))) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], dir) {
			found = append(found, f[1])
		}
	}
	return strings.Join(found, " ")
}

const rootSpec = "root: {expand: root.tgz}\n"

// Layers begin with the root: on an archive that has no entry for it, it is what unpacking made; on
// nothing it is new.
const (
	head  = "./ 0755 0:0 0\n"
	fresh = "./ 0755 0:0 315532800\n"
)

func TestExecute(t *testing.T) {
	const data = "data/ 0755 7:8 1000000000\n"
	files := map[string]string{"script.sh": "#!/bin/sh\necho script $1 >/out\n", "plain": "echo plain $* >/out\n", "file": "F"}
	cases := []struct{ name, ops, want string }{
		{"line", "run: echo hello >/out", head + "out 0644 0:0 315532800 \"hello\\n\"\n"},
		{"block shares state", "run: |\n    cd /data\n    X=1\n    echo $X $PWD >/out\n", head + "out 0644 0:0 315532800 \"1 /data\\n\"\n"},
		{"list shares none", "run:\n  - cd /data; X=1\n  - echo \"$X\" $PWD >/out\n", head + "out 0644 0:0 315532800 \" /\\n\"\n"},
		{"script of the host", "run: {script: script.sh, args: [one]}", head + "out 0644 0:0 315532800 \"script one\\n\"\n"},
		{"word that is a file", "run: script.sh", head + "out 0644 0:0 315532800 \"script\\n\"\n"},
		{"script without interpreter line", "run: {script: plain, args: [a, b]}", head + "out 0644 0:0 315532800 \"plain a b\\n\"\n"},
		{"word that is none", "run: ls", ""},
		{"environment", "environment: {A: '1'}\n  build_env: {B: '2'}\n  run: {script: 'busybox env | busybox grep -E \"^(A|B|C|SOURCE_DATE_EPOCH)=\" | busybox sort >/out', env: {C: '3'}, shell: /bin/sh}",
			head + "out 0644 0:0 315532800 \"A=1\\nB=2\\nC=3\\nSOURCE_DATE_EPOCH=315532800\\n\"\n"},
		{"user and folder", "run:\n    - busybox chmod 1777 /tmp\n    - {script: 'echo $(busybox id -un) $(busybox id -g) $PWD >out', user: app, workdir: /tmp}", head + "tmp/ 1777 7:8 1000000000\ntmp/out 0644 5:6 315532800 \"app 6 /tmp\\n\"\n"},
		{"changes nothing", "run: busybox touch /data/a2; busybox rm /data/a2", ""},
		{"removes and replaces", "run: busybox rm -r /data/sub /data/a; echo new >/data/sub", head + data + "data/.wh.a 0000 0:0 0 \"\"\ndata/sub 0644 0:0 315532800 \"new\\n\"\n"},
		{"folder made anew", "run: busybox rm -r /data; busybox mkdir /data; echo A >/data/x", head + "data/ 0755 0:0 1000000000\ndata/.wh.a 0000 0:0 0 \"\"\ndata/.wh.b 0000 0:0 0 \"\"\ndata/.wh.sub 0000 0:0 0 \"\"\ndata/x 0644 0:0 315532800 \"A\\n\"\n"},
		{"mode alone", "run: busybox chmod 600 /data/a", head + data + "data/a 0600 7:8 1000000000 \"A\"\n"},
		{"owner alone", "run: busybox chown 5:50 /data/a", head + data + "data/a 0644 5:50 1000000000 \"A\"\n"},
		{"hard links", "run: busybox mkdir /n; echo 1 >/n/1; busybox ln /n/1 /n/2", head + "n/ 0755 0:0 315532800\nn/1 0644 0:0 315532800 \"1\\n\"\nn/2 0644 0:0 315532800 = n/1\n"},
		{"copy, then run", "copy: file /data/\n  run: busybox cp /data/file /data/file2", head + data + "data/file 0644 0:0 315532800 \"F\"\ndata/file2 0644 0:0 315532800 \"F\"\n"},
		{"run, then remove", "run: echo x >/data/x\n  remove: ['/data/[ab]', /data/x]", head + data + "data/.wh.a 0000 0:0 0 \"\"\ndata/.wh.b 0000 0:0 0 \"\"\n"},
		{"steps in their order", "steps:\n  - run: echo x >/data/x\n  - copy: file /data/x\n  - run: busybox cat /data/x /data/a >/data/a2\n  - remove: /data/a",
			head + data + "data/.wh.a 0000 0:0 0 \"\"\ndata/a2 0644 0:0 315532800 \"FA\"\ndata/x 0644 0:0 315532800 \"F\"\n"},
		{"hooks", "pre: echo pre $GENOCI_TARGET >%ROOT%/data/hook\n  run: busybox cp /data/hook /data/seen\n  post: rm %ROOT%/data/hook", head + data + "data/seen 0644 0:0 315532800 \"pre new\\n\"\n"},
	}
	forDrivers(t, files, func(t *testing.T, w *work) {
		w.build(rootSpec)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				w.t = t
				w.build("new:\n  base: root\n  " + c.ops + "\n")
				switch n := len(w.image("new").Manifest.Layers); {
				case n == 1 && c.want != "":
					t.Error("no layer")
				case n == 2:
					if d := cmp.Diff(c.want, w.list("new", 1)); d != "" {
						t.Error(d)
					}
				}
			})
		}
		w.t = t
	})
}

// What is lent to an image without a shell is not in its layer, and is part of what the cache asks
// for.
func TestLentBusybox(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		const text = "t: {run: 'echo hi | tr a-z A-Z >/out'}\n"
		w.build(text)
		if d := cmp.Diff(fresh+"out 0644 0:0 315532800 \"HI\\n\"\n", w.list("t", 0)); d != "" {
			t.Error(d)
		}
		w.build(text)
		if w.outcomes() != "t cached" {
			t.Errorf("second build: %s", w.outcomes())
		}
		// Any other static program that lists no applets will do as another version of busybox.
		other := filepath.Join(t.TempDir(), "busybox")
		content := append(check(os.ReadFile(check(exec.LookPath("busybox"))(t)))(t), "more"...)
		if err := os.WriteFile(other, content, 0o755); err != nil {
			t.Fatal(err)
		}
		before := w.change
		w.change = func(b *Builder) { before(b); b.Busybox = other }
		w.build(text)
		if w.outcomes() != "t execute" {
			t.Errorf("with another busybox: %s", w.outcomes())
		}
	})
}

func TestFailure(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		mark := filepath.Join(t.TempDir(), "post-ran")
		text := rootSpec + "bad:\n  base: root\n  pre: 'true'\n  run:\n    - 'true'\n    - for i in 1 2 3; do echo line $i; done; echo oops >&2; exit 7\n  post: touch " + mark + "\n"
		_, err := w.try(text)
		var step *StepError
		var exit *sandbox.ExitError
		if !errors.As(err, &step) || !errors.As(err, &exit) || exit.Code != 7 {
			t.Fatalf("error %v", err)
		}
		if step.Pos.Line != 7 || step.Target != "bad" || strings.Join(step.Tail, "|") != "line 1|line 2|line 3|oops" {
			t.Errorf("error %+v", step)
		}
		if _, err := os.Stat(mark); err != nil {
			t.Errorf("post hook: %v", err)
		}
		if len(w.tags()) != 0 {
			t.Errorf("tags %v", w.tags())
		}
	})
}

// Post hooks run also where what fails comes between the steps that need a tree.
func TestPostAfterFailureBetween(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		for name, step := range map[string]string{
			"composed":   "copy: {content: x, dest: /x, chown: nobody-here}",
			"no input":   "copy: missing /x",
			"in the end": "run: 'false'",
		} {
			mark := filepath.Join(t.TempDir(), "post-ran")
			_, err := w.try(rootSpec + "bad:\n  base: root\n  pre: 'true'\n  steps:\n  - {run: echo 1 >/one, layer: true}\n  - {" + step + ", layer: true}\n  - run: echo 2 >/two\n" +
				"  post: cat %ROOT%/one >>" + mark + "\n")
			var failure *StepError
			if !errors.As(err, &failure) || failure.Pos.Line != 7 {
				t.Errorf("%s: error %v", name, err)
			}
			if got, err := os.ReadFile(mark); string(got) != "1\n" {
				t.Errorf("%s: post hooks left %q, %v", name, got, err)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		ctx, cancel := context.WithCancel(t.Context())
		b, p := w.builder(rootSpec + "slow: {base: root, run: 'echo started; exec busybox sleep 3600'}\n")
		report := b.Report
		b.Report = func(e Event) {
			if report(e); e.Kind == Output && e.Text == "started" {
				cancel()
			}
		}
		begin := time.Now()
		if _, err := b.Build(ctx, p); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		if len(w.tags()) != 0 {
			t.Errorf("tags %v", w.tags())
		}
		w.wantFailedTrees()
	})
}

// A step on a tree that was kept gives the same as on one that is unpacked from the layers.
func TestKeptTreeIsTheSame(t *testing.T) {
	const text = rootSpec + `one: {base: root, run: 'busybox touch /data/x; busybox rm /data/x; echo 1 >/data/one; busybox mkdir /d; echo >/d/f'}
two: {base: one, run: 'busybox find / -xdev -mindepth 1 -maxdepth 2 -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -path /.genoci -prune -o -path "/etc/*" -prune -o -path /etc -prune -o -newermt 1999-01-01 -print 2>/dev/null | busybox sort >/list; busybox chmod 700 /data /d'}
`
	forDrivers(t, nil, func(t *testing.T, w *work) {
		first := w.build(text)
		kept := w.driver
		w.driver = func() (snapshot.Driver, error) {
			d, err := kept()
			if err != nil {
				return nil, err
			}
			for _, name := range check(d.Names(t.Context()))(t) {
				if err := d.Remove(t.Context(), name); err != nil {
					return nil, err
				}
			}
			return d, nil
		}
		change := w.change
		w.change = func(b *Builder) { change(b); b.NoCache = true }
		second := w.build(text)
		for i := range first.Images {
			if first.Images[i].Digest != second.Images[i].Digest {
				t.Errorf("%s:\nkept %s\nunpacked %s\n%s", first.Images[i].Target, first.Images[i].Digest, second.Images[i].Digest, w.list(first.Images[i].Target, len(w.image(first.Images[i].Target).Manifest.Layers)-1))
			}
		}
	})
}

// What runs nothing gives the same layer when it is carried out in a tree.
func TestComposedEqualsExecuted(t *testing.T) {
	files := map[string]string{
		"lib.tgz": archive("data/", "data/b=X", "data/sub -> a", "new/", "new/1=1", "new/2 == new/1", "bin/more=M"),
		"src/one": "1", "src/two/three": "3", "src/two/a": "A", "file": "F",
		"future.tgz": archive("@4102444800 data/", "@4102444800 data/b=X", "@4102444800 new/", "@4102444801 new/1=1", "@4102444800 new/link -> 1"),
	}
	cases := []string{
		"expand: lib.tgz",
		"expand: future.tgz",
		"steps: [{expand: future.tgz}, {copy: file /new/}, {remove: /data/a}]",
		"expand: {src: lib.tgz, dest: /deep/er, chown: app}",
		"copy: src /data",
		"copy: {src: src, dest: /opt/x, chown: 'app:staff', chmod: 0640}",
		"copy: {from: root, src: /data, dest: /copy}",
		"copy: {from: root, src: '/hard*', dest: /links/}",
		"remove: [/data/sub, hard1, /bin]",
		"steps: [{remove: /data}, {copy: src /data}, {expand: lib.tgz}, {remove: /data/one}]",
		"steps: [{copy: file /data/sub/c}, {copy: file /hard1}, {copy: {content: A, dest: /data/a, chown: '7:8'}}]",
		"expand: root.tgz",
	}
	forDrivers(t, files, func(t *testing.T, w *work) {
		w.build(rootSpec)
		for _, ops := range cases {
			text := "new: {base: root, " + ops + "}\n"
			composed := carryOut(t, w, text, (*execution).composeAll)
			executed := carryOut(t, w, text, (*execution).execute)
			if composed != executed {
				t.Errorf("%s: composed %s, executed %s", ops, composed, executed)
			}
		}
	})
}

// carryOut carries out the only step of a spec in the given way, and returns the DiffID of its
// layer.
func carryOut(t *testing.T, w *work, text string, way func(*execution, context.Context, *layer.Merged) (*builtLayer, error)) string {
	t.Helper()
	b, p := w.builder(text)
	if err := b.init(p); err != nil {
		t.Fatal(err)
	}
	n := newNodes(p)[p.Images[0]]
	if err := b.begin(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	s := b.step(n, p.Images[0].Steps[0])
	_, err := s.resolve(t.Context())
	if err == nil {
		err = s.computeKey()
	}
	if err != nil {
		t.Fatal(err)
	}
	base := check(b.view(t.Context(), n.stack()))(t)
	l := check(way(s.execution(), t.Context(), base))(t)
	if l == nil {
		return ""
	}
	if err := errors.Join(n.made.layers.wait(t.Context()), stack{l}.wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	return string(l.DiffID)
}

// All drivers give the same images.
func TestDriversAgree(t *testing.T) {
	const text = rootSpec + `a: {base: root, run: 'busybox rm -r /data/sub; busybox mv /data/b /data/c; busybox ln /data/c /data/d; busybox ln -s x /data/e; busybox mkfifo /data/f; busybox chmod 4755 /data/a'}
b: {base: a, steps: [{run: 'busybox rm -r /data; busybox mkdir -p /data/new; echo 1 >/data/new/1', layer: true}, {run: 'busybox cp -a /data /data2'}]}
c: {base: root, steps: [{run: 'busybox mv /data /moved; busybox mkdir /data; busybox mv /moved/sub /data/; echo 2 >>/data/sub/c', layer: true}, {run: 'busybox mv /data/sub /sub; busybox mv /moved /data/'}]}
`
	digests := map[string]string{}
	forDrivers(t, nil, func(t *testing.T, w *work) {
		for _, img := range w.build(text).Images {
			if other, ok := digests[img.Target]; ok && other != img.Digest.String() {
				t.Errorf("%s: %s, and %s with another driver", img.Target, img.Digest, other)
			}
			digests[img.Target] = img.Digest.String()
		}
	})
}

// An image whose config lies about a layer cannot put another tree into the place of an honest one.
func TestLyingDiffID(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		w.build(rootSpec + "honest: {copy: {content: honest, dest: /file}}\nliar: {copy: {content: liar, dest: /file}}\n")
		honest, liar := w.image("honest"), w.image("liar")
		liar.Config.RootFS.DiffIDs = honest.Config.RootFS.DiffIDs
		liar = check(w.layout.WriteImage(liar))(t)
		err := w.layout.Update(t.Context(), func(x *layout.Index) error { x.Set("liar", liar.Descriptor); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.try("new: {base: liar, run: 'true'}\n"); err == nil || !strings.Contains(err.Error(), "as the config says") {
			t.Errorf("error %v", err)
		}
		w.build("new: {base: honest, run: 'cp /file /copy'}\n")
		if got := w.list("new", 1); !strings.Contains(got, "copy 0644 0:0 315532800 \"honest\"") {
			t.Errorf("on the honest base:\n%s", got)
		}
	})
}

// A full disk is told once, and is no reason to try the archive in another way.
func TestFullDisk(t *testing.T) {
	if !sandbox.Inside() {
		strict.Lack(t, "tmpfs", "no namespace")
	}
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * i >> 7 * i >> 3) // does not compress well
	}
	w := newWork(t, map[string]string{"big.tgz": archive("a=" + string(big))})
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		strict.Lack(t, "tmpfs", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	w.layout = check(layout.Create(filepath.Join(dir, "oci")))(t)
	for _, text := range []string{"t: {expand: big.tgz}\n", "t: {expand: big.tgz, copy: big.tgz /b}\n"} {
		got := w.fails(text)
		if strings.Count(got, "no space left on device") != 1 {
			t.Errorf("error %s", got)
		}
		if slices.ContainsFunc(w.events, func(e Event) bool { return e.Kind == Rewritten }) {
			t.Error("the archive was tried in another way")
		}
		if left := check(os.ReadDir(filepath.Join(dir, "oci/blobs")))(t); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
	w.layout.Close()
}

// SOURCE_DATE_EPOCH limits times in the tree as well as in the layer: a later step does not see
// them as changed.
func TestClampedTree(t *testing.T) {
	digests := map[string]bool{}
	forDrivers(t, nil, func(t *testing.T, w *work) {
		epoch, change := int64(1), w.change
		w.change = func(b *Builder) { change(b); b.SourceEpoch = &epoch }
		res := w.build(rootSpec + "one: {base: root, run: 'busybox touch -d 2001-01-01 /f'}\ntwo: {base: one, run: 'busybox touch /g; busybox chmod 600 /f; busybox chmod 644 /f'}\n")
		if got := w.list("one", 1); !strings.Contains(got, "\nf 0644 0:0 1 ") {
			t.Errorf("first layer:\n%s", got)
		}
		if got := w.list("two", 2); strings.Contains(got, "\nf ") || !strings.Contains(got, "g 0644 0:0 1 ") {
			t.Errorf("second layer:\n%s", got)
		}
		digests[res.Images[2].Digest.String()] = true
	})
	if len(digests) > 1 {
		t.Errorf("drivers disagree: %v", digests)
	}
}

// The tree that a step runs in was made in the pass that made the layer below: nobody has to read
// that again.
func TestTreeOfOnePass(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		for name, root := range map[string]string{
			"as it is": "root: {expand: ./root.tgz}\n",
			"composed": "root: {expand: ./root.tgz, copy: {content: C, dest: /data/c}}\n",
			"steps":    "root: {steps: [{expand: ./root.tgz, layer: true}, {copy: {content: D, dest: /data/d}}]}\n",
		} {
			lost := 0
			w.onEvent = func(e Event) {
				if e.Kind != ImageStarted || e.Target != "a" {
					return
				}
				blobs := filepath.Join(w.layout.Dir(), "blobs")
				err := filepath.WalkDir(blobs, func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						lost++
						err = os.Truncate(path, 0)
					}
					if errors.Is(err, fs.ErrNotExist) { // it has just got its name
						return nil
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			w.compressing(func() error { return nil })
			compressing := w.change
			w.change = func(b *Builder) {
				compressing(b)
				b.Rootless, b.NoCache = sandbox.Rootless(), true
			}
			w.build(root + "a: {base: root, run: 'busybox ls -R /data >/all'}\n")
			if lost == 0 && name == "as it is" { // the others may come later
				t.Errorf("%s: no blob was there to be lost", name)
			}
			if err := os.RemoveAll(w.layout.Dir()); err != nil {
				t.Fatal(err)
			}
			w.layout = check(layout.Create(w.layout.Dir()))(t)
		}
	})
}

// slow is a compression that takes its time.
type slow struct{ io.WriteCloser }

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return s.WriteCloser.Write(p)
}

// An archive that turns out to be no sound layer in the middle is given up, also where the tree
// that is made of it has come as far as it can without the layer.
func TestTreeAheadOfUnsoundArchive(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 4<<16)
	files := map[string]string{"twice.tgz": archive("a="+big, "f=1", "f=2", "b="+big)}
	forDrivers(t, files, func(t *testing.T, w *work) {
		before, begun := w.change, false
		w.change = func(b *Builder) {
			before(b)
			b.Compression, b.Recompress = layer.Compressions[0], true
			b.Compression.Name = "slow"
			b.Compression.NewWriter = func(out io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
				z, err := layer.Compressions[0].NewWriter(out, taps...)
				if err != nil || begun {
					return z, err
				}
				begun = true
				return slow{z}, nil
			}
		}
		built := make(chan error, 1)
		b, p := w.builder("t: {steps: [{expand: twice.tgz, layer: true}, {run: 'cat /f >/out'}]}\n")
		go func() {
			_, err := b.Build(t.Context(), p)
			built <- err
		}()
		select {
		case err := <-built:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the build does not end")
		}
	})
}

// The tree of a base that nothing was run on yet is made from all of its layers.
func TestBaseOfSeveralLayers(t *testing.T) {
	forDrivers(t, nil, func(t *testing.T, w *work) {
		w.build("base: {steps: [{expand: ./root.tgz, layer: true}, {copy: {content: two, dest: /two}, layer: true}, {copy: {content: three, dest: /three}}]}\n")
		w.build("t: {base: base, run: 'test -e /two; test -e /three; busybox cat /two /three >/all'}\n")
		if got := w.list("t", 3); !strings.Contains(got, `all 0644 0:0 315532800 "twothree"`) {
			t.Error(got)
		}
	})
}
