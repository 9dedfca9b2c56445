package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"genoci/internal/build"
	"genoci/internal/plan"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/spec"
)

// The exit codes. A command that a signal ended exits with 128 and the signal's number: 130 after
// Ctrl-C.
const (
	exitFailed  = 1 // a build or command failed
	exitUsage   = 2 // the spec, the settings or the arguments are wrong
	exitLacking = 3 // the environment lacks something
)

// exitHelp is what the help of every command says about them.
const exitHelp = `Exit codes: 0 done; 1 a build or command failed; 2 wrong spec, settings or
arguments; 3 the machine lacks something (see genoci doctor); 130 after Ctrl-C.`

// cliError is an error of which this program knows more than its text.
type cliError struct {
	err  error
	code int  // 0: as the cause has it
	hint hint // what the user can do; none: as the cause has it
	told bool // it was printed already
}

func (e *cliError) Error() string { return e.err.Error() }
func (e *cliError) Unwrap() error { return e.err }

// usagef returns an error in what the user wrote.
func usagef(format string, args ...any) error {
	return &cliError{err: fmt.Errorf(format, args...), code: exitUsage}
}

// lackingf returns an error of the environment.
func lackingf(format string, args ...any) error {
	return &cliError{err: fmt.Errorf(format, args...), code: exitLacking}
}

// withHint adds to err what the user can do about it.
func withHint(err error, format string, args ...any) error {
	if false {
		_ = fmt.Sprintf(format, args...) // go vet then checks calls of withHint as those of fmt.Sprintf
	}
	hinted := &cliError{err: err, hint: advice(format, args...)}
	var own *cliError
	if errors.As(err, &own) {
		hinted.code = own.code
	}
	return hinted
}

// exitCode returns the exit code that err stands for.
func exitCode(err error) int {
	var own *cliError
	var sig *interrupted
	var step *build.StepError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own) && own.code != 0:
		return own.code
	case errors.As(err, &sig):
		return 128 + int(sig.signal)
	case errors.Is(err, sandbox.ErrUnsupported), errors.Is(err, snapshot.ErrUnsupported), missesID(err) > 0:
		return exitLacking
	case errors.As(err, &step):
		return exitFailed
	case isSpecError(err):
		return exitUsage
	}
	return exitFailed
}

// isSpecError reports whether the cause of err is in the spec or in the names of targets. Such
// errors that have a position are printed as they are.
func isSpecError(err error) bool {
	var unknown *plan.UnknownTargetError
	return len(specErrors(err)) > 0 || errors.As(err, &unknown)
}

// specErrors returns the errors in a spec that err is made of.
func specErrors(err error) spec.Errors {
	var all spec.Errors
	var one *spec.Error
	switch {
	case errors.As(err, &all):
		return all
	case errors.As(err, &one):
		return spec.Errors{one}
	}
	return nil
}

// printError prints err and returns the exit code: a line "error: ..." for each error that it is
// joined from, the last output of a command that failed, and a line "hint: ..." where the user can
// do something. Errors of a spec are printed as they are, since they begin with their position. On
// GitHub Actions, positions become annotations too.
func printError(w io.Writer, err error) int {
	var own *cliError
	if err == nil || errors.As(err, &own) && own.told {
		return exitCode(err)
	}
	for _, e := range joined(err) {
		if !onActions() {
			printOne(w, e)
			continue
		}
		stop := rand.Text() // an excerpt of a spec obeys nobody
		say(w, "::stop-commands::%s\n", stop)
		printOne(w, e)
		say(w, "::%s::\n", stop)
		annotate(w, e)
	}
	return exitCode(err)
}

func printOne(w io.Writer, err error) {
	if list := specErrors(err); len(list) > 0 && exitCode(err) == exitUsage {
		for _, e := range list {
			printSpecError(w, e)
		}
	} else {
		say(w, "error: %v\n", err)
	}
	var step *build.StepError
	if errors.As(err, &step) && !step.Shown {
		printTail(w, step.Tail)
	}
	if h := hintFor(err); !h.isNone() {
		say(w, "hint: %s\n", h)
	}
}

// printSpecError prints an error in a spec in the lines that it has: text of others makes none.
func printSpecError(w io.Writer, err *spec.Error) {
	e := *err
	e.File, e.Msg, e.Excerpt, e.Suggest = beginning(inLine(e.File)), written(e.Msg), inLine(e.Excerpt), inLine(e.Suggest)
	sayLines(w, strings.TrimSuffix(e.Error(), "\n"))
}

// printTail prints the last lines of a command's output.
func printTail(w io.Writer, lines []string) {
	for _, line := range lines {
		say(w, "  | %s\n", newOutputLine(line))
	}
}

// joined returns the errors that err was joined from, or err itself.
func joined(err error) []error {
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range list.Unwrap() {
		all = append(all, joined(e)...)
	}
	return all
}
