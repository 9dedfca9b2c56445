package e2e

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/program"
	"genoci/test/strict"
)

// forDrivers runs a test with each storage driver that works here.
func forDrivers(t *testing.T, test func(t *testing.T, driver string)) {
	t.Helper()
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			program.NeedDriver(t, driver)
			test(t, driver)
		})
	}
}

// A step that installs a package which there is not, on Debian: look into it, mend it, and go on in
// it.
func TestFailedAptGet(t *testing.T) {
	program.NeedDriver(t, "auto")
	w := newWorkspace(t)
	w.link("debian.tar.gz", program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS"))
	const spec = `
debian: {expand: debian.tar.gz}
updated: {base: debian, run: apt-get update}
web:
  base: updated
  build_env: {DEBIAN_FRONTEND: noninteractive}
  run: |
    # Install.
    apt-get install -y --no-install-recommends $(cat /packages 2>/dev/null || echo hello no-such-package)
`
	w.write("genoci.yaml", spec)
	if res := w.Try(t, "build", "--progress", "plain", "updated"); res.Code != 0 {
		if strings.Contains(res.Stderr, "Temporary failure resolving") || strings.Contains(res.Stderr, "Could not connect") {
			strict.Lack(t, "network", "the mirror cannot be reached from a sandbox: "+res.Stderr)
		}
		t.Fatal(res.Stderr)
	}
	forDrivers(t, func(t *testing.T, driver string) {
		w.t = t
		w.Env = append(w.Env, "GENOCI_DRIVER="+driver)
		w.write("genoci.yaml", spec)
		res := w.fail(1, "Unable to locate package no-such-package", "web")
		if lines := strings.Split(strings.TrimSpace(res.Stderr), "\n"); lines[len(lines)-1] != "hint: genoci shell web@failed opens a shell in what it left" {
			t.Errorf("last line %q", lines[len(lines)-1])
		}
		w.nothingLeft()

		// The shell is a session on a terminal of its own, with job control.
		term := w.terminal("shell", "web@failed")
		term.wait("genoci.yaml:7:8: run # Install. …: exit status 100")
		term.wait("root@genoci:/# ")
		if term.mode() == term.fresh {
			t.Error("the terminal is not raw")
		}
		term.types("tty; stty size; echo $DEBIAN_FRONTEND.; ls /var/lib/apt/lists | grep -c _Packages\r", "\n/dev/pts/0\r\n", "40 100\r\n", "noninteractive.\r\n", "# ")
		term.resize(50, 120)
		term.types("until stty size | grep '50 120'; do sleep 0.1; done\r", "\n50 120\r\n", "# ") // the shell is told a moment later
		// A command says itself that it has begun: what is typed before is for the shell.
		term.types("sh -c 'echo begun; exec sleep 1000'\r", "\nbegun\r\n")
		term.types("\x03", "^C", "# ")
		term.types("echo status $?; sh -c 'echo again; exec sleep 1001'\r", "\nstatus 130\r\n", "again\r\n")
		term.types("\x1a", "Stopped", "# ")
		term.types("jobs; kill %1; wait\r", "sleep 1001", "# ")
		term.types("su --shell /bin/sh --command 'id -un; tty' nobody\r", "\nnobody\r\n/dev/pts/0\r\n", "# ")
		term.types("apt-get install hello && hello\r", "Hello, world!\r\n", "# ")
		term.types("echo hello >/packages; exit 7\r")
		if code := term.end(); code != 7 {
			t.Errorf("exit code %d\n%s", code, term.all())
		}
		term.wantFresh()
		w.nothingLeft()

		// What was done there stayed, and the step's own command goes on from it.
		equal(t, "hello", w.Run(t, "shell", "web@failed", "--", "hello"), "Hello, world!\n")
		w.Run(t, "get", "--force", "web@failed:/packages", "packages")
		if data, err := os.ReadFile(filepath.Join(w.Dir, "packages")); err != nil || string(data) != "hello\n" {
			t.Errorf("get: %q, %v", data, err)
		}
		if out := w.Run(t, "diff", "web@failed"); !strings.Contains(out, "/packages") || !strings.Contains(out, "/usr/bin/hello") {
			t.Errorf("diff: %s", out)
		}
		if out := w.Run(t, "shell", "web@failed", "--", "/.genoci/again"); !strings.Contains(out, "hello is already the newest version") {
			t.Errorf("again: %s", out)
		}
		w.nothingLeft()

		// At once, after which the build fails as ever.
		term = w.terminal("build", "--shell-on-failure", "--progress", "tty", "web")
		term.wait("error: genoci.yaml:7:8: target \"web\": run # Install. …: exit status 100")
		term.wait("root@genoci:/# ")
		term.types("hello\r", "hello: command not found", "# ") // it is another tree
		term.types("grep ^PRETTY /etc/os-release; exit 3\r", "PRETTY_NAME=\"Debian")
		if code := term.end(); code != 1 {
			t.Errorf("exit code %d\n%s", code, term.all())
		}
		term.wantFresh()
		if n := strings.Count(term.all(), "error: "); n != 1 {
			t.Errorf("the error stands there %d times:\n%s", n, term.all())
		}
		w.nothingLeft()

		// What the image lacks nobody misses: once it is built, the tree is gone.
		w.write("genoci.yaml", "debian: {expand: debian.tar.gz}\nweb: {base: debian, run: echo mended with "+driver+" > /out}\n")
		w.build("web")
		if res := w.Try(t, "shell", "web@failed"); res.Code != 1 || !strings.Contains(res.Stderr, "web@failed: no failed step left anything") {
			t.Errorf("after the build: %d %s", res.Code, res.Stderr)
		}
	})
}

// A new failure of the target leaves the tree alone in which a shell is open; and a build that
// succeeds does.
func TestFailedWhileOpen(t *testing.T) {
	forDrivers(t, func(t *testing.T, driver string) {
		w := behave(t, "bad: {base: sys, run: echo old > /which; exit 1}\n")
		w.Env = append(w.Env, "GENOCI_DRIVER="+driver)
		w.fail(1, "exit status 1")
		term := w.terminal("shell", "bad@failed")
		term.wait("# ")
		res := w.Try(t, "shell", "bad@failed", "--", "true")
		if want := "error: bad@failed: in use by another process\nhint: try again when the shell that is open in it has ended\n"; res.Code != 1 || res.Stderr != want {
			t.Errorf("a second shell: %d %s", res.Code, res.Stderr)
		}
		w.write("genoci.yaml", "sys: {expand: sys.tgz}\nbad: {base: sys, run: echo new > /which; exit 1}\n")
		w.fail(1, "exit status 1")
		w.build("sys") // whatever opens the storage
		term.types("cat /which; ls /bin/busybox\r", "\nold\r\n", "/bin/busybox\r\n", "# ")
		equal(t, "the new one", w.Run(t, "shell", "bad@failed", "--", "cat", "/which"), "new\n")
		term.types("exit\r", "note: bad@failed is what a newer failure left by now; what you had open is gone\r\n")
		if code := term.end(); code != 0 {
			t.Errorf("exit code %d", code)
		}

		term = w.terminal("shell", "bad@failed")
		term.wait("# ")
		w.write("genoci.yaml", "sys: {expand: sys.tgz}\nbad: {base: sys, run: echo good > /which}\n")
		w.build()
		term.types("cat /which; exit 4\r", "\nnew\r\n")
		if code := term.end(); code != 4 {
			t.Errorf("exit code %d\n%s", code, term.all())
		}
		w.nothingLeft()
	})
}

// However a shell's genoci ends, nothing of it stays, and the tree can be opened again.
func TestShellKilled(t *testing.T) {
	// Under nohup(1) genoci would ignore SIGHUP; what is handled here has its default there.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	forDrivers(t, func(t *testing.T, driver string) {
		for _, c := range []struct {
			signal unix.Signal
			code   int
		}{{unix.SIGKILL, -1}, {unix.SIGTERM, 143}, {unix.SIGHUP, 129}} {
			w := behave(t, "bad: {base: sys, run: echo left > /which; exit 1}\n")
			w.Env = append(w.Env, "GENOCI_DRIVER="+driver)
			w.fail(1, "exit status 1")
			term := w.terminal("shell", "bad@failed")
			term.wait("# ")
			term.types("sleep 1000 & trap '' TERM HUP; echo begun\r", "\nbegun\r\n", "# ")
			if err := term.cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if code := term.end(); code != c.code {
				t.Errorf("%v: exit code %d, want %d\n%s", c.signal, code, c.code, term.all())
			}
			if c.signal != unix.SIGKILL {
				term.wantFresh()
			}
			noProcesses(t, w.Dir)
			w.nothingLeft()
			equal(t, fmt.Sprint("after ", c.signal), w.Run(t, "shell", "bad@failed", "--", "cat", "/which"), "left\n")
			w.nothingLeft()
		}
	})
}

// With --keep-going, the shell opens when all others are built; without, what else runs is stopped
// for it.
func TestShellOnFailure(t *testing.T) {
	w := behave(t, `
bad: {base: sys, pre: read x < pipe, run: echo left > /which; exit 1}
worse: {base: sys, run: exit 2}
slow: {base: sys, pre: echo begun > pipe, run: 'sleep 0.5; test -e /go || sleep 1000'}
`)
	pipe := filepath.Join(w.Dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	term := w.terminal("build", "--shell-on-failure", "bad", "slow")
	term.wait("slow: stopped")
	term.wait("hint: genoci shell bad@failed opens a shell in what it left")
	term.wait("# ")
	if p := processes(t, w.Dir); strings.Contains(strings.Join(p, "\n"), "sleep") {
		t.Errorf("while the shell is open there runs %q", p)
	}
	w.Run(t, "gc") // neither the layout nor the cache is in use
	term.types("cat /which; exit\r", "\nleft\r\n")
	if code := term.end(); code != 1 {
		t.Errorf("exit code %d\n%s", code, term.all())
	}

	spec, err := os.ReadFile(filepath.Join(w.Dir, "genoci.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("genoci.yaml", strings.Replace(string(spec), "sleep 1000", "true", 1))
	term = w.terminal("build", "--shell-on-failure", "--keep-going")
	term.wait("slow: built")
	term.wait("target \"worse\"")
	term.wait("# ")
	term.types("cat /which; exit\r", "\nleft\r\n")
	if code := term.end(); code != 1 {
		t.Errorf("exit code %d\n%s", code, term.all())
	}

	// Nor are they when a shell is open in an image.
	term = w.terminal("shell", "sys")
	term.wait("note: what is changed here is dropped when the shell ends\r\n")
	term.wait("# ")
	w.Run(t, "gc")
	term.types("ls /bin/busybox; exit 3\r", "\n/bin/busybox\r\n")
	if code := term.end(); code != 3 {
		t.Errorf("exit code %d\n%s", code, term.all())
	}

	// Where nothing is kept, there is nothing to open.
	w.write("genoci.yaml", "sys: {expand: none.tgz}\n")
	w.write("none.tgz", "text")
	term = w.terminal("build", "--shell-on-failure")
	if code := term.end(); code != 1 {
		t.Errorf("exit code %d\n%s", code, term.all())
	}
	w.nothingLeft()
}
