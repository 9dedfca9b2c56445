package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"genoci/test/program"
)

// randomSpec is a spec as data, so that parts of it can be left out.
type randomSpec struct {
	modes   string
	links   bool     // there are hard links
	env     []string // of the build
	targets []randomTarget
	order   []int // of the targets in the file
}

type randomTarget struct {
	name      string
	plain     bool // actions are written as keys of the target, not as steps
	buildOnly bool
	base      string
	from      []string // further targets that it needs
	ops       []randomOp
	config    map[string]any
}

// randomOp is one action. One that looks around stands at the beginning of a step: what the step
// itself writes has real times until it ends.
type randomOp struct {
	kind  string
	value any
	layer bool
	looks bool
	from  string
}

// Names in images: few, so that actions meet.
var (
	randomFolders = []string{"/d0", "/d1", "/d2", "/d0/s", "/d 4", "/" + strings.Repeat("long", 15) + "/" + strings.Repeat("name", 15)}
	randomNames   = []string{"f0", "f1", "f2", "ä f", "h0", "l1"}
)

func newRandomSpec(rng *rand.Rand) *randomSpec {
	s := &randomSpec{targets: []randomTarget{{name: "sys", ops: []randomOp{{kind: "expand", value: "in/sys.tar.gz"}}}}}
	if rng.IntN(3) == 0 {
		s.modes = "git"
	}
	s.links = rng.IntN(2) == 0
	if rng.IntN(4) == 0 {
		s.env = []string{"SOURCE_DATE_EPOCH=1500000000"}
	}
	for i := range 4 + rng.IntN(6) {
		s.targets = append(s.targets, s.newTarget(rng, fmt.Sprint("t", i)))
	}
	s.order = rng.Perm(len(s.targets))
	return s
}

func (s *randomSpec) newTarget(rng *rand.Rand, name string) randomTarget {
	if len(s.targets) > 1 && rng.IntN(4) == 0 {
		// The same steps under another name, now and then with equal inputs that have other names.
		twin := pick(rng, s.targets[1:])
		twin.name, twin.buildOnly, twin.config = name, false, s.newConfig(rng, name)
		if rng.IntN(2) == 0 {
			twin.ops = slices.Clone(twin.ops)
			for i := range twin.ops {
				twin.ops[i].value = renamed(twin.ops[i].value, "/a", "/b")
			}
		}
		return twin
	}
	t := randomTarget{name: name, plain: rng.IntN(2) == 0, buildOnly: rng.IntN(5) == 0, config: map[string]any{}}
	switch rng.IntN(4) {
	case 0:
		t.base = "sys"
	case 1, 2:
		t.base = pick(rng, s.targets).name
	}
	if rng.IntN(2) == 0 {
		t.config = s.newConfig(rng, name)
	}
	if t.base != "" && rng.IntN(6) == 0 {
		return t // config only
	}
	if t.base == "" {
		t.ops = append(t.ops, pick(rng, []randomOp{
			{kind: "copy", value: map[string]any{"src": "in/a-tree", "dest": "/d0"}},
			{kind: "expand", value: "in/a-sound.tar.gz"},
			{kind: "expand", value: "in/a-double.tar.gz"},
		}))
		t.ops[0].layer = rng.IntN(2) == 0
	}
	for range 1 + rng.IntN(5) {
		op := s.newOp(rng)
		op.layer = rng.IntN(3) == 0
		t.ops = append(t.ops, op)
		if op.from != "" {
			t.from = append(t.from, op.from)
		}
	}
	return t
}

func (s *randomSpec) newConfig(rng *rand.Rand, name string) map[string]any {
	c := map[string]any{"labels": map[string]any{"name": name}}
	for range rng.IntN(4) {
		switch rng.IntN(7) {
		case 0:
			c["environment"] = []string{"WHERE=$WHERE:" + name, "NAME=" + pick(rng, randomNames)}
		case 1:
			c["entrypoint"] = "/bin/sh -c"
		case 2:
			c["created"] = "2026-01-31T12:00:00Z"
		case 3:
			c["tags"] = []string{name + "-more"}
		case 4:
			c["build_env"] = map[string]any{"BUILT": "yes"}
		case 5:
			c["annotations"] = map[string]any{"org.example.of": name}
		case 6:
			c["user"], c["working_dir"] = "5:6", "/d0"
		}
	}
	return c
}

func (s *randomSpec) newOp(rng *rand.Rand) randomOp {
	switch n := rng.IntN(12); {
	case n < 2:
		v := map[string]any{"src": pick(rng, []string{"in/a0", "in/a1", "in/a2", "in/a.sh", "in/a-tree", "in/a-tree/", "in/a-tree/*", "in/a[01]"}), "dest": randomDest(rng)}
		if rng.IntN(4) == 0 {
			v = map[string]any{"content": pick(rng, []string{"", "text\n", "more text\n"}), "dest": randomPath(rng)}
		}
		return randomOp{kind: "copy", value: owned(rng, v, true)}
	case n < 4:
		from := pick(rng, s.targets).name
		src := pick(rng, []string{"/d0", "/d0", "/d0/*", "/d0/[fh]*", "/d0/f0", "/d0/f0", "/d0", "/d0/l1", "/", randomPath(rng)})
		dest := randomDest(rng)
		return randomOp{kind: "copy", value: owned(rng, map[string]any{"from": from, "src": src, "dest": dest}, true), from: from}
	case n < 6:
		v := map[string]any{"src": pick(rng, []string{"in/a-sound.tar.gz", "in/a-double.tar.gz", "in/a-bare.tar", "in/a-links.tar"}[:s.archives()])}
		if rng.IntN(3) > 0 {
			v["dest"] = pick(rng, randomFolders)
		}
		switch rng.IntN(8) {
		case 0:
			v["strip_components"] = 1
		case 1:
			v["include"] = pick(rng, []string{"*0", "**/f*", "d0/f0"})
		case 2:
			v["exclude"] = pick(rng, []string{"f0", "l1", "ä f"})
		}
		return randomOp{kind: "expand", value: owned(rng, v, false)}
	case n < 7:
		return randomOp{kind: "remove", value: []string{pick(rng, []string{randomPath(rng), pick(rng, randomFolders), pick(rng, randomFolders) + "/*"})}}
	case n < 8:
		return randomOp{kind: "run", value: randomLook, looks: true}
	}
	return randomOp{kind: "run", value: s.script(rng)}
}

func (s *randomSpec) archives() int {
	if s.links {
		return 4
	}
	return 3
}

func randomPath(rng *rand.Rand) string {
	return pick(rng, randomFolders) + "/" + pick(rng, randomNames)
}

func randomDest(rng *rand.Rand) string {
	return pick(rng, []string{randomPath(rng), pick(rng, randomFolders), pick(rng, randomFolders) + "/", pick(rng, randomFolders) + "/new/", "/k/" + pick(rng, randomNames), "/k"})
}

func owned(rng *rand.Rand, v map[string]any, modes bool) map[string]any {
	if rng.IntN(4) == 0 {
		v["chown"] = pick(rng, []string{"5:6", "7", "0:0"})
	}
	if modes && rng.IntN(4) == 0 {
		v["chmod"] = pick(rng, []string{"0600", "0755", "4711"})
	}
	return v
}

// randomLook writes down what a step sees: every file, and the settings of the process.
const randomLook = `mkdir -p /k
find / -xdev ! -path '/.genoci*' ! -path /etc/hosts ! -path /etc/hostname ! -path /etc/resolv.conf ! -path /proc ! -path /sys ! -path '/k*' | sort >/k/list
while IFS= read -r f; do
  if [ -h "$f" ]; then stat -c '%n %f %u:%g %Y' "$f"; readlink "$f"
  elif [ -d "$f" ]; then stat -c '%n %f %u:%g' "$f"
  else stat -c '%n %f %u:%g %s %Y %h' "$f"; fi
done </k/list >/k/seen
rm /k/list
{ umask; env | sort; pwd; id; hostname; ulimit -n; cut -d" " -f19 /proc/self/stat; } >/k/process`

// script returns a script, of which each line may fail.
func (s *randomSpec) script(rng *rand.Rand) any {
	var lines []string
	for range 1 + rng.IntN(4) {
		p, q, d := quoted(randomPath(rng)), quoted(randomPath(rng)), quoted(pick(rng, randomFolders))
		name := pick(rng, randomNames)
		if s.links && rng.IntN(6) == 0 {
			lines = append(lines, pick(rng, []string{
				fmt.Sprintf("mkdir -p %s; echo one > %s/h0; ln %s/h0 %s", d, d, d, p),
				fmt.Sprintf("ln -f %s %s", p, q),
				plain("/d0/h0", "echo more >> /d0/h0"),
				"rm -f /d0/h0",
			}))
			continue
		}
		lines = append(lines, pick(rng, []string{
			fmt.Sprintf("mkdir -p %s; echo %s > %s/%s", d, pick(rng, []string{"one", "two", "three"}), d, quoted(name)),
			plain(p, fmt.Sprintf("[ ! -f %s ] || echo more >> %s", p, p)),
			fmt.Sprintf("[ ! -f %s ] || touch -d %s %s", p, pick(rng, []string{"@1000000000", "@4102444800", "'2001-02-03 04:05:06'"}), p),
			fmt.Sprintf("[ ! -e %s ] || chmod %s %s", p, pick(rng, []string{"600", "4755", "755", "a+r"}), p),
			fmt.Sprintf("chmod %s %s", pick(rng, []string{"700", "1777", "755", "2755"}), d),
			fmt.Sprintf("chown %s %s", pick(rng, []string{"5:6", "0:0", "-h 8:8"}), p),
			fmt.Sprintf("rm -rf %s", pick(rng, []string{p, p, d})),
			fmt.Sprintf("rm -rf %s; mkdir -p %s", d, d),
			fmt.Sprintf("rm -rf %s; mkdir -p %s; echo new > %s/f0", d, d, d),
			fmt.Sprintf("rm -rf %s; mkdir -p %s", p, p),
			fmt.Sprintf("ln -sfn %s %s", pick(rng, []string{"f0", "/d1", "../d2", "nowhere"}), p),
			fmt.Sprintf("mkfifo %s/pipe", d), // a name that nothing writes to: it would wait for a reader
			fmt.Sprintf("mv %s %s", quoted(pick(rng, randomFolders)+"/"+pick(rng, randomNames[:4])), q),
			fmt.Sprintf("cp -a %s %s", p, q),
			plain(p, fmt.Sprintf("[ ! -f %s ] || cat %s > /copy; cat /copy > %s; rm /copy", p, p, p)),
			fmt.Sprintf("[ ! -f %s ] || : >> %s", p, p),
			fmt.Sprintf("[ ! -f %s ] || sed -i s/one/four/ %s", p, p),
			plain(p, fmt.Sprintf("[ ! -f %s ] || truncate -s 300000 %s", p, p)),
			fmt.Sprintf("rmdir %s", p),
			fmt.Sprintf("touch %s; touch -r %s %s", p, q, p),
			"mkdir -p /d0; ln -s /d0/f0 /dev/log; syslogd -O /dev/null; for i in 1 2 3 4 5 6 7 8 9; do [ -S /d0/f0 ] || sleep 0.02; done",
			"touch /tmp/a",
		}))
	}
	script := strings.Join(lines, " 2>/dev/null || :\n") + " 2>/dev/null || :"
	if rng.IntN(5) == 0 {
		return map[string]any{"script": script, "network": "none", "env": map[string]any{"X": "1"}, "workdir": "/k/work"}
	}
	if rng.IntN(8) == 0 {
		return "in/a.sh"
	}
	return script
}

func quoted(s string) string { return "'" + s + "'" }

// yaml returns the text of the spec. In the variant "renamed", all inputs are in another folder. In
// the variant "executed", each step runs a command that does nothing.
func (s *randomSpec) yaml(variant string) string {
	var b strings.Builder
	if s.modes != "" {
		fmt.Fprintf(&b, "genoci: {modes: %s}\n", s.modes)
	}
	for _, i := range s.order {
		if i >= len(s.targets) || s.targets[i].name == "" {
			continue
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		v := renamed(s.targets[i].value(variant == "executed"), "in/", s.folder(variant)+"/")
		if err := enc.Encode(v); err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s: %s", s.targets[i].name, text.String())
	}
	return b.String()
}

func (s *randomSpec) String() string { return strings.Join(append(s.env, s.yaml("")), "\n") }

func (s *randomSpec) folder(variant string) string {
	if variant == "renamed" {
		return "other"
	}
	return "in"
}

// renamed returns v with another beginning for names of inputs.
func renamed(v any, old, now string) any {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "in/") {
			return strings.Replace(v, old, now, 1)
		}
	case map[string]any:
		c := maps.Clone(v)
		for key := range c {
			c[key] = renamed(c[key], old, now)
		}
		return c
	case []any:
		c := slices.Clone(v)
		for i := range c {
			c[i] = renamed(c[i], old, now)
		}
		return c
	}
	return v
}

func (t *randomTarget) value(executed bool) map[string]any {
	v := maps.Clone(t.config)
	if v == nil {
		v = map[string]any{}
	}
	if t.base != "" {
		v["base"] = t.base
	}
	if t.buildOnly {
		v["build_only"] = true
		delete(v, "tags")
	}
	ops := slices.Clone(t.ops)
	if t.plain {
		order := []string{"expand", "copy", "run", "remove"}
		slices.SortStableFunc(ops, func(a, b randomOp) int { return slices.Index(order, a.kind) - slices.Index(order, b.kind) })
		for i := range ops {
			ops[i].layer = false
		}
	}
	var steps []any
	first := 0 // of the step
	for i, op := range ops {
		if op.looks && i > first {
			op = randomOp{kind: "run", value: "[ ! -e /d0/f0 ] || cat /d0/f0 >> /seen", layer: op.layer}
		}
		step := map[string]any{op.kind: op.value}
		last := op.layer || i == len(ops)-1
		_, whole := op.value.(string)
		asIs := op.kind == "expand" && whole && first == 0 && i == 0 && t.base == ""
		if last && executed && !asIs {
			steps = append(steps, step)
			step = map[string]any{"run": ":"}
		}
		if op.layer {
			step["layer"], first = true, i+1
		}
		steps = append(steps, step)
	}
	if t.plain {
		for _, step := range steps {
			for kind, value := range step.(map[string]any) {
				list, _ := v[kind].([]any)
				v[kind] = append(list, value)
			}
		}
		if list, ok := v["remove"].([]any); ok {
			var flat []any
			for _, e := range list {
				for _, path := range e.([]string) {
					flat = append(flat, path)
				}
			}
			v["remove"] = flat
		}
	} else if len(steps) > 0 {
		v["steps"] = steps
	}
	return v
}

// tagged returns the names of the targets that get tags, bases first.
func (s *randomSpec) tagged() []string {
	var names []string
	for _, t := range s.targets {
		if !t.buildOnly && t.name != "" {
			names = append(names, t.name)
		}
	}
	return names
}

// broken returns the spec with a target that fails.
func (s *randomSpec) broken(rng *rand.Rand) (*randomSpec, string) {
	c := *s
	c.targets = slices.Clone(s.targets)
	t := &c.targets[rng.IntN(len(c.targets))]
	t.ops = slices.Insert(slices.Clone(t.ops), rng.IntN(len(t.ops)+1), randomOp{kind: "run", value: "mkdir -p /d0; echo broken > /d0/f0; exit 3"})
	return &c, t.name
}

// split returns the spec as two: the first has the first targets, the second all others, and those
// that have no tags, for which it takes the tags of the first.
func (s *randomSpec) split(rng *rand.Rand) (first, second *randomSpec) {
	a, b := *s, *s
	a.targets, b.targets = slices.Clone(s.targets), slices.Clone(s.targets)
	n := 1 + rng.IntN(len(s.targets))
	for i := range s.targets {
		if i >= n {
			a.targets[i].name = ""
		} else if !s.targets[i].buildOnly {
			b.targets[i].name = ""
		}
	}
	return &a, &b
}

// without returns the spec with no target i, or with no op j of it; nil where others need it.
func (s *randomSpec) without(i, j int) *randomSpec {
	c := *s
	c.targets = slices.Clone(s.targets)
	t := &c.targets[i]
	if j >= 0 {
		t.ops = slices.Delete(slices.Clone(t.ops), j, j+1)
		t.from = nil
		for _, op := range t.ops {
			if op.from != "" {
				t.from = append(t.from, op.from)
			}
		}
		return &c
	}
	for _, o := range s.targets {
		if o.name != "" && (o.base == t.name || slices.Contains(o.from, t.name)) {
			return nil
		}
	}
	t.name = ""
	return &c
}

// randomInputs makes the files that specs name, always the same: of each "a" there is an equal "b".
func randomInputs(t *testing.T, dir string, links bool) {
	t.Helper()
	for _, n := range []string{"a", "b"} {
		program.Write(t, dir, n+"0", "zero\n")
		program.Write(t, dir, n+"1", "zero\n")
		program.Write(t, dir, n+"2", "two\n")
		program.Write(t, dir, n+".sh", "#!/bin/busybox sh\nmkdir -p /d0; echo $0 $# >/dev/null; "+plain("/d0/f1", "echo script >/d0/f1")+"\n")
		tree := filepath.Join(dir, n+"-tree")
		program.Write(t, tree, "f0", "zero\n")
		program.Write(t, tree, "ä f", "f")
		program.Write(t, tree, "s/f1", "one\n")
		program.Write(t, tree, "s/x.sh", "x\n")
		for _, err := range []error{
			os.Mkdir(filepath.Join(tree, "nothing"), 0o755), os.Symlink("f0", filepath.Join(tree, "l1")), os.Symlink("/d1", filepath.Join(tree, "s/l1")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if links {
			if err := os.Link(filepath.Join(tree, "f0"), filepath.Join(tree, "h0")); err != nil {
				t.Fatal(err)
			}
		}
		sound := []tar.Header{folder("d0/"), file("d0/f0", "zero\n"), file("d0/f1", "one\n"), symlink("d0/l1", "f0"), folder("d1/"), file("d1/ä f", "f"), symlink("d1/l1", "../d0")}
		archive(t, filepath.Join(dir, n+"-sound.tar.gz"), sound)
		archive(t, filepath.Join(dir, n+"-double.tar.gz"), append(sound, file("d0/f0", "again\n"), folder("d1/")))
		archive(t, filepath.Join(dir, n+"-bare.tar"), []tar.Header{file("d0/s/f0", "zero\n"), file("d2/f0", "two\n"), symlink("d2/l1", "/d0/f0")})
		archive(t, filepath.Join(dir, n+"-links.tar"), []tar.Header{folder("d0/"), file("d0/h0", "linked\n"), link("d0/f2", "d0/h0"), link("d0/f0", "d0/f2")})
	}
	sys := []tar.Header{folder("bin/"), folder("d0/"), file("d0/f0", "zero\n"), file("d0/f1", "one\n"), symlink("d0/l1", "f0"), file("d0/h0", "linked\n"), folder("d1/"),
		file("d1/f0", "zero\n"), folder("d1/s/"), file("d1/s/f0", "deep\n"), folder("d2/"), symlink("d2/l1", "../d1"), folder("etc/"), file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"), folder("tmp/")}
	sys[len(sys)-1].Mode = 0o1777
	if links {
		sys = append(sys, link("d0/f2", "d0/h0"))
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sys = append(sys, file("bin/busybox", string(data)))
	sys[len(sys)-1].Mode = 0o755
	for _, name := range strings.Fields("sh cat chmod chown cp cut env find hostname id ln mkdir mkfifo mv readlink rm rmdir sed sleep sort stat syslogd touch truncate") {
		sys = append(sys, symlink("bin/"+name, "busybox"))
	}
	archive(t, filepath.Join(dir, "sys.tar.gz"), sys)
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}
}

// file returns the header of a file whose content goes, until it is written, by the name of its
// owner.
func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Uname: content, Size: int64(len(content)), Uid: len(name) % 3}
}

// archive packs the headers with times in fractions of seconds, compressed as the name says.
func archive(t *testing.T, name string, headers []tar.Header) {
	t.Helper()
	var plain bytes.Buffer
	tw := tar.NewWriter(&plain)
	for i, h := range headers {
		content := h.Uname
		h.Uname, h.Format, h.ModTime = "", tar.FormatPAX, time.Unix(1e9+int64(i), int64(i)*123456789)
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	data := plain.Bytes()
	if strings.HasSuffix(name, ".gz") {
		var small bytes.Buffer
		zw := gzip.NewWriter(&small)
		if _, err := zw.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		data = small.Bytes()
	}
	program.Write(t, filepath.Dir(name), filepath.Base(name), string(data))
}

// plain returns text that runs command unless the file has a set-id bit, which the kernel clears
// when an ordinary user's command writes to the file, and not when root's does.
func plain(file, command string) string {
	return fmt.Sprintf("[ -u %s ] || [ -g %s ] || { %s; }", file, file, command)
}
