package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// TestOutside: what is mounted outside is not seen by the process, but by others.
func TestOutside(t *testing.T) {
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	cmd := helper(t, "outside", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if want := "inside false, outside true, working folder kept true\n"; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
}

func helpOutside() int {
	dir := os.Args[1]
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	before, _ := os.Getwd()
	if err := Enter(); err != nil {
		fmt.Println(err)
		return 1
	}
	seen := func() bool {
		_, err := os.Stat(filepath.Join(dir, "new"))
		return err == nil
	}
	outside := false
	err := Outside(func() error {
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		return os.Mkdir(filepath.Join(dir, "new"), 0o755)
	})
	err = errors.Join(err, Outside(func() error {
		outside = seen()
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	after, _ := os.Getwd()
	fmt.Printf("inside %v, outside %v, working folder kept %v\n", seen(), outside, before == after)
	return 0
}

// TestOutsideAsUser: an ordinary user is told that there is no outside to mount in.
func TestOutsideAsUser(t *testing.T) {
	out, _ := enter(t, testUser(t), "outside")
	if !strings.HasSuffix(out, "\nunsupported true\n") {
		t.Errorf("got %s", out)
	}
}
