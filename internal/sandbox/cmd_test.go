package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"genoci/test/strict"
)

// TestSurroundings looks at what a command sees and may do.
func TestSurroundings(t *testing.T) {
	root := newRoot(t)
	// What the caller has open and set must not matter.
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	stray, err := unix.Open("/", unix.O_RDONLY, 0)
	strict.Must(t, err)
	defer unix.Close(stray)
	t.Setenv("STRAY", "yes")

	for _, test := range []struct{ name, script, want string }{
		{"user", "id -u; id -g; id -G", "0\n0\n0\n"},
		{"environment", "env -u PWD -u SHLVL | sort", "HOME=/root\nPATH=" + DefaultPath + "\n"},
		{"umask", "umask", "0022\n"},
		{"folder", "pwd", "/\n"},
		{"hostname", "hostname; cat /etc/hostname; grep -c genoci /etc/hosts", "genoci\ngenoci\n1\n"},
		{"input", "readlink /proc/self/fd/0; cat", "/dev/null\n"},
		{"processes", "cd /proc; echo [0-9]*", "1 2\n"},
		{"own number", "echo $$", "2\n"},
		{"name of process 1", "cat /proc/1/comm", "genoci-init\n"},
		{"session", "set -- $(cut -d' ' -f5,6,7 /proc/$$/stat); echo $(($1-$$)) $(($2-$$)) $3", "0 0 0\n"}, // leads a group and a session, no terminal
		{"descriptors", "echo $(ls /proc/self/fd)", "0 1 2 3\n"},
		{"capabilities", "grep ^Cap /proc/$$/status", "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n" +
			"CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"},
		{"seccomp without no_new_privs", "grep -E '^(NoNewPrivs|Seccomp):' /proc/$$/status", "NoNewPrivs:\t0\nSeccomp:\t2\n"},
		{"temporary files are the image's", "grep -c ' /tmp ' /proc/mounts || true", "0\n"},
		{"dev", "cd /dev; echo *", "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"},
		{"dev links", "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done",
			"/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"},
		{"dev nodes", "head -c 3 /dev/zero | od -An -tx1; head -c 5 /dev/urandom | wc -c; cat /dev/null; (echo x > /dev/full) 2>/dev/null || echo full",
			" 00 00 00\n5\nfull\n"},
		{"shm", "stat -c %a /dev/shm; echo x > /dev/shm/x; cat /dev/shm/x", "1777\nx\n"},
		{"masked files are empty", "wc -c < /proc/interrupts", "0\n"},
		{"masked folders are empty", "for d in /proc/acpi /proc/scsi /sys/firmware; do test ! -d $d || echo $d/*; done | grep -v '\\*' || true", ""},
		{"sys is read-only", "grep -E '^[^ ]+ /sys[ /]' /proc/mounts | grep -vE '^[^ ]+ [^ ]+ [^ ]+ ro,' || true", ""},
		{"no devices", "grep -vE '[ ,]nodev[ ,]|^[^ ]+ /dev/(null|zero|full|random|urandom|tty|pts) |^[^ ]+ /proc/' /proc/mounts || true", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := script(t, Cmd{Root: root}, test.script); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestForbidden tries what a command must not be able to do. The words are those of the C library
// for the error.
func TestForbidden(t *testing.T) {
	root := newRoot(t)
	// A node that root may make does not open; elsewhere nobody may even make it.
	device := "Permission denied"
	if Rootless() {
		device = "Operation not permitted"
	}
	for _, test := range []struct{ script, want string }{
		{"mount -t tmpfs none /tmp", "permission denied"}, // as mount puts EPERM
		{"umount /proc", "Operation not permitted"},
		{"unshare -m true", "Operation not permitted"},
		{"unshare -U true", "Operation not permitted"},
		{"hostname other", "Operation not permitted"},
		{"echo 1 > /proc/sys/kernel/panic", "Read-only file system"},
		{"echo 1 > /proc/irq/default_smp_affinity", "Read-only file system"},
		{"mkdir /sys/x", "Read-only file system"},
		{"chmod 0 /sys/kernel/uevent_seqnum", "Read-only file system"},
		{"mkdir /proc/acpi/x", "Read-only file system"},
		{"rm /etc/hosts", "resource busy"},
		{"readlink -v /proc/1/exe", "Permission denied"},
		{"cat /proc/1/environ", "Permission denied"},
		{"cat /proc/1/fd/3", "Permission denied"},
		{"mknod /tmp/n c 1 3 && cat /tmp/n", device},
		{"mknod /dev/n c 1 3 && cat /dev/n", device},
		{"mknod /dev/shm/n c 1 3 && cat /dev/shm/n", device},
	} {
		t.Run(test.script, func(t *testing.T) {
			out := run(t, Cmd{Root: root, Args: []string{"sh", "-ec", test.script}})
			var exit *ExitError
			if !errors.As(out.err, &exit) {
				t.Fatalf("got error %v, output %s", out.err, out.stdout)
			}
			if !strings.Contains(out.stderr, test.want) {
				t.Errorf("got %q, want it to have %q", out.stderr, test.want)
			}
		})
	}
}

// TestSetUserID: a program with the set-user-id bit gets the default capabilities (no_new_privs
// would forbid that).
func TestSetUserID(t *testing.T) {
	root := newRoot(t)
	strict.Must(t, os.Remove(filepath.Join(root, "bin/su")))
	program, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	strict.Must(t, err)
	put(t, root, "bin/su", string(program), 0o755|os.ModeSetuid)
	out := run(t, Cmd{Root: root, User: "ann", Args: []string{"sh", "-c", "id -u; grep CapEff /proc/$$/status; /bin/su -c 'id -u; grep CapEff /proc/$$/status'"}})
	want := "1000\nCapEff:\t0000000000000000\n0\nCapEff:\t00000000a80425fb\n"
	if out.stdout != want {
		t.Errorf("got %q, want %q; %s, %v", out.stdout, want, out.stderr, out.err)
	}
}

func TestUser(t *testing.T) {
	root := newRoot(t)
	for _, test := range []struct{ user, want string }{
		{"", "0 0 0 /root"},
		{"ann", "1000 1000 1000 29 44 /home/ann"},
		{"1000", "1000 1000 1000 29 44 /home/ann"},
		{"ann:audio", "1000 29 29 /home/ann"},
		{"ann:7", "1000 7 7 /home/ann"},
		{"55:66", "55 66 66 /"},
		{"55", "55 0 0 /"},
	} {
		c := Cmd{Root: root, User: test.user}
		if got := script(t, c, "echo $(id -u) $(id -g) $(id -G) $HOME"); got != test.want+"\n" {
			t.Errorf("%q: got %s, want %s", test.user, got, test.want)
		}
	}
	for user, want := range map[string]string{
		"bob":      "user bob: unable to find user bob: no matching entries in passwd file",
		"ann:wine": "user ann:wine: unable to find group wine: no matching entries in group file",
	} {
		out := run(t, Cmd{Root: root, User: user, Args: []string{"true"}})
		if out.err == nil || out.err.Error() != want {
			t.Errorf("%q: got %v, want %s", user, out.err, want)
		}
	}
}

func TestFolder(t *testing.T) {
	root := newRoot(t)
	got := script(t, Cmd{Root: root, Dir: "srv/a/b", User: "ann"}, "pwd; stat -c '%a %u %g' . ..")
	if want := "/srv/a/b\n755 0 0\n755 0 0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(root, "srv/a/b")); err != nil {
		t.Error(err) // the working folder stays, as it is no mount point
	}
	// A folder of the tree that is still open would keep a mount of it in use.
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"srv", "srv/a"} {
		folder, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && os.SameFile(info, folder) {
				t.Errorf("%s is still open", name)
			}
		}
	}
	put(t, root, "file", "", 0o644)
	if out := run(t, Cmd{Root: root, Dir: "/file", Args: []string{"true"}}); out.err == nil || out.err.Error() != "chdir /file: not a directory" {
		t.Errorf("got %v", out.err)
	}
}

func TestEnvironment(t *testing.T) {
	c := Cmd{Root: newRoot(t), Env: []string{"HOME=/h", "A=1", "A=2", "PATH=/nowhere:bin:/bin"}, Args: []string{"env"}}
	if out := run(t, c); out.stdout != "HOME=/h\nA=1\nA=2\nPATH=/nowhere:bin:/bin\n" {
		t.Errorf("got %q, %v", out.stdout, out.err)
	}
}

func TestEnd(t *testing.T) {
	root := newRoot(t)
	for _, test := range []struct {
		script string
		want   error
	}{
		{"exit 0", nil},
		{"exit 7", &ExitError{Code: 7}},
		{"kill -9 $$", &ExitError{Code: 137, Signal: unix.SIGKILL}},
		{"kill -TERM $$", &ExitError{Code: 143, Signal: unix.SIGTERM}},
		{"sleep 1000 & setsid sleep 1000 & exit 3", &ExitError{Code: 3}}, // what is left is killed
		{"for s in HUP INT QUIT TERM USR1 USR2 PWR; do kill -$s 1; done; ps > /dev/null; exit 4", &ExitError{Code: 4}},
	} {
		out := run(t, Cmd{Root: root, Args: []string{"sh", "-c", test.script}})
		if fmt.Sprintf("%#v", out.err) != fmt.Sprintf("%#v", test.want) {
			t.Errorf("%s: got %#v, want %#v", test.script, out.err, test.want)
		}
	}
}

func TestExitErrorText(t *testing.T) {
	for _, test := range []struct {
		err  ExitError
		want string
	}{
		{ExitError{Code: 2}, "exit status 2"},
		{ExitError{Code: 137, Signal: unix.SIGKILL}, "killed by signal: killed"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestNoProgram(t *testing.T) {
	root := newRoot(t)
	put(t, root, "bin/no-interpreter", "#!/bin/missing\n", 0o755)
	put(t, root, "bin/no-format", "\x01\x02", 0o755)
	put(t, root, "bin/no-mode", "", 0o644)
	for _, test := range []struct {
		program, want string
		is            error
	}{
		{"missing", `exec: "missing": not found in the image`, ErrNotFound},
		{"/bin/missing", `exec: "/bin/missing": not found in the image`, ErrNotFound},
		{"no-interpreter", "exec /bin/no-interpreter: its interpreter: not found in the image", ErrNotFound},
		{"no-mode", `exec: "no-mode": not found in the image`, ErrNotFound},
		{"/bin/no-mode", "exec /bin/no-mode: permission denied", fs.ErrPermission},
		{"/bin", "exec /bin: permission denied", fs.ErrPermission},
		{"no-format", "exec /bin/no-format: exec format error", unix.ENOEXEC},
	} {
		out := run(t, Cmd{Root: root, Args: []string{test.program}})
		if out.err == nil || out.err.Error() != test.want || !errors.Is(out.err, test.is) {
			t.Errorf("%s: got %v, want %s", test.program, out.err, test.want)
		}
	}
}

// TestBusyProgram: a program that is still open for writing, as in a process that is just being
// started, is waited for.
func TestBusyProgram(t *testing.T) {
	root := newRoot(t)
	busy, err := os.OpenFile(filepath.Join(root, "bin/busybox"), os.O_WRONLY, 0)
	strict.Must(t, err)
	if out := run(t, Cmd{Root: root, Args: []string{"true"}}); fmt.Sprint(out.err) != "exec /bin/true: text file busy" {
		t.Errorf("got %v", out.err)
	}
	time.AfterFunc(50*time.Millisecond, func() { busy.Close() })
	if out := run(t, Cmd{Root: root, Args: []string{"true"}}); out.err != nil {
		t.Errorf("got %v", out.err)
	}
}

func TestWrongCommands(t *testing.T) {
	root := newRoot(t)
	for _, test := range []struct {
		cmd  Cmd
		want string
	}{
		{Cmd{Root: root}, fmt.Sprintf("run [] in %q: invalid argument", root)},
		{Cmd{Root: "relative", Args: []string{"true"}}, `run ["true"] in "relative": invalid argument`},
		{Cmd{Root: root, Args: []string{"echo", "a\x00b"}}, fmt.Sprintf("run [\"echo\" \"a\\x00b\"] in %q: invalid argument", root)},
		{Cmd{Root: root, Args: []string{"env"}, Env: []string{"A=\x00"}}, fmt.Sprintf("run [\"env\"] in %q: invalid argument", root)},
		{Cmd{Root: "/nowhere", Args: []string{"true"}}, "open /nowhere: no such file or directory"},
		{Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/nowhere", Dest: "/x"}}}, "bind: stat /nowhere: no such file or directory"},
		{Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/", Dest: "x"}}}, "bind / to x: not absolute paths"},
		{Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/dev/null", Dest: "/tmp"}}}, "mount /tmp: is a directory"},
		{Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/", Dest: "/proc/x/y"}}}, "mount /proc/x/y: no such file or directory"},
	} {
		if out := run(t, test.cmd); out.err == nil || out.err.Error() != test.want {
			t.Errorf("got %v, want %s", out.err, test.want)
		}
	}
}

func TestStandardFiles(t *testing.T) {
	root := newRoot(t)
	input := strings.Repeat("0123456789abcdef", 1<<16)
	var stdout, stderr bytes.Buffer
	c := Cmd{Root: root, Args: []string{"sh", "-c", "cat; echo oops >&2"}, Stdin: strings.NewReader(input), Stdout: &stdout, Stderr: &stderr}
	strict.Must(t, c.Run(t.Context()))
	if stdout.String() != input || stderr.String() != "oops\n" {
		t.Errorf("got %d bytes of output, and %q", stdout.Len(), stderr.String())
	}
	// A pipe made by root opens again for another user.
	if got := script(t, Cmd{Root: root, User: "ann"}, "echo hello > /dev/stdout"); got != "hello\n" {
		t.Errorf("got %q", got)
	}
	// A file is passed as it is.
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	strict.Must(t, err)
	defer f.Close()
	c = Cmd{Root: root, User: "ann", Args: []string{"echo", "hello"}, Stdout: f}
	strict.Must(t, c.Run(t.Context()))
	var st unix.Stat_t
	strict.Must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != 6 || st.Uid != 0 {
		t.Errorf("got %d bytes, owner %d", st.Size, st.Uid)
	}
	// Without Stdout and Stderr, output is dropped.
	c = Cmd{Root: root, Args: []string{"sh", "-ec", "echo hello; echo oops >&2"}}
	strict.Must(t, c.Run(t.Context()))
}

func TestBinds(t *testing.T) {
	root, host := newRoot(t), t.TempDir()
	put(t, host, "file", "text\n", 0o644)
	strict.Must(t, os.Mkdir(filepath.Join(host, "sub"), 0o755))
	strict.Must(t, os.Mkdir(filepath.Join(host, "sub/dir"), 0o755))
	strict.Must(t, os.Symlink("/tmp", filepath.Join(root, "link")))
	before := tree(t, root)
	c := Cmd{Root: root, Binds: []Bind{
		{Source: host, Dest: "/a/b,c:d/e f"},
		{Source: filepath.Join(host, "sub"), Dest: "/writable", Writable: true},
		{Source: filepath.Join(host, "file"), Dest: "/etc/passwd"},
		{Source: filepath.Join(host, "file"), Dest: "/writable/dir/../../link/new"},
		{Source: filepath.Join(host, "file"), Dest: "/dev/sub/file"},
		{Source: "/dev/zero", Dest: "/dev/other"},
		{Source: host, Dest: "/writable/dir"},
	}}
	got := script(t, c, `
		cat "/a/b,c:d/e f/file" /etc/passwd /link/new /tmp/new /dev/sub/file /writable/dir/file
		(echo x > "/a/b,c:d/e f/new") 2>/dev/null || echo read-only
		echo y > /writable/y
		head -c 2 /dev/other | od -An -tx1`)
	if want := strings.Repeat("text\n", 6) + "read-only\n 00 00\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(host, "sub/y")); err != nil || string(text) != "y\n" {
		t.Errorf("got %q, %v", text, err)
	}
	same(t, before, tree(t, root))
	// What lies below another bind has to exist there: the host's folder is not to be changed.
	c = Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: host, Dest: "/x", Writable: true}, {Source: host, Dest: "/x/y"}}}
	if out := run(t, c); out.err == nil || out.err.Error() != "mount /x/y: no such file or directory" {
		t.Errorf("got %v", out.err)
	}
}

// TestLeavesRoot: whatever comes of a command, the root filesystem is as it was, with all times.
func TestLeavesRoot(t *testing.T) {
	missing := func(t *testing.T, root string) {
		strict.Must(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(root, "etc/resolv.conf")))
	}
	bare := func(t *testing.T, root string) { strict.Must(t, os.RemoveAll(filepath.Join(root, "etc"))) }
	complete := func(t *testing.T, root string) {
		for _, dir := range []string{"proc", "sys", "dev"} {
			strict.Must(t, os.Mkdir(filepath.Join(root, dir), 0o555))
		}
		for _, file := range []string{resolvConf, hostsFile, nameFile} {
			put(t, root, file, "image's\n", 0o600)
		}
	}
	for name, change := range map[string]func(*testing.T, string){"dangling link": missing, "bare": bare, "complete": complete} {
		for ending, c := range map[string]Cmd{
			"success":    {Args: []string{"sh", "-c", "echo x > /etc/hosts; echo x > /etc/resolv.conf; echo x > /dev/x"}},
			"failure":    {Args: []string{"false"}},
			"no program": {Args: []string{"missing"}},
			"no user":    {Args: []string{"true"}, User: "missing"},
			"no mount":   {Args: []string{"true"}, Binds: []Bind{{Source: "/dev/null", Dest: "/new/x"}, {Source: "/dev/null", Dest: "/bin"}}},
		} {
			t.Run(name+"/"+ending, func(t *testing.T) {
				c.Root = newRoot(t)
				change(t, c.Root)
				before := tree(t, c.Root)
				run(t, c)
				same(t, before, tree(t, c.Root))
			})
		}
		t.Run(name+"/killed", func(t *testing.T) {
			root := newRoot(t)
			change(t, root)
			before := tree(t, root)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := Cmd{Root: root, Args: []string{"sh", "-c", "echo ready; exec sleep 1000"}, Stdout: onWrite(cancel)}
			if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			same(t, before, tree(t, root))
		})
	}
}

// onWrite is a writer that calls a function for each write.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

// TestKeepsChanges: removing the mount points must not remove what the command made, even where it
// made it in the way.
func TestKeepsChanges(t *testing.T) {
	root := newRoot(t)
	strict.Must(t, os.RemoveAll(filepath.Join(root, "etc")))
	c := Cmd{Root: root, Binds: []Bind{{Source: "/dev/null", Dest: "/opt/a/b"}}}
	script(t, c, "echo x > /etc/new; mv /etc /etc2; mkdir /etc; echo y > /etc/hosts; touch -d @1 /opt; touch /opt/a/c; mkdir /opt/d; touch -d @77 /opt")
	for name, want := range map[string]bool{
		"etc2/new": true, "etc2/hosts": false, "etc/hosts": true, "opt/a/b": false, "opt/a/c": true, "opt/d": true, "proc": false,
	} {
		if _, err := os.Lstat(filepath.Join(root, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := os.Stat(filepath.Join(root, "opt"))
	strict.Must(t, err)
	if info.ModTime().Unix() != 77 {
		t.Errorf("time of a parent: got %v, want that of the command", info.ModTime())
	}
}

// TestHostileRoots: no link of an image leads anywhere outside of it.
func TestHostileRoots(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, root, outside string)
		want string // error, "" for success
	}{
		{"proc to etc", link("etc", "proc"), "mount /proc: too many levels of symbolic links"},
		{"proc outside", link("OUTSIDE", "proc"), "mount /proc: too many levels of symbolic links"},
		{"sys outside", link("../../../../../../OUTSIDE", "sys"), "mount /sys: too many levels of symbolic links"},
		{"dev outside", link("OUTSIDE", "dev"), "mount /dev: too many levels of symbolic links"},
		{"dev is a file", func(t *testing.T, root, _ string) { put(t, root, "dev", "", 0o644) }, "mount /dev: not a directory"},
		{"etc outside", link("../../../../../../../OUTSIDE", "etc"), ""},
		{"etc to proc", link("/proc", "etc"), ""},
		{"resolv.conf outside", link("/../../../OUTSIDE/canary", "etc/resolv.conf"), ""},
		{"hosts outside", link("OUTSIDE/canary", "etc/hosts"), ""},
		{"hostname outside, missing", link("OUTSIDE/new", "etc/hostname"), ""},
		{"hosts to sysrq", link("/proc/sysrq-trigger", "etc/hosts"), ""},
		{"hosts to null", link("/dev/null", "etc/hosts"), ""},
		{"hosts is a folder", func(t *testing.T, root, _ string) { strict.Must(t, os.Mkdir(filepath.Join(root, "etc/hosts"), 0o755)) },
			"mount /etc/hosts: is a directory"},
		{"hosts is a fifo", fifo("etc/hosts"), ""},
		{"resolv.conf in a ring", link("resolv.conf", "etc/resolv.conf"), "make mount point /etc/resolv.conf: too many levels of symbolic links"},
		{"passwd is a fifo", fifo("etc/passwd"), ""},
		{"passwd outside", link("OUTSIDE/canary", "etc/passwd"), ""},
		{"bind outside", link("OUTSIDE", "bound"), ""},
		{"folder outside", link("OUTSIDE/new", "work"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, outside := newRoot(t), t.TempDir()
			put(t, outside, "canary", "alive\n", 0o644)
			before := tree(t, outside)
			for _, name := range []string{"etc/passwd", "etc/group"} {
				strict.Must(t, os.Remove(filepath.Join(root, name)))
			}
			if strings.HasPrefix(test.name, "etc ") {
				strict.Must(t, os.Remove(filepath.Join(root, "etc")))
			}
			test.make(t, root, outside)
			c := Cmd{Root: root, Dir: "/work", Args: []string{"sh", "-c", "for f in hosts hostname resolv.conf; do echo x > /etc/$f; done; echo y > /work/file; echo z > /bound"},
				Binds: []Bind{{Source: os.DevNull, Dest: "/bound/canary"}}}
			out := run(t, c)
			if text := fmt.Sprint(out.err); test.want == "" && !isExit(out.err) || test.want != "" && text != test.want {
				t.Errorf("got %v, want %s", out.err, test.want)
			}
			same(t, before, tree(t, outside))
		})
	}
}

// isExit reports whether the command ran.
func isExit(err error) bool {
	var exit *ExitError
	return err == nil || errors.As(err, &exit)
}

// link makes a symbolic link in a root; OUTSIDE stands for the path of the folder outside.
func link(to, name string) func(t *testing.T, root, outside string) {
	return func(t *testing.T, root, outside string) {
		strict.Must(t, os.Symlink(strings.Replace(to, "OUTSIDE", outside, 1), filepath.Join(root, name)))
	}
}

func fifo(name string) func(t *testing.T, root, outside string) {
	return func(t *testing.T, root, _ string) { strict.Must(t, unix.Mkfifo(filepath.Join(root, name), 0o644)) }
}

// TestOwnProgram: a "program" of an image that leads to /proc/self/exe executes what the process
// was before, which does nothing once more, and which nobody can write.
func TestOwnProgram(t *testing.T) {
	root := newRoot(t)
	strict.Must(t, os.Symlink("/proc/self/exe", filepath.Join(root, "evil")))
	put(t, root, "script", "#!/proc/self/exe\n", 0o755) // the same by way of an interpreter
	for _, program := range []string{"/evil", "/script"} {
		var exit *ExitError
		if out := run(t, Cmd{Root: root, Args: []string{program}}); !errors.As(out.err, &exit) || exit.Code != 1 || out.stdout+out.stderr != "" {
			t.Errorf("%s: got %v, %q", program, out.err, out.stdout+out.stderr)
		}
	}
	program, err := initCalls().program()
	strict.Must(t, err)
	defer program.Close()
	again, err := os.OpenFile(procFD(program), os.O_RDWR, 0)
	strict.Must(t, err)
	defer again.Close()
	if _, err := again.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: got %v, want EPERM", err)
	}
}

// TestCancel: when the context ends, a command that cares gets to say goodbye, and the rest dies.
func TestCancel(t *testing.T) {
	root := newRoot(t)
	for name, text := range map[string]string{
		"polite":   "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done",
		"deaf":     "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & echo ready; sleep 1000; echo bye",
		"children": "trap : TERM; sh -c \"trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done\"",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var out bytes.Buffer
			c := Cmd{Root: root, Args: []string{"sh", "-c", text}, Stdout: io.MultiWriter(&out, onWrite(cancel))}
			c.Root = newRoot(t)
			if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			want := "ready\nbye\n"
			if name == "deaf" {
				want = "ready\n"
			}
			if out.String() != want {
				t.Errorf("got %q, want %q", out.String(), want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Cmd{Root: root, Args: []string{"true"}}
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: got %v", err)
	}
}

// TestKilledCaller: when the process that runs a command is killed, all that the command started
// dies.
func TestKilledCaller(t *testing.T) {
	cmd := helper(t, "run", newRoot(t), "setsid sleep 1000 & (sleep 1000 &); echo ready; exec sleep 1000")
	stdout, err := cmd.StdoutPipe()
	strict.Must(t, err)
	strict.Must(t, cmd.Start())
	ready := make([]byte, len("ready\n"))
	_, err = io.ReadFull(stdout, ready)
	strict.Must(t, err)
	strict.Must(t, cmd.Process.Kill())
	// The end of the pipe comes when no process holds its other end.
	if rest, err := io.ReadAll(stdout); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the helper was not killed")
	}
}

// TestRemoveLeft: the mount points that a killed process has left go, by themselves or with the
// next command; nothing else does.
func TestRemoveLeft(t *testing.T) {
	for name, remove := range map[string]func(root string) error{
		"RemoveLeft": func(root string) error { return RemoveLeft(root, "/opt/lent") },
		"Run": func(root string) error {
			c := Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/", Dest: "/opt/lent"}}}
			return c.Run(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			strict.Must(t, os.Symlink("../run/resolve/conf", filepath.Join(root, "etc/resolv.conf")))
			put(t, root, "etc/hostname", "", 0o644) // the image's
			before := tree(t, root)
			r, err := openRoot(root)
			strict.Must(t, err)
			defer r.close()
			c := Cmd{Root: root, Args: []string{"true"}, Binds: []Bind{{Source: "/", Dest: "/opt/lent"}}}
			points, _, err := c.makeMountPoints(r) // and then the process is killed
			strict.Must(t, err)
			for _, p := range points {
				unix.Close(p.parent)
			}
			if len(points) != 9 {
				t.Fatalf("%d mount points were made", len(points))
			}
			strict.Must(t, remove(root))
			same(t, before, tree(t, root))
		})
	}
}

// A mount point that stays, since something was put below it, has the time of the step and no
// longer the one by which it is known.
func TestMountPointStays(t *testing.T) {
	root := newRoot(t)
	start := time.Now().Add(-time.Second)
	script(t, Cmd{Root: root, Binds: []Bind{{Source: "/", Dest: "/opt/a/b/lent"}}}, "touch /opt/a/b/file")
	for _, name := range []string{"opt", "opt/a", "opt/a/b"} {
		fi, err := os.Stat(filepath.Join(root, name))
		strict.Must(t, err)
		if fi.ModTime().Before(start) {
			t.Errorf("%s has the time %v", name, fi.ModTime())
		}
	}
}

// TestOrphans: process 1 waits for processes whose parents are gone.
func TestOrphans(t *testing.T) {
	script(t, Cmd{Root: newRoot(t)}, `
		for i in 1 2 3 4 5; do (true &); done
		for i in $(cat /proc/$$/stat) 1 2 3 4 5 6 7 8 9; do
			ps -o stat,comm | grep -q '^Z' || exit 0
			sleep 0.1
		done
		ps -o pid,ppid,stat,comm
		exit 1`)
}

func TestParallel(t *testing.T) {
	for i := range 3 {
		root := newRoot(t)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := Cmd{Root: root, Hostname: fmt.Sprint("host", i)}
			for range 5 {
				if got := script(t, c, "hostname; cat /etc/hostname"); got != fmt.Sprintf("host%d\nhost%d\n", i, i) {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

func TestOddPath(t *testing.T) {
	old := newRoot(t)
	root := filepath.Join(filepath.Dir(old), "a:b,c=d e\nf\\\"'$x")
	strict.Must(t, os.Rename(old, root))
	t.Setenv("TMPDIR", "/nowhere")
	if got := script(t, Cmd{Root: root}, "echo *"); got != "bin dev etc proc root sys tmp\n" {
		t.Errorf("got %q", got)
	}
}

func TestNetwork(t *testing.T) {
	root := newRoot(t)
	own, err := os.Readlink("/proc/self/ns/net")
	strict.Must(t, err)
	if got := script(t, Cmd{Root: root}, "readlink /proc/self/ns/net"); got != own+"\n" {
		t.Errorf("host: got %s, want %s", got, own)
	}
	none := Cmd{Root: root, Network: NetworkNone}
	if got := script(t, none, "ls /sys/class/net; ip -o link | cut -d' ' -f2,3; ping -c 1 -q 127.0.0.1 | grep -c ' 0% packet loss'"); got !=
		"lo\nlo: <LOOPBACK,UP,LOWER_UP>\n1\n" {
		t.Errorf("none: got %q", got)
	}
}

func TestLookPath(t *testing.T) {
	root := newRoot(t)
	strict.Must(t, os.MkdirAll(filepath.Join(root, "usr/bin/dir"), 0o755))
	put(t, root, "usr/bin/tool", "", 0o755)
	put(t, root, "usr/bin/data", "", 0o644)
	strict.Must(t, os.Symlink("/usr/bin/tool", filepath.Join(root, "bin/absolute")))
	strict.Must(t, os.Symlink("../../../../../../usr/bin/tool", filepath.Join(root, "bin/above")))
	strict.Must(t, os.Symlink("/usr/bin/missing", filepath.Join(root, "bin/dangling")))
	for _, test := range []struct {
		name string
		env  []string
		want string // "" where it is not found
	}{
		{"tool", nil, "/usr/bin/tool"},
		{"sh", nil, "/bin/sh"},
		{"absolute", nil, "/bin/absolute"},
		{"above", nil, "/bin/above"},
		{"/bin/absolute", nil, "/bin/absolute"},
		{"tool", []string{"PATH=/bin"}, ""},
		{"tool", []string{"PATH=/bin", "PATH=/usr/bin"}, "/usr/bin/tool"},
		{"tool", []string{"PATH=usr/bin::."}, ""},
		{"dangling", nil, ""},
		{"data", nil, ""},
		{"dir", nil, ""},
		{"", nil, ""},
		{"/bin/none", nil, ""},
		{"./usr/bin/tool", nil, "/usr/bin/tool"},
	} {
		got, err := LookPath(root, test.name, test.env)
		if got != test.want || (err == nil) != (test.want != "") || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%q %v: got %q, %v, want %q", test.name, test.env, got, err, test.want)
		}
	}
}

// TestTerminal: a command with TTY has a controlling terminal, with job control.
func TestTerminal(t *testing.T) {
	root := newRoot(t)
	var out bytes.Buffer
	c := Cmd{Root: root, User: "ann", TTY: true, Stdout: &out, Args: []string{"sh", "-ec", "tty; test -t 2; echo direct > /dev/tty; stat -c %U $(tty)"}}
	strict.Must(t, c.Run(t.Context()))
	if want := "/dev/pts/0\r\ndirect\r\nann\r\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}

	// What is typed arrives, and ^C interrupts.
	typed, keyboard := io.Pipe()
	var once bool
	c = Cmd{Root: root, TTY: true, Stdin: typed, Args: []string{"sh", "-c", "stty -echo; echo ready; read line; echo got $line; sleep 1000"}}
	out.Reset()
	c.Stdout = io.MultiWriter(&out, writerFunc(func(p []byte) {
		if !once && strings.Contains(out.String(), "ready") {
			once = true
			go io.WriteString(keyboard, "hello\n")
		}
		if strings.Contains(out.String(), "hello") {
			go io.WriteString(keyboard, "\x03")
		}
	}))
	var exit *ExitError
	if err := c.Run(t.Context()); !errors.As(err, &exit) || exit.Signal != unix.SIGINT {
		t.Errorf("got %v, want SIGINT", err)
	}
	if want := "ready\r\ngot hello\r\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}

	// When its context ends, a shell that is told to ends by itself.
	ctx, cancel := context.WithCancel(t.Context())
	c = Cmd{Root: root, TTY: true, Args: []string{"sh", "-c", "trap '' TERM; trap 'echo hung up; exit' HUP; echo ready; while :; do sleep 0.1; done"}}
	out.Reset()
	c.Stdout = io.MultiWriter(&out, writerFunc(func([]byte) { cancel() }))
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !strings.HasSuffix(out.String(), "\nhung up\r\n") {
		t.Errorf("got %q", out.String())
	}

	// A failure before there is a terminal is reported as ever.
	c = Cmd{Root: root, TTY: true, Args: []string{"missing"}}
	if err := c.Run(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// BenchmarkRun is the time of the shortest command.
func BenchmarkRun(b *testing.B) {
	if _, err := os.Stat("/bin/busybox"); err != nil || os.Geteuid() != 0 {
		b.Skip("needs root and a busybox")
	}
	root := b.TempDir()
	text, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "true"), text, 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	c := Cmd{Root: root, Args: []string{"/true"}}
	for b.Loop() {
		if err := c.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
