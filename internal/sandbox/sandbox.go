// Package sandbox holds everything about Linux namespaces: entering genoci's own (a mount namespace, with a user namespace when not
// root), and running one command in a root filesystem, apart from the host. It uses no other program but newuidmap and newgidmap.
// It never decides what to run, and never changes a file of the root filesystem beyond the mount points that it makes and removes again.
//
// The program starts itself again for both; Init, called first by main and by each TestMain, is where those copies begin.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
)

// Init turns the process into what Enter or Run started it for, if one of them did, and does then not return. Call it before anything else.
func Init() {}

// Enter returns nil when the process already is in a mount namespace of genoci's own. Otherwise it starts
// the program again with the same arguments in one (and in a user namespace with the caller's whole subordinate id ranges when the caller is not root),
// passes signals on, waits, and exits with its exit code. It returns an error only where no such namespace can be had; the
// error says what the machine lacks and how to mend it, and wraps ErrUnsupported.
func Enter() error { panic("stub") }

// Inside reports whether the process is in a namespace that Enter made.
func Inside() bool { panic("stub") }

// Rootless reports whether the process is root only in a user namespace: devices cannot be made there.
func Rootless() bool { panic("stub") }

// Network is what a command sees of the network.
type Network string

// The networks.
const (
	NetworkHost Network = "host" // the host's own
	NetworkNone Network = "none" // a new namespace with only a loopback device, up
)

// Bind is a file or folder of the host that a command sees in its root filesystem.
type Bind struct {
	Source   string // absolute path on the host
	Dest     string // absolute path inside; resolved inside the root, made where missing, and removed afterwards
	Writable bool
}

// Cmd is a command to be run in a root filesystem. The zero value of each field but Root and Args is useful.
type Cmd struct {
	Root     string   // absolute path of the root filesystem
	Args     []string // the program, looked up inside by PATH of Env where it has no slash, and its arguments
	Env      []string // K=V; nothing is inherited
	Dir      string   // working folder inside; "" is /; made (0755 root) when it is missing
	User     string   // "", "name", "uid", "name:group", "uid:gid", looked up in the image; "" is root
	Hostname string   // "" is genoci
	Network  Network  // "" is host
	Binds    []Bind

	Stdin          io.Reader // nil: /dev/null
	Stdout, Stderr io.Writer // nil: dropped
}

// ExitError is the error of a command that ran and failed.
type ExitError struct {
	Code   int       // exit status, or 128+N for signal N
	Signal os.Signal // nil when it exited
}

func (e *ExitError) Error() string {
	if e.Signal != nil {
		return fmt.Sprintf("killed by signal: %v", e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Run runs the command and waits for it, in new mount, pid, uts and ipc namespaces: fresh /proc and /dev (with shm, pts), /sys read-only,
// /etc/resolv.conf, /etc/hosts and /etc/hostname of its own, the default capabilities and seccomp filter of moby. When ctx ends, everything that it
// started is killed. Mount points that were missing are removed afterwards. The error is an *ExitError when the command itself failed.
func (c *Cmd) Run(ctx context.Context) error { panic("stub") }

// LookPath reports whether the program name exists in the root filesystem at root, looked up by the PATH in env when it has no slash,
// and returns its path inside.
func LookPath(root, name string, env []string) (string, error) { panic("stub") }

// ErrUnsupported is wrapped where the machine does not allow what is asked.
var ErrUnsupported = fmt.Errorf("not supported here")
