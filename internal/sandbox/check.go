package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Finding is one thing that the machine has or lacks.
type Finding struct {
	Name   string // what was looked at, as "user namespaces"
	OK     bool   // builds work with it
	Detail string // what was found
	Fix    string // what to do, when not OK or where something could be better; "" where nothing can be done
}

// Check looks at all that Enter and Run need from the machine, for the caller as it is before
// Enter. Nothing is guessed from versions: what can be tried, is tried.
func Check() []Finding {
	findings := []Finding{checkKernel(), checkSeccomp()}
	if os.Geteuid() == 0 {
		findings = append(findings, checkMountNamespace())
		if Rootless() && findings[len(findings)-1].OK {
			findings = append(findings, checkProc(probeProc()))
		}
		return findings
	}
	findings = append(findings,
		checkMapper("newuidmap"), checkMapper("newgidmap"),
		checkSubordinate("subordinate user ids", "/etc/subuid"), checkSubordinate("subordinate group ids", "/etc/subgid"))
	return append(findings, checkUserNamespace()...)
}

// checkKernel tries the newest of the system calls that Run needs.
func checkKernel() Finding {
	f := Finding{Name: "kernel", OK: true}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		f.Detail = "Linux " + unix.ByteSliceToString(uts.Release[:])
	}
	// An attribute of no mount: EBADF where the call exists.
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); err == unix.ENOSYS {
		f.OK, f.Detail, f.Fix = false, f.Detail+" has no mount_setattr", "Linux 5.12 or later is needed"
	}
	return f
}

func checkSeccomp() Finding {
	f := Finding{Name: "seccomp", OK: true, Detail: "filters are supported"}
	// No filter, by an address that cannot be: EFAULT where filters exist (seccomp(2)).
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0); err != unix.EFAULT {
		f.OK, f.Detail, f.Fix = false, "no seccomp filters", "a kernel with CONFIG_SECCOMP_FILTER is needed"
	}
	return f
}

func checkMapper(name string) Finding {
	file, err := findMapper(name)
	if err != nil {
		return finding(name, err)
	}
	f := privileged(file)
	f.Name = name
	return f
}

// finding returns the Finding for an error.
func finding(name string, err error) Finding {
	f := Finding{Name: name, Detail: err.Error()}
	var l lacks
	if errors.As(err, &l) {
		f.Detail, f.Fix = l.what, l.fix
	}
	return f
}

// privileged looks whether a program has the privilege that newuidmap needs: the set-user-id bit of
// root, or a file capability.
func privileged(file string) Finding {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return Finding{Detail: fmt.Sprintf("%s: %v", file, err)}
	}
	if st.Mode&unix.S_ISUID != 0 && st.Uid == 0 {
		return Finding{OK: true, Detail: file + ", set-user-id root"}
	}
	if n, err := unix.Getxattr(file, "security.capability", nil); err == nil && n > 0 {
		return Finding{OK: true, Detail: file + ", with file capabilities"}
	}
	return Finding{
		Detail: file + " has no privilege: it is neither set-user-id root nor has it file capabilities",
		Fix:    "chmod u+s " + file,
	}
}

// nobody is the highest id that files of images commonly have.
const nobody = 65534

func checkSubordinate(name, file string) Finding {
	ranges, err := subordinate(file)
	if err != nil {
		return finding(name, err)
	}
	var texts []string
	var total int64
	for _, r := range ranges {
		texts = append(texts, fmt.Sprintf("%d-%d", r.first, r.first+r.count-1))
		total += r.count
	}
	f := Finding{Name: name, OK: true, Detail: file + ": " + strings.Join(texts, ", ")}
	if total < nobody {
		f.OK, f.Fix = false, moreIDs(callerName())
		f.Detail += fmt.Sprintf(": %d in all, but images use ids up to %d", total, nobody)
	}
	return f
}

// checkUserNamespace does what Enter does for an ordinary user, and looks for a new proc there.
func checkUserNamespace() []Finding {
	const name = "user namespaces"
	cmd, err := startAsUser(roleProbe)
	if err != nil {
		return []Finding{finding(name, err)}
	}
	allowed := Finding{Name: name, OK: true, Detail: "allowed"}
	err = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != procNew && code != procShared {
		return []Finding{finding(name, err)}
	}
	return []Finding{allowed, checkProc(cmd.ProcessState.ExitCode())}
}

// What probeProc finds; these are exit statuses of a process in roleProbe.
const (
	procNew    = 0
	procShared = 3
	procFailed = 4
)

// checkProc returns the finding about what probeProc found.
func checkProc(code int) Finding {
	f := Finding{Name: "proc", OK: true, Detail: "each command can have its own"}
	switch code {
	case procShared:
		f.Detail, f.Fix = sharedProcText, unmaskProc
	case procFailed:
		f.OK, f.Detail, f.Fix = false, "no process and mount namespaces", "in a container, its seccomp profile has to allow them"
	}
	return f
}

// probeProc tries to make a proc, as for a command.
func probeProc() int {
	code := procFailed
	_ = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWPID); err != nil {
			return err
		}
		init, err := startInit()
		if err != nil {
			return err
		}
		defer init.end()
		tree, err := makeFS(init.proc, 0, option{"source", "proc"})
		switch {
		case err == nil:
			code = procNew
			unix.Close(tree)
		case errors.Is(err, unix.EPERM):
			code = procShared
		}
		return nil
	})
	return code
}

// knobs are the settings by which user namespaces are forbidden, with the value that forbids them.
var knobs = []struct{ name, forbids, allow string }{
	{"user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"},
	{"kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
}

// diagnoseUserNamespace says why a user namespace could not be made or used.
func diagnoseUserNamespace(cause error) error {
	for _, k := range knobs {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(k.name, ".", "/"))
		if value := strings.TrimSpace(string(b)); err == nil && value == k.forbids {
			return lacks{fmt.Sprintf("no user namespaces: %v: %s=%s", cause, k.name, value), k.allow}
		}
	}
	return lacks{
		what: fmt.Sprintf("no user namespaces: %v", cause),
		fix:  "in a container, its seccomp profile has to allow them",
	}
}

// checkMountNamespace does what Enter does for root, in a thread that ends with it.
func checkMountNamespace() Finding {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- unix.Unshare(unix.CLONE_NEWNS)
	}()
	const name = "mount namespaces"
	if err := <-result; err != nil {
		return finding(name, noMountNamespace(err))
	}
	return Finding{Name: name, OK: true, Detail: "allowed"}
}
