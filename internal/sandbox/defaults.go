package sandbox

import (
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// limits are the resource limits of every command (getrlimit(2)), by the numbers of
// asm-generic/resource.h: those that Linux and systemd give to a session, with more open files, no
// core files, and what depends on the machine's memory unlimited.
var limits = [...]struct {
	name string
	unix.Rlimit
}{
	{"cpu", unlimited}, {"fsize", unlimited}, {"data", unlimited}, {"stack", unix.Rlimit{Cur: 8 << 20, Max: infinity}},
	{"core", unix.Rlimit{Cur: 0, Max: infinity}}, {"rss", unlimited}, {"nproc", unlimited}, {"nofile", unix.Rlimit{Cur: 65536, Max: 524288}},
	{"memlock", unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}}, {"as", unlimited}, {"locks", unlimited}, {"sigpending", unlimited},
	{"msgqueue", unix.Rlimit{Cur: 819200, Max: 819200}}, {"nice", unix.Rlimit{}}, {"rtprio", unix.Rlimit{}}, {"rttime", unlimited},
}

const infinity = math.MaxUint64 // RLIM_INFINITY

var unlimited = unix.Rlimit{Cur: infinity, Max: infinity}

// forget adds the calls by which a process drops what it has from whoever started the program:
// ignored and blocked signals, resource limits, scheduling, personality. What the kernel does not
// let it have stays as near to that as it can be: a limit above a hard limit of the caller, a
// higher priority.
func (c *calls) forget() {
	const setMask = 2 // SIG_SETMASK
	zeros := c.words(0, 0, 0, 0)
	for _, n := range ignoredSignals() {
		c.add("rt_sigaction", unix.SYS_RT_SIGACTION, n, zeros, 0, signalSet) // SIG_DFL
	}
	c.add("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, setMask, zeros, 0, signalSet)
	for n, want := range limits {
		var own unix.Rlimit
		if err := unix.Getrlimit(n, &own); err != nil {
			continue // a kernel that has no such limit
		}
		if own == want.Rlimit && n != unix.RLIMIT_NOFILE { // package syscall gives processes another of those
			continue
		}
		c.add("prlimit "+want.name, unix.SYS_PRLIMIT64, 0, uint64(n), c.words(min(want.Cur, own.Max), min(want.Max, own.Max)), 0)
		if want.Max > own.Max {
			c.try("prlimit "+want.name, unix.SYS_PRLIMIT64, 0, uint64(n), c.words(want.Cur, want.Max), 0)
		}
	}
	const process, timerSlack = 1, 50_000 // IOPRIO_WHO_PROCESS, and the kernel's own slack in nanoseconds
	c.try("sched_setscheduler", unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL, zeros)
	c.try("setpriority", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0)
	c.try("ioprio_set", unix.SYS_IOPRIO_SET, process, 0, 0)
	c.try("personality", unix.SYS_PERSONALITY, 0)
	c.try("prctl PR_SET_TIMERSLACK", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, timerSlack)
	c.try("prctl PR_SET_SECUREBITS", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, 0)
}

// signalSet is the size of the kernel's set of signals in bytes.
const signalSet = 8

// ignoredSignals are those that this process ignores. Processes that it starts inherit that; they
// do not inherit handlers.
var ignoredSignals = sync.OnceValue(func() (ignored []uint64) {
	const signals, ignore = 8 * signalSet, 1 // SIG_IGN
	for n := uint64(1); n <= signals; n++ {
		var action [8]uint64 // struct sigaction of the kernel, which begins with the handler
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), 0, uintptr(unsafe.Pointer(&action)), signalSet, 0, 0)
		if errno == 0 && action[0] == ignore {
			ignored = append(ignored, n)
		}
	}
	return ignored
})

// ownScore is what oom_score_adj of this process is (proc_pid_oom_score_adj(5)).
var ownScore = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return "0"
	}
	return strings.TrimSpace(string(b))
})

// resetScore gives a process that this one started the oom_score_adj of a process that nothing is
// known about. The kernel may refuse that to ordinary users.
func resetScore(pid int) {
	if ownScore() == "0" {
		return
	}
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = io.WriteString(f, "0")
}
