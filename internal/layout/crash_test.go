package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/killat"
	"genoci/test/strict"
)

// helpers are what the test binary does when a test starts it again.
var helpers = map[string]func(args []string) error{
	"tags":  helpTags,
	"write": helpWrite,
	"full":  helpFull,
}

// helpTags DIR NAME N adds the tags NAME-0 to NAME-(N-1), each in an Update of its own.
func helpTags(args []string) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	l, err := Create(args[0])
	if err != nil {
		return err
	}
	for i := range n {
		if err := addImage(l, fmt.Sprintf("%s-%d", args[1], i), args[1]); err != nil {
			return err
		}
	}
	return l.Close()
}

// helpWrite DIR N makes the layout and moves the tag "moving" N times, to an image with a blob of
// many writes; all from one thread.
func helpWrite(args []string) error {
	runtime.LockOSThread() // changes come in the same order each time
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	l, err := Create(args[0])
	if err != nil {
		return err
	}
	if err := l.Use(context.Background()); err != nil {
		return err
	}
	for i := range n {
		w, err := l.NewBlob()
		if err != nil {
			return err
		}
		for range 4 {
			if _, err := w.Write(make([]byte, 100_000+i)); err != nil {
				return err
			}
		}
		if _, err := w.Commit(""); err != nil {
			return err
		}
		if err := addImage(l, "moving", fmt.Sprint(os.Getpid(), i)); err != nil {
			return err
		}
	}
	return l.Close()
}

// helpFull DIR mounts a small file system on DIR, and fills it up while it writes to a layout
// there.
func helpFull(args []string) error {
	if err := unix.Mount("tmpfs", args[0], "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("no mount:", err)
		return nil
	}
	l, err := Create(filepath.Join(args[0], "oci"))
	if err != nil {
		return err
	}
	if err := addImage(l, "kept", "kept"); err != nil {
		return err
	}
	if _, err := writeBlob(l, "", make([]byte, 2<<20)); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("a blob larger than the disk: error %w", err)
	}
	filler := filepath.Join(args[0], "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	img, err := l.Image("kept", linux)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(l.path("index.json"))
	if err != nil {
		return err
	}
	err = l.Update(context.Background(), func(x *Index) error { x.Set("more", img.Descriptor); return nil })
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("a tag on a full disk: error %w", err)
	}
	if after, err := os.ReadFile(l.path("index.json")); err != nil || string(after) != string(before) {
		return fmt.Errorf("index.json on a full disk: %w\n%s", err, after)
	}
	if left := temps(l); len(left) > 0 {
		return fmt.Errorf("left behind: %q", left)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if err := addImage(l, "more", "more"); err != nil {
		return err
	}
	_, _, err = l.Verify(context.Background(), gunzip, func(p Problem) { fmt.Println(p) })
	return err
}

// A full disk is an error, and nothing else: what was there stays, nothing is left behind, and all
// goes on when there is room again.
func TestFullDisk(t *testing.T) {
	cmd := helper(t, "full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	feature := "root"
	if os.Getuid() != 0 {
		feature = "userns"
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.Output()
	switch {
	case errors.Is(err, unix.EPERM):
		strict.Lack(t, feature, err)
	case strings.HasPrefix(string(out), "no mount:"):
		strict.Lack(t, feature, string(out))
	case err != nil || len(out) > 0:
		t.Errorf("%v\n%s", err, out)
	}
}

// checkKilled checks the layout that a killed process has left: it is sound, it has the tags that
// were there before, and nothing is left behind after a GC.
func checkKilled(t *testing.T, dir string, before ...string) {
	t.Helper()
	l, err := Create(dir) // which it might have been killed in
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, p := range problems(t, l) {
		t.Error(p)
	}
	tags, err := l.Tags()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		before = append(before, tag.Name)
	}
	for _, tag := range before {
		if _, err := l.Image(tag, linux); err != nil {
			t.Error(err)
		}
	}
	if _, err := collect(t.Context(), l, false); err != nil {
		t.Error(err)
	}
	noTemps(t, l)
}

func TestManyProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oci")
	const tags = 8
	var all []string
	var running []*exec.Cmd
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		cmd := helper(t, "tags", dir, name, strconv.Itoa(tags))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
		for i := range tags {
			all = append(all, fmt.Sprintf("%s-%d", name, i))
		}
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	sound(t, create(t, dir), all...)
	others(t, dir, "a-0", "f-7")
}

// A process is killed at random moments, again and again on the same layout.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oci")
	create(t, dir, "kept")
	changes := killat.Count(t, helper(t, "write", dir, "3"))
	rng := killat.Moments(t)
	for range 40 {
		n := 1 + rng.IntN(changes)
		if res := killat.Run(t, helper(t, "write", dir, "3"), n); !res.Killed {
			t.Errorf("the helper ended before change %d: %+v", n, res)
		}
		checkKilled(t, dir, "kept")
	}
	others(t, dir, "kept", "moving")
}

// A process is killed before each single change, from the making of the layout to the tag.
func TestKillBeforeEachChange(t *testing.T) {
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "oci")
		res := killat.Run(t, helper(t, "write", dir, "1"), n)
		checkKilled(t, dir)
		if res.Killed {
			continue
		}
		if res.Code != 0 || n < 20 {
			t.Errorf("without being killed, the helper ended with exit status %d after %d changes", res.Code, res.Changes)
		}
		others(t, dir, "moving")
		return
	}
}
