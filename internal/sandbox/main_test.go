package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/test/strict"
)

// helperEnv names the helper that a copy of the test program is to be, instead of running tests.
const helperEnv = "SANDBOX_TEST_HELPER"

// errEnter is why the tests of an ordinary user do not run inside a namespace.
var errEnter error

func TestMain(m *testing.M) {
	Init()
	if name := os.Getenv(helperEnv); name != "" {
		os.Exit(helpers[name]())
	}
	if os.Geteuid() != 0 {
		errEnter = Enter()
	}
	os.Exit(m.Run())
}

// helpers are what tests do in processes of their own.
var helpers = map[string]func() int{
	"enter":    helpEnter,
	"chroot":   helpChroot,
	"run":      helpRun,
	"leaks":    helpLeaks,
	"outside":  helpOutside,
	"maskproc": helpMaskProc,
	"masked":   helpMasked,
	"terminal": helpTerminal,
	"check":    helpCheck,
	"host":     helpHost,
	"odd":      helpOdd,
	"nomknod":  helpNoMknod,
}

// helper returns a command that runs a helper.
func helper(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "sandbox.test"
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	return cmd
}

// applets are the programs of a root filesystem made by newRoot.
var applets = []string{
	"cat", "chmod", "chown", "cut", "dd", "echo", "env", "grep", "head", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "od",
	"ping", "ps", "pwd", "readlink", "rm", "setsid", "sh", "sleep", "sort", "stat", "stty", "su", "test", "touch", "tr", "tty", "true", "umount",
	"unshare", "wc",
}

// newRoot makes a root filesystem with a busybox. It has no mount points.
func newRoot(t testing.TB) string {
	t.Helper()
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	const busybox = "/bin/busybox"
	program, err := os.ReadFile(busybox)
	if err != nil {
		strict.Lack(t, "busybox", err)
	}
	if out, err := exec.Command(busybox, "ldd", busybox).CombinedOutput(); err == nil && bytes.Contains(out, []byte("=>")) {
		strict.Lack(t, "busybox", "not a static program")
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"", "bin", "etc", "root", "tmp"} {
		strict.Must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
		strict.Must(t, os.Chmod(filepath.Join(root, dir), 0o755))
	}
	strict.Must(t, os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky))
	put(t, root, "bin/busybox", string(program), 0o755)
	for _, name := range applets {
		strict.Must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	put(t, root, "etc/passwd", "root::0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
	put(t, root, "etc/group", "root:x:0:\nann:x:1000:\naudio:x:29:ann\nvideo:x:44:bob,ann\n", 0o644)
	return root
}

func put(t testing.TB, root, name, text string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(root, name)
	strict.Must(t, os.WriteFile(file, []byte(text), mode))
	strict.Must(t, os.Chmod(file, mode))
}

// outcome is what came of a command.
type outcome struct {
	stdout, stderr string
	err            error
}

// run runs c, after filling what it lacks.
func run(t testing.TB, c Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	err := c.Run(t.Context())
	return outcome{stdout.String(), stderr.String(), err}
}

// script runs a shell script that has to succeed, and returns what it printed.
func script(t *testing.T, c Cmd, text string) string {
	t.Helper()
	c.Args = []string{"sh", "-ec", text}
	out := run(t, c)
	if out.err != nil {
		t.Fatalf("%s: %v\n%s%s", text, out.err, out.stdout, out.stderr)
	}
	return out.stdout
}

// tree returns the names, types, modes, owners, sizes, link targets and modification times of all
// that is in a folder, one a line.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	strict.Must(t, filepath.Walk(root, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		link, _ := os.Readlink(name)
		lines = append(lines, fmt.Sprint(strings.TrimPrefix(name, root), " ", info.Mode(), " ", st.Uid, ":", st.Gid, " ", info.Size(), " ", link, " ", info.ModTime()))
		return nil
	}))
	return lines
}

// same fails the test if two trees differ.
func same(t *testing.T, before, after []string) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the tree changed:\n%s", diff)
	}
}

// helpRun runs the command in its arguments: a root and a script. It prints what the script prints.
func helpRun() int {
	c := Cmd{Root: os.Args[1], Args: []string{"sh", "-ec", os.Args[2]}, Stdout: os.Stdout, Stderr: os.Stderr}
	err := c.Run(context.Background())
	var exit *ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case err != nil:
		io.WriteString(os.Stderr, err.Error()+"\n")
		return 99
	}
	return 0
}
