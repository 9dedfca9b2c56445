package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// terminal runs the program with stderr on a new terminal of the size, and returns what it wrote
// there, and its exit code. When the screen shows the text ready, then is called.
func terminal(t *testing.T, dir string, env []string, size pty.Winsize, args []string, ready string, then func(*exec.Cmd, *os.File)) (string, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	exe, err := exec.LookPath("genoci") // TestMain puts it there
	if err != nil {
		t.Fatal(err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal("no terminal:", err)
	}
	defer master.Close()
	if err := pty.Setsize(master, &size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir, cmd.Stderr = dir, slave
	cmd.Env = append(os.Environ(), "TERM=xterm", "CI=", "GITHUB_ACTIONS=", "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "HOME="+dir)
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var screen strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		screen.Write(buf[:n])
		if then != nil && strings.Contains(screen.String(), ready) {
			then(cmd, master)
			then = nil
		}
		if err != nil { // EIO when the last program has left the terminal
			break
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.ReplaceAll(screen.String(), "\r\n", "\n"), cmd.ProcessState.ExitCode()
}

// stays returns what a terminal shows at the end of out: live lines, and what erased them, left
// out.
func stays(out string) string {
	out = strings.ReplaceAll(out, wrapOn, "")
	var kept strings.Builder
	for frame := range strings.SplitSeq(out, "\r"+eraseBelow) {
		frame, _, _ = strings.Cut(frame, wrapOff)
		for line := range strings.Lines(frame) {
			line = printable(strings.TrimSuffix(line, "\n"))
			if line != "" {
				kept.WriteString(line + "\n")
			}
		}
	}
	return kept.String()
}

func writeSpec(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "genoci.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("removetree", filepath.Join(dir, "cache")).CombinedOutput(); err != nil {
			t.Errorf("remove cache: %v: %s", err, out)
		}
	})
	return dir
}

func TestTerminal(t *testing.T) {
	dir := writeSpec(t, "web: {copy: {content: hello, dest: /hello}}\n")
	out, code := terminal(t, dir, nil, pty.Winsize{Cols: 80, Rows: 24}, []string{"build"}, "", nil)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.HasPrefix(out, hideCursor) || strings.Count(out, hideCursor) != strings.Count(out, showCursor) {
		t.Errorf("the cursor is not as before: %q", out)
	}
	lines := strings.Split(stays(out), "\n")
	if len(lines) < 2 || !strings.HasPrefix(lines[0], "web  built in ") || !strings.Contains(lines[1], "To use web:") {
		t.Errorf("screen:\n%s", stays(out))
	}
	if !strings.Contains(out, "\x1b[1mweb\x1b[m") {
		t.Errorf("no bold name: %q", out)
	}
}

// TestTerminalPlain shows when a terminal gets plain lines, and when it gets no colours.
func TestTerminalPlain(t *testing.T) {
	dir := writeSpec(t, "web: {copy: {content: hello, dest: /hello}}\n")
	for _, env := range []string{"TERM=dumb", "CI=true"} {
		out, _ := terminal(t, dir, []string{env}, pty.Winsize{Cols: 80, Rows: 24}, []string{"build", "--no-cache"}, "", nil)
		if strings.Contains(out, "\x1b") || !strings.HasPrefix(out, "web: copy ") {
			t.Errorf("with %s: %q", env, out)
		}
	}
	out, _ := terminal(t, dir, []string{"NO_COLOR=1"}, pty.Winsize{Cols: 80, Rows: 24}, []string{"build", "--no-cache"}, "", nil)
	if strings.Contains(out, "\x1b[1m") || !strings.Contains(out, hideCursor) {
		t.Errorf("with NO_COLOR: %q", out)
	}
}

// TestTerminalInterrupt shows the live lines of a command that runs, and that Ctrl-C gives back the
// terminal as it was.
func TestTerminalInterrupt(t *testing.T) {
	for _, feature := range []string{"userns", "busybox"} {
		if ok, err := condition(t, feature); !ok || err != nil {
			t.Skip("not here: ", feature, err)
		}
	}
	dir := writeSpec(t, "web:\n  run: echo it has begun; sleep 1000\n")
	resized := false
	out, code := terminal(t, dir, nil, pty.Winsize{Cols: 80, Rows: 24}, []string{"build"}, "| it has begun", func(cmd *exec.Cmd, master *os.File) {
		resized = pty.Setsize(master, &pty.Winsize{Cols: 30, Rows: 10}) == nil
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
	})
	if code != 130 || !resized {
		t.Errorf("exit code %d, resized %v", code, resized)
	}
	if !strings.HasSuffix(out, showCursor+"error: interrupted\n") {
		t.Errorf("the end of the screen: %q", out[max(0, len(out)-200):])
	}
	if !strings.Contains(out, "run echo it has begun") {
		t.Errorf("no live line: %q", out)
	}
}
