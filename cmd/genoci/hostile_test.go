package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/imagetest"
	"genoci/internal/shown"
)

// What text of others may hold: a title for the terminal's window, beginnings of lines that look
// like the program's, commands of a runner, turned text, C1 controls. evil is all of it but bytes
// that are not UTF-8, which no JSON can have; evilBytes has these too.
const (
	evil      = "E\x1b]0;x\aF\u009b31m\x7f\u202eG\u2066\u200f\u2028error: forged\u2029\rerror: forged\nerror: forged\n::debug::forged\n##[error]forged"
	evilBytes = evil + "\xff\x9b31m"
	runner    = "::debug::forged"
	evilTab   = "a\tb\nerror: forged"
	slashless = "N\x1b]0;x\a\u009b\u202e\u2028error: forged\rerror: forged\nerror: forged\n::debug::forged" // a name of a file
	evilTag   = evil + "-2026-11-23_1"                                                                      // is a dated build of evil
	evilNewer = evil + "-2026-11-24_1"
)

// hostileRow is a command line whose output has text of others.
type hostileRow struct {
	args  []string
	needs string // a condition of scripts
	raw   bool   // stdout is what somebody asked for as it is
	tty   bool   // stderr has the control sequences of live lines
	json  string // stdout, or stderr where this begins with "!", is JSON which has this string
	exit  int    // as wanted; -1 for any but 0
	any   bool   // how it ends depends on the machine
}

// hostileRows has at least one row for each command, by its words.
func hostileRows() map[string][]hostileRow {
	row := func(args ...string) hostileRow { return hostileRow{args: args} }
	fails := func(exit int, args ...string) hostileRow { return hostileRow{args: args, exit: exit} }
	asJSON := func(want string, args ...string) hostileRow { return hostileRow{args: args, json: want} }
	inTree := func(args ...string) hostileRow { return hostileRow{args: args, needs: "userns"} }
	missing := evilBytes + "?"
	return map[string][]hostileRow{
		"": {fails(2, evilBytes), fails(2, evil+".yaml"), fails(2, "--"+evilBytes), row("--help"), fails(2, "bad\nerror: forged.yaml")},
		"build": {
			row("build", "--progress", "plain"), fails(2, "build", "--progress", "plain", "--why", "--arg", "X="+evil),
			row("build", "--progress", "plain", "--why", "-f", "changed.yaml"),
			{args: []string{"build", "--progress", "tty", "--no-cache"}, tty: true},
			row("build", "--progress", "none", "--no-cache"),
			{args: []string{"build", "--progress", "json", "--no-cache", "--json"}, json: "!warning"},
			fails(1, "build", "-f", "fails.yaml", "--keep-going"), fails(1, "build", "-f", "fails.yaml", "--keep-going", "--progress", "none"),
			{args: []string{"build", "-f", "fails.yaml", "--keep-going", "--progress", "tty"}, tty: true, exit: 1},
			{args: []string{"build", "-f", "fails.yaml", "--progress", "json"}, json: "!", exit: 1},
			{args: []string{"build", "-f", "fails.yaml", "--json", "--progress", "none"}, json: "fails.yaml", exit: 1},
			{args: []string{"build", "-f", "runs.yaml", "--progress", "plain", "--keep-going"}, needs: "userns", exit: 1},
			{args: []string{"build", "-f", "runs.yaml", "--progress", "tty", "--keep-going"}, needs: "userns", tty: true, exit: 1},
			{args: []string{"build", "-f", "runs.yaml", "--json", "--progress", "json", "--keep-going"}, needs: "userns", json: "runs.yaml", exit: 1},
			fails(2, "build", "-f", "missing.yaml"), fails(2, "check", "-f", "missing.yaml"),
			fails(2, "build", "-f", "wrong.yaml"), fails(2, "build", "-f", "wrong"+slashless+".yaml"), fails(2, "build", missing),
			fails(2, "build", "--arg", missing),
			fails(2, "build", "--driver", missing), fails(2, "build", "--jobs", missing), fails(2, "build", "--progress", missing),
			fails(2, "build", "--"+missing),
			fails(-1, "build", "--layout", "file/"+slashless), fails(-1, "build", "--cache-dir", "file/"+slashless),
			row("build", "--layout", slashless),
		},
		"check": {row("check"), fails(2, "check", "-f", "wrong.yaml"), fails(2, "check", "-f", "wrong"+slashless+".yaml"),
			fails(2, "check", "-f", "bad\nerror: forged.yaml"),
			fails(2, "check", "-f", missing), fails(2, "check", missing), fails(2, "check", "-f", "tag.yaml"),
			fails(2, "check", "--arg", missing), fails(2, "check", "-f", "syntax.yaml")},
		"plan": {row("plan"), row("plan", "--dot"), asJSON("from-evil", "plan", "--json"),
			asJSON("oci:oci:based", "plan", "--json", "-f", "base.yaml"), row("plan", "-f", "base.yaml"),
			row("plan", "--dot", "-f", "base.yaml"),
			fails(2, "plan", missing), fails(-1, "plan", "-f", "fails.yaml", "--layout", "file/"+slashless)},
		"explain": {row("explain"), row("explain", "--no-cache"), asJSON("from-evil", "explain", "--json"),
			row("explain", "-f", "base.yaml"), fails(2, "explain", "-f", "tag.yaml"), row("explain", "-f", "changed.yaml"),
			asJSON("from-evil", "explain", "--json", "-f", "changed.yaml"), fails(2, "explain", missing)},
		"shell": {fails(-1, "shell", evil, "--", evilBytes), fails(-1, "shell", missing), fails(-1, "shell", evil+"@failed"),
			fails(-1, "shell", evil, "--env", "="+evil),
			fails(-1, "shell", evil, "--user", missing, "--", "/x"), fails(-1, "shell", evil, "--workdir", missing, "--", "/x")},
		"ls": {row("ls"), asJSON(evil, "ls", "--json"), fails(1, "ls", "--layout", "broken"), fails(1, "ls", "--layout", missing),
			fails(2, "ls", missing), fails(1, "ls", "--layout", "file/"+slashless)},
		"inspect": {row("inspect", evil), asJSON(evil, "inspect", "--json", evil), row("inspect", "artifact"), row("inspect", "index"),
			asJSON(evil, "inspect", "--json", "artifact"),
			asJSON(evil, "inspect", "--json", "index"), fails(1, "inspect", missing), fails(1, "inspect", "broken", "--layout", "broken"),
			fails(1, "inspect", "missing"+evil, "--layout", "broken")},
		"get": {fails(-1, "get", evil+":/"+evilBytes), fails(-1, "get", missing), fails(-1, "get", evil+":/link"),
			fails(-1, "get", evil+":/"+slashless[:len(slashless)-1], "-"),
			{args: []string{"get", evil + ":/" + slashless, "-"}, raw: true}, {args: []string{"get", evil + ":/go", "-"}, raw: true},
			row("get", evil+":/dir"),
			row("get", evil+":/dir", slashless+"/x"), fails(-1, "get", evil+":/dir", "file/"+slashless),
			row("get", evil+":/dir", slashless), fails(-1, "get", evil+":/dir", slashless), fails(-1, "get", evil+":/dir", "-")},
		"diff": {row("diff", evil), row("diff", "plain", evil), row("diff", evil, "plain"), row("diff", "--stat", "plain", evil),
			asJSON("/"+slashless, "diff", "--json", "plain", evil),
			asJSON(evil, "diff", "--json", evilTag, evilNewer), row("diff", evilTag, evilNewer), fails(-1, "diff", missing),
			fails(-1, "diff", evil, missing), fails(-1, "diff", "broken", evil, "--layout", "broken"), row("diff", "based")},
		"log": {row("log", evil), row("log", "--stat", evil), asJSON(evilTag, "log", "--json", evil), fails(-1, "log", missing), row("log", runner)},
		"rollback": {row("rollback", evil), row("rollback", evil, evilTag), row("rollback", evil, evilTag),
			fails(-1, "rollback", evil, missing), fails(-1, "rollback", missing),
			fails(-1, "rollback", "plain"), row("rollback", runner)},
		"tag": {row("tag", evil, "new"), fails(2, "tag", evil, missing), fails(1, "tag", missing, "new"), fails(2, "tag", evil, "a", missing)},
		"rm":  {fails(1, "rm", missing), fails(1, "rm", evil+"x"), row("rm", "gone\x1b]0;x\a"), fails(2, "rm", "--"+evil)},
		"du": {row("du"), row("du", "--blobs", evil), asJSON(evil, "du", "--json"), fails(1, "du", missing),
			fails(-1, "du", "--cache-dir", "file/"+slashless)},
		"gc": {row("gc", "--dry-run", "--keep", "1"), asJSON(evil+"old-2026-11-21_1", "gc", "--dry-run", "--keep", "1", "--json"),
			fails(2, "gc", "--keep", missing), fails(2, "gc", "--max-size", missing), row("gc"), fails(1, "gc", "--layout", "broken"),
			fails(1, "gc", "--layout", missing)},
		"clean": {row("clean", "--dry-run"), row("clean", "--cache-dir", "cache"+slashless, "--dry-run"),
			{args: []string{"clean", "--dry-run", "--json"}, json: ""}, row("clean"), fails(2, "clean", missing)},
		"verify": {fails(1, "verify"), fails(1, "verify", "--layout", missing), fails(1, "verify", "--layout", "odd"+slashless),
			fails(1, "verify", "--layout", "broken")},
		"unpack": {fails(-1, "unpack", missing), inTree("unpack", evil, "dir"+slashless), fails(-1, "unpack", evil, "file/"+slashless),
			fails(-1, "unpack", "broken", "x"+slashless, "--layout", "broken"),
			fails(2, "unpack", "a", "b", missing), fails(-1, "unpack", "--bundle", evil, "bundle"+slashless),
			inTree("unpack", "--driver", "vfs", "--trees", evil), {args: []string{"unpack", "--driver", "vfs"}, needs: "userns", any: true}},
		"checkout": {{args: []string{"checkout", "--driver", "vfs", evil, "co" + slashless}, needs: "userns", raw: true},
			fails(-1, "checkout", missing), fails(-1, "checkout", evil, "file/"+slashless),
			{args: []string{"checkout", "--driver", "vfs", "plain", "plain-co"}, needs: "userns"}, fails(2, "checkout", "a", "b", missing)},
		"status": {inTree("status"), {args: []string{"status", "--json"}, needs: "userns", json: evil}, fails(2, "status", missing)},
		"chroot": {fails(-1, "chroot", missing), {args: []string{"chroot", "co" + slashless, missing}, needs: "userns", exit: -1},
			{args: []string{"chroot", "co" + slashless}, needs: "userns", any: true}},
		"checkin": {fails(2, "checkin", missing), {args: []string{"checkin", "--as-spec", "--dir", "co" + slashless}, needs: "userns"},
			{args: []string{"checkin", "--dir", "co" + slashless, "--keep"}, needs: "userns"}, fails(-1, "checkin", "--dir", missing),
			{args: []string{"checkin", "--dir", "co" + slashless, "--keep", "named"}, needs: "userns"},
			fails(2, "checkin", "--compression", missing)},
		"abort": {fails(-1, "abort", missing), {args: []string{"clean", "--dry-run"}}, {args: []string{"du"}},
			inTree("abort", "co"+slashless), inTree("abort", "plain-co")},

		"unshare": {inTree("unshare", "true"), {args: []string{"unshare", missing}, needs: "userns", exit: -1}},
		"storage": {fails(2, "storage", missing)},
		"storage setup": {fails(2, "storage", "setup", "--driver", missing), fails(2, "storage", "setup", missing),
			fails(2, "storage", "setup", "--size", missing)},
		"storage detach": {{args: []string{"storage", "detach", "--lofile", slashless, "--btrfsmount", "m" + slashless}, any: true},
			fails(2, "storage", "detach", missing)},
		"storage unsetup": {{args: []string{"storage", "unsetup", "--lofile", slashless, "--btrfsmount", "m" + slashless}, any: true},
			fails(2, "storage", "unsetup", missing)},
		"storage status": {{args: []string{"storage", "status", "--lofile", slashless, "--btrfsmount", "m" + slashless}, any: true},
			{args: []string{"storage", "status", "--json", "--lofile", slashless, "--btrfsmount", "m" + slashless}, any: true, json: ""},
			fails(2, "storage", "status", "--driver", missing)},
		"doctor": {{args: []string{"doctor", "--cache-dir", "c" + slashless, "--layout", slashless}, any: true},
			{args: []string{"doctor", "--json", "--cache-dir", "c" + slashless}, any: true, json: ""}, fails(2, "doctor", missing)},
		"probe":      {{args: []string{"probe", "--cache-dir", "c" + slashless}, any: true, json: ""}, fails(2, "probe", missing)},
		"schema":     {{args: []string{"schema"}, json: "object"}, fails(2, "schema", missing)},
		"version":    {row("version"), {args: []string{"version", "--json"}, json: ""}, fails(2, "version", missing)},
		"help":       {row("help"), row("help", "get"), fails(2, "help", missing), fails(2, "help", "storage", missing)},
		"completion": {row("completion", missing)}, "completion bash": {row("completion", "bash"), fails(-1, "completion", "bash", missing)},
		"completion zsh":        {row("completion", "zsh"), fails(-1, "completion", "zsh", missing)},
		"completion fish":       {row("completion", "fish"), fails(-1, "completion", "fish", missing)},
		"completion powershell": {row("completion", "powershell"), fails(-1, "completion", "powershell", missing)},
		"__complete": {row("__complete", "inspect", ""), row("__complete", "rm", ""), row("__complete", "rollback", ""),
			row("__complete", "rollback", evil, ""), row("__complete", "diff", ""), row("__complete", "shell", ""),
			row("__complete", "log", ""),
			row("__complete", "get", ""), row("__complete", "get", evil+":/"), row("__complete", "get", evil+":/dir/"),
			row("__complete", "build", "-f", "base.yaml", ""), row("__complete", "checkout", ""), row("__complete", "unpack", ""),
			row("__complete", "du", ""),
			row("__complete", "tag", ""), row("__complete", missing, ""), row("__complete", "inspect", "--"+missing),
			row("__complete", "inspect", "--"+missing, ""), row("__complete", "help", ""), row("__completeNoDesc", "inspect", "")},
	}
}

// hostileOrder is the order in which commands run that need what others make, or unmake it.
var hostileOrder = []string{"build", "inspect", "checkout", "unpack", "status", "chroot", "checkin"}
var hostileLast = []string{"abort", "gc", "clean"}

// onRunners are the commands that run once more as in a job of GitHub Actions: most of what a job
// does.
var onRunners = []string{"build", "check", "plan", "ls", "inspect", "diff", "get", "verify"}

// TestHostileOutput goes through all commands with a layout, a spec and a working folder whose
// names and values are hostile: what they print stays in its lines, and changes no terminal. Text
// that must not be lost is whole in the JSON.
func TestHostileOutput(t *testing.T) {
	url := hostileServer(t)
	rows := hostileRows()
	root := newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	missing := []string{"__complete"}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		missing = append(missing, strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "genoci"), " "))
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for _, name := range missing {
		if len(rows[name]) == 0 {
			t.Errorf("%q has no row here", name)
		}
	}
	for name := range rows {
		if !slices.Contains(missing, name) {
			t.Errorf("%q has a row here, but is not a command", name)
		}
	}

	order := slices.DeleteFunc(slices.Sorted(maps.Keys(rows)), func(name string) bool {
		return slices.Contains(hostileOrder, name) || slices.Contains(hostileLast, name)
	})
	order = slices.Concat(hostileOrder, order, hostileLast)
	for _, actions := range []string{"", "true"} {
		env := hostileFolder(t, url)
		for _, name := range order {
			for _, r := range rows[name] {
				if r.needs == "userns" && !canEnter() || actions != "" && (r.json != "" || !slices.Contains(onRunners, name)) {
					continue
				}
				t.Run(name+actions, func(t *testing.T) { r.check(t, append(env, "GITHUB_ACTIONS="+actions)) })
			}
		}
	}
}

func (r hostileRow) check(t *testing.T, env []string) {
	cmd := exec.Command("genoci", r.args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &stdout, &stderr, env, strings.TrimPrefix(env[0], "PWD=")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := cmd.ProcessState.ExitCode()
	if !r.any && code != r.exit && (r.exit != -1 || code == 0) {
		t.Errorf("exit %d, want %d", code, r.exit)
	}
	if code == 2 && strings.Contains(stderr.String(), "panic: ") {
		t.Error("it panics")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("genoci %q: %v\n%s%s", r.args, err, shown.JSON(stdout.String()), shown.JSON(stderr.String()))
		}
	})
	told, onRunner := stderr.String(), slices.Contains(env, "GITHUB_ACTIONS=true")
	if r.tty {
		told = regexp.MustCompile(`\x1b\[(\?25[lh]|\?7[lh]|J|[0-9]*[mA])|\r`).ReplaceAllString(told, "")
	}
	if !r.raw {
		checkLines(t, "stdout", stdout.String(), onRunner)
	}
	checkLines(t, "stderr", told, onRunner)
	if want, ok := strings.CutPrefix(r.json, "!"); ok {
		checkHas(t, told, want)
	} else if r.json != "" || slices.Contains(r.args, "--json") {
		checkHas(t, stdout.String(), r.json)
	}
}

// checkLines holds that a terminal shows text as it is, and that no line is one that text of others
// has begun.
func checkLines(t *testing.T, name, text string, onRunner bool) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8", name)
	}
	for _, r := range text {
		if shown.Odd(r) {
			t.Errorf("%s has %q", name, r)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		begin := strings.TrimSpace(line)
		if strings.HasPrefix(line, "error: forged") || strings.HasPrefix(begin, "::debug::") || strings.HasPrefix(begin,
			"forged") || onRunner && strings.Contains(line, "##[") {
			t.Errorf("%s has a line of others: %q", name, line)
		}
	}
}

// checkHas reports an error unless text consists of JSON values, and one of them contains the
// string.
func checkHas(t *testing.T, text, want string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	found := false
	var look func(any)
	look = func(v any) {
		switch v := v.(type) {
		case string:
			found = found || v == want
		case []any:
			for _, e := range v {
				look(e)
			}
		case map[string]any:
			for k, e := range v {
				look(k)
				look(e)
			}
		}
	}
	n := 0
	for ; ; n++ {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("no JSON: %v", err)
			return
		}
		look(v)
	}
	if n == 0 || want != "" && !found {
		t.Errorf("%d values of JSON, none has %q", n, want)
	}
}

// TestHostileTerminal shows that content and paths, which a script gets as they are, change no
// terminal.
func TestHostileTerminal(t *testing.T) {
	env := hostileFolder(t, "")
	for _, row := range [][]string{{"get", evil + ":/" + slashless, "-"}, {"checkout", "--driver", "vfs", "plain", "co" + slashless}, {"abort", "co" + slashless}} {
		if row[0] != "get" && !canEnter() {
			continue
		}
		terminal, stdout, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("genoci", row...)
		cmd.Stdout, cmd.Env, cmd.Dir = stdout, env, strings.TrimPrefix(env[0], "PWD=")
		err = errors.Join(cmd.Run(), stdout.Close())
		told, _ := io.ReadAll(terminal) // it ends with EIO (pty(7))
		terminal.Close()
		if err != nil || row[0] != "abort" && len(told) == 0 {
			t.Errorf("genoci %q: %v, %q", row, err, told)
		}
		for _, r := range strings.ReplaceAll(string(told), "\r\n", "\n") {
			if shown.Odd(r) {
				t.Errorf("genoci %q: %q has %q", row, told, r)
			}
		}
		if !utf8.Valid(told) {
			t.Errorf("genoci %q: %q is not UTF-8", row, told)
		}
	}
}

// hostileServer answers each request with a status text and a header that are hostile.
func hostileServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			fmt.Fprintf(c, "HTTP/1.1 404 \x1b]0;x\a\u202e\xff\rerror: forged ##[error]forged\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// hostileFolder makes a working folder and returns the environment for it, which begins with PWD.
func hostileFolder(t *testing.T, url string) []string {
	dir := t.TempDir()
	t.Cleanup(func() {
		if out, err := exec.Command("removetree", dir).CombinedOutput(); err != nil { // trees have files of subordinate ids
			t.Logf("remove %s: %v: %s", dir, err, out)
		}
	})
	home := filepath.Join(dir, ".home")
	write := func(name string, data string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	spec := func(name string, v any) {
		t.Helper()
		data, err := json.Marshal(v) // YAML has it as a subset
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(data))
	}
	type m = map[string]any
	write("file", "")
	write(".home/x", "")
	write("src/"+slashless, evilBytes)
	write("src/"+slashless+"-", "x")
	write("src/.wh.x", "") // no layer can hold it
	write("evil.tar", string(hostileTar()))
	write("both.tar", string(hostileTar())+string(hostileTar()))
	write("bad.tar", string(hostileTar()[:700]))
	write("evil.deb", "!<arch>\n"+slashless)
	write("one.deb", hostileDeb("E\x1b]0;x\aF\u009b31m\u202eone", "two\rerror: forged\u2028"))
	write("two.deb", hostileDeb("two\rerror: forged\u2028", "E\x1b]0;x\aF\u009b31m\u202eone"))
	write("cache"+slashless+"/"+slashless, "")
	if err := os.Remove(filepath.Join(dir, "src/.wh.x")); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := os.Rename(filepath.Join(dir, "s"), filepath.Join(dir, "src/s"+slashless)); err != nil {
		t.Fatal(err)
	}
	config := m{
		"labels": m{"org.example": evil, evil: "x"}, "environment": m{"VARIABLE": evil}, "cmd": []string{evil, "--"}, "author": evil,
		"annotations": m{"org.example": evil, evil: "y"},
	}
	from := maps.Clone(config)
	from["base"], from["copy"] = "empty", []m{{"src": "src", "dest": "/" + slashless}, {"src": "src/N*", "dest": "/glob/"},
		{"content": evil, "dest": "/t" + slashless}}
	from["expand"] = []m{{"src": "evil.tar", "dest": "/a"}}
	spec("genoci.yaml", m{"from-evil": from, "tars": m{"expand": "evil.tar"}})
	changed := maps.Clone(from)
	changed["environment"] = m{"VARIABLE": evil + "2", "Other": evil}
	changed["remove"] = "/" + slashless + "/s"
	spec("changed.yaml", m{"from-evil": changed})
	spec("base.yaml", m{"on": m{"base": "oci:oci:based", "copy": []m{{"src": "src", "dest": "/x" + slashless}}}, "tag": m{"base": "based"}})
	spec("tag.yaml", m{"on": m{"base": "oci:" + slashless + ":" + evil}, "tag": m{"base": evil + "?"}})
	spec("fails.yaml", m{ // each but for itself
		"both": m{"expand": "both.tar"}, "bad": m{"expand": "bad.tar"}, "url": m{"expand": m{"src": url + "/a%1b%0Aerror:forged.tar", "dest": "/"}},
		"user":  m{"base": "based", "copy": []m{{"src": "src", "dest": "/", "chown": "nobody-there"}}},
		"names": m{"base": "based", "copy": []m{{"src": "src", "dest": "/" + slashless + "/x"}}},
		"from":  m{"base": "based", "copy": []m{{"from": "based", "src": "/?" + slashless, "dest": "/d"}}},
	})
	spec("missing.yaml", m{
		"glob": m{"copy": []m{{"src": "src/[" + slashless, "dest": "/"}}}, "file": m{"copy": []m{{"src": "?" + slashless, "dest": "/"}}},
		"user": m{"copy": []m{{"src": "src", "dest": "/", "chown": slashless}}}, "debs": m{"base": "based", "install": "src/*"},
	})
	spec("runs.yaml", m{
		"run": m{"base": "based", "run": evil}, "deb": m{"base": "based", "install": "evil.deb"}, "one": m{"base": "based", "install": "one.deb"},
		"two":  m{"base": "based", "install": []string{"one.deb", "two.deb"}},
		"hook": m{"base": "plain", "pre": "printf '%b' '\\033]0;x\\007\\rerror: forged\\n::debug::forged\\n##[error]forged\\n'; exit 1"},
	})
	wrong := m{evil: m{"base": "empty"},
		"x": m{evil: 1, "copy": evil, "base": evil, "env": m{evil: m{}}, "expand": []string{evil}, "run": []m{{evil: evil}}, "from": evil, "user": []string{evil}, "entrypoint": m{evil: 1}}}
	spec("wrong.yaml", wrong)
	spec("wrong"+slashless+".yaml", wrong)
	write("bad\nerror: forged.yaml", "a: [\n\x1b]0;x\a")
	write("syntax.yaml", "a: {b: \"\x1b]0;x\a\u202e\xff\"\n  ::debug::forged\nerror: forged: [")
	hostileLayout(t, filepath.Join(dir, "oci"), "")
	hostileLayout(t, filepath.Join(dir, "broken"), "broken")
	hostileLayout(t, filepath.Join(dir, "odd"+slashless), "odd")
	return []string{"PWD=" + dir, "HOME=" + home, "XDG_CACHE_HOME=" + home + "/.cache", "XDG_STATE_HOME=" + home + "/.state",
		"XDG_CONFIG_HOME=" + home + "/.config", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "TZ=UTC"}
}

// hostileTar returns an archive whose members have hostile names, link texts and owners.
func hostileTar() []byte {
	var members []imagetest.Member
	add := func(h tar.Header, content string) {
		h.Mode, h.Uname, h.Gname, h.Format = 0o755, evil, evil, tar.FormatPAX
		if h.Typeflag == tar.TypeReg {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user." + slashless: evilBytes}
		}
		members = append(members, imagetest.Member{Header: h, Body: content})
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "dir/"}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "dir/" + slashless}, evilBytes)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "dir/" + evilTab}, evilBytes)
	add(tar.Header{Typeflag: tar.TypeReg, Name: slashless}, evilBytes)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bytes\xff\x9b31m"}, "")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "hard" + slashless, Linkname: slashless}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "go", Linkname: slashless}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: evilBytes}, "")
	add(tar.Header{Typeflag: tar.TypeFifo, Name: "fifo" + slashless}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd"}, "root:x:0:0:"+slashless+"\n"+slashless+":x:5:6\n")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "var/lib/dpkg/status"},
		"Package: "+slashless+"\nVersion: "+slashless+"\nStatus: install ok installed\n\n")
	return imagetest.Tar(members...)
}

// hostileDeb returns a package with a hostile name and version, which needs another one.
func hostileDeb(name, needs string) string {
	control := fmt.Sprintf("Package: %s\nVersion: 1\x1b[2J\u202e\nArchitecture: all\nPre-Depends: %s\nMaintainer: x\nDescription: x\n", name, needs)
	all := "!<arch>\n"
	for _, member := range [][2]string{{"debian-binary", "2.0\n"}, {"control.tar", string(imagetest.Tar(imagetest.File("./control", control)))}, {"data.tar", string(make([]byte, 1024))}} { // deb(5), ar(5)
		all += fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", member[0], 0, 0, 0, 0o100644, len(member[1]), member[1])
	}
	return all
}

// hostileLayout makes a layout in which all that the specification lets be text is hostile. With
// more, it has what is "broken", or an "odd" digest, too.
func hostileLayout(t *testing.T, dir, more string) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(mediaType string, v any) v1.Descriptor {
		t.Helper()
		data, ok := v.([]byte)
		if !ok {
			var err error
			if data, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		d := digest.FromBytes(data)
		write("blobs/sha256/"+d.Encoded(), data)
		return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	var index v1.Index
	index.SchemaVersion, index.MediaType = 2, v1.MediaTypeImageIndex
	tag := func(d v1.Descriptor, names ...string) {
		for _, name := range names {
			d.Annotations = map[string]string{v1.AnnotationRefName: name, evil: evil}
			index.Manifests = append(index.Manifests, d)
		}
	}
	image := func(text string, annotations map[string]string, layers ...[]byte) v1.Descriptor {
		var c v1.Image
		c.OS, c.Architecture, c.Author = "linux", "amd64", text
		c.Config = v1.ImageConfig{
			User: text, Env: []string{"PATH=" + text, text + "=x"}, Cmd: []string{text}, Entrypoint: []string{text, "--"},
			WorkingDir: "/" + text, StopSignal: text,
			Labels: map[string]string{"a": text, text: "b"}, Volumes: map[string]struct{}{text: {}}, ExposedPorts: map[string]struct{}{text: {}},
		}
		c.RootFS.Type = "layers"
		m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Annotations: annotations}
		m.SchemaVersion = 2
		for _, l := range layers {
			c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
			m.Layers = append(m.Layers, blob(v1.MediaTypeImageLayer, l))
			c.History = append(c.History, v1.History{CreatedBy: text, Comment: text, Author: text})
		}
		c.History = append(c.History, v1.History{CreatedBy: text, Comment: text, EmptyLayer: true})
		m.Config = blob(v1.MediaTypeImageConfig, c)
		return blob(v1.MediaTypeImageManifest, m)
	}
	empty := imagetest.Tar()
	evilNow := image(evil, map[string]string{evil: evil, "a": evil}, hostileTar())
	older := image(evil+"2", nil, empty)
	plain := image("", nil, empty)
	tag(plain, "plain")
	tag(image(evil, map[string]string{v1.AnnotationBaseImageDigest: plain.Digest.String(), v1.AnnotationBaseImageName: evil}, empty, hostileTar()),
		"based")
	tag(evilNow, evil, evilNewer, runner, runner+"-2026-11-24_1", "gone\x1b]0;x\a", "tab\tdescription", "line\nerror: forged",
		"\nerror: forged", "##[error]forged", "turned\u202e")
	tag(older, evilTag, runner+"-2026-11-23_1", evil+"old-2026-11-22_1")
	tag(plain, evil+"old-2026-11-21_1")
	two := specs.Versioned{SchemaVersion: 2}
	tag(blob(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: two, MediaType: v1.MediaTypeImageManifest, ArtifactType: evil, Config: v1.Descriptor{MediaType: evil,
			Digest: plain.Digest, Size: plain.Size}, Annotations: map[string]string{evil: evil},
		Layers:  []v1.Descriptor{{MediaType: evil, Digest: plain.Digest, Size: plain.Size, Annotations: map[string]string{v1.AnnotationTitle: evil}}},
		Subject: &v1.Descriptor{MediaType: evil, Digest: plain.Digest, Size: 1},
	}), "artifact", "artifact"+evil)
	tag(blob(v1.MediaTypeImageIndex, v1.Index{
		Versioned: two, MediaType: v1.MediaTypeImageIndex, ArtifactType: evil, Annotations: map[string]string{evil: evil},
		Manifests: []v1.Descriptor{{MediaType: v1.MediaTypeImageManifest, Digest: evilNow.Digest, Size: evilNow.Size, Platform: &v1.Platform{OS: evil, Architecture: evil, Variant: evil}}},
	}), "index", "index"+evil)
	tag(blob(evil, []byte("{}")), "other", "other"+evil)
	broken := blob(v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":`+strconv.Quote(evil)+`}`))
	if more == "broken" {
		tag(broken, "broken", "broken"+evil)
		tag(v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(evil), Size: 3}, "missing"+evil)
	}
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if more == "odd" {
		tag(v1.Descriptor{MediaType: evil, Digest: "sha256:" + digest.Digest(evil), Size: 3}, "odd")
	}
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write("index.json", bytes.Replace(data, []byte("turned"), []byte("bytes\xff\x9b31m"), 1))
	write("blobs/sha256/"+slashless, nil)
}
