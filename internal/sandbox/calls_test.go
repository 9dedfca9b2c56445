package sandbox

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// carryOut runs a list in a process, to which it sends a message, and returns what that writes to
// its standard output and to callsFD.
func carryOut(t *testing.T, c *calls, message string) (output string, report []byte) {
	t.Helper()
	program, err := c.program()
	strict.Must(t, err)
	defer program.Close()
	own, other, err := socketPair(unix.SOCK_SEQPACKET)
	strict.Must(t, err)
	defer own.Close()
	if message != "" {
		_, err = own.WriteString(message)
		strict.Must(t, err)
	}
	strict.Must(t, unix.Shutdown(int(own.Fd()), unix.SHUT_WR))
	cmd := exec.Command(procFD(program))
	cmd.ExtraFiles = []*os.File{other}
	out, err := cmd.Output()
	other.Close()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	report, err = io.ReadAll(own)
	strict.Must(t, err)
	return string(out), report
}

func TestCalls(t *testing.T) {
	list := func() *calls {
		c := &calls{}
		hello := "hello "
		c.add("write", unix.SYS_WRITE, 1, c.text(hello), uint64(len(hello)))
		c.try("close", unix.SYS_CLOSE, 99)
		addr := c.wait(callsFD, 5)
		c.add("write", unix.SYS_WRITE, 1, addr, 5)
		return c
	}
	ends := list()
	ends.add("exit_group", unix.SYS_EXIT_GROUP, 0)
	if out, report := carryOut(t, ends, "world"); out != "hello world" || len(report) > 0 {
		t.Errorf("got %q and a report %q", out, report)
	}
	expects := &calls{}
	expects.expect("chdir", unix.ENOENT, unix.SYS_CHDIR, expects.text("/nowhere"))
	expects.expect("chdir", unix.ENOENT, unix.SYS_CHDIR, expects.text("/"))
	if out, report := carryOut(t, expects, ""); out != "" || expects.failure(report).Error() != "chdir: unexpected result 0" {
		t.Errorf("got %q and %v", out, expects.failure(report))
	}
	expects = &calls{}
	expects.expect("chdir", unix.ENOENT, unix.SYS_CHDIR, expects.text("/dev/null"))
	if out, report := carryOut(t, expects, ""); out != "" || expects.failure(report).Error() != "chdir: not a directory" {
		t.Errorf("got %q and %v", out, expects.failure(report))
	}
	fails := list()
	fails.add("chdir", unix.SYS_CHDIR, fails.text("/nowhere"))
	out, report := carryOut(t, fails, "world")
	if err := fails.failure(report); out != "hello world" || err.Error() != "chdir: no such file or directory" {
		t.Errorf("got %q and %v", out, err)
	}
	if out, report := carryOut(t, list(), ""); out != "hello " || list().failure(report).Error() != "read: unexpected result 0" {
		t.Errorf("got %q and %v", out, list().failure(report))
	}
	executes := &calls{}
	executes.add("execve", unix.SYS_EXECVE, executes.text("/bin/busybox"),
		executes.texts([]string{"sh", "-c", "echo $0 $1 $A", "x", strings.Repeat("y", 100_000)}), executes.texts([]string{"A=b"}))
	if out, report := carryOut(t, executes, ""); out != "x "+strings.Repeat("y", 100_000)+" b\n" || len(report) > 0 {
		t.Errorf("got %d bytes and a report %q", len(out), report)
	}
}

func TestCallsWrong(t *testing.T) {
	c := &calls{}
	for _, report := range []string{"", "x", strings.Repeat("x", reportSize), strings.Repeat("\x00", reportSize)} {
		if err := c.failure([]byte(report)); err == nil {
			t.Errorf("%q: no error", report)
		}
	}
	for range dataOffset / 64 {
		c.add("getpid", unix.SYS_GETPID)
	}
	if _, err := c.program(); err == nil {
		t.Error("a list that has no room is written")
	}
}

// TestSocketFor: a process finds its program wherever that is among the descriptors.
// syscall.ForkExec moves those of its own that are low to the number behind all that the process
// gets.
func TestSocketFor(t *testing.T) {
	c := &calls{}
	c.add("exit_group", unix.SYS_EXIT_GROUP, 0)
	low, err := c.program()
	strict.Must(t, err)
	defer low.Close()
	high, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, 40)
	strict.Must(t, err)
	program := os.NewFile(uintptr(high), "program")
	defer program.Close()
	own, other, err := socketFor(program)
	strict.Must(t, err)
	defer own.Close()
	defer other.Close()
	if other.Fd() < program.Fd() {
		t.Errorf("the socket is %d, the program %d", other.Fd(), program.Fd())
	}
	pid, err := syscall.ForkExec(procFD(program), []string{"test"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2, other.Fd()}})
	strict.Must(t, err)
	reap(pid)
}
