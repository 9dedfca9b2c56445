package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"genoci/internal/beneath"
	"genoci/internal/build"
	"genoci/internal/command"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/storage"
)

// The exit codes. A command that a signal ended exits with 128 and the signal's number: 130 after Ctrl-C.
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
	code int    // 0: as the cause has it
	hint string // what the user can do; "": as the cause has it
	told bool   // it was printed already
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
	hinted := &cliError{err: err, hint: fmt.Sprintf(format, args...)}
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

// isSpecError reports whether the cause of err is in the spec or in the names of targets. Such errors that have
// a position are printed as they are.
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

// hintFor returns what the user can do about err, or "".
func hintFor(err error) string {
	var own *cliError
	var unknown *plan.UnknownTargetError
	var exit *sandbox.ExitError
	var denied *source.StatusError
	switch {
	case errors.As(err, &own) && own.hint != "":
		return own.hint
	case storage.RemedyOf(err) != nil:
		return remedyHint(storage.RemedyOf(err))
	case errors.As(err, &unknown) && isSpecName(unknown.Name):
		return "a spec is named with -f: genoci build -f " + shellQuote(unknown.Name)
	case errors.As(err, &unknown) && unknown.Nearest == "":
		return "genoci plan lists the targets"
	case errors.Is(err, image.ErrNotImage), errors.Is(err, layout.ErrNoImage):
		return "genoci inspect shows what it is"
	case errors.Is(err, layer.ErrReserved):
		return "rename it, or leave it out" + lookHint(err, "; ")
	case errors.Is(err, snapshot.ErrUnsupported):
		return "genoci doctor says what this machine lacks; --driver vfs works everywhere"
	case errors.Is(err, sandbox.ErrUnsupported):
		return "genoci doctor says what this machine lacks, and how to mend it"
	case errors.Is(err, beneath.ErrElsewhere):
		return "what deletes follows no symlink and crosses no mount: put the folder itself there again"
	case errors.Is(err, layer.ErrAnother):
		return "make one archive of both: tar -xif unpacks all that the file holds"
	case isInUse(err):
		return "try again when the builds that use it have ended"
	case linkNotFollowed(stepError(err)):
		return "hooks do not follow links of the image, which could lead to a file of the host: name the real folder (%ROOT%/usr/bin, not %ROOT%/bin), use run, " +
			"or give $GENOCI_CHROOT to a program that changes its root to it" + lookHint(err, "; ")
	case missesID(err) > 0:
		return idHint(missesID(err))
	case errors.As(err, &denied) && denied.Denied():
		return deniedHint(denied)
	case errors.Is(err, command.ErrQuestion):
		return "in `steps`, answer before the install: `run: echo \"PACKAGE NAME TYPE ANSWER\" | debconf-set-selections`, or copy the file that the package looks for; build_env sets variables" + lookHint(err, "; ")
	case heldFile(stepError(err)) != "":
		name := heldFile(stepError(err))
		return name + " is the sandbox's own while a command runs: it can be written to (cat new >" + name + "), not replaced or removed, and what is written " +
			"never reaches the layer; copy puts the image's own file there" + lookHint(err, "; ")
	case errors.As(err, &exit) && exit.Code == 127:
		return "status 127 means that the image has no command of that name" + lookHint(err, "; ")
	case errors.As(err, &exit) && sandbox.Rootless() && crossDevice(stepError(err)):
		return "as an ordinary user, commands cannot rename folders of the base with the driver overlay; --driver vfs can" + lookHint(err, "; ")
	}
	return lookHint(err, "")
}

// deniedHint says where user and password for a download come from.
func deniedHint(e *source.StatusError) string {
	switch {
	case e.Moved:
		return e.Host + " redirects to another server, which is sent no user and password: name its own URL, for which there can be an entry in a netrc file"
	case e.InURL:
		return e.Host + " does not take the user and password that the URL has"
	case e.Sent:
		return fmt.Sprintf("%s does not take the user and password that %s has for it", e.Host, e.Netrc)
	case e.Netrc == "":
		return "set NETRC to a file with user and password for the host: there is no home folder for a .netrc"
	}
	return fmt.Sprintf("user and password for %s are taken from %s, which has none (NETRC names another file): machine %[1]s login USER password PASSWORD", e.Host, e.Netrc)
}

// missesID returns the highest id that an ordinary user would need for the owner of a file, and has not; 0 where err is another one.
func missesID(err error) int {
	var owner *layer.OwnerError
	if errors.As(err, &owner) && errors.Is(err, syscall.EINVAL) && sandbox.Rootless() {
		return max(owner.UID, owner.GID)
	}
	return 0
}

func idHint(id int) string {
	have, command := sandbox.IDsFor(id)
	const other = "give the files another owner, as with expand: {src: ..., chown: \"0:0\"}"
	if command == "" {
		return other
	}
	return fmt.Sprintf("the owner %d needs more subordinate ids than you have (ids up to %d): %s, as root; or %s", id, have-1, command, other)
}

// heldFile returns which file of the sandbox a step's command could not replace or remove, as its last output, or its text, tells; "" for none.
func heldFile(step *build.StepError) string {
	if step == nil {
		return ""
	}
	for _, line := range step.Tail {
		busy := strings.Contains(line, "resource busy") || strings.Contains(line, "EBUSY")
		for _, name := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} {
			word := regexp.MustCompile(regexp.QuoteMeta(name) + `([^\w.-]|$)`)
			if (busy || strings.HasSuffix(line, "File exists")) && word.MatchString(line) || busy && word.MatchString(step.Op) {
				return name
			}
		}
	}
	return ""
}

// crossDevice reports whether the last output of a step's command tells of the error EXDEV (rename(2)), in the words of libc or of node.js.
func crossDevice(step *build.StepError) bool {
	return step != nil && slices.ContainsFunc(step.Tail, func(line string) bool {
		return strings.Contains(line, "nvalid cross-device link") || strings.Contains(line, "EXDEV")
	})
}

// linkNotFollowed reports whether the last output of a hook tells of the error ELOOP (openat(2)).
func linkNotFollowed(step *build.StepError) bool {
	return step != nil && step.Hook && slices.ContainsFunc(step.Tail, func(line string) bool {
		return strings.Contains(line, "oo many levels of symbolic links") || strings.Contains(line, "ELOOP") || strings.Contains(line, "ymbolic link loop")
	})
}

// lookHint returns, after before, how to look into what the step left whose failure err tells; "" where it is not kept.
func lookHint(err error, before string) string {
	step := stepError(err)
	if step == nil || step.Kept == "" {
		return ""
	}
	return before + "genoci shell " + step.Kept + " opens a shell in what it left"
}

// printError prints err and returns the exit code: a line "error: ..." for each error that it is joined from, the last
// output of a command that failed, and a line "hint: ..." where the user can do something. Errors of a spec are printed as
// they are, since they begin with their position. On GitHub Actions, positions become annotations too.
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
	if hint := hintFor(err); hint != "" {
		say(w, "hint: %s\n", hint)
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
