package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// helpEnter enters, says where it is, and ends as its argument says.
func helpEnter() int {
	if os.Args[1] == "twice" {
		if err := Enter(); err != nil {
			fmt.Println(err)
			return 98
		}
	}
	dir, _ := os.Getwd()
	if os.Args[1] == "threads" {
		startThreads()
	}
	signals := make(chan os.Signal, 1)
	if entered { // signals to the outer process are for Enter
		signal.Notify(signals, unix.SIGUSR1)
	}
	if err := Enter(); err != nil {
		fmt.Println(err)
		return 99
	}
	ns, _ := os.Readlink("/proc/self/ns/mnt")
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Printf("inside=%v rootless=%v uid=%d role=%q mnt=%s caps=%v args=%q\n",
		Inside(), Rootless(), os.Getuid(), os.Getenv(roleEnv), ns, strings.Contains(string(status), "CapEff:\t000001ff"), os.Args[1:])
	switch os.Args[1] {
	case "exit", "twice":
		return 7
	case "list":
		names, _ := filepath.Glob("/mnt/chroot*")
		err := Outside(func() error {
			there, err := filepath.Glob("/mnt/chroot*")
			names = append(names, there...)
			return err
		})
		fmt.Println(strings.Join(names, " "), err)
	case "outside":
		fmt.Println("unsupported", errors.Is(Outside(func() error { return nil }), ErrUnsupported))
	case "threads":
		return helpThreads(dir)
	case "kill":
		unix.Kill(os.Getpid(), unix.SIGTERM)
		select {}
	case "signal":
		fmt.Println(<-signals)
		return 8
	case "wait":
		io.Copy(io.Discard, os.Stdin)
	}
	return 0
}

// enter runs the enter helper, as another user if there is one, and returns its output without the
// name of the mount namespace, and how it ended.
func enter(t *testing.T, as *syscall.Credential, args ...string) (string, *os.ProcessState) {
	t.Helper()
	cmd := helper(t, "enter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState
}

// testUser returns the ordinary user that GENOCI_TEST_USER names, to be used by a test that runs as
// root.
func testUser(t *testing.T) *syscall.Credential {
	t.Helper()
	name := os.Getenv("GENOCI_TEST_USER")
	if name == "" {
		strict.Lack(t, "userns", "GENOCI_TEST_USER names no user")
	}
	if os.Geteuid() != 0 || Rootless() {
		t.Skip("only root of the machine can become another user")
	}
	u, err := user.LookupUser(name)
	strict.Must(t, err)
	return &syscall.Credential{Uid: uint32(u.Uid), Gid: uint32(u.Gid)}
}

func TestEnterAsRoot(t *testing.T) {
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	strict.Must(t, err)
	for _, arg := range []string{"exit", "twice"} {
		out, state := enter(t, nil, arg, "a b", "")
		if strings.Contains(out, own) {
			t.Errorf("%s: in the same mount namespace: %s", arg, out)
		}
		want := fmt.Sprintf("inside=true rootless=%v uid=0 role=\"\"", Rootless())
		if !strings.HasPrefix(out, want) || !strings.HasSuffix(out, fmt.Sprintf("args=[%q \"a b\" \"\"]\n", arg)) || state.ExitCode() != 7 {
			t.Errorf("%s: got %s%v, want %s", arg, out, state, want)
		}
	}
	if _, state := enter(t, nil, "kill"); !state.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("got %v", state)
	}
}

func TestEnterAsUser(t *testing.T) {
	as := testUser(t)
	out, state := enter(t, as, "exit", "a b")
	if want := `inside=true rootless=true uid=0 role="" mnt=`; !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "caps=true args=[\"exit\" \"a b\"]\n") {
		t.Errorf("got %s", out)
	}
	if state.ExitCode() != 7 {
		t.Errorf("got %v", state)
	}
	if _, state := enter(t, as, "kill"); state.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM {
		t.Errorf("got %v, want SIGTERM", state)
	}
}

// TestEnterThreads: all threads move, also those that are just being started, and the working
// folder stays.
func TestEnterThreads(t *testing.T) {
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	for range 20 {
		cmd := helper(t, "enter", "threads")
		cmd.Dir = t.TempDir()
		out, err := cmd.Output()
		if err != nil || strings.Count(string(out), "\n") != 1 {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// startThreads goes on starting threads for a while, and returns before.
func startThreads() {
	for range 8 {
		go func() {
			for range 20 {
				go func() { // each sleeps in a thread of its own
					runtime.LockOSThread()
					_ = unix.Nanosleep(&unix.Timespec{Sec: 1}, nil)
				}()
				time.Sleep(100 * time.Microsecond)
			}
		}()
	}
	time.Sleep(time.Millisecond)
}

// helpThreads compares the namespaces and working folders of all threads with its own. One that
// only was there for Enter may take a while to end.
func helpThreads(dir string) int {
	here, err := os.Getwd()
	if err != nil || here != dir {
		fmt.Printf("in %s, not %s: %v\n", here, dir, err)
	}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	var elsewhere []string
	for range 100 {
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil || len(tasks) < 2 {
			fmt.Println(tasks, err)
		}
		elsewhere = nil
		for _, task := range tasks {
			ns, err := os.Readlink(filepath.Join(task, "ns/mnt"))
			cwd, cwdErr := os.Readlink(filepath.Join(task, "cwd"))
			if err == nil && cwdErr == nil && (ns != own || cwd != dir) { // it has not ended
				elsewhere = append(elsewhere, fmt.Sprint(task, " is in ", ns, " and ", cwd, "\n"))
			}
		}
		if len(elsewhere) == 0 {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Print(elsewhere)
	return 0
}

// TestEnterChroot: a process with another root than its namespace keeps it.
func TestEnterChroot(t *testing.T) {
	if errEnter != nil {
		strict.Lack(t, "userns", errEnter)
	}
	cmd := helper(t, "chroot", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if lines := strings.Split(string(out), "\n"); err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "inside=true ") || lines[1] != "/mnt/chroot /mnt/chroot <nil>" {
		t.Errorf("got %s, %v", out, err)
	}
}

// helpChroot enters with a copy of the root as its root, in which /mnt is another one.
func helpChroot() int {
	root := os.Args[1]
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/", root, "", unix.MS_REC|unix.MS_BIND, ""),
		unix.Mount("none", root+"/mnt", "tmpfs", 0, ""),
		os.Mkdir(root+"/mnt/chroot", 0o755))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", "list")
	cmd.Env = append(os.Environ(), helperEnv+"=enter")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
	return 0
}

// TestEnterPassesSignals: a signal to the outer process gets to the inner one.
func TestEnterPassesSignals(t *testing.T) {
	cmd := helper(t, "enter", "signal")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: testUser(t)}
	lines, wait := start(t, cmd)
	lines.Scan()
	strict.Must(t, cmd.Process.Signal(unix.SIGUSR1))
	if lines.Scan(); lines.Text() != "user defined signal 1" {
		t.Errorf("got %q", lines.Text())
	}
	wait()
	if code := cmd.ProcessState.ExitCode(); code != 8 {
		t.Errorf("got exit code %d", code)
	}
}

// TestEnterKilled: the inner process does not outlive the outer one.
func TestEnterKilled(t *testing.T) {
	cmd := helper(t, "enter", "wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: testUser(t)}
	stdin, err := cmd.StdinPipe() // it has no end, so that the inner process would wait
	strict.Must(t, err)
	defer stdin.Close()
	lines, wait := start(t, cmd)
	lines.Scan()
	strict.Must(t, cmd.Process.Kill())
	if lines.Scan() {
		t.Errorf("got %s", lines.Text())
	}
	wait()
}

// start starts cmd and returns the lines of its output.
func start(t *testing.T, cmd *exec.Cmd) (lines *bufio.Scanner, wait func()) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	strict.Must(t, err)
	strict.Must(t, cmd.Start())
	return bufio.NewScanner(stdout), func() { cmd.Wait() }
}

// TestEnterLacks: the error names what is missing, and how to mend it.
func TestEnterLacks(t *testing.T) {
	if os.Geteuid() != 0 || Rootless() {
		t.Skip("only root of the machine can become another user")
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		strict.Lack(t, "userns", err)
	}
	for _, test := range []struct{ path, want string }{
		{"/nowhere", "newuidmap is not installed; apt-get install uidmap\n"},
		{os.Getenv("PATH"), "no range of ids in /etc/subuid for user stranger; " + moreIDs("stranger") + "\n"},
	} {
		cmd := helper(t, "enter", "exit")
		cmd.Env = append(cmd.Env, "PATH="+test.path, "USER=stranger")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
		out, err := cmd.Output()
		if err == nil || string(out) != test.want {
			t.Errorf("got %s%v, want %s", out, err, test.want)
		}
	}
}

// TestCheck: what is not well has a remedy.
func TestCheck(t *testing.T) {
	if entered {
		t.Skip("it is about the machine outside of the namespace")
	}
	findings := Check()
	for _, f := range findings {
		if f.Name == "" || f.Detail == "" || !f.OK && f.Fix == "" {
			t.Errorf("%+v", f)
		}
	}
	if as := testUser(t); as != nil {
		cmd := helper(t, "check")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		out, err := cmd.Output()
		want := "kernel true\nseccomp true\nnewuidmap true\nnewgidmap true\n" +
			"subordinate user ids true\nsubordinate group ids true\nuser namespaces true\nproc true\n"
		if err != nil || string(out) != want {
			t.Errorf("got %s%v, want %s", out, err, want)
		}
	}
}

func helpCheck() int {
	for _, f := range Check() {
		fmt.Println(f.Name, f.OK)
	}
	return 0
}

// TestAsUser runs all tests of this package again as an ordinary user.
func TestAsUser(t *testing.T) {
	as := testUser(t)
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.timeout=5m")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "GENOCI_TEST_USER" || name == "TMPDIR" || name == "GOCOVERDIR"
	})
	cmd.Env = append(cmd.Env, "GENOCI_TEST_USER=root") // not asked for again, as it is there
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP: TestSurroundings") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInitIgnores: the variable without the descriptor is nothing.
func TestInitIgnores(t *testing.T) {
	file, err := os.Open(os.DevNull)
	strict.Must(t, err)
	defer file.Close()
	for _, value := range []string{"", "init", "init 3", "init 0", "root 0", "user 1", "probe -1", "init x",
		fmt.Sprint("init ", file.Fd()), fmt.Sprint("root ", file.Fd())} {
		t.Setenv(roleEnv, value)
		Init()
		if Inside() != entered || os.Getenv(roleEnv) != "" {
			t.Errorf("%q: inside=%v, variable %q", value, Inside(), os.Getenv(roleEnv))
		}
	}
}

// TestNothingLeaks: mounts of a command are seen by nobody else, even where the host's mounts are
// shared.
func TestNothingLeaks(t *testing.T) {
	cmd := helper(t, "leaks", newRoot(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if out, err := cmd.Output(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// helpLeaks runs a command where all mounts are shared, and compares the mounts before, meanwhile
// and after.
func helpLeaks() int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	var seen []string
	look := func() {
		text, err := os.ReadFile("/proc/self/mountinfo")
		seen = append(seen, fmt.Sprint(string(text), err))
	}
	look()
	c := Cmd{Root: os.Args[1], Args: []string{"echo", "x"}, Stdout: onWrite(look)}
	if err := c.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	look()
	if len(seen) != 3 || seen[0] != seen[1] || seen[0] != seen[2] {
		fmt.Println(strings.Join(seen, "\n\n"))
	}
	return 0
}

// TestMaskedProc: where the host's /proc is partly covered, as in a container, the kernel refuses a
// new one in a user namespace. Commands then share it, which is said, and find nothing of each
// other or of this program in it but what everybody may see; where they cannot be kept apart, none
// is run. It also shows that root of a user namespace with neither subordinate ids nor newuidmap
// can run commands.
func TestMaskedProc(t *testing.T) {
	cmd := helper(t, "maskproc", newRoot(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	comm, readErr := os.ReadFile("/proc/1/comm")
	strict.Must(t, readErr)
	want := "rootless=true, proc is shared: true\n" +
		"warning: " + sharedProcText + "\n" +
		"uid 0, process 1 is " + string(comm) + "0\n5:6\n" +
		"CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n" +
		"ann 1000\nfound\nfound\n" +
		"no user namespaces: no space left on device: user.max_user_namespaces=0; sysctl -w user.max_user_namespaces=15000\n" +
		"keep commands apart: unshare: no space left on device; this container hides parts of its /proc; " + unmaskProc + " (unsupported: true)\n"
	if err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

// helpMaskProc covers a part of /proc and goes on in a new user namespace.
func helpMaskProc() int {
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("/dev/null", "/proc/version", "", unix.MS_BIND, "")); err != nil {
		fmt.Println(err)
		return 1
	}
	// The ids of a user namespace that newuidmap made come in two ranges, and none of ours may lie
	// in both.
	ids := []syscall.SysProcIDMap{{Size: 1}, {ContainerID: 1, HostID: 1, Size: 65535}}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), helperEnv+"=masked")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
	}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
	return 0
}

func helpMasked() int {
	fmt.Printf("rootless=%v, proc is shared: %v\n", Rootless(), probeProc() == procShared)
	root := os.Args[1]
	os.Setenv("SECRET", "of genoci")
	own := func(args ...string) Cmd {
		return Cmd{Root: root, Args: args, Env: []string{"SECRET=of a command"}, Stdout: os.Stdout, Stderr: os.Stderr}
	}
	c := own("sh", "-ec", `
		echo "uid $(id -u), process 1 is $(cat /proc/1/comm)"
		wc -c < /proc/keys
		(echo > /proc/sys/kernel/panic) 2>/dev/null && echo writable || true
		echo x > /tmp/owned; chown 5:6 /tmp/owned; stat -c %u:%g /tmp/owned
		grep ^Cap /proc/self/status
		su ann -c 'echo ann $(id -u)'`)
	c.Warn = func(text string) { fmt.Println("warning:", text) }
	if err := c.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// One command waits while another, of the same user, looks into all processes that there are.
	for _, user := range []string{"", "ann"} {
		ready, looked := make(chan struct{}), make(chan error)
		ctx, cancel := context.WithCancel(context.Background())
		victim := own("sh", "-c", "echo; exec sleep 1000")
		victim.User, victim.Stdout = user, onWrite(func() { close(ready) })
		go func() { looked <- victim.Run(ctx) }()
		<-ready
		c = own("sh", "-c", `
			cd /proc; errors=/tmp/errors-$(id -u)
			for p in [0-9]*; do
				read -r comm < $p/comm
				case $comm in sleep|exe|sandbox.test|genoci-init) ;; *) continue ;; esac
				[ $comm = sleep ] && echo sleep >&2
				[ -z "$(head -c 1 $p/environ)" ] || echo "environment of $comm"
				[ -z "$(head -c 1 $p/maps)" ] || echo "maps of $comm"
				[ -z "$(readlink $p/fd/1 $p/fd/3 $p/root $p/cwd $p/exe)" ] || echo "files of $comm"
				ls $p/root/ > /dev/null && echo "root of $comm"
				cat $p/root/etc/passwd $p/cwd/etc/passwd > /dev/null && echo "password file of $comm"
				head -c 0 $p/mem && echo "memory of $comm"
			done 2>$errors
			grep -q ^sleep $errors && echo found`)
		c.User = user
		if err := c.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
		cancel()
		<-looked
	}
	// This is a setting of the user namespace alone.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println(diagnoseUserNamespace(unix.ENOSPC))
	c = own("true")
	err := c.Run(context.Background())
	fmt.Printf("%v (unsupported: %v)\n", err, errors.Is(err, ErrUnsupported))
	return 0
}

func helpTerminal() int {
	fmt.Println(fromTerminal(unix.SIGINT), fromTerminal(unix.SIGQUIT), fromTerminal(unix.SIGTERM))
	return 0
}

// TestFromTerminal: in the foreground of a terminal, ^C reaches the inner process without help.
func TestFromTerminal(t *testing.T) {
	without := helper(t, "terminal")
	without.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := without.Output()
	strict.Must(t, err)
	if string(out) != "false false false\n" {
		t.Errorf("without a terminal: got %s", out)
	}

	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	strict.Must(t, err)
	defer master.Close()
	strict.Must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	strict.Must(t, err)
	tty, err := os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	strict.Must(t, err)
	defer tty.Close()
	with := helper(t, "terminal")
	with.Stdin = tty
	with.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	out, err = with.Output()
	strict.Must(t, err)
	if string(out) != "true true false\n" {
		t.Errorf("in the foreground: got %s", out)
	}
}
