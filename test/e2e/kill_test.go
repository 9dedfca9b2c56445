package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"genoci/test/killat"
	"genoci/test/program"
)

// A build that a signal ends in the middle leaves the tags that were there, and nothing else; the
// next build is clean.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		code   int
	}{
		{"SIGKILL", syscall.SIGKILL, -1},
		{"SIGINT", syscall.SIGINT, 130},
		{"SIGTERM", syscall.SIGTERM, 143},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := behave(t, "")
			testKilled(w, c.signal, c.code, w.nothingLeft)
		})
	}
	t.Run("btrfs", func(t *testing.T) {
		s := newStorage(t)
		busyboxRoot(s.workspace)
		s.Run(t, "storage", "setup")
		testKilled(s.workspace, syscall.SIGKILL, -1, s.checkTruth)
		s.Run(t, "storage", "unsetup", "--force")
		s.checkTruth()
	})
}

// testKilled ends a build by a signal; clean wants nothing to be left.
func testKilled(w *workspace, signal syscall.Signal, code int, clean func()) {
	t := w.t
	t.Helper()
	w.write("good.yaml", "sys: {expand: sys.tgz}\nbefore: {base: sys, run: echo before > /out}\n")
	w.build("-f", "good.yaml")
	tags := w.layout.TagNames(t)

	// The hook tells, through a pipe that the test waits for, that the step is being carried out.
	pipe := filepath.Join(w.Dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	w.write("genoci.yaml", `
sys: {expand: sys.tgz}
slow:
  base: sys
  pre: echo started > pipe
  run: echo half > /half; exec sleep 1000
after: {base: slow, run: "true"}
`)
	cmd := w.Command(t, "build", "--progress", "plain")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(pipe); err != nil || string(text) != "started\n" {
		t.Fatalf("the hook said %q, %v", text, err)
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(stderr) // to its end: every process of genoci's is gone
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != code {
		t.Errorf("%v, want exit status %d\n%s", cmd.ProcessState, code, said)
	}
	if got := w.layout.TagNames(t); strings.Join(got, " ") != strings.Join(tags, " ") {
		t.Errorf("tags: %q, were %q", got, tags)
	}
	noProcesses(t, w.Dir)
	clean()

	w.Run(t, "verify")
	w.write("genoci.yaml", "sys: {expand: sys.tgz}\nslow: {base: sys, run: echo whole > /whole}\n")
	w.build()
	if !w.missing("slow", "half") {
		t.Error("the killed step's file is in the image of the next build")
	}
	w.Run(t, "gc")
	w.Run(t, "verify")
	clean()
}

// killed runs genoci with args, and kills it before its n-th change. It reports whether it had
// ended before.
func (w *workspace) killed(n int, args ...string) (ended bool) {
	w.t.Helper()
	res := killat.Run(w.t, w.Command(w.t, args...), n)
	noProcesses(w.t, filepath.Join(w.Dir, ".cache")) // an ordinary user has a second process
	return res.Code == 0
}

// changes runs genoci with args, which has to succeed, and returns how many changes it makes.
func (w *workspace) changes(args ...string) int {
	w.t.Helper()
	return killat.Count(w.t, w.Command(w.t, args...))
}

// Two builds on one layout at the same time lose nothing.
func TestTwoAtOnce(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	busyboxRoot(w)
	var cmds []*exec.Cmd
	for _, name := range []string{"one", "two", "three", "four"} {
		w.write(name+".yaml", "sys: {expand: sys.tgz}\n"+name+": {base: sys, run: echo "+name+" > /out}\n")
		cmds = append(cmds, w.Command(t, "build", "-f", name+".yaml", "--progress", "plain"))
	}
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	}
	count := builds(w.layout.TagNames(t))
	for name, want := range map[string]int{"one": 1, "two": 1, "three": 1, "four": 1, "sys": 4} {
		if count[name] != want {
			t.Errorf("%s has %d dated tags, want %d", name, count[name], want)
		}
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		equal(t, name, w.file(name, "out"), name+"\n")
	}
	w.Run(t, "verify")
}
