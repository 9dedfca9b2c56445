package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// seen prints what a command sees of how it was started.
const seen = `
	umask
	grep -E '^(SigPnd|SigBlk|SigIgn|SigCgt|ShdPnd|Groups|NoNewPrivs)' /proc/self/status
	cat /proc/self/limits /proc/self/oom_score_adj /proc/self/personality /proc/self/timerslack_ns
	cut -d' ' -f18,19,40,41 /proc/$$/stat
	grep -v ':/$' /proc/self/cgroup || true`

// TestForgets: whatever the caller has set, a command begins as any other.
func TestForgets(t *testing.T) {
	root := newRoot(t)
	usual := script(t, Cmd{Root: root}, seen)
	for _, want := range []string{
		"0022\n", "SigIgn:\t0000000000000000\n", "SigBlk:\t0000000000000000\n", "Max core file size        0 ", "Max stack size            8388608 ",
		"\n0\n00000000\n50000\n20 0 0 0\n",
	} {
		if !strings.Contains(usual, want) {
			t.Errorf("got\n%s\nwant it to have %q", usual, want)
		}
	}
	var own unix.Rlimit
	strict.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &own))
	if want := fmt.Sprintf("Max open files            %-20d ", min(65536, own.Max)); !strings.Contains(usual, want) {
		t.Errorf("got\n%s\nwant it to have %q", usual, want)
	}
	cmd := helper(t, "odd", root)
	out, err := cmd.Output()
	if err != nil || string(out) != usual {
		t.Errorf("got %v\n%s\nwant\n%s", err, out, usual)
	}
}

// helpOdd sets all that a process hands down, and executes the program once more, to run the
// command.
func helpOdd() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTERM, unix.SIGCHLD, unix.SIGUSR1, unix.SIGTTOU)
	if !Rootless() {
		if err := unix.Setgroups([]int{4, 24}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 99
		}
	}
	_ = onThread(func() error {
		unix.Umask(0o077)
		blocked := unix.Sigset_t{Val: [16]uint64{1<<(unix.SIGUSR2-1) | 1<<(unix.SIGALRM-1)}}
		var files unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
		files.Cur = 64 // the hard limit stays: not everybody can raise it again
		err := errors.Join(
			unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, nil),
			os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0),
			unix.Setrlimit(unix.RLIMIT_NOFILE, &files),
			unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: 1 << 20, Max: infinity}),
			unix.Prctl(unix.PR_SET_TIMERSLACK, 12345, 0, 0, 0),
		)
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, 0x0040000, 0, 0); errno != 0 { // ADDR_NO_RANDOMIZE
			err = errors.Join(err, errno)
		}
		if !Rootless() {
			err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, 0, 7))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Args = []string{os.Args[0], os.Args[1], seen}
		if err := os.Setenv(helperEnv, "run"); err != nil {
			return err
		}
		return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	})
	return 99
}

// TestHostNodes: nothing that a command does to its devices, and to files of /proc, reaches the
// host's; also where it cannot have nodes of its own.
func TestHostNodes(t *testing.T) {
	root := newRoot(t)
	names := []string{"/dev/full", "/dev/zero", "/proc/version", "/proc/misc"}
	state := func() string {
		var all []string
		for _, name := range names {
			var st unix.Stat_t
			strict.Must(t, unix.Stat(name, &st))
			all = append(all, fmt.Sprintf("%s %o %d:%d", name, st.Mode, st.Uid, st.Gid))
			if strings.HasPrefix(name, "/dev/") {
				all = append(all, fmt.Sprint(st.Mtim))
			}
		}
		// A file's inode may be older than what was done to it by another proc.
		return strings.Join(all, "\n") + script(t, Cmd{Root: root}, "stat -c '%a %u %g' /proc/version /proc/misc")
	}
	before := state()
	const change = `
		for f in /dev/full /dev/zero /proc/version /proc/misc /dev/stdin; do
			chmod 640 $f || true; chown 9:9 $f || true; touch -d @77 $f || true
		done 2>/dev/null
		echo x > /dev/null; head -c 2 /dev/zero | od -An -tx1
		(echo x > /dev/full) 2>/dev/null || echo full`
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	strict.Must(t, err)
	defer full.Close()
	want := " 00 00\nfull\n"
	if got := script(t, Cmd{Root: root, Stdin: full}, change); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if after := state(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	cmd := helper(t, "nomknod", root, change)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || out.String() != "read-only\n"+want {
		t.Errorf("got %v, %q", err, out.String())
	}
	if after := state(); after != before {
		t.Errorf("without mknod: got\n%s\nwant\n%s", after, before)
	}
}

// helpNoMknod runs a command where no device node can be made.
func helpNoMknod() int {
	const last = "again"
	if os.Args[len(os.Args)-1] != last {
		_ = onThread(func() error {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_MKNOD, 0, 0, 0); err != nil {
				return err
			}
			return syscall.Exec("/proc/self/exe", append(os.Args, last), os.Environ())
		})
		return 99
	}
	c := Cmd{Root: os.Args[1], Args: []string{"sh", "-c", "chmod 640 /dev/full 2>&1 || true"}, Stderr: os.Stderr}
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run(context.Background())
	if err == nil && (strings.Contains(out.String(), "Read-only file system") || Rootless() && strings.Contains(out.String(), "not permitted")) {
		fmt.Println("read-only")
	}
	return helpRun()
}
