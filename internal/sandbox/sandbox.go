// Package sandbox holds everything about Linux namespaces: entering genoci's own (a mount
// namespace, with a user namespace when not root), and running one command in a root filesystem,
// apart from the host. It uses no other program but newuidmap and newgidmap. It never decides what
// to run, and never changes a file of the root filesystem beyond the mount points that it makes and
// removes again.
//
// For the first, the program starts itself again; Init, called first by main and by each TestMain,
// is where that copy begins.
//
// It needs Linux 5.12 (mount_setattr(2); openat2(2), open_tree(2) and move_mount(2) are older).
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is wrapped where the machine does not allow what is asked.
var ErrUnsupported = errors.New("not supported here")

// roleEnv is the environment variable that tells a copy of the program what it was started for: a
// role, and the numbers of the file descriptors that it was given, with blanks between. The
// variable means nothing without the first of those, so setting it by hand does nothing.
const roleEnv = "GENOCI_SANDBOX"

// The roles of a copy.
const (
	roleRoot  = "root"  // go on as the program, in the mount namespace that the descriptor (nsfs) names; two more are those of outside
	roleUser  = "user"  // go on as the program, in a user namespace; the descriptor is a socket to its maker
	roleProbe = "probe" // as roleUser, but only to see whether it can be done
)

// entered is set by Enter, or by Init in a copy that Enter started.
var entered bool

// Init turns the process into what Enter started it for, if it did. Call it before anything else.
// In a process that was started in the ordinary way it looks at one environment variable, no more.
func Init() {
	value, ok := os.LookupEnv(roleEnv)
	if !ok {
		return
	}
	_ = os.Unsetenv(roleEnv)
	var role string
	var fd, namespace, root int
	n, _ := fmt.Sscan(value, &role, &fd, &namespace, &root) // how many there are depends on the role
	if n < 2 || !belongs(role, fd) {
		return
	}
	unix.CloseOnExec(fd)
	switch role {
	case roleRoot:
		unix.Close(fd)
		if n == 4 {
			unix.CloseOnExec(namespace)
			unix.CloseOnExec(root)
			outside.known, outside.namespace, outside.root = true, namespace, root
		}
		entered = true
	case roleUser:
		awaitIDs(fd)
		entered = true
	case roleProbe:
		awaitIDs(fd)
		os.Exit(probeProc())
	}
}

// belongs reports whether fd is what a copy in that role is given.
func belongs(role string, fd int) bool {
	var st unix.Stat_t
	if fd < 3 || unix.Fstat(fd, &st) != nil {
		return false
	}
	if role != roleRoot {
		return st.Mode&unix.S_IFMT == unix.S_IFSOCK
	}
	var own unix.Stat_t
	return unix.Stat("/proc/self/ns/mnt", &own) == nil && own.Dev == st.Dev && own.Ino == st.Ino
}

// roleVariable is the environment variable that Init reads.
func roleVariable(role string, fds ...int) string {
	text := roleEnv + "=" + role
	for _, fd := range fds {
		text += " " + strconv.Itoa(fd)
	}
	return text
}

// Inside reports whether the process is in a namespace that Enter made.
func Inside() bool { return entered }

// Rootless reports whether the process is in a user namespace other than the machine's first one:
// where it is root, it is so only there, and devices cannot be made. That holds after Enter by an
// ordinary user, and for root in a rootless container.
func Rootless() bool { return rootless() }

var rootless = sync.OnceValue(func() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !isInitialMap(string(b))
})

// isInitialMap reports whether the text of a uid_map is that of the first user namespace, which
// maps all ids to themselves (user_namespaces(7)).
func isInitialMap(text string) bool {
	f := strings.Fields(text)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == strconv.FormatUint(1<<32-1, 10)
}

// identityMap returns, from the text of a user namespace's uid_map, that of one inside of it that
// has the same ids.
func identityMap(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 {
			fmt.Fprintln(&b, f[0], f[0], f[2])
		}
	}
	return b.String()
}
