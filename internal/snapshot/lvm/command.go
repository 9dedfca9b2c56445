package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// findCommand returns the path of a program, which may be where only root's PATH leads.
func findCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	return path, err
}

// command runs a program, and returns what it prints. It holds the file lock, if that is not nil,
// while it runs.
//
// Neither signals from the terminal nor the end of this process end it: an lvm that dies while it
// has a device suspended leaves it so, and all who touch that device wait for ever. For its
// context, see its callers: they ask before.
func command(lock *os.File, name string, args ...string) (string, error) {
	path, err := findCommand(name)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if lock != nil {
		cmd.Stdin = lock // what asks nothing reads nothing
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if text := messages(stderr.String()); text != "" && errors.As(err, &exit) {
			err = &commandError{text, exit.ExitCode()}
		}
		return "", fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return stdout.String(), nil
}

// commandError is what a program said before it failed.
type commandError struct {
	text string
	code int
}

func (e *commandError) Error() string { return e.text }

// messages returns the lines of what a program printed, without warnings.
func messages(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "WARNING: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// lvm runs an lvm command (lvm(8)), which asks no questions.
func lvm(lock *os.File, name string, args ...string) (string, error) {
	return command(lock, "lvm", append([]string{name, "--yes", "--config", settings()}, args...)...)
}

// lvmAtOnce is lvm for commands that deactivate volumes: they wait for none that is in use.
func lvmAtOnce(name string, args ...string) error {
	_, err := command(nil, "lvm", append([]string{name, "--yes", "--config", settings() + " activation/retry_deactivation=0"}, args...)...)
	return err
}

// settings returns what is set in another way than the machine's lvm.conf(5) may have it. Volumes
// come and go in minutes, of which nobody wants an archive. Where udev does not run, as in a
// container, lvm makes the device files.
func settings() string {
	s := "backup/archive=0"
	if _, err := os.Stat("/run/udev/control"); err != nil {
		s += " activation/udev_rules=0 activation/udev_sync=0"
	}
	return s
}

// report runs a reporting lvm command, and returns the fields of each line.
func report(name, fields string, args ...string) ([][]string, error) {
	const separator = "\t"
	out, err := lvm(nil, name, append([]string{"--noheadings", "--units", "b", "--nosuffix", "--separator", separator, "--options", fields}, args...)...)
	if err != nil {
		return nil, err
	}
	var lines [][]string
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), separator)
		fields[0] = strings.TrimLeft(fields[0], " ")
		lines = append(lines, fields)
	}
	return lines, nil
}

// quote quotes a value of a selection (lvmreport(7)).
func quote(value string) string { return `"` + value + `"` }
