package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/cache"
	"genoci/internal/layer"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// composedSteps have all that runs nothing.
const composedSteps = `
tgz: {base: empty, expand: one.tgz}
part: {base: empty, expand: {src: one.tgz, dest: /opt, strip_components: 1, include: ["b*"], exclude: [bz], chown: "7:8"}}
two: {base: empty, steps: [{expand: two.tgz}, {expand: two.tgz}]}
onto: {base: tgz, expand: two.tgz}
unsound: {base: empty, expand: two.tgz}
config: {base: empty, environment: {A: b}}
above: {base: config, expand: one.tgz}
host:
  base: empty
  created: 2020-01-01T00:00:00Z
  steps:
    - copy: src /src
    - copy: {src: src, dest: /x, exclude: ["*.o", "!a.o"], chown: "1:2", chmod: "0640", parents: true}
    - copy: "src/* /glob/"
    - copy: {content: "some <text> & more\n", dest: /etc/motd}
other: {base: onto, copy: {from: tgz, src: /, dest: /all, exclude: [a]}}
gone: {base: tgz, steps: [{remove: [/a, "/b*"], layer: true}, {copy: src/main.c /}]}
`

// executedSteps have all that runs something. Their layers are pretended.
const executedSteps = `
genoci: {args: {NAME: world, PORT: "64"}}
all:
  base: empty
  build_env: {TOKEN: secret, MODE: fast}
  environment: {LANG: C.UTF-8, PATH: /bin}
  steps:
    - run: echo hello
    - run: {script: "serve ${{NAME}} --port ${{PORT}}", shell: [/bin/bash, -e], args: [a, "${{NAME}}"], workdir: /srv, user: "app:app", env: {A: "1", NAME: "${{NAME}}"}, network: none}
    - run: {script: build.sh, args: [all]}
    - run: build.sh
    - install: {packages: ["curl", "${{NAME}}"], files: [tiny.deb], clean: false}
    - install: {packages: [vim]}
    - copy: {content: "hello ${{NAME}}\n", dest: "/etc/${{NAME}}", chmod: "0${{PORT}}0"}
    - copy: {src: "src", dest: "/${{NAME}}", exclude: ["${{NAME}}"], chown: "${{PORT}}:1"}
    - expand: {src: one.tgz, dest: "/${{NAME}}", include: ["${{NAME}}*", "b*"]}
    - remove: ["/tmp/${{NAME}}", /var/tmp/x]
`

// storedSteps returns what the cache has of all steps: what their keys are made of, what is kept
// beside that, and their entries without the time that they took and without what compressors
// decide. unread says whether those are meant that were begun before all content was known, or the
// others.
func (w *work) storedSteps(unread bool) string {
	w.t.Helper()
	var all []string
	for stored, err := range w.cache.Stored() {
		if err != nil {
			w.t.Fatal(err)
		}
		node, about, err := w.cache.Inputs(stored.ID())
		if err != nil {
			w.t.Fatal(err)
		}
		stored.Seconds = 0
		for id := range stored.Blobs {
			stored.Blobs[id] = cache.Blob{} // which compressors may change
		}
		entry := check(json.Marshal(stored.Entry))(w.t)
		text := "key   " + string(node) + "\n"
		if unread && !bytes.Contains(node, []byte(`"Unread"`)) || !unread && bytes.Contains(node, []byte(`"Unread"`)) {
			continue
		}
		if about != nil {
			text += "about " + string(about) + "\n"
		}
		text += "entry " + string(entry) + "\n"
		text = strings.NewReplacer(w.dir, "DIR", layer.Compressions[0].ID, "COMPRESSION").Replace(text)
		all = append(all, strings.ReplaceAll(text, `"architecture":"`+runtime.GOARCH+`"`, `"architecture":"ARCH"`))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// Keys of steps stay what they were, byte for byte, and so does what is stored under them.
// Otherwise every cache is worthless.
func TestKeysStay(t *testing.T) {
	w := newWork(t, map[string]string{
		"one.tgz": archive("a=A", "b=B", "bz=Z", "d/", "d/b1=1"), "two.tgz": archive("x=X", "x=Y"),
		"src/main.c": "main", "src/a.o": "a", "src/b.o": "b", "src/lib/one.c": "one", "build.sh": "#!/bin/sh\necho one\n",
	})
	if err := os.WriteFile(filepath.Join(w.dir, "tiny.deb"), []byte("!<arch>\ndebian-binary"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("main.c", filepath.Join(w.dir, "src/link")); err != nil {
		t.Fatal(err)
	}
	w.build(composedSteps)
	w.pretend(executedSteps)
	clamp := int64(1000000000)
	w.change = func(b *Builder) { b.SourceEpoch, b.RealTimes = &clamp, true }
	w.pretend("real: {base: empty, steps: [{copy: {content: x, dest: /x}}, {run: 'true'}]}\n")
	got := w.storedSteps(false)
	for _, text := range []string{
		"t: {base: empty, expand: one.tgz}", "t: {base: empty, copy: {src: src, dest: /x, exclude: ['*.o', '!a.o'], chown: '1:2', chmod: '0640', parents: true}}", "t: {base: empty, copy: src/* /glob/}",
	} {
		w.cache = openCache(t) // which knows nothing yet
		w.change = nil
		w.build(text)
		got += "\n" + w.storedSteps(true)
	}
	const golden = "testdata/keys.txt"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want := check(os.ReadFile(golden))(t)
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Error(d)
	}
}
