package main

import (
	"errors"
	"fmt"
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
	"genoci/internal/storage"
)

// hint is what the user can do about an error. Its text is made where it is printed.
type hint struct {
	format string // of the advice, for fmt.Sprintf; "" for none
	args   []any
	look   look
}

// look is how to look into the tree that a failed step left.
type look struct {
	ref      string // TARGET@failed; "" where there is no tree
	cacheDir string // which the command has to name; "" for the usual one
}

// advice is a hint of one sentence.
func advice(format string, args ...any) hint {
	if false {
		_ = fmt.Sprintf(format, args...) // go vet then checks calls of advice as those of fmt.Sprintf
	}
	return hint{format: format, args: args}
}

// isNone reports whether there is nothing that the user can do.
func (h hint) isNone() bool { return h.format == "" && h.look.ref == "" }

// String returns the text; "" for none.
func (h hint) String() string {
	var texts []string
	if h.format != "" {
		texts = append(texts, fmt.Sprintf(h.format, h.args...))
	}
	if h.look.ref != "" {
		texts = append(texts, h.look.String())
	}
	return strings.Join(texts, "; ")
}

// String returns the text.
func (l look) String() string {
	command := "genoci shell "
	if l.cacheDir != "" {
		command += "--cache-dir " + shellQuote(l.cacheDir) + " "
	}
	return command + l.ref + " opens a shell in what it left"
}

// elsewhereError is an error of a command that was given a cache folder of its own.
type elsewhereError struct {
	err      error
	cacheDir string
}

func (e *elsewhereError) Error() string { return e.err.Error() }
func (e *elsewhereError) Unwrap() error { return e.err }

// lookFor returns how to look into the tree of the step whose failure err tells.
func lookFor(err error) look {
	step := stepError(err)
	if step == nil || step.Kept == "" {
		return look{}
	}
	l := look{ref: step.Kept}
	var elsewhere *elsewhereError
	if errors.As(err, &elsewhere) {
		l.cacheDir = elsewhere.cacheDir
	}
	return l
}

// lookInto returns the hint with how to look into the tree of the step whose failure err tells.
func (h hint) lookInto(err error) hint {
	h.look = lookFor(err)
	return h
}

// hintFor returns what the user can do about err.
func hintFor(err error) hint {
	var own *cliError
	var unknown *plan.UnknownTargetError
	var exit *sandbox.ExitError
	var denied *source.StatusError
	switch {
	case errors.As(err, &own) && !own.hint.isNone():
		return own.hint
	case storage.RemedyOf(err) != nil:
		return remedyHint(storage.RemedyOf(err))
	case errors.As(err, &unknown) && isSpecName(unknown.Name):
		return advice("a spec is named with -f: genoci build -f %s", shellQuote(unknown.Name))
	case errors.As(err, &unknown) && unknown.Nearest == "":
		return advice("genoci plan lists the targets")
	case errors.Is(err, image.ErrNotImage), errors.Is(err, layout.ErrNoImage):
		return advice("genoci inspect shows what it is")
	case errors.Is(err, layer.ErrReserved):
		return advice("rename it, or leave it out").lookInto(err)
	case errors.Is(err, snapshot.ErrUnsupported):
		return advice("genoci doctor says what this machine lacks; --driver vfs works everywhere")
	case errors.Is(err, sandbox.ErrUnsupported):
		return advice("genoci doctor says what this machine lacks, and how to mend it")
	case errors.Is(err, beneath.ErrElsewhere):
		return advice("what deletes follows no symlink and crosses no mount: put the folder itself there again")
	case errors.Is(err, layer.ErrAnother):
		return advice("make one archive of both: tar -xif unpacks all that the file holds")
	case isInUse(err):
		return advice("try again when the builds that use it have ended")
	case linkNotFollowed(stepError(err)):
		return advice("hooks do not follow links of the image, which could lead to a file of the host: " +
			"name the real folder (%%ROOT%%/usr/bin, not %%ROOT%%/bin), use run, " +
			"or give $GENOCI_CHROOT to a program that changes its root to it").lookInto(err)
	case missesID(err) > 0:
		return idHint(missesID(err))
	case errors.As(err, &denied) && denied.Denied():
		return deniedHint(denied)
	case errors.Is(err, command.ErrQuestion):
		return advice("in `steps`, answer before the install: `run: echo \"PACKAGE NAME TYPE ANSWER\" | debconf-set-selections`, " +
			"or copy the file that the package looks for; build_env sets variables").lookInto(err)
	case heldFile(stepError(err)) != "":
		return advice("%[1]s is the sandbox's own while a command runs: it can be written to (cat new >%[1]s), not replaced or removed, "+
			"and what is written never reaches the layer; copy puts the image's own file there", heldFile(stepError(err))).lookInto(err)
	case errors.As(err, &exit) && exit.Code == 127:
		return advice("status 127 means that the image has no command of that name").lookInto(err)
	case errors.As(err, &exit) && sandbox.Rootless() && crossDevice(stepError(err)):
		return advice("as an ordinary user, commands cannot rename folders of the base with the driver overlay; --driver vfs can").lookInto(err)
	}
	return hint{}.lookInto(err)
}

// deniedHint says where user and password for a download come from.
func deniedHint(e *source.StatusError) hint {
	switch {
	case e.Moved:
		return advice("%s redirects to another server, which is sent no user and password: name its own URL, "+
			"for which there can be an entry in a netrc file", e.Host)
	case e.InURL:
		return advice("%s does not take the user and password that the URL has", e.Host)
	case e.Sent:
		return advice("%s does not take the user and password that %s has for it", e.Host, e.Netrc)
	case e.Netrc == "":
		return advice("set NETRC to a file with user and password for the host: there is no home folder for a .netrc")
	}
	return advice("user and password for %s are taken from %s, which has none (NETRC names another file): "+
		"machine %[1]s login USER password PASSWORD", e.Host, e.Netrc)
}

// missesID returns the highest id that an ordinary user would need for the owner of a file, and has
// not; 0 where err is another one.
func missesID(err error) int {
	var owner *layer.OwnerError
	if errors.As(err, &owner) && errors.Is(err, syscall.EINVAL) && sandbox.Rootless() {
		return max(owner.UID, owner.GID)
	}
	return 0
}

// idHint says how to get the subordinate id.
func idHint(id int) hint {
	have, command := sandbox.IDsFor(id)
	const other = `give the files another owner, as with expand: {src: ..., chown: "0:0"}`
	if command == "" {
		return advice(other)
	}
	return advice("the owner %d needs more subordinate ids than you have (ids up to %d): %s, as root; or %s", id, have-1, command, other)
}

// heldFile returns which file of the sandbox a step's command could not replace or remove, as its
// last output, or its text, tells; "" for none.
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

// crossDevice reports whether the last output of a step's command tells of the error EXDEV
// (rename(2)), in the words of libc or of node.js.
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
