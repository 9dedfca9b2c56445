// Package program runs genoci the way its users do, for tests: as a program, with its output and
// exit code. It never calls genoci's packages, and reads what genoci wrote with the standard
// library alone.
package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"genoci/test/strict"
)

// Lacking is genoci's exit code where the machine lacks something.
const Lacking = 3

// Path returns the program under test: GENOCI_BIN, or one that is built once from the module.
func Path(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("GENOCI_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	top := filepath.Dir(strings.TrimSpace(string(out)))
	cmd := exec.Command("make", "-s")
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make: %w\n%s", err, out)
	}
	return filepath.Join(top, "bin/genoci"), nil
})

// Runner runs genoci. The zero value of each field but Dir is useful.
type Runner struct {
	Dir string   // working folder
	Env []string // K=V, on top of the process's own, less all that would change what genoci does
	As  string   // name of the user to run as; "" is the caller
	Bin string   // the program; "" is Path
}

// In returns a Runner that works in dir and keeps its cache there.
func In(dir string) *Runner {
	return &Runner{Dir: dir, Env: []string{"GENOCI_CACHE_DIR=" + filepath.Join(dir, ".cache")}}
}

// With returns a copy of r with more environment variables.
func (r *Runner) With(env ...string) *Runner {
	c := *r
	c.Env = slices.Concat(r.Env, env)
	return &c
}

// Command returns a command of the program, not started, whose output goes nowhere.
func (r *Runner) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	bin := r.Bin
	if bin == "" {
		bin = Path(t)
	}
	return r.wrap(t, exec.Command(bin, args...))
}

// Other returns a command of another program, in the same environment.
func (r *Runner) Other(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	return r.wrap(t, exec.Command(name, args...))
}

func (r *Runner) wrap(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Dir = r.Dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "GENOCI_") || strings.HasPrefix(name, "XDG_") ||
			name == "SOURCE_DATE_EPOCH" || name == "GITHUB_ACTIONS" || name == "NO_COLOR"
	})
	if r.As != "" {
		u, err := user.Lookup(r.As)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "HOME="+u.HomeDir, "USER="+r.As)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: number(t, u.Uid), Gid: number(t, u.Gid)}}
	}
	cmd.Env = append(cmd.Env, r.Env...)
	return cmd
}

func number(t testing.TB, id string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// Result is what a run of the program gave.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Try runs genoci with args to its end, whatever that is.
func (r *Runner) Try(t testing.TB, args ...string) Result {
	t.Helper()
	return finish(t, r.Command(t, args...))
}

// Run runs genoci with args, which has to succeed, and returns its stdout.
func (r *Runner) Run(t testing.TB, args ...string) string {
	t.Helper()
	res := r.Try(t, args...)
	if res.Code != 0 {
		t.Fatalf("genoci %s: exit status %d\n%s%s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// Tool runs another program, which has to succeed, and returns its stdout.
func (r *Runner) Tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	res := finish(t, r.Other(t, name, args...))
	if res.Code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", name, strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

func finish(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Input returns the path that the environment variable holds (see test/prepare.sh), and skips the
// test where there is none.
func Input(t testing.TB, feature, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		strict.Lack(t, feature, variable+" is not set; test/prepare.sh makes it")
	}
	return path
}

// NeedDriver skips the test where the storage driver does not work for the caller. It returns the
// environment in which it does, until the test ends. For btrfs that is a file that root sets up, or
// a folder in the one that GENOCI_TEST_BTRFS names.
func NeedDriver(t testing.TB, driver string) (env []string) {
	t.Helper()
	env, lacking := tryDriver(t, driver)
	if lacking != "" {
		strict.Lack(t, driver, lacking)
	}
	return env
}

// Drivers returns those of the storage drivers that work for the caller, each with the environment
// in which it does (see NeedDriver). The test fails where GENOCI_REQUIRE names one that does not.
func Drivers(t testing.TB, names ...string) map[string][]string {
	t.Helper()
	work := make(map[string][]string)
	for _, name := range names {
		env, lacking := tryDriver(t, name)
		if lacking == "" {
			work[name] = env
		} else if strict.Required(name) {
			t.Fatalf("%s is required, but %s", name, lacking)
		}
	}
	return work
}

// tryDriver returns the environment in which the driver works, or what it lacks.
func tryDriver(t testing.TB, driver string) (env []string, lacking string) {
	t.Helper()
	dir := Temp(t)
	if driver == "btrfs" {
		folder, lacking := btrfsFolder(t, dir)
		if lacking != "" {
			return nil, lacking
		}
		env = append(env, "GENOCI_BTRFSMOUNT="+folder)
	}
	Write(t, dir, "genoci.yaml", "probe:\n  run: true\n")
	if res := In(dir).With(env...).Try(t, "build", "--driver", driver); res.Code == Lacking {
		return nil, strings.TrimSpace(res.Stderr)
	}
	return env, ""
}

// btrfsFolder returns a folder on a btrfs: one that root sets up in dir, else in the one that the
// environment names; or what it lacks.
func btrfsFolder(t testing.TB, dir string) (folder, lacking string) {
	if given := os.Getenv("GENOCI_TEST_BTRFS"); given != "" {
		return tempIn(t, given), ""
	}
	mount := filepath.Join(dir, "btrfs")
	r := In(dir).With("GENOCI_DRIVER=btrfs", "GENOCI_LOFILE="+filepath.Join(dir, "btrfs.img"), "GENOCI_BTRFSMOUNT="+mount)
	if res := r.Try(t, "storage", "setup", "--size", "8GB"); res.Code == Lacking {
		return "", strings.TrimSpace(res.Stderr)
	} else if res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	t.Cleanup(func() { r.Run(t, "storage", "unsetup", "--force") })
	return mount, ""
}

// Temp returns a new folder that is removed after the test, even what subordinate ids own in it.
func Temp(t testing.TB) string {
	t.Helper()
	return tempIn(t, "")
}

func tempIn(t testing.TB, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "genoci-test-") //nolint:usetesting // t.TempDir fails on what subordinate ids own
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.RemoveAll(dir) == nil {
			return
		}
		out, err := exec.Command("unshare", "--map-root-user", "--map-auto", "rm", "-rf", dir).CombinedOutput()
		if err != nil {
			t.Errorf("remove %s: %v\n%s", dir, err, out)
		}
	})
	return dir
}

// Write writes a file below dir, with its folders. Names that end in .sh are executable.
func Write(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.HasSuffix(name, ".sh") {
		mode = 0o755
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// Give makes user the owner of dir and of all in it.
func Give(t testing.TB, dir, name string) {
	t.Helper()
	if out, err := exec.Command("chown", "-R", name+":", dir).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v\n%s", err, out)
	}
}
