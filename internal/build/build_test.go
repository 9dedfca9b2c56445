package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/image"
	"genoci/internal/imagetest"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
	"genoci/test/strict"
)

// work is a folder with inputs, a layout and a cache, in which specs are built.
type work struct {
	t       testing.TB
	dir     string // of the spec and its inputs
	layout  *layout.Layout
	cache   *cache.Cache
	driver  func() (snapshot.Driver, error)
	change  func(*Builder) // what is special about the next build
	events  []Event
	onEvent func(Event) // with compressing
}

// newWork makes the inputs from file names (those that end in / are folders) and contents.
func newWork(t testing.TB, files map[string]string) *work {
	t.Helper()
	w := &work{t: t, dir: t.TempDir(), driver: func() (snapshot.Driver, error) {
		return nil, errors.New("this test runs nothing")
	}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w.write(name, files[name])
	}
	w.layout = check(layout.Create(filepath.Join(t.TempDir(), "oci")))(t)
	t.Cleanup(func() { w.layout.Close() })
	w.cache = openCache(t)
	return w
}

// openCache opens a new cache.
func openCache(t testing.TB) *cache.Cache {
	t.Helper()
	c := check(cache.Open(t.TempDir()))(t)
	c.SealAt(filepath.Join(t.TempDir(), "secret"))
	return c
}

// check returns the value of a call that may not fail.
func check[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *work) write(name, content string) {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	err := os.MkdirAll(filepath.Dir(p), 0o755)
	if err == nil && strings.HasSuffix(name, "/") {
		err = os.MkdirAll(p, 0o755)
	} else if err == nil {
		err = os.WriteFile(p, []byte(content), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// builder makes a builder and the plan of a spec.
func (w *work) builder(text string, targets ...string) (*Builder, *plan.Plan) {
	w.t.Helper()
	s := check(spec.Parse(filepath.Join(w.dir, "genoci.yaml"), []byte(text), spec.Options{}))(w.t)
	var names []string
	for _, tag := range check(w.layout.Tags())(w.t) {
		names = append(names, tag.Name)
	}
	p := check(plan.New(s, targets, names))(w.t)
	w.events = nil
	b := &Builder{
		Layout: w.layout, Cache: w.cache, Driver: w.driver,
		Now:    func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) },
		Report: func(e Event) { w.events = append(w.events, e) },
	}
	if w.change != nil {
		w.change(b)
	}
	return b, p
}

func (w *work) try(text string, targets ...string) (*Result, error) {
	w.t.Helper()
	b, p := w.builder(text, targets...)
	return b.Build(w.t.Context(), p)
}

func (w *work) build(text string, targets ...string) *Result {
	w.t.Helper()
	return check(w.try(text, targets...))(w.t)
}

// fails builds a spec that must fail, and returns the message with the folder replaced by DIR.
func (w *work) fails(text string) string {
	w.t.Helper()
	res, err := w.try(text)
	if err == nil {
		w.t.Fatalf("built %v", res.Images)
	}
	return strings.ReplaceAll(err.Error(), w.dir, "DIR")
}

func (w *work) image(tag string) image.Image {
	w.t.Helper()
	return check(w.layout.Image(tag, image.BuiltHere()))(w.t)
}

// list shows the layer with the index i of a tag, a line an entry.
func (w *work) list(tag string, i int) string {
	w.t.Helper()
	img := w.image(tag)
	b := &Builder{Layout: w.layout}
	r := check(b.images().OpenLayer(img.Manifest.Layers[i], nil))(w.t)
	defer r.Close()
	var out strings.Builder
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		fmt.Fprintf(&out, "%s %04o %d:%d %d", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.Unix())
		switch h.Typeflag {
		case tar.TypeReg:
			var content bytes.Buffer
			if _, err := content.ReadFrom(tr); err != nil {
				w.t.Fatal(err)
			}
			fmt.Fprintf(&out, " %q", content.String())
		case tar.TypeSymlink:
			fmt.Fprintf(&out, " -> %s", h.Linkname)
		case tar.TypeLink:
			fmt.Fprintf(&out, " = %s", h.Linkname)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (w *work) tags() []string {
	w.t.Helper()
	var names []string
	for _, tag := range check(w.layout.Tags())(w.t) {
		names = append(names, tag.Name)
	}
	slices.Sort(names)
	return names
}

// archive returns a gzipped tar. The name of an entry may begin with "@SECONDS ", the time that it
// gets. An entry is "NAME", "NAME=content", "NAME!=content" (a program), "NAME -> link", "NAME ==
// hard link" or "NAME/".
func archive(entries ...string) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	tw := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e, Mode: 0o644, ModTime: time.Unix(1e9, 0), Uid: 7, Gid: 8}
		if at, rest, ok := strings.Cut(e, " "); ok && e[0] == '@' {
			seconds, err := strconv.ParseInt(at[1:], 10, 64)
			if err != nil {
				panic(err)
			}
			e, h.Name, h.ModTime = rest, rest, time.Unix(seconds, 0)
		}
		content := ""
		if name, c, ok := strings.Cut(e, "="); ok && !strings.HasSuffix(name, " ") {
			h.Name, content = strings.TrimSuffix(name, "!"), c
			if h.Name != name {
				h.Mode = 0o755
			}
		} else if name, link, ok := strings.Cut(e, " -> "); ok {
			h.Name, h.Typeflag, h.Linkname = name, tar.TypeSymlink, link
		} else if name, link, ok := strings.Cut(e, " == "); ok {
			h.Name, h.Typeflag, h.Linkname = name, tar.TypeLink, link
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		h.Size = int64(len(content))
		if err := tw.WriteHeader(h); err != nil {
			panic(err)
		}
		tw.Write([]byte(content))
	}
	tw.Close()
	z.Close()
	return buf.String()
}

// outcomes returns how the steps of the last build were carried out.
func (w *work) outcomes() string {
	var s []string
	for _, e := range w.events {
		if e.Kind == StepDone {
			s = append(s, e.Step+" "+string(e.Outcome))
		}
	}
	slices.Sort(s)
	return strings.Join(s, ", ")
}

const chain = `
base:
  expand: root.tgz
app:
  base: base
  copy: app /usr/bin/
  environment: {PATH: "$PATH:/opt", NEW: "1"}
  entrypoint: /usr/bin/app "hello world"
conf:
  base: app
  labels: {a: b}
`

func TestTagsAndCache(t *testing.T) {
	w := newWork(t, map[string]string{"root.tgz": archive("usr/", "usr/bin/", "etc/=", "bin -> usr/bin"), "app": "APP"})
	res := w.build(chain)
	want := []string{"app", "app-2026-11-23_1", "base", "base-2026-11-23_1", "conf", "conf-2026-11-23_1"}
	if d := cmp.Diff(want, w.tags()); d != "" {
		t.Error(d)
	}
	if got := w.outcomes(); got != "app compose, base compose" {
		t.Errorf("first build: %s", got)
	}
	if app := w.image("app"); len(app.Manifest.Layers) != 2 || !slices.Equal(app.Config.Config.Entrypoint, []string{"/usr/bin/app", "hello world"}) {
		t.Errorf("app: %+v", app)
	}
	if conf := w.image("conf"); len(conf.Manifest.Layers) != 2 || conf.Manifest.Annotations["org.opencontainers.image.base.name"] != "app" ||
		conf.Manifest.Annotations["org.opencontainers.image.base.digest"] != res.Images[1].Digest.String() {
		t.Errorf("conf: %+v", conf.Manifest)
	}
	want2 := head + "usr/ 0755 7:8 1000000000\nusr/bin/ 0755 7:8 1000000000\nusr/bin/app 0644 0:0 315532800 \"APP\"\n"
	if d := cmp.Diff(want2, w.list("app", 1)); d != "" {
		t.Error(d)
	}

	again := w.build(chain)
	if got := w.outcomes(); got != "app cached, base cached" {
		t.Errorf("second build: %s", got)
	}
	for i := range again.Images {
		if again.Images[i].Digest != res.Images[i].Digest || !again.Images[i].Cached || again.Images[i].Added != 0 {
			t.Errorf("second build: %+v, first: %+v", again.Images[i], res.Images[i])
		}
	}
	if !slices.Contains(w.tags(), "conf-2026-11-23_2") {
		t.Errorf("tags %v", w.tags())
	}
	if problems := w.verify(); len(problems) > 0 {
		t.Error(problems)
	}
}

func (w *work) verify() (problems []string) {
	w.t.Helper()
	_, _, err := w.layout.Verify(w.t.Context(), func(mediaType string, r io.Reader) (io.ReadCloser, error) {
		c, err := layer.CompressionByMediaType(mediaType)
		if err != nil {
			return nil, err
		}
		return c.NewReader(r)
	}, func(p layout.Problem) {
		problems = append(problems, fmt.Sprint(p))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return problems
}

// Every input is in the key: a change of any is seen, and only what depends on it is made anew.
func TestCacheIsNeverStale(t *testing.T) {
	files := map[string]string{"root.tgz": archive("a=1"), "f": "F", "d/x": "X", "d/sub/y": "Y"}
	const text = `
base: {expand: root.tgz}
one: {base: base, copy: f /f}
two: {base: base, copy: d /d}
`
	for _, c := range []struct {
		what   string
		change func(w *work)
		text   string
		want   string
	}{
		{"nothing", func(w *work) {}, text, "base cached, one cached, two cached"},
		{"file", func(w *work) { w.write("f", "G") }, text, "base cached, one compose, two cached"},
		{"mode", func(w *work) { os.Chmod(filepath.Join(w.dir, "d/x"), 0o600) }, text, "base cached, one cached, two compose"},
		{"new file", func(w *work) { w.write("d/new", "") }, text, "base cached, one cached, two compose"},
		{"empty folder", func(w *work) { w.write("d/new/", "") }, text, "base cached, one cached, two compose"},
		{"renamed", func(w *work) { os.Rename(filepath.Join(w.dir, "d/x"), filepath.Join(w.dir, "d/z")) }, text, "base cached, one cached, two compose"},
		{"archive", func(w *work) { w.write("root.tgz", archive("a=2")) }, text, "base compose, one compose, two compose"},
		{"dest", func(w *work) {}, strings.Replace(text, "f /f", "f /g", 1), "base cached, one compose, two cached"},
		{"exclude", func(w *work) {}, strings.Replace(text, "copy: d /d", "copy: {src: d, dest: /d, exclude: [y]}", 1), "base cached, one cached, two compose"},
		{"chmod", func(w *work) {}, strings.Replace(text, "copy: f /f", "copy: {src: f, dest: /f, chmod: 0600}", 1), "base cached, one compose, two cached"},
		{"created", func(w *work) {}, strings.Replace(text, "copy: f /f", "copy: f /f, created: 2001-01-01T00:00:00Z", 1), "base cached, one compose, two cached"},
		{"times only", func(w *work) { os.Chtimes(filepath.Join(w.dir, "d/x"), time.Time{}, time.Unix(1, 0)) }, text, "base cached, one cached, two cached"},
		{"label", func(w *work) {}, strings.Replace(text, "copy: f /f", "copy: f /f, labels: {a: b}", 1), "base cached, one cached, two cached"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWork(t, files)
			w.build(text)
			c.change(w)
			w.build(c.text)
			if got := w.outcomes(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A cache entry whose blob is gone, and a cache that is gone, lead to the same image.
func TestCacheMayGo(t *testing.T) {
	w := newWork(t, map[string]string{"root.tgz": archive("a=1", "d/", "d/f=2"), "app": "APP"})
	const text = "base: {expand: root.tgz}\napp: {base: base, copy: app /d/}\n"
	first := w.build(text)
	for name, lose := range map[string]func(){
		"blob": func() {
			d := w.image("app").Manifest.Layers[1].Digest
			if err := os.Remove(filepath.Join(w.layout.Dir(), "blobs/sha256", d.Encoded())); err != nil {
				t.Fatal(err)
			}
		},
		"cache": func() { w.cache = openCache(t) },
		"index": func() {
			toc := check(w.cache.Dir("toc"))(t)
			for _, e := range check(os.ReadDir(toc))(t) {
				if err := os.WriteFile(filepath.Join(toc, e.Name()), []byte("no index"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.write("app", "APP") // and the steps are to be carried out
			w.change = func(b *Builder) { b.NoCache = true }
		},
	} {
		lose()
		again := w.build(text)
		for i := range again.Images {
			if again.Images[i].Digest != first.Images[i].Digest {
				t.Errorf("%s lost: %s is %s, was %s", name, again.Images[i].Target, again.Images[i].Digest, first.Images[i].Digest)
			}
		}
		if p := w.verify(); len(p) > 0 {
			t.Errorf("%s lost: %v", name, p)
		}
	}
}

func TestPureOps(t *testing.T) {
	files := map[string]string{
		"root.tgz": archive("usr/", "usr/lib/", "usr/lib/a=A", "lib -> usr/lib", "etc/", "etc/passwd=root:x:0:0::/:\napp:x:5:6::/:\n",
			"etc/group=root:x:0:\nstaff:x:50:app\n", "tmp/", "hard=H", "hard2 == hard", "none -> gone/deep",
			"g1/", "g1/a=A", "g1/z == g1/a", "g2/", "g2/a=B", "g3/", "g3/c == g1/a", "g3/to -> /lib/a"),
		"none.tgz": archive("none/", "none/x=X"),
		"lib.tgz":  archive("lib/", "lib/b=B"),
		"top.tgz":  archive("top/", "top/x/", "top/x/1=1", "top/x/2=2", "top/y=Y", "top/z == top/x/1"),
		"src/one":  "1", "src/two.o": "2", "src/sub/three": "3", "file": "F",
	}
	const base = "root: {expand: root.tgz}\n"
	root := head
	usrlib := "usr/ 0755 7:8 1000000000\nusr/lib/ 0755 7:8 1000000000\n"
	for _, c := range []struct{ name, ops, want string }{
		{"folder of an archive goes through a symlink of the base", "expand: lib.tgz", root + usrlib + "usr/lib/b 0644 7:8 1000000000 \"B\"\n"},
		{"folder of an archive goes through a symlink to nothing", "expand: none.tgz", root + "gone/ 0755 0:0 315532800\ngone/deep/ 0755 7:8 1000000000\n" +
			"gone/deep/x 0644 7:8 1000000000 \"X\"\n"},
		{"so does the destination of one", "expand: {src: none.tgz, dest: /none/in, strip_components: 1, chown: '1:2'}", root +
			"gone/ 0755 1:2 315532800\ngone/deep/ 0755 1:2 315532800\ngone/deep/in/ 0755 1:2 315532800\ngone/deep/in/x 0644 1:2 1000000000 \"X\"\n"},
		{"content goes through it", "copy: {content: hi, dest: /none}", root + "gone/ 0755 0:0 315532800\ngone/deep 0644 0:0 315532800 \"hi\"\n"},
		{"a glob of an image goes through its symlinks", "copy: {from: root, src: '/lib/?', dest: /n}", root + "n/ 0755 0:0 315532800\nn/a 0644 7:8 315532800 \"A\"\n"},
		{"a symlink of an image that a glob matches", "copy: {from: root, src: '/g3/t*', dest: /n}", root + "n/ 0755 0:0 315532800\nn/to 0644 7:8 315532800 \"A\"\n"},
		{"a hard link whose first name was replaced", "copy: {from: root, src: '/g[12]', dest: /n}", root + "n/ 0755 0:0 315532800\nn/a 0644 7:8 315532800 \"B\"\nn/z 0644 7:8 315532800 \"A\"\n"},
		{"and a further name of it", "steps: [{copy: {from: root, src: '/g[123]', dest: /n, exclude: [z, to]}}]", root +
			"n/ 0755 0:0 315532800\nn/a 0644 7:8 315532800 \"B\"\nn/c 0644 7:8 315532800 \"A\"\n"},
		{"copy goes through it, too", "copy: src /lib", root + usrlib +
			"usr/lib/one 0644 0:0 315532800 \"1\"\nusr/lib/sub/ 0755 0:0 315532800\nusr/lib/sub/three 0644 0:0 315532800 \"3\"\nusr/lib/two.o 0644 0:0 315532800 \"2\"\n"},
		{"copy of several goes into a folder", "copy: src/* /new", root +
			"new/ 0755 0:0 315532800\nnew/one 0644 0:0 315532800 \"1\"\nnew/three 0644 0:0 315532800 \"3\"\nnew/two.o 0644 0:0 315532800 \"2\"\n"},
		{"file as a name, with owner and mode", "copy: {src: file, dest: opt/x, chown: app:staff, chmod: 04750}", root +
			"opt/ 0755 5:50 315532800\nopt/x 4750 5:50 315532800 \"F\"\n"},
		{"primary group of a user", "copy: {src: file, dest: /x, chown: app}", root + "x 0644 5:6 315532800 \"F\"\n"},
		{"numbers", "copy: {src: file, dest: /x, chown: '12:34'}", root + "x 0644 12:34 315532800 \"F\"\n"},
		{"exclude", "copy: {src: src, dest: /s, exclude: ['*.o', sub]}", root + "s/ 0755 0:0 315532800\ns/one 0644 0:0 315532800 \"1\"\n"},
		{"exception", "copy: {src: src, dest: /s, exclude: ['*', '!sub/three', '!*.o']}", root +
			"s/ 0755 0:0 315532800\ns/sub/ 0755 0:0 315532800\ns/sub/three 0644 0:0 315532800 \"3\"\ns/two.o 0644 0:0 315532800 \"2\"\n"},
		{"exception that nothing is of", "copy: {src: src, dest: /s, exclude: ['*', '!sub/four', '!one']}", root +
			"s/ 0755 0:0 315532800\ns/one 0644 0:0 315532800 \"1\"\n"},
		{"exception, from a tag", "copy: {from: root, src: /, dest: /s, exclude: ['*', '!usr/lib/*', '!usr/x']}", root +
			"s/ 0755 0:0 315532800\ns/usr/ 0755 7:8 315532800\ns/usr/lib/ 0755 7:8 315532800\ns/usr/lib/a 0644 7:8 315532800 \"A\"\n"},
		{"exception, of an archive", "expand: {src: top.tgz, dest: /t, exclude: ['top', '!top/x/1']}", root +
			"t/ 0755 0:0 315532800\nt/top/ 0755 7:8 1000000000\nt/top/x/ 0755 7:8 1000000000\nt/top/x/1 0644 7:8 1000000000 \"1\"\n"},
		{"exception from what is included", "expand: {src: top.tgz, include: ['top/x', '!2']}", root +
			"top/ 0755 0:0 315532800\ntop/x/ 0755 7:8 1000000000\ntop/x/1 0644 7:8 1000000000 \"1\"\n"},
		{"content", "copy: {content: \"hi\\n\", dest: /etc/motd}", root + "etc/ 0755 7:8 1000000000\netc/motd 0644 0:0 315532800 \"hi\\n\"\n"},
		{"from a tag", "copy: {from: root, src: /lib/a, dest: /copy}", root + "copy 0644 7:8 315532800 \"A\"\n"},
		{"from keeps hard links", "copy: {from: root, src: '/h*', dest: /h/}", root + "h/ 0755 0:0 315532800\nh/hard 0644 7:8 315532800 \"H\"\nh/hard2 0644 7:8 315532800 = h/hard\n"},
		{"strip and include", "expand: {src: top.tgz, dest: /t, strip_components: 2, exclude: ['2']}", root +
			"t/ 0755 0:0 315532800\nt/1 0644 7:8 1000000000 \"1\"\n"},
		{"hard link whose first name is left out", "expand: {src: top.tgz, include: [top/z]}", root +
			"top/ 0755 0:0 315532800\ntop/z 0644 7:8 1000000000 \"1\"\n"},
		{"chown of an archive", "expand: {src: lib.tgz, dest: /n, chown: '1:2'}", root +
			"n/ 0755 1:2 315532800\nn/lib/ 0755 1:2 1000000000\nn/lib/b 0644 1:2 1000000000 \"B\"\n"},
		{"remove", "remove: [/lib/a, /etc, 'h*']", root + ".wh.etc 0000 0:0 0 \"\"\n.wh.hard 0000 0:0 0 \"\"\n.wh.hard2 0000 0:0 0 \"\"\n" + usrlib + "usr/lib/.wh.a 0000 0:0 0 \"\"\n"},
		{"the link, not what it points to", "remove: /lib", root + ".wh.lib 0000 0:0 0 \"\"\n"},
		{"what comes and goes", "steps: [{copy: file /x}, {remove: /x}]", ""},
		{"the same again", "copy: {from: root, src: /hard, dest: /n, chown: '7:8'}", root + "n 0644 7:8 315532800 \"H\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWork(t, files)
			w.build(base)
			w.build("new: {base: root, " + c.ops + "}\n")
			if n := len(w.image("new").Manifest.Layers); n == 1 && c.want == "" {
				return
			} else if n != 2 {
				t.Fatalf("%d layers", n)
			}
			if d := cmp.Diff(c.want, w.list("new", 1)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	files := map[string]string{"root.tgz": archive("etc/", "file=F"), "f": "F", "no.tgz": "no archive", "d/x": ""}
	for _, c := range []struct{ ops, want string }{
		{"expand: none.tgz", `DIR/genoci.yaml:1:13: target "t": expand none.tgz: stat DIR/none.tgz: no such file or directory`},
		{"expand: d", `DIR/genoci.yaml:1:13: target "t": expand d: read DIR/d: is a folder, not a file`},
		{"copy: none /x", `DIR/genoci.yaml:1:11: target "t": copy none /x: stat DIR/none: no such file or directory`},
		{"copy: {src: 'n*e', dest: /x}", `copy n*e /x: match n*e: file does not exist`},
		{"copy: {src: f, dest: /x, chown: nobody}", `DIR/genoci.yaml:1:11: target "t": copy f /x: chown: the image has no user "nobody" in /etc/passwd`},
		{"base: 'oci:none:x'", `DIR/genoci.yaml:1:11: target "t": base oci:none:x: `},
		{"expand: no.tgz", ""},
		{"steps: [{expand: root.tgz}, {copy: f /file/x}]", `copy f /file/x: `},
		{"steps: [{expand: root.tgz}, {copy: f /file/}]", `copy f /file/: f goes into a folder, since the destination ends as one, and /file is a file in the image`},
		{"steps: [{expand: root.tgz}, {copy: d /file}]", `copy d /file: d is a folder, and /file is a file in the image`},
		{"copy: [f /x, d /x]", `DIR/genoci.yaml:1:18: target "t": copy d /x: d is a folder, and /x is a file in the image`},
		{"steps: [{expand: root.tgz}, {copy: 'f* /file'}]", `copy f* /file: f goes into a folder, as all that a glob matches, and /file is a file in the image`},
		{"copy: [d /y/f, f /y]", `copy f /y: f is a file, and /y/f is a folder in the image`},
	} {
		t.Run(c.ops, func(t *testing.T) {
			w := newWork(t, files)
			got := w.fails("t: {" + c.ops + "}\n")
			t.Log(got)
			if !strings.Contains(got, c.want) && c.want != "" {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if tags := w.tags(); len(tags) != 0 {
				t.Errorf("tags %v after a failure", tags)
			}
			var known *StepError
			if _, err := w.try("t: {" + c.ops + "}\n"); !errors.As(err, &known) || known.Target != "t" || known.Pos.Line != 1 {
				t.Errorf("error %#v does not say where", err)
			}
		})
	}
}

func TestKeepGoing(t *testing.T) {
	w := newWork(t, map[string]string{"f": "F"})
	const text = `
good: {copy: f /f}
bad: {copy: none /f}
onbad: {base: bad, copy: f /f}
ongood: {base: good, copy: f /g}
`
	if _, err := w.try(text); err == nil || len(w.tags()) != 0 {
		t.Errorf("error %v, tags %v", err, w.tags())
	}
	w.change = func(b *Builder) { b.KeepGoing = true }
	res, err := w.try(text)
	if err == nil || strings.Contains(err.Error(), "onbad") {
		t.Errorf("error %v", err)
	}
	if want := []string{"good", "good-2026-11-23_1", "ongood", "ongood-2026-11-23_1"}; !slices.Equal(w.tags(), want) {
		t.Errorf("tags %v, want %v", w.tags(), want)
	}
	if len(res.Images) != 2 {
		t.Errorf("built %+v", res.Images)
	}
	if i := slices.IndexFunc(w.events, func(e Event) bool { return e.Kind == ImageSkipped }); i < 0 || w.events[i].Target != "onbad" || w.events[i].Text != "bad" {
		t.Errorf("no event says that onbad was skipped because of bad")
	}
}

func TestBuildOnlyTagsAndOCIBase(t *testing.T) {
	w := newWork(t, map[string]string{"f": "F"})
	w.build("tool: {copy: f /f, build_only: true}\nuse: {copy: {from: tool, src: /f, dest: /g}, tags: [latest, v1]}\n")
	if want := []string{"latest", "use", "use-2026-11-23_1", "v1"}; !slices.Equal(w.tags(), want) {
		t.Errorf("tags %v, want %v", w.tags(), want)
	}
	other := newWork(t, map[string]string{"f": "other"})
	other.build("t: {base: 'oci:" + w.layout.Dir() + ":v1', copy: f /h}\n")
	if n := len(other.image("t").Manifest.Layers); n != 2 {
		t.Errorf("%d layers on a base of another layout", n)
	}
	if p := other.verify(); len(p) > 0 {
		t.Error(p)
	}
}

// Nothing but the content of the inputs decides about the digests.
func TestReproducible(t *testing.T) {
	files := map[string]string{"root.tgz": archive("a=1", "d/"), "src/one": "1", "src/two": "2"}
	const text = "base: {expand: root.tgz}\napp: {base: base, copy: src /d, labels: {b: '1', a: '2'}, environment: {Z: '1', A: '2'}}\n"
	w1, w2 := newWork(t, files), newWork(t, files)
	if err := os.Chtimes(filepath.Join(w2.dir, "src/one"), time.Time{}, time.Unix(99, 0)); err != nil {
		t.Fatal(err)
	}
	w2.change = func(b *Builder) {
		b.Jobs, b.Now = 1, func() time.Time { return time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) }
	}
	r1, r2 := w1.build(text), w2.build(text)
	for i := range r1.Images {
		if r1.Images[i].Digest != r2.Images[i].Digest {
			t.Errorf("%s: %s and %s", r1.Images[i].Target, r1.Images[i].Digest, r2.Images[i].Digest)
		}
	}
	epoch := int64(5e8)
	w2.change = func(b *Builder) { b.SourceEpoch = &epoch }
	w2.build(text)
	if got := w2.list("base", 0); !strings.Contains(got, "a 0644 7:8 500000000") {
		t.Errorf("times are not clamped to SOURCE_DATE_EPOCH:\n%s", got)
	}
	if c := w2.image("app").Config.Created; c == nil || c.Unix() != epoch {
		t.Errorf("created %v", c)
	}
}

func TestForecast(t *testing.T) {
	w := newWork(t, map[string]string{"root.tgz": archive("a=1"), "f": "F"})
	const text = "base: {expand: root.tgz}\none: {base: base, copy: f /f}\ntwo: {base: one, run: 'true'}\n"
	forecast := func() string {
		b, p := w.builder(text)
		o, ns, err := b.Forecast(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprint(ns)
		for _, img := range p.Images {
			s += " " + string(o[img.Steps[0]].Outcome)
		}
		return s
	}
	if got := forecast(); got != "true compose compose execute" {
		t.Errorf("before: %s", got)
	}
	w.build(text, "one")
	if got := forecast(); got != "true cached cached execute" {
		t.Errorf("after a build of one: %s", got)
	}
	w.write("f", "G")
	if got := forecast(); got != "true cached compose execute" {
		t.Errorf("after a change: %s", got)
	}
}

// A builder that has made a forecast builds as any other, also when it is told only then how.
func TestBuildAfterForecast(t *testing.T) {
	w := newWork(t, map[string]string{"f": "F"})
	b, p := w.builder("one: {copy: f /f}\ntwo: {base: one, copy: f /g}\n")
	b.Driver = nil
	if _, _, err := b.Forecast(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	b.Jobs, b.Driver = 0, w.driver
	if res, err := b.Build(t.Context(), p); err != nil || len(res.Images) != 2 {
		t.Errorf("built %v, %v", res, err)
	}
}

func TestChangedWhileBuilding(t *testing.T) {
	w := newWork(t, map[string]string{"f": "F"})
	b, p := w.builder("t: {copy: f /f}\n")
	if _, _, err := b.Forecast(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.write("f", "G")
	if _, err := b.Build(t.Context(), p); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("error %v", err)
	}
}

func TestTwoBuildsAtOnce(t *testing.T) {
	w := newWork(t, map[string]string{"f": "F"})
	errs := make(chan error)
	const n = 8
	for i := range n {
		b, p := w.builder(fmt.Sprintf("t%d: {copy: f /%d}\nsame: {copy: f /f}\n", i, i))
		b.Report = nil
		go func() {
			_, err := b.Build(context.Background(), p)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(w.tags()); got != 2*n+1+n {
		t.Errorf("%d tags %v, want two for each target, and same with its %d dates", got, w.tags(), n)
	}
	if p := w.verify(); len(p) > 0 {
		t.Error(p)
	}
}

// compressing makes the builder wait for start, or fail with its error, before it compresses a
// layer.
func (w *work) compressing(start func() error) {
	w.change = func(b *Builder) {
		b.Compression = layer.Compressions[0]
		b.Compression.NewWriter = func(out io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
			if err := start(); err != nil {
				return nil, err
			}
			return layer.Compressions[0].NewWriter(out, taps...)
		}
		report := b.Report
		b.Report = func(e Event) {
			report(e)
			if w.onEvent != nil {
				w.onEvent(e)
			}
		}
	}
}

// An image is begun when the tree of its base is there, though nobody has compressed that yet.
func TestTreeBeforeBlob(t *testing.T) {
	w := newWork(t, nil)
	top := make(chan struct{})
	w.onEvent = func(e Event) {
		if e.Kind == OpStarted && e.Target == "c" {
			close(top)
		}
	}
	w.compressing(func() error {
		select {
		case <-top:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("c was not begun")
		}
	})
	res := w.build("a: {copy: {content: A, dest: /a}}\nb: {base: a, copy: {content: B, dest: /b}}\nc: {base: b, copy: {content: C, dest: /c}}\n")
	if len(res.Images) != 3 || len(w.image("c").Manifest.Layers) != 3 {
		t.Errorf("built %v", res.Images)
	}
	if p := w.verify(); len(p) > 0 {
		t.Error(p)
	}
}

// A layer that cannot be stored is told once, for the image that it is of; what was begun on it is
// skipped.
func TestBlobFails(t *testing.T) {
	for _, keepGoing := range []bool{false, true} {
		w := newWork(t, nil)
		begun := make(chan struct{})
		w.onEvent = func(e Event) {
			if e.Kind == OpStarted && e.Target == "b" {
				close(begun)
			}
		}
		full := errors.New("no space left")
		w.compressing(func() error {
			<-begun
			return full
		})
		change := w.change
		w.change = func(b *Builder) {
			change(b)
			b.KeepGoing = keepGoing
		}
		_, err := w.try("a: {copy: {content: A, dest: /a}}\nb: {base: a, copy: {content: B, dest: /b}}\n")
		var step *StepError
		if !errors.Is(err, full) || !errors.As(err, &step) || step.Target != "a" {
			t.Errorf("keep going %v: %v", keepGoing, err)
		}
		if n := strings.Count(err.Error(), full.Error()); n != 1 {
			t.Errorf("keep going %v: told %d times: %v", keepGoing, n, err)
		}
		if tags := check(w.layout.Tags())(t); len(tags) != 0 {
			t.Errorf("keep going %v: tags %v", keepGoing, tags)
		}
	}
}

func TestCheckInputs(t *testing.T) {
	w := newWork(t, map[string]string{"sub/rootfs.tgz": "", "f": ""})
	_, p := w.builder(`a: {expand: sub/rootsf.tgz, copy: [f /f, "x* /x"], run: nofile}
b: {base: a, run: {script: no.sh, args: [x]}, install: [no.deb, "https://example.org/x.deb"]}
`)
	err := CheckInputs(p, nil)
	want := `DIR/genoci.yaml:1:13: target "a": expand sub/rootsf.tgz: there is no file "sub/rootsf.tgz"
    a: {expand: sub/rootsf.tgz, copy: [f /f, "x* /x"], run: nofile}
                ^ did you mean "sub/rootfs.tgz"?
DIR/genoci.yaml:1:42: target "a": copy x* /x: no file matches "x*"
    a: {expand: sub/rootsf.tgz, copy: [f /f, "x* /x"], run: nofile}
                                             ^
DIR/genoci.yaml:2:19: target "b": run no.sh x: there is no file "no.sh"
    b: {base: a, run: {script: no.sh, args: [x]}, install: [no.deb, "https://example.org/x.deb"]}
                      ^
DIR/genoci.yaml:2:57: target "b": install no.deb https://example.org/x.deb: there is no file "no.deb"
    b: {base: a, run: {script: no.sh, args: [x]}, install: [no.deb, "https://example.org/x.deb"]}
                                                            ^`
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, strings.ReplaceAll(err.Error(), w.dir, "DIR")); d != "" {
		t.Error(d)
	}
	_, p = w.builder("a: {expand: sub/rootfs.tgz, copy: f /f}\n")
	if err := CheckInputs(p, nil); err != nil {
		t.Error(err)
	}
}

// Files come out of foreign layers whatever tar made of them: sparse files, long names, hard links.
func TestCopyFromForeignLayer(t *testing.T) {
	w := newWork(t, map[string]string{"root/a": "A", "root/z": "Z"})
	long := strings.Repeat("long/", 40) + "name"
	w.write("root/"+long, "L")
	sparse := filepath.Join(w.dir, "root/sparse")
	f := check(os.Create(sparse))(t)
	if _, err := f.WriteAt([]byte("end"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Link(sparse, sparse+"2"), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix", "oldgnu"} {
		t.Run(format, func(t *testing.T) {
			tarball := check(exec.Command("tar", "--create", "--sparse", "--sort=name", "--format="+format, "-C", filepath.Join(w.dir, "root"), ".").Output())(t)
			img := check(imagetest.Write(w.layout, image.BuiltHere(), imagetest.Layer{Tar: tarball}))(t)
			err := w.layout.Update(t.Context(), func(x *layout.Index) error { x.Set("foreign", img.Descriptor); return nil })
			if err != nil {
				t.Fatal(err)
			}
			w.build("t: {copy: {from: foreign, src: /, dest: /}}\n")
			got := w.list("t", 0)
			for _, want := range []string{"a 0644 0:0 315532800 \"A\"", "z 0644 0:0 315532800 \"Z\"", long + " 0644 0:0 315532800 \"L\"", "sparse2 0644 0:0 315532800 = sparse", "\\x00end\""} {
				if !strings.Contains(got, want+"\n") {
					t.Errorf("no %q", want)
				}
			}
		})
	}
}

// zstdOf decompresses what is in a gzip file, and makes it one raw block in a frame with the window
// size 2^windowLog (RFC 8878, section 3.1.1).
func zstdOf(t *testing.T, gz string, windowLog int) []byte {
	t.Helper()
	tar := check(io.ReadAll(check(gzip.NewReader(strings.NewReader(gz)))(t)))(t)
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(windowLog-10) << 3}
	block := len(tar)<<3 | 1
	return append(append(b, byte(block), byte(block>>8), byte(block>>16)), tar...)
}

// An archive that is a sound layer is the layer, byte for byte; any other is put into one entry by
// entry, with the same tree.
func TestPassThrough(t *testing.T) {
	sound := archive("a=1", "d/", "d/f=2", "d/g == d/f")
	odd := archive("a=0", "a=1", "d/f=2", "d/g == d/f") // a path twice, and no entry for d
	w := newWork(t, map[string]string{"sound.tgz": sound, "odd.tgz": odd})
	w.build("t: {expand: sound.tgz}\nu: {expand: odd.tgz}\n")
	if got := w.image("t").Manifest.Layers[0]; got.Digest != digest.FromString(sound) || got.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
		t.Errorf("layer %+v, want the archive itself", got)
	}
	if got := w.list("u", 0); got != fresh+"a 0644 7:8 1000000000 \"1\"\nd/ 0755 0:0 315532800\nd/f 0644 7:8 1000000000 \"2\"\nd/g 0644 7:8 1000000000 = d/f\n" {
		t.Errorf("rewritten:\n%s", got)
	}
	i := slices.IndexFunc(w.events, func(e Event) bool { return e.Kind == Rewritten })
	if i < 0 || w.events[i].Target != "u" || !strings.Contains(w.events[i].Text, "the path comes twice") {
		t.Errorf("no event says why u was rewritten")
	}

	// The user's wish for a compression counts; the tar stays as it is.
	diffID := w.image("t").Config.RootFS.DiffIDs[0]
	zstd := check(layer.CompressionByName("zstd"))(t)
	w.change = func(b *Builder) { b.Compression, b.Recompress = zstd, true }
	w.build("t: {expand: sound.tgz}\n")
	if got := w.image("t"); got.Manifest.Layers[0].MediaType != "application/vnd.oci.image.layer.v1.tar+zstd" || got.Config.RootFS.DiffIDs[0] != diffID {
		t.Errorf("with zstd: %+v", got)
	}
	if w.build("t: {expand: sound.tgz}\n"); w.outcomes() != "t cached" {
		t.Errorf("with zstd again: %s", w.outcomes())
	}
	w.change = nil
	w.build("t: {expand: sound.tgz}\nu: {expand: odd.tgz}\n")
	if got := w.image("t").Manifest.Layers[0]; got.Digest != digest.FromString(sound) || w.outcomes() != "t cached, u cached" {
		t.Errorf("without a wish again: %+v, %s", got, w.outcomes())
	}
	w.change = func(b *Builder) { b.Recompress = true }
	if w.build("u: {expand: odd.tgz}\n"); w.outcomes() != "u cached" {
		t.Errorf("the same compression by wish: %s", w.outcomes())
	}
	// Data for other programs in front of a zstd stream, or a window beyond what zstd(1) takes, is
	// not for all tools: the tar stays, compressed anew.
	for name, packed := range map[string][]byte{
		"skippable":  append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00data"), zstdOf(t, sound, 20)...),
		"big window": zstdOf(t, sound, 28),
		"usual":      zstdOf(t, sound, 23),
	} {
		w.change = nil
		w.write("s.tzst", string(packed))
		w.build("t: {expand: s.tzst}\n")
		want := "application/vnd.oci.image.layer.v1.tar+gzip"
		if name == "usual" {
			want = "application/vnd.oci.image.layer.v1.tar+zstd"
		}
		if got := w.image("t"); got.Manifest.Layers[0].MediaType != want || got.Config.RootFS.DiffIDs[0] != diffID {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// What clamps times, filters or moves has to be rewritten.
	w.change = func(b *Builder) { b.SourceEpoch = new(int64) }
	w.build("t: {expand: sound.tgz}\n")
	if got := w.list("t", 0); !strings.Contains(got, "a 0644 7:8 0 ") {
		t.Errorf("with SOURCE_DATE_EPOCH:\n%s", got)
	}
	w.change = nil
	w.build("t: {expand: {src: sound.tgz, exclude: [a]}}\nbase: {expand: odd.tgz}\nv: {base: base, expand: sound.tgz}\n")
	if got := w.list("t", 0); strings.Contains(got, "\na ") {
		t.Errorf("with exclude:\n%s", got)
	}
	if got := w.image("v").Manifest.Layers[1].Digest; got == digest.FromString(sound) {
		t.Error("on a base the archive is the layer as it is")
	}
	if p := w.verify(); len(p) > 0 {
		t.Error(p)
	}
}

// An archive that was never expanded is not read before that; what it holds decides as soon as it
// was.
func TestUnreadArchive(t *testing.T) {
	w := newWork(t, map[string]string{"a.tgz": archive("a=1"), "b.tgz": archive("a=1")})
	const text = "t: {expand: a.tgz}\n"
	b, p := w.builder(text)
	if _, _, err := b.Forecast(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.write("a.tgz", archive("a=2")) // nobody has seen the first content
	check(b.Build(t.Context(), p))(t)
	if w.outcomes() != "t compose" || !strings.Contains(w.list("t", 0), `"2"`) {
		t.Errorf("%s\n%s", w.outcomes(), w.list("t", 0))
	}
	for _, c := range []struct{ text, archive, outcomes string }{
		{text, archive("a=2"), "t cached"},
		{text, archive("a=1"), "t compose"},
		{text, archive("a=2"), "t cached"},
		{"t: {expand: b.tgz}\n", archive("a=2"), "t compose"}, // the content is known, but nobody knows that before it is read
		{"t: {expand: b.tgz}\n", archive("a=2"), "t cached"},
	} {
		name, _, _ := strings.Cut(c.text[len("t: {expand: "):], "}")
		w.write(name, c.archive)
		if w.build(c.text); w.outcomes() != c.outcomes {
			t.Errorf("%s: %s, want %s", strings.TrimSpace(c.text), w.outcomes(), c.outcomes)
		}
	}
}

// A step that two targets have is carried out and compressed once, though they are built at the
// same time.
func TestStepOfTwoTargets(t *testing.T) {
	w := newWork(t, map[string]string{"f": strings.Repeat("f", 1<<20)})
	compressed := 0
	w.compressing(func() error {
		compressed++
		return nil
	})
	res := w.build("a: {copy: f /f}\nb: {copy: f /f, labels: {l: b}}\n")
	if compressed != 1 || w.image("a").Manifest.Layers[0].Digest != w.image("b").Manifest.Layers[0].Digest {
		t.Errorf("compressed %d times: %v and %v", compressed, w.image("a").Manifest.Layers, w.image("b").Manifest.Layers)
	}
	if added := min(res.Images[0].Added, res.Images[1].Added); added != 0 {
		t.Errorf("both images added a layer of %d bytes", added)
	}
}

// Targets that share a step share its layer, and nothing else: whichever of them carries it out,
// the history of each image has the words of its own spec, and its archive is told of.
func TestSharedStepHasOwnWords(t *testing.T) {
	const text = "p: {copy: a /x, build_only: true}\nq: {copy: b /x}\n" +
		"t1: {copy: {from: p, src: /x, dest: /y}}\nt2: {copy: {from: q, src: /x, dest: /y}}\n" +
		"e1: {expand: a.tgz}\ne2: {expand: b.tgz}\ne3: {expand: b.tgz, labels: {l: e3}}\n"
	words := map[string]string{
		"q": "genoci: copy b /x", "t1": "genoci: copy p:/x /y", "t2": "genoci: copy q:/x /y",
		"e1": "genoci: expand a.tgz", "e2": "genoci: expand b.tgz", "e3": "genoci: expand b.tgz",
	}
	files := map[string]string{"a": "A", "b": "A", "a.tgz": archive("a=1"), "b.tgz": archive("a=1")}
	for _, order := range [][]string{{"t2", "t1", "e3", "e2", "e1"}, {"e1", "e2", "e3", "t1", "t2"}, nil, nil, nil} {
		w := newWork(t, files)
		for _, target := range order {
			w.build(text, target)
		}
		for range 2 { // the second time all is cached
			for _, i := range w.build(text).Images {
				if i.Digest == "" {
					continue
				}
				if got := w.image(i.Target).Config.History[0].CreatedBy; got != words[i.Target] {
					t.Errorf("after %v, %s: history %q, want %q", order, i.Target, got, words[i.Target])
				}
				if len(order) == 0 && !i.Cached && i.Target[0] == 'e' && (len(i.Archives) != 1 || i.Archives[0].Fate.Fate != stepkey.AsIs) {
					t.Errorf("%s: archives %+v", i.Target, i.Archives)
				}
			}
		}
	}
}

// Files that were never copied are read once, when they are; their digests are then those of the
// bytes that came into the layer.
func TestUnreadCopy(t *testing.T) {
	w := newWork(t, map[string]string{"d/a": "A", "d/b": "B", "d/e": "", "d/sub/c": "C", "x": "X"})
	if err := os.Link(filepath.Join(w.dir, "d/a"), filepath.Join(w.dir, "d/a2")); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	old := func() {
		for _, name := range []string{"d/a", "d/b", "d/e", "d/sub/c", "x"} {
			if err := os.Chtimes(filepath.Join(w.dir, name), long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	old()
	for _, c := range []struct{ text, change, outcomes string }{
		{"t: {copy: d /d}\n", "", "t compose"},
		{"t: {copy: d /d}\n", "", "t cached"},
		{"t: {copy: d /d}\n", "d/b", "t compose"},
		{"t: {copy: d /d}\n", "", "t cached"},
		// Not all that is copied comes into the layer.
		{"t: {steps: [{copy: d /d}, {copy: x /d/b}, {remove: /d/sub}]}\n", "", "t compose"},
		{"t: {steps: [{copy: d /d}, {copy: x /d/b}, {remove: /d/sub}]}\n", "", "t cached"},
		{"t: {steps: [{copy: d /d}, {copy: x /d/b}, {remove: /d/sub}]}\n", "d/sub/c", "t compose"},
		{"t: {steps: [{copy: d /d}, {remove: /d}]}\n", "", "t compose"},
		{"t: {steps: [{copy: d /d}, {remove: /d}]}\n", "", "t cached"},
		{"t: {steps: [{copy: d /d}, {remove: /d}]}\n", "d/a", "t compose"},
		{"b: {copy: d /d}\nt: {base: b, copy: d /d}\n", "", "b compose, t compose"}, // the base has all of it
		{"b: {copy: d /d}\nt: {base: b, copy: d /d}\n", "", "b cached, t cached"},
	} {
		if c.change != "" {
			w.write(c.change, c.change)
			old()
		}
		if w.build(c.text); w.outcomes() != c.outcomes {
			t.Errorf("%safter a change of %q: %s, want %s", c.text, c.change, w.outcomes(), c.outcomes)
		}
	}
}

// The digest of a file that another one of its size takes the place of is not that one's.
func TestUnreadCopyReplaced(t *testing.T) {
	for name, steps := range map[string]string{
		"by a file":              "{copy: d /d}, {copy: x /d/b}",
		"by a text":              "{copy: d /d}, {copy: {content: X, dest: /d/b}}",
		"by an archive":          "{copy: d /d}, {expand: {src: b.tgz, dest: /d}}",
		"by way of a symlink":    "{expand: link.tgz}, {copy: d /d}, {copy: x /link/b}",
		"that came by a symlink": "{expand: link.tgz}, {copy: d /link}, {copy: x /d/b}",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t, map[string]string{"d/a": "A", "d/b": "B", "x": "X", "b.tgz": archive("b=X"), "link.tgz": archive("d/", "link -> d")})
			text := "t: {steps: [" + steps + "]}\n"
			for _, want := range []string{"t compose", "t cached"} {
				if w.build(text); w.outcomes() != want {
					t.Errorf("%s, want %s", w.outcomes(), want)
				}
			}
		})
	}
}

// A URL is a source of a copy: one file of mode 0644, asked for anew without a checksum, and only
// once with one.
func TestCopyURL(t *testing.T) {
	w := newWork(t, nil)
	content, asked := "one", 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/none" {
			http.NotFound(rw, r)
			return
		}
		_, _ = io.WriteString(rw, content)
	}))
	defer server.Close()
	sum := func(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
	text := "t:\n  copy:\n  - " + server.URL + "/d/a%20tool?x=*&y /bin/\n  - {src: '" + server.URL + "/', dest: /b, chmod: 4755, chown: '3:4'}\n"
	list := func(s string) string {
		return "./ 0755 0:0 315532800\nb 4755 3:4 315532800 \"" + s + "\"\nbin/ 0755 0:0 315532800\nbin/a tool 0644 0:0 315532800 \"" + s + "\"\n"
	}
	w.build(text)
	if d := cmp.Diff(list("one"), w.list("t", 0)); d != "" {
		t.Error(d)
	}
	w.build(text)
	if w.outcomes() != "t cached" {
		t.Errorf("the same again: %s", w.outcomes())
	}
	content = "other"
	w.build(text)
	if d := cmp.Diff(list("other"), w.list("t", 0)); w.outcomes() != "t compose" || d != "" {
		t.Errorf("after a change: %s, %s", w.outcomes(), d)
	}

	pinned := "t: {copy: {src: '" + server.URL + "/x', dest: /x, checksum: '" + sum("other") + "'}}\n"
	w.build(pinned)
	before := asked
	content = "yet another"
	w.build(pinned)
	if asked != before || w.outcomes() != "t cached" {
		t.Errorf("with a checksum: asked %d times again, %s", asked-before, w.outcomes())
	}
	for text, want := range map[string]string{
		"t: {copy: {src: '" + server.URL + "/x', dest: /x, checksum: '" + sum("none") + "'}}\n": "checksum is " + sum(content),
		"t: {copy: " + server.URL + "/none /x}\n":                                               "404 Not Found",
		"t: {copy: " + server.URL + "/ /x/}\n":                                                  "does not end in the name of a file, and dest is a folder: write the name there, as in /x/file",
		"t: {copy: " + server.URL + "/.. /x/}\n":                                                "does not end in the name of a file",
	} {
		if got := w.fails(text); !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// With parents, what is copied keeps the folders around it: from the host, and from another image.
func TestCopyParents(t *testing.T) {
	files := map[string]string{"x/y/a.txt": "A", "x/y/b.txt": "B", "x/z/c.txt": "C", "x/z/d": "D"}
	files["link.tgz"] = archive("in/", "in/link -> x/y")
	w := newWork(t, files)
	if err := os.Chmod(filepath.Join(w.dir, "x/y"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x/y", filepath.Join(w.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ src, want string }{
		{"x/y/a.txt", "x/ 0755, x/y/ 0750, x/y/a.txt 0644"},
		{"./x/y/a.txt", "x/ 0755, x/y/ 0750, x/y/a.txt 0644"},
		{"x/./y/*.txt", "y/ 0750, y/a.txt 0644, y/b.txt 0644"},
		{"x/**/*.txt", "x/ 0755, x/y/ 0750, x/y/a.txt 0644, x/y/b.txt 0644, x/z/ 0755, x/z/c.txt 0644"},
		{"x/y", "x/ 0755, x/y/ 0750, x/y/a.txt 0644, x/y/b.txt 0644"},
		{"./x/./y", "y/ 0750, y/a.txt 0644, y/b.txt 0644"},
		{"x/y/./a.txt", "a.txt 0644"},
		{"link/a.txt", "link/ 0750, link/a.txt 0644"},
		{"x/z/./", "c.txt 0644, d 0644"},
		{"DIR/./x/z/d", "x/ 0755, x/z/ 0755, x/z/d 0644"},
	} {
		host := strings.ReplaceAll(c.src, "DIR", w.dir)
		image := strings.ReplaceAll(c.src, "DIR", "/in")
		if image == c.src {
			image = "/in/./" + strings.TrimPrefix(c.src, "./")
			if strings.Contains(strings.TrimPrefix(c.src, "./"), "/./") {
				image = "/in/" + strings.TrimPrefix(c.src, "./")
			}
		}
		w.build("host: {copy: {src: '" + host + "', dest: /p, parents: true}}\n" +
			"all: {build_only: true, steps: [{expand: link.tgz}, {copy: {src: x, dest: /in, parents: true}}]}\n" +
			"image: {copy: {from: all, src: '" + image + "', dest: /p, parents: true}}\n")
		for _, tag := range []string{"host", "image"} {
			var got []string
			for line := range strings.Lines(w.list(tag, 0)) {
				f := strings.Fields(line)
				if name, ok := strings.CutPrefix(f[0], "p/"); ok && name != "" {
					got = append(got, name+" "+f[1])
				}
			}
			if d := cmp.Diff(c.want, strings.Join(got, ", ")); d != "" {
				t.Errorf("%s of %s: %s", c.src, tag, d)
			}
		}
	}
	for text, want := range map[string]string{
		"t: {copy: {src: ../out.txt, dest: /p, parents: true}}\n": "so parents cannot keep its folders: put /./ into src",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, "../out.txt"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := w.fails(text); !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	const text = "t: {copy: {src: x/y, dest: /p, parents: true}}\n"
	w.build(text)
	if err := os.Chmod(filepath.Join(w.dir, "x"), 0o711); err != nil {
		t.Fatal(err)
	}
	if got := w.explain(text); !strings.Contains(got, "x changed (mode 755 -> 711)") {
		t.Errorf("after a change around it: %s", got)
	}
}

// What the kernel keeps beside a file of the host comes into the layer, but for ACLs.
func TestCopyXattrs(t *testing.T) {
	w := newWork(t, map[string]string{"f": "f", "d/sub/g": "g"})
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	want := "f user.note=hello\nd/sub/ user.note=sub\n"
	set := func(name, attr, value string) {
		err := unix.Setxattr(filepath.Join(w.dir, name), attr, []byte(value), 0)
		if errors.Is(err, unix.ENOTSUP) {
			strict.Lack(t, "xattr", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set("f", "user.note", "hello")
	set("f", "user.overlay.opaque", "y")
	set("f", "system.posix_acl_access", acl)
	set("d", "user.note", "of the folder whose content is copied")
	set("d/sub", "user.note", "sub")
	if os.Geteuid() == 0 {
		set("d/sub/g", "security.capability", capability)
		if !sandbox.Rootless() {
			set("d/sub/g", "trusted.note", "no")
		}
		want += "d/sub/g security.capability=" + capability + "\n"
	}
	const text = "t: {copy: [f /f, d /d]}\n"
	w.build(text)
	b := &Builder{Layout: w.layout}
	r := check(b.images().OpenLayer(w.image("t").Manifest.Layers[0], nil))(t)
	defer r.Close()
	got := map[string]bool{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		for record, value := range h.PAXRecords {
			if attr, ok := strings.CutPrefix(record, "SCHILY.xattr."); ok {
				got[h.Name+" "+attr+"="+value] = true
			}
		}
	}
	wanted := map[string]bool{}
	for line := range strings.Lines(want) {
		wanted[strings.TrimSuffix(line, "\n")] = true
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Error(d)
	}
	w.build(text)
	if w.outcomes() != "t cached" {
		t.Errorf("built again: %s", w.outcomes())
	}
	set("f", "user.note", "bye")
	w.build(text)
	if w.outcomes() != "t compose" {
		t.Errorf("built after a change: %s", w.outcomes())
	}
}

// Two targets share a step with files that nobody has read only where they take the same of them.
func TestUnreadCopyOfTwoTargets(t *testing.T) {
	w := newWork(t, map[string]string{"d/a": "A", "d/b": "B"})
	begun := 0
	both := make(chan struct{})
	w.onEvent = func(e Event) {
		if e.Kind == StepStarted {
			if begun++; begun == 2 {
				close(both)
			}
		}
	}
	w.compressing(func() error {
		<-both
		return nil
	})
	w.build("one: {copy: {src: d, dest: /d, exclude: [a]}}\ntwo: {copy: {src: d, dest: /d, exclude: [b]}}\n")
	for tag, want := range map[string]string{"one": "d/b", "two": "d/a"} {
		if got := w.list(tag, 0); !strings.Contains(got, want+" ") {
			t.Errorf("%s has no %s:\n%s", tag, want, got)
		}
	}
}

// An archive on nothing may be the layer as it is, but not on a base that has no layers: each gets
// its own, whichever was first.
func TestArchiveOnEmptyBase(t *testing.T) {
	const text = "one: {expand: a.tgz}\nconf: {labels: {l: c}}\ntwo: {base: conf, expand: a.tgz}\n"
	var made []string
	for _, first := range []string{"one", "two"} {
		w := newWork(t, map[string]string{"a.tgz": archive("a=1")})
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(w.dir, "a.tgz"), long, long); err != nil {
			t.Fatal(err)
		}
		w.build(text, first)
		w.build(text)
		made = append(made, fmt.Sprint(w.image("one").Config.RootFS.DiffIDs, w.image("two").Config.RootFS.DiffIDs))
	}
	if made[0] != made[1] {
		t.Errorf("one and two are %s where one was built first, else %s", made[0], made[1])
	}
}

// An archive that is taken as a layer is compressed as the user asked, though a target without a
// tag has taken it as it is.
func TestRecompressBesideNoTag(t *testing.T) {
	w := newWork(t, map[string]string{"a.tgz": archive("a=1")})
	zstd := check(layer.CompressionByName("zstd"))(t)
	w.change = func(b *Builder) { b.Compression, b.Recompress, b.NoCache, b.Jobs = zstd, true, true, 1 }
	const text = "one: {build_only: true, expand: a.tgz}\ntwo: {expand: a.tgz}\nthree: {copy: {from: one, src: /a, dest: /b}}\n"
	w.build(text)
	if got := w.image("two").Manifest.Layers[0].MediaType; got != zstd.MediaType {
		t.Errorf("the layer is %s", got)
	}
}

// What is known of a layer by its DiffID does not vouch for a blob of another image that claims it:
// the answer is the same whether or not anything of that DiffID was seen before.
func TestLyingImages(t *testing.T) {
	w := newWork(t, map[string]string{"real.tgz": archive("a=1"), "other.tgz": archive("a=2"), "f": "f"})
	w.build("real: {expand: real.tgz}\nother: {expand: other.tgz}\n")
	real, other := w.image("real"), w.image("other")
	foreign := check(layout.Create(filepath.Join(w.dir, "foreign")))(t)
	defer foreign.Close()
	for _, img := range []image.Image{real, other} {
		blob := check(foreign.NewBlob())(t)
		check(io.Copy(blob, check(w.layout.Blob(img.Manifest.Layers[0].Digest))(t)))(t)
		check(blob.Commit(img.Manifest.Layers[0].MediaType))(t)
	}
	const tar, zstd = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"
	for _, lie := range []struct {
		name   string
		change func(*v1.Descriptor)
		want   string
	}{
		{"blob", func(d *v1.Descriptor) { *d = other.Manifest.Layers[0] }, "its content is " + other.Config.RootFS.DiffIDs[0].String() + ", and not " + real.Config.RootFS.DiffIDs[0].String()},
		{"type", func(d *v1.Descriptor) { d.MediaType = zstd }, "magic number mismatch"},
		{"plain", func(d *v1.Descriptor) { d.MediaType = tar }, "layer"},
		{"unknown", func(d *v1.Descriptor) { d.MediaType = "text/plain" }, `"text/plain" is not the media type of a layer`},
		{"size", func(d *v1.Descriptor) { d.Size++ }, "1 of its"},
	} {
		for _, l := range []*layout.Layout{w.layout, foreign} {
			img := real
			img.Manifest.Layers = slices.Clone(img.Manifest.Layers)
			lie.change(&img.Manifest.Layers[0])
			img = check(l.WriteImage(img))(t)
			if err := l.Update(t.Context(), func(x *layout.Index) error { x.Set("lie", img.Descriptor); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		for _, spec := range []string{
			"t: {base: lie, cmd: [x]}\n",
			"t: {base: lie, copy: f /f}\n",
			"t: {base: 'oci:foreign:lie', cmd: [x]}\n",
			"t: {base: 'oci:foreign:lie', copy: f /f}\n",
			"t: {copy: {from: lie, src: /a, dest: /b}}\n",
		} {
			warm := w.fails(spec)
			w.dropCache(cache.TOCDir)
			cold := w.fails(spec)
			if !strings.Contains(warm, lie.want) || !strings.Contains(cold, lie.want) {
				t.Errorf("%s, %s: warm %s\ncold %s\nwant %s", lie.name, spec, warm, cold, lie.want)
			}
			w.build("r: {base: real, copy: f /g}\nc: {copy: {from: real, src: /a, dest: /b}}\n") // what is true of the DiffID is known again
		}
	}
	if slices.Contains(w.tags(), "t") {
		t.Errorf("tags %v", w.tags())
	}
}
