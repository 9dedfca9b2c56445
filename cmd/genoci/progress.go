package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"genoci/internal/build"
	"genoci/internal/stepkey"
)

// Output rules, for all commands
//
//   - stdout holds results only: the images of ls, the plan of plan, the summary of build. With
//     --json, results are JSON, whose fields do not change their meaning; new ones may come.
//   - stderr holds everything else: progress, warnings, notes, errors, hints. A line that is not
//     progress begins with "error: ", "hint: ", "warning: " or "note: ", or with the position of an
//     error in a spec.
//   - What a step writes is shown without escape sequences and other control characters. Text of
//     others, as names are, has them written out: say.go.
//   - Raw bytes go to stdout only where a person asks for those: what a command writes that shell,
//     chroot and unshare run, and, where stdout is no terminal, the content that get copies and the
//     path that checkout prints.
//
// How build shows its progress, --progress:
//
//	tty    live lines: progress_tty.go
//	plain  a line for each event: progress_plain.go. On GitHub Actions in groups: progress_actions.go
//	json   a JSON object for each event, and for an error: progress_json.go
//	none   nothing but warnings and errors
//	auto   tty when stderr is a terminal, TERM is not "dumb" and CI is not set; else plain
//
// Colours are used by tty alone, and only if NO_COLOR (no-color.org) is not set.

// view shows the events of a build as they happen.
type view interface {
	// Report shows an event. Calls come one at a time.
	Report(build.Event)
	// Close ends the view: whatever it changed about the terminal is as before.
	Close()
}

// The values of --progress.
var progressModes = []string{"auto", "tty", "plain", "json", "none"}

// newView returns the view called mode, on stderr.
func newView(mode string) *oneAtATime {
	var v view
	switch resolveProgress(mode, os.Stderr) {
	case "tty":
		v = fitting{newTTYView(os.Stderr)}
	case "json":
		v = newJSONView(os.Stderr)
	case "none":
		v = fitting{quietView{os.Stderr}}
	default:
		v = fitting{newPlainView(os.Stderr)}
		if onActions() {
			v = fitting{newActionsView(os.Stderr)}
		}
	}
	return &oneAtATime{view: v}
}

// resolveProgress returns the mode that "auto" means on w.
func resolveProgress(mode string, w *os.File) string {
	if mode != "auto" {
		return mode
	}
	if term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("CI") == "" {
		return "tty"
	}
	return "plain"
}

// oneAtATime guards a view, since storage drivers warn while a build reports.
type oneAtATime struct {
	mu     sync.Mutex
	ending bool // the build was interrupted: what ends because of that is not told one by one
	view
}

func (o *oneAtATime) Report(e build.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending || e.Kind == build.Warning || e.Kind == build.ImageFailed {
		o.view.Report(e)
	}
}

// interrupted acknowledges Ctrl-C, since commands have a moment to end by themselves.
func (o *oneAtATime) interrupted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
	o.view.Report(build.Event{Kind: build.Warning, Text: "interrupted; ending what runs"})
}

// fitting makes the text of events fit for people, whose terminal or log it must not change, before
// a view has them.
type fitting struct{ view }

func (f fitting) Report(e build.Event) {
	e.Target, e.Step = inLine(e.Target), inLine(e.Step)
	if e.Kind == build.Output {
		e.Text = printable(e.Text)
	} else {
		e.Text = inLine(untabbed(e.Text))
	}
	f.view.Report(e)
}

// quietView shows warnings only.
type quietView struct{ w io.Writer }

func (q quietView) Close() {}
func (q quietView) Report(e build.Event) {
	if e.Kind == build.Warning {
		say(q.w, "warning: %s\n", warning(e))
	}
}

// warning returns the text of a Warning event.
func warning(e build.Event) string {
	if e.Target == "" {
		return e.Text
	}
	return e.Target + ": " + e.Text
}

// rewrittenLine says why an archive costs more than another one would.
func rewrittenLine(e build.Event) string { return "written anew, entry by entry: " + e.Text }

// whyLine says why a step is carried out.
func whyLine(e build.Event) string { return "why: " + stepkey.InALine(e.Why) }

// doneLine says how an image ended.
func doneLine(e build.Event) string {
	img, digest := e.Image, ""
	if img.Digest != "" {
		digest = ", " + short(img.Digest)
	}
	if img.Cached {
		return "cached" + digest
	}
	return fmt.Sprintf("built in %s%s, %s added", duration(img.Elapsed), digest, size(img.Added))
}

// failedLine says in short why an image failed: the position and the text of the whole error come
// at the end of the build.
func failedLine(e build.Event) string {
	var step *build.StepError
	if errors.As(e.Err, &step) {
		return "failed: " + written(step.Err.Error())
	}
	return "failed: " + written(e.Err.Error())
}

// skippedLine says why an image was not built, or not to its end.
func skippedLine(e build.Event) string {
	if e.Text == "" {
		return "stopped"
	}
	return fmt.Sprintf("skipped, since %s failed", e.Text)
}

// tail returns the last lines of output of the command whose failure e reports.
func tail(e build.Event) []string {
	var step *build.StepError
	if errors.As(e.Err, &step) {
		return step.Tail
	}
	return nil
}
