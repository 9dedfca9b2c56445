package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// onHost runs shell text on the host.
func onHost(ctx context.Context, t *testing.T, text string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := HostCmd{Args: []string{"/bin/sh", "-e", "-c", text}, Env: append(os.Environ(), "A=a"), Dir: t.TempDir(), Output: &out}
	err := c.Run(ctx)
	return out.String(), err
}

// holder is shell text that holds a lock on the file as long as it lives, whatever signals it gets.
func holder(lock string) string {
	return "setsid -f sh -c 'trap \"\" HUP INT TERM; exec 9>" + lock + "; flock 9; echo locked >" + lock + ".is; sleep 3600; sleep 3600'; " +
		"until test -e " + lock + ".is; do sleep 0.01; done; "
}

// nobodyHolds fails when the lock is not free.
func nobodyHolds(t *testing.T, lock string) {
	t.Helper()
	f, err := os.Open(lock)
	strict.Must(t, err)
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("what the command left running lives: %v", err)
	}
}

func TestHostCmd(t *testing.T) {
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	t.Run("surroundings", func(t *testing.T) {
		got, err := onHost(t.Context(), t, "echo $A $$; cat; readlink /proc/self; readlink /proc/self/fd/0; test -d /proc/1/task")
		strict.Must(t, err)
		if f := strings.Fields(got); len(f) != 4 || f[0] != "a" || f[1] != "2" || f[3] != "/dev/null" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("failure", func(t *testing.T) {
		got, err := onHost(t.Context(), t, "echo out; echo err >&2; exit 7")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 || got != "out\nerr\n" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("daemon", func(t *testing.T) {
		lock := filepath.Join(t.TempDir(), "lock")
		got, err := onHost(t.Context(), t, holder(lock)+"sleep 3600 & echo done")
		if strict.Must(t, err); got != "done\n" {
			t.Errorf("got %q", got)
		}
		nobodyHolds(t, lock)
	})
	t.Run("others live", func(t *testing.T) {
		other := exec.Command("sleep", "3600")
		strict.Must(t, other.Start())
		_, err := onHost(t.Context(), t, "! kill -9 "+strconv.Itoa(other.Process.Pid))
		strict.Must(t, err)
		if err := other.Process.Signal(unix.Signal(0)); err != nil {
			t.Errorf("a process that the command did not start: %v", err)
		}
		strict.Must(t, other.Process.Kill())
		_ = other.Wait()
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lock := filepath.Join(t.TempDir(), "lock")
		go func() {
			for _, err := os.Stat(lock + ".is"); err != nil; _, err = os.Stat(lock + ".is") {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		begin := time.Now()
		if _, err := onHost(ctx, t, holder(lock)+"sleep 3600"); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took > hostGrace {
			t.Errorf("a command that ends at SIGTERM took %v", took)
		}
		nobodyHolds(t, lock)
	})
	t.Run("killed", func(t *testing.T) {
		lock := filepath.Join(t.TempDir(), "lock")
		cmd := helper(t, "host", holder(lock)+"sleep 3600")
		strict.Must(t, cmd.Start())
		for _, err := os.Stat(lock + ".is"); err != nil; _, err = os.Stat(lock + ".is") {
			time.Sleep(time.Millisecond)
		}
		strict.Must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		for range 100 { // the kernel takes a moment
			f, err := os.Open(lock)
			strict.Must(t, err)
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			f.Close()
			if err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		nobodyHolds(t, lock)
	})
}

// helpHost runs a command on the host.
func helpHost() int {
	c := HostCmd{Args: []string{"/bin/sh", "-e", "-c", os.Args[1]}, Env: os.Environ(), Dir: "/", Output: os.Stderr}
	if err := c.Run(context.Background()); err != nil {
		return 1
	}
	return 0
}
