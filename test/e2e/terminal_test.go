package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal on which genoci runs, as a person would have it.
type terminal struct {
	t     *testing.T
	file  *os.File // what a person sees and types
	peer  *os.File // genoci's side
	cmd   *exec.Cmd
	ended chan struct{} // closed when genoci has ended
	fresh unix.Termios  // how the terminal was before

	mu   sync.Mutex
	text bytes.Buffer
	seen int // how much of text was waited for
}

// terminal starts genoci on a terminal of 40 rows and 100 columns.
func (w *workspace) terminal(args ...string) *terminal {
	w.t.Helper()
	file, peer, err := pty.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	t := &terminal{t: w.t, file: file, peer: peer, ended: make(chan struct{})}
	t.resize(40, 100)
	t.fresh = t.mode()
	t.cmd = w.Command(w.t, args...)
	t.cmd.Env = append(t.cmd.Env, "TERM=dumb", "CI=")
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = peer, peer, peer
	t.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := t.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go t.read()
	go func() {
		_ = t.cmd.Wait()
		close(t.ended)
	}()
	w.t.Cleanup(func() {
		_ = t.cmd.Process.Kill() // fails when it has ended
		<-t.ended
		_ = t.peer.Close()
		_ = t.file.Close()
	})
	return t
}

func (t *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.file.Read(buf)
		t.mu.Lock()
		t.text.Write(buf[:n])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// resize gives the terminal another size.
func (t *terminal) resize(rows, columns uint16) {
	t.t.Helper()
	if err := pty.Setsize(t.file, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		t.t.Fatal(err)
	}
}

// types types text, and waits for what comes then.
func (t *terminal) types(text string, wants ...string) {
	t.t.Helper()
	if _, err := t.file.WriteString(text); err != nil {
		t.t.Fatal(err)
	}
	for _, want := range wants {
		t.wait(want)
	}
}

// wait waits for text that was not waited for yet.
func (t *terminal) wait(want string) {
	t.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if t.find(want) {
			return
		}
		select {
		case <-t.ended:
			time.Sleep(100 * time.Millisecond) // what was written last may still be on its way
			if t.find(want) {
				return
			}
			t.t.Fatalf("it ended with %d, and %q did not come:\n%s", t.cmd.ProcessState.ExitCode(), want, t.all())
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.t.Fatalf("%q did not come:\n%s", want, t.all())
}

func (t *terminal) find(want string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := strings.Index(t.text.String()[t.seen:], want)
	if i >= 0 {
		t.seen += i + len(want)
	}
	return i >= 0
}

func (t *terminal) all() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// wantFresh checks that the terminal is as it was.
func (t *terminal) wantFresh() {
	t.t.Helper()
	if mode := t.mode(); mode != t.fresh {
		t.t.Errorf("the terminal was %+v, and is %+v", t.fresh, mode)
	}
}

// mode returns how the terminal treats what is typed and written.
func (t *terminal) mode() unix.Termios {
	t.t.Helper()
	mode, err := unix.IoctlGetTermios(int(t.peer.Fd()), unix.TCGETS)
	if err != nil {
		t.t.Fatal(err)
	}
	return *mode
}

// end waits for the end of genoci, and returns its exit code.
func (t *terminal) end() int {
	t.t.Helper()
	select {
	case <-t.ended:
	case <-time.After(time.Minute):
		t.t.Fatalf("it does not end:\n%s", t.all())
	}
	return t.cmd.ProcessState.ExitCode()
}
