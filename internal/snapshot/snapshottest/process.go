package snapshottest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The environment of a helper: a second process that uses the driver on the same folder.
const (
	helperDir  = "GENOCI_SNAPSHOTTEST_DIR"
	helperRole = "GENOCI_SNAPSHOTTEST_ROLE"
)

// asHelper does the work of a helper if this process was started as one.
func asHelper(t *testing.T, open Opener) bool {
	dir := os.Getenv(helperDir)
	if dir == "" {
		return false
	}
	roles := map[string]func(*suite){"hold": helpHold, "rounds": commitRounds, "resume": helpResume}
	s := &suite{T: t, dir: dir, open: open}
	s.driver = s.reopen()
	roles[os.Getenv(helperRole)](s)
	return true
}

// helper is a running helper.
type helper struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// start starts the test binary as a helper. It is killed at the latest at the end of the test.
func (s *suite) start(role string) *helper {
	s.Helper()
	top, _, _ := strings.Cut(s.Name(), "/")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^"+top+"$", fmt.Sprintf("-test.short=%v", testing.Short()))
	cmd.Env = append(os.Environ(), helperDir+"="+s.dir, helperRole+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	s.must(err)
	stdout, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	s.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // an error in every case but that in which finish has seen to it
	})
	return &helper{cmd, stdin, bufio.NewScanner(stdout)}
}

// waitFor reads the helper's output up to the line.
func (h *helper) waitFor(s *suite, line string) {
	s.Helper()
	var seen []string
	for h.lines.Scan() {
		if h.lines.Text() == line {
			return
		}
		seen = append(seen, h.lines.Text())
	}
	s.Fatalf("the helper did not get to %q: %s", line, strings.Join(seen, "\n"))
}

// finish closes the helper's input, and waits for its success.
func (h *helper) finish(s *suite) {
	s.Helper()
	s.must(h.stdin.Close())
	h.waitFor(s, "PASS")
	s.must(h.cmd.Wait())
}

// helpHold commits one snapshot, holds trees and a view, and commits one of the trees when its
// input ends.
func helpHold(s *suite) {
	s.snapshot("of the helper", "base", "committed file")
	first, child := s.tree(""), s.tree("base")
	s.view("base")
	for _, t := range []interface{ Dir() string }{first, child} {
		s.change(t.Dir(), "uncommitted file\n locked/uncommitted file\n chmod 0 locked")
	}
	fmt.Println("holding")
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.change(child.Dir(), "rm locked")
	s.commit(child, "late")
}

// testKill: the trees of a process that lives are left alone; those of one that was killed are
// dropped by the next Open. What was committed stays.
func testKill(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	alive, killed := s.start("hold"), s.start("hold")
	alive.waitFor(s, "holding")
	killed.waitFor(s, "holding")
	s.must(killed.cmd.Process.Kill())
	_ = killed.cmd.Wait()

	s.driver = s.reopen()
	s.wantNames("base", "of the helper")
	s.wantTreeOf("of the helper", "committed file 0644 \"\"\n"+oneFile)
	alive.finish(s)
	s.wantNames("base", "of the helper", "late")
	s.wantTreeOf("late", oneFile+"uncommitted file 0644 \"\"\n")
	s.must(s.driver.Remove(s.Context(), "late"))
	s.wantGone("uncommitted", "the trees were dropped")
	s.wantTreeOf("base", oneFile)
}

// rounds returns how many rounds each of two processes does.
func rounds() int {
	if testing.Short() {
		return 8
	}
	return 20
}

// commitRounds makes snapshots, each from the one before, and removes some.
func commitRounds(s *suite) {
	parent := "base"
	for i := range rounds() {
		name := fmt.Sprintf("round %d", i)
		t := s.tree(parent)
		s.must(os.WriteFile(filepath.Join(t.Dir(), name), nil, 0o644))
		s.commit(t, name)
		s.must(s.driver.Remove(s.Context(), fmt.Sprintf("never %d", i)))
		parent = name
	}
}

// testTwoProcesses: two processes make the same snapshots at the same time.
func testTwoProcesses(s *suite) {
	s.snapshot("base", "", `f file "x"`)
	other := s.start("rounds")
	commitRounds(s)
	other.finish(s)
	want, names := oneFile, []string{"base"}
	for i := range rounds() {
		name := fmt.Sprintf("round %d", i)
		names = append(names, name)
		want += fmt.Sprintf("%q file 0644 \"\"\n", name)
		s.wantTreeOf(name, want)
	}
	s.wantNames(names...)
}
