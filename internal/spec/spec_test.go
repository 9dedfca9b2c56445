package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parse parses text as the only target, which it returns.
func parse(t *testing.T, text string) *Target {
	t.Helper()
	s, err := Parse("f.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Targets) != 1 {
		t.Fatalf("%d targets", len(s.Targets))
	}
	return s.Targets[0]
}

func ptr[T any](v T) *T { return &v }

var cmpOptions = cmp.Options{cmpopts.EquateEmpty(), cmp.AllowUnexported(Spec{})}

func TestReadmeOfTheOriginal(t *testing.T) {
	const text = `cirros:
  base: empty
  expand: ./cirros.tar.gz
modified:
  base: cirros
  run: |
    echo "Hello, world" > /hw
  entrypoint: /bin/echo "hello world"
`
	got, err := Parse("/x/genoci.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{File: "/x/genoci.yaml", Dir: "/x", lines: splitLines(text), Targets: []*Target{{
		Name: "cirros", Pos: Pos{1, 1}, Base: "empty", BasePos: Pos{2, 9},
		Actions: []Action{{Op: &Expand{Src: "./cirros.tar.gz"}, Pos: Pos{3, 11}}},
	}, {
		Name: "modified", Pos: Pos{4, 1}, Base: "cirros", BasePos: Pos{5, 9},
		Actions: []Action{{Op: &Run{Script: "echo \"Hello, world\" > /hw\n"}, Pos: Pos{6, 8}}},
		Config:  Config{Entrypoint: []string{"/bin/echo", "hello world"}},
	}}}
	if diff := cmp.Diff(want, got, cmpOptions...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Target("modified") != got.Targets[1] || got.Target("none") != nil {
		t.Error("Target does not find what is there, or finds what is not")
	}
}

// TestActions shows each form of each action.
func TestActions(t *testing.T) {
	sum := "sha256:" + strings.Repeat("ab", 32)
	for _, test := range []struct {
		yaml string // what stands below the target
		want []Action
	}{
		{"expand: a.tgz  b.tar.xz", []Action{
			{Op: &Expand{Src: "a.tgz"}, Pos: Pos{2, 11}},
			{Op: &Expand{Src: "b.tar.xz"}, Pos: Pos{2, 18}}}},
		{"expand: [a b.tgz, https://example.com/c.tar]", []Action{
			{Op: &Expand{Src: "a b.tgz"}, Pos: Pos{2, 12}},
			{Op: &Expand{Src: "https://example.com/c.tar"}, Pos: Pos{2, 21}}}},
		{"expand: {src: a, checksum: \"SHA256:" + strings.ToUpper(sum[7:]) + "\"}", []Action{{Op: &Expand{Src: "a", Checksum: sum}, Pos: Pos{2, 11}}}},
		{"expand: {src: a, dest: /d, strip_components: 2, checksum: \"" + sum + "\", include: x, exclude: [y, z], chown: \"0:0\"}", []Action{
			{Op: &Expand{Src: "a", Dest: "/d", StripComponents: 2, Checksum: sum, Include: []string{"x"}, Exclude: []string{"y", "z"}, Chown: "0:0"}, Pos: Pos{2, 11}}}},
		{"expand:\n  - a\n  - src: b", []Action{
			{Op: &Expand{Src: "a"}, Pos: Pos{3, 5}},
			{Op: &Expand{Src: "b"}, Pos: Pos{4, 5}}}},
		{"copy: a /b", []Action{{Op: &Copy{Src: "a", Dest: "/b"}, Pos: Pos{2, 9}}}},
		{"copy: [a /b, \"c\td\", {src: e f, dest: g h, chmod: 0755, chown: www-data:33, exclude: '*.o', from: other}]", []Action{
			{Op: &Copy{Src: "a", Dest: "/b"}, Pos: Pos{2, 10}},
			{Op: &Copy{Src: "c", Dest: "d"}, Pos: Pos{2, 16}},
			{Op: &Copy{Src: "e f", Dest: "g h", Chmod: ptr(uint32(0o755)), Chown: "www-data:33", Exclude: []string{"*.o"}, From: "other"}, Pos: Pos{2, 23}}}},
		{"copy: {content: \"\", dest: /empty, chmod: 4755}", []Action{
			{Op: &Copy{Content: ptr(""), Dest: "/empty", Chmod: ptr(uint32(0o4755))}, Pos: Pos{2, 9}}}},
		{"copy: {content: 0777, dest: /a, chmod: 0o640}", []Action{
			{Op: &Copy{Content: ptr("0777"), Dest: "/a", Chmod: ptr(uint32(0o640))}, Pos: Pos{2, 9}}}},
		{"install: a.deb ./debs/*.deb", []Action{{Op: &Install{Files: []string{"a.deb", "./debs/*.deb"}}, Pos: Pos{2, 12}}}},
		{"install: [a.deb, b.deb, {packages: curl}, c.rpm, d.rpm, {files: e.rpm f.rpm, clean: true}]", []Action{
			{Op: &Install{Files: []string{"a.deb", "b.deb"}}, Pos: Pos{2, 13}},
			{Op: &Install{Packages: []string{"curl"}, Clean: true}, Pos: Pos{2, 27}},
			{Op: &Install{Files: []string{"c.rpm", "d.rpm"}}, Pos: Pos{2, 45}},
			{Op: &Install{Files: []string{"e.rpm", "f.rpm"}, Clean: true}, Pos: Pos{2, 59}}}},
		{"install: {packages: [a, b], clean: false}", []Action{{Op: &Install{Packages: []string{"a", "b"}}, Pos: Pos{2, 12}}}},
		{"install: https://example.com/get?id=5", []Action{{Op: &Install{Files: []string{"https://example.com/get?id=5"}}, Pos: Pos{2, 12}}}},
		{"run: yes", []Action{{Op: &Run{Script: "yes"}, Pos: Pos{2, 8}}}},
		{"run: [1.10, {script: echo $1 $2, args: a \"b c\"}, {script: ./x, args: []}]", []Action{
			{Op: &Run{Script: "1.10"}, Pos: Pos{2, 9}},
			{Op: &Run{Script: "echo $1 $2", Args: []string{"a", "b c"}}, Pos: Pos{2, 15}},
			{Op: &Run{Script: "./x", IsFile: true}, Pos: Pos{2, 52}}}},
		{"run: {script: x, shell: /bin/bash -eu, workdir: /srv, user: \"1:2\", env: [A=$B], network: none}", []Action{
			{Op: &Run{Script: "x", Shell: []string{"/bin/bash", "-eu"}, Workdir: "/srv", User: "1:2", Env: []KV{{"A", "$B"}}, Network: "none"}, Pos: Pos{2, 8}}}},
		{"remove: /a b/*", []Action{{Op: &Remove{Paths: []string{"/a", "b/*"}}, Pos: Pos{2, 11}}}},
		{"remove: [/a b]", []Action{{Op: &Remove{Paths: []string{"/a b"}}, Pos: Pos{2, 11}}}},
		// The order is fixed, whatever the order in the file.
		{"remove: /r\n  run: r\n  install: i.deb\n  copy: c /c\n  expand: e", []Action{
			{Op: &Expand{Src: "e"}, Pos: Pos{6, 11}},
			{Op: &Copy{Src: "c", Dest: "/c"}, Pos: Pos{5, 9}},
			{Op: &Install{Files: []string{"i.deb"}}, Pos: Pos{4, 12}},
			{Op: &Run{Script: "r"}, Pos: Pos{3, 8}},
			{Op: &Remove{Paths: []string{"/r"}}, Pos: Pos{2, 11}}}},
		{"steps:\n  - run: [a, b]\n    layer: true\n  - expand: x y\n  - remove: z\n    layer: false", []Action{
			{Op: &Run{Script: "a"}, Pos: Pos{3, 11}},
			{Op: &Run{Script: "b"}, Pos: Pos{3, 14}, Layer: true},
			{Op: &Expand{Src: "x"}, Pos: Pos{5, 13}},
			{Op: &Expand{Src: "y"}, Pos: Pos{5, 15}},
			{Op: &Remove{Paths: []string{"z"}}, Pos: Pos{6, 13}}}},
	} {
		got := parse(t, "app:\n  "+test.yaml+"\n")
		if diff := cmp.Diff(test.want, got.Actions, cmpOptions...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.yaml, diff)
		}
	}
}

func TestConfig(t *testing.T) {
	got := parse(t, `on:
  base: scratch
  pre: mount -t tmpfs none %ROOT%/tmp
  post: [a, b]
  entrypoint: /bin/sh -c 'echo "$1" \' "it's" "" x\ y
  cmd: [a, "", 1.10, no]
  environment: {PATH: "/opt/bin:$PATH", EMPTY: "", Y: yes, N: 007}
  annotations: [{env: FOO=bar=baz}, {env: BAR=}]
  user: 1000:www-data
  working_dir: /srv
  stop_signal: SIGRTMIN+3
  labels: {a: 1.10, b: "", c: null}
  volumes: [/data, /var/lib/x]
  expose: [80, 53/udp]
  healthcheck: {test: curl -f localhost, interval: 1m30s, timeout: 500ms, start_period: 0s, start_interval: 1h, retries: 3}
  author: A. Person
  created: 2026-01-31T12:00:00+01:00
  build_env: [A=$B]
  build_only: true
  x-note: {any: [thing, !!int 3]}
`)
	want := &Target{
		Name: "on", Pos: Pos{1, 1}, Base: "empty", BasePos: Pos{2, 9},
		Pre: []*Hook{{Pos: Pos{3, 8}, Script: "mount -t tmpfs none %ROOT%/tmp", Post: false}},
		Post: []*Hook{
			{Pos: Pos{4, 10}, Script: "a", Post: true},
			{Pos: Pos{4, 13}, Script: "b", Post: true},
		},
		Config: Config{
			Entrypoint:  []string{"/bin/sh", "-c", `echo "$1" \`, "it's", "", "x y"},
			Cmd:         []string{"a", "", "1.10", "no"},
			Environment: []KV{{"PATH", "/opt/bin:$PATH"}, {"EMPTY", ""}, {"Y", "yes"}, {"N", "007"}, {"FOO", "bar=baz"}, {"BAR", ""}},
			User:        "1000:www-data",
			WorkingDir:  "/srv",
			StopSignal:  "SIGRTMIN+3",
			Labels:      []KV{{"a", "1.10"}, {"b", ""}, {"c", "null"}},
			Volumes:     []string{"/data", "/var/lib/x"},
			Expose:      []string{"80", "53/udp"},
			Healthcheck: &Healthcheck{
				Test: []string{"CMD-SHELL", "curl -f localhost"}, Interval: 90e9, Timeout: 500e6, StartInterval: 3600e9, Retries: 3,
			},
			Author:  "A. Person",
			Created: "2026-01-31T12:00:00+01:00",
		},
		BuildEnv:  []KV{{"A", "$B"}},
		BuildOnly: true,
	}
	if diff := cmp.Diff(want, got, cmpOptions...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClearedCommand(t *testing.T) {
	for _, text := range []string{"app: {entrypoint: [], cmd: \"\"}", "app: {entrypoint: '  ', cmd: []}"} {
		c := parse(t, text).Config
		if c.Entrypoint == nil || len(c.Entrypoint) != 0 || c.Cmd == nil || len(c.Cmd) != 0 {
			t.Errorf("%s: %#v, %#v", text, c.Entrypoint, c.Cmd)
		}
	}
	if c := parse(t, "app: {}").Config; c.Entrypoint != nil || c.Cmd != nil {
		t.Errorf("not set: %#v, %#v", c.Entrypoint, c.Cmd)
	}
}

func TestHealthcheckForms(t *testing.T) {
	for text, want := range map[string][]string{
		"{disable: true}":               {"NONE"},
		"{test: [NONE]}":                {"NONE"},
		"{test: [CMD, curl, -f]}":       {"CMD", "curl", "-f"},
		"{test: [CMD-SHELL, 'a || b']}": {"CMD-SHELL", "a || b"},
		"{interval: 5s}":                nil,
		"{disable: false, retries: 2}":  nil,
	} {
		got := parse(t, "app:\n  healthcheck: "+text+"\n").Config.Healthcheck
		if diff := cmp.Diff(want, got.Test, cmpOptions...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestAnchorsAndMerges(t *testing.T) {
	s, err := Parse("f.yaml", []byte(`x-env: &env {A: "1", B: "2"}
x-a: &a {author: a, user: a}
x-b: &b {author: b, working_dir: /b}
one:
  environment:
    Z: first
    <<: *env
    B: own
two:
  author: own
  <<: [*a, *b]
three: &three
  run: &script echo
four:
  <<: *three
  cmd: [*script, "<<"]
  labels: {"<<": text}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]KV{{"Z", "first"}, {"A", "1"}, {"B", "own"}}, s.Target("one").Config.Environment); diff != "" {
		t.Errorf("merged map (-want +got):\n%s", diff)
	}
	if c := s.Target("two").Config; c.Author != "own" || c.User != "a" || c.WorkingDir != "/b" {
		t.Errorf("merged list: %+v", c)
	}
	four := s.Target("four")
	if diff := cmp.Diff([]Action{{Op: &Run{Script: "echo"}, Pos: Pos{13, 8}}}, four.Actions); diff != "" {
		t.Errorf("merged target (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"echo", "<<"}, four.Config.Cmd); diff != "" {
		t.Errorf("aliased text (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]KV{{"<<", "text"}}, four.Config.Labels); diff != "" {
		t.Errorf("quoted << (-want +got):\n%s", diff)
	}
}

func TestLineEndsAndByteOrderMark(t *testing.T) {
	for _, text := range []string{"\ufeffapp:\n  run: a\n", "app:\r\n  run: a\r\n", "app:\n  run: a", "---\napp:\n  run: a\n...\n"} {
		got := parse(t, text)
		if diff := cmp.Diff(&Run{Script: "a"}, got.Actions[0].Op); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestBytes has wrong files that no text file can show.
func TestBytes(t *testing.T) {
	for _, test := range []struct{ data, want string }{
		{"", "f.yaml:1:1: the file is empty; a target looks like this:  NAME: {base: empty, copy: SRC DEST}"},
		{"app:\n  run: \xff\n", "f.yaml:2:8: byte 0xff is not UTF-8\n      run: \ufffd\n           ^"},
		{"\xff\xfea\x00:\x00", "f.yaml:1:1: byte 0xff is not UTF-8\n    \ufffd\ufffda\ufffd:\ufffd\n    ^"},
		{"app:\n  run: é\x00\n", "f.yaml:2:9: character U+0000 is not allowed\n      run: é\ufffd\n            ^"},
		{"app: \x1b[31m{}\n", "f.yaml:1:6: character U+001B is not allowed\n    app: \ufffd[31m{}\n         ^"},
		{"app: {}\rlib: {}\n", "f.yaml:1:8: a carriage return needs a line feed after it\n    app: {}\ufffdlib: {}\n           ^"},
		{"app: {run: a\u2028b}\n", "f.yaml:1:13: line separator U+2028 is not allowed here; in double quotes, write \"\\u2028\"\n    app: {run: a\u2028b}\n                ^"},
		{strings.Repeat("#", maxSize+1), "f.yaml:1:1: the file is larger than 4 MiB\n    " + strings.Repeat("#", 100) + "…\n    ^"},
		{strings.Repeat("[", 20000), "f.yaml:1:10001: YAML: exceeded max depth of 10000\n    …" + strings.Repeat("[", 100) + "…\n    " + strings.Repeat(" ", 61) + "^"},
		{"app:\n\t\trun: x\n", "f.yaml:2:1: a tab cannot indent YAML; use blanks\n    \t\trun: x\n    ^"},
	} {
		_, err := Parse("f.yaml", []byte(test.data), Options{})
		if err == nil {
			t.Errorf("%.40q: no error", test.data)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("%.40q (-want +got):\n%s", test.data, diff)
		}
	}
}

func TestManyErrors(t *testing.T) {
	_, err := Parse("f.yaml", []byte("app: {"+strings.Repeat("a: b, ", 1000)+"}\n"), Options{})
	errs, ok := errors.AsType[Errors](err)
	if !ok || len(errs) != maxErrors+1 || errs[maxErrors].Msg != "only the first 100 errors are shown" {
		t.Errorf("%d errors, the last is %v", len(errs), errs[len(errs)-1])
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"), Options{})
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir, Options{}); !errors.As(err, &pathErr) {
		t.Errorf("folder: %v", err)
	}
	file := filepath.Join(dir, "genoci.yaml")
	if err := os.WriteFile(file, []byte("app: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file, Options{})
	if err != nil || s.File != file || s.Dir != dir || len(s.Targets) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.WriteFile(file, make([]byte, maxSize+100), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs Errors
	if _, err := Load(file, Options{}); !errors.As(err, &errs) || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("large file: %v", err)
	}
}

func TestErrorf(t *testing.T) {
	s, err := Parse("f.yaml", []byte("app:\n  base: lib\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := s.Errorf(Pos{2, 9}, "app", "no %q", "lib")
	e.Suggest = `did you mean "lob"?`
	for _, test := range []struct {
		err  *Error
		want string
	}{
		{e, "f.yaml:2:9: target \"app\": no \"lib\"\n      base: lib\n            ^ did you mean \"lob\"?"},
		{s.Errorf(Pos{}, "app", "x"), "f.yaml: target \"app\": x"},
		{s.Errorf(Pos{9, 1}, "", "x"), "f.yaml:9:1: x"},
		{&Error{File: "f", Msg: "x", Suggest: "y"}, "f: x; y"},
		{&Error{File: "f", Pos: Pos{1, 3}, Msg: "x", Excerpt: "\ta\tb"}, "f:1:3: x\n    \ta\tb\n    \t ^"},
		{&Error{File: "f", Pos: Pos{1, 9}, Msg: "x", Excerpt: "ab"}, "f:1:9: x\n    ab\n            ^"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
		}
	}
}

func TestSummary(t *testing.T) {
	long := strings.Repeat("long ", 30)
	for _, test := range []struct {
		op   Op
		want string
	}{
		{&Expand{Src: "./cirros.tar.gz"}, "expand ./cirros.tar.gz"},
		{&Expand{Src: "a.tar", Dest: "/opt"}, "expand a.tar /opt"},
		{&Copy{Src: "a", Dest: "/b"}, "copy a /b"},
		{&Copy{Src: "/a", Dest: "/b", From: "lib"}, "copy lib:/a /b"},
		{&Copy{Content: ptr("x"), Dest: "/b"}, "copy (content) /b"},
		{&Install{Files: []string{"foo.deb"}}, "install foo.deb"},
		{&Install{Files: []string{"foo.deb"}, Packages: []string{"a", "b"}}, "install a b foo.deb"},
		{&Run{Script: "echo hi"}, "run echo hi"},
		{&Run{Script: "echo hi\n"}, "run echo hi"},
		{&Run{Script: "\n\n  cd /x\n  make\n"}, "run cd /x …"},
		{&Run{Script: "x", Args: []string{"a", "b"}}, "run x a b"},
		{&Run{Script: "printf '\x1b[31m\t'"}, "run printf ' [31m '"},
		{&Run{Script: long}, "run " + strings.Repeat("long ", 13)[:64] + "…"},
		{&Run{Script: strings.Repeat("é", 80)}, "run " + strings.Repeat("é", 65) + "…"},
		{&Remove{Paths: []string{"/x", "/y"}}, "remove /x /y"},
		{&Hook{Script: "a"}, "pre a"},
		{&Hook{Script: "a", Post: true}, "post a"},
	} {
		if got := test.op.String(); got != test.want {
			t.Errorf("%#v: %q, want %q", test.op, got, test.want)
		}
	}
}

func TestInputs(t *testing.T) {
	for _, test := range []struct {
		op   Op
		want []string
	}{
		{&Expand{Src: "a"}, []string{"a"}},
		{&Copy{Src: "a", Dest: "b"}, []string{"a"}},
		{&Copy{Src: "a", Dest: "b", From: "lib"}, nil},
		{&Copy{Content: ptr(""), Dest: "b"}, nil},
		{&Install{Files: []string{"a", "b"}, Packages: []string{"c"}}, []string{"a", "b"}},
		{&Run{Script: "./x.sh"}, []string{"./x.sh"}},
		{&Run{Script: "echo a"}, nil},
		{&Run{Script: "x\n"}, nil},
		{&Remove{Paths: []string{"a"}}, nil},
		{&Hook{Script: "a"}, nil},
	} {
		if diff := cmp.Diff(test.want, test.op.Inputs()); diff != "" {
			t.Errorf("%#v (-want +got):\n%s", test.op, diff)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"base", "copy", "cmd", "run", "entrypoint", "environment", "working_dir", "user"}
	for name, want := range map[string]string{
		"cpoy": "copy", "copy": "copy", "COPY": "copy", "cop": "copy", "entypoint": "entrypoint", "enviroment": "environment",
		"working-dir": "working_dir", "workingdir": "working_dir", "users": "user", "ru": "run", "chmod": "", "x": "", "": "",
		"frobnicate": "", "usrr": "user", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(name, candidates); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
}
