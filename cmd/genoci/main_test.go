package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
	"genoci/internal/treetest"
	"genoci/test/strict"
)

var update = flag.Bool("update", false, "rewrite what scripts expect")

// TestMain lets the test binary be the program, for scripts and for the namespaces that it enters.
func TestMain(m *testing.M) {
	sandbox.Init()
	testscript.Main(m, map[string]func(){
		"genoci":     func() { os.Exit(run(os.Args[1:])) },
		"lpack":      func() { os.Exit(run(os.Args[1:])) },
		"removetree": removeTree,
	})
}

// removeTree removes folders, with the rights of a namespace: an ordinary user cannot remove files
// of subordinate ids otherwise.
func removeTree() {
	err := sandbox.Enter()
	for _, dir := range os.Args[1:] {
		if rmErr := beneath.RemovePath(dir); rmErr != nil {
			err = errors.Join(err, rmErr)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScript runs the program as users do: one script in testdata/script for each behaviour.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Condition:           func(name string) (bool, error) { return condition(t, name) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"tree":    cmdTree,
			"image":   cmdImage,
			"tarball": cmdTarball,
			"corrupt": cmdCorrupt,
			"socket":  cmdSocket,
		},
	})
}

// setupScript gives a script a home and a cache of its own.
func setupScript(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, ".home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	env.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	env.Setenv("XDG_STATE_HOME", filepath.Join(home, ".local", "state"))
	env.Setenv("TZ", "UTC")
	env.Defer(func() {
		unmountBelow(env.T(), env.WorkDir)
		state := filepath.Join(home, ".cache")
		if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if out, err := exec.Command("removetree", state).CombinedOutput(); err != nil {
			env.T().Log("remove ", state, ": ", err, ": ", string(out))
		}
	})
	return nil
}

// unmountBelow ends the mounts that a script has left below a folder, as one that fails while
// something is checked out.
func unmountBelow(t testscript.T, dir string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		at := strings.Fields(line)[4] // proc_pid_mountinfo(5)
		if !strings.HasPrefix(at, dir+"/") {
			continue
		}
		t.Log("a mount was left: ", at)
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			t.Log(err)
		}
	}
}

// condition knows what a script can need: root (it runs as root), userns (a namespace can be
// entered), busybox (a static one to lend), and programs. What GENOCI_REQUIRE names must hold.
func condition(t *testing.T, name string) (bool, error) {
	var ok bool
	switch name {
	case "root":
		ok = os.Geteuid() == 0
	case "userns":
		ok = canEnter()
	case "busybox":
		ok = checkBusybox().Status == fine
	case "umoci", "skopeo", "runc":
		_, err := exec.LookPath(name)
		ok = err == nil
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if !ok && strict.Required(name) {
		t.Errorf("%s is required, and not there", name)
	}
	return ok, nil
}

// canEnter reports whether this machine lets a namespace be entered.
var canEnter = sync.OnceValue(func() bool {
	return exec.Command("removetree").Run() == nil
})

// cmdTree prints the tree in a folder; -o leaves owners out.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	var opts []treetest.Option
	if len(args) > 0 && args[0] == "-o" {
		opts, args = append(opts, treetest.NoOwners), args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tree [-o] DIR")
	}
	fmt.Fprint(ts.Stdout(), treetest.Dump(scriptT{ts: ts}, ts.MkAbs(args[0]), opts...))
}

// scriptT lets helpers of tests end a script.
type scriptT struct {
	testing.TB // nil: helpers use no more than these
	ts         *testscript.TestScript
}

func (s scriptT) Helper()                           {}
func (s scriptT) Fatal(args ...any)                 { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s scriptT) Fatalf(format string, args ...any) { s.ts.Fatalf(format, args...) }

// cmdSocket makes a socket in the file system.
func cmdSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: socket FILE")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	ts.Check(err)
	defer unix.Close(fd)
	ts.Check(unix.Bind(fd, &unix.SockaddrUnix{Name: ts.MkAbs(args[0])}))
}

// cmdImage prints what two builds of an image have in common whatever compressed it: the config
// with its DiffIDs and history.
func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: image TAG")
	}
	l, err := layout.Open(ts.MkAbs("oci"))
	ts.Check(err)
	defer l.Close()
	img, err := l.Image(args[0], v1.Platform{})
	ts.Check(err)
	data, err := readBlob(l, img.Manifest.Config)
	ts.Check(err)
	var config bytes.Buffer
	ts.Check(json.Indent(&config, data, "", "  "))
	fmt.Fprintf(ts.Stdout(), "%s\n", config.Bytes())
}

// cmdTarball makes a tar of a folder with tar(1), compressed as the name says; the same bytes each
// time.
func cmdTarball(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tarball FILE DIR")
	}
	ts.Check(ts.Exec("tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1000000000",
		"--mode=go-w", "-C", args[1], "-caf", args[0], "."))
}

// cmdCorrupt flips a bit in the last layer of an image.
func cmdCorrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: corrupt TAG")
	}
	l, err := layout.Open(ts.MkAbs("oci"))
	ts.Check(err)
	defer l.Close()
	img, err := l.Image(args[0], v1.Platform{})
	ts.Check(err)
	layers := img.Manifest.Layers
	path := filepath.Join(l.Dir(), "blobs/sha256", layers[len(layers)-1].Digest.Encoded())
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.Chmod(path, 0o644))
	ts.Check(os.WriteFile(path, data, 0o644))
}
