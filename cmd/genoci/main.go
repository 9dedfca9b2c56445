// Genoci builds OCI images, in layers, from a YAML spec, into an OCI image layout on disk.
//
// This package is the program: it turns arguments, settings and the environment into calls of the
// packages below internal/, and what they report into lines on a terminal. There is one file for
// each command. Rules for all of them: stdout holds results only, everything else goes to stderr
// (see progress.go); errors and exit codes are as in errors.go; a value comes from the flag, else
// from the places that settings.go lists.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"genoci/internal/sandbox"
)

// version is stamped by the linker: -ldflags "-X main.version=1.2.3".
var version string

func main() {
	sandbox.Init()
	putOffGC()
	os.Exit(run(os.Args[1:]))
}

// putOffGC lets the first garbage collection come at a heap of 32 MB, not of 4: most runs of the
// program end before. From then on the heap may grow by half between two, not to twice its size:
// what is large and lives long, the index of a large archive, costs less to look through than to
// have room for. With the variable GOGC (package runtime) nothing is changed.
func putOffGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	const usual, first = 50, 800 // percent; the heap that is counted is never taken for smaller than 4 MB
	debug.SetGCPercent(first)
	runtime.AddCleanup(new([64]byte), func(struct{}) { debug.SetGCPercent(usual) }, struct{}{})
}

// run carries out a command line and returns the exit code.
func run(args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()

	root := newRoot()
	out := &output{screen: screen{w: os.Stdout}}
	root.SetOut(out)
	root.SetErr(&screen{w: os.Stderr})
	if filepath.Base(os.Args[0]) == lpack {
		args = lpackForm(args)
	}
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) && !isTypeable(args) {
		say(out, ":%d\n", cobra.ShellCompDirectiveError) // cobra would print them, past out and SetErr
		return 0
	}
	root.SetArgs(originalForm(root, args))
	err := out.checked(root.ExecuteContext(ctx))
	var sig *interrupted
	if err != nil && !errors.As(err, &sig) && errors.As(context.Cause(ctx), &sig) {
		err = sig
	}
	return printError(os.Stderr, err)
}

// interrupted is why a command ended early: the user or the system asked for it.
type interrupted struct{ signal syscall.Signal }

func (i *interrupted) Error() string {
	if i.signal == syscall.SIGINT {
		return "interrupted"
	}
	return "ended by signal: " + i.signal.String()
}

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP cancels, with an
// *interrupted as its cause, but for a SIGHUP that is ignored, as by nohup(1). Later ones are
// dropped: cleaning up takes a moment, and a process that is killed in it leaves that work to the
// next one.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		select {
		case s := <-signals:
			cancel(&interrupted{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
