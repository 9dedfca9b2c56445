package main

import (
	"io"

	"genoci/internal/build"
)

// plainView shows a line for each event, and each line of output, after the target's name:
//
//	web: run apt-get update
//	web | Get:1 http://deb.debian.org/debian bookworm InRelease
//	web: built in 12.4s, sha256:6c3c624b58db, 31.2 MB added
//
// Several targets are told apart by their names only, so after a failure the last lines of the
// failed command are shown once more, unless they are the last lines that were printed.
type plainView struct {
	w io.Writer

	speaker string // whose output was printed last
	lines   int    // how many lines of it, without a break
}

func newPlainView(w io.Writer) *plainView { return &plainView{w: w} }

func (p *plainView) Close() {}

func (p *plainView) Report(e build.Event) {
	if e.Kind == build.Output {
		if p.speaker != e.Target {
			p.speaker, p.lines = e.Target, 0
		}
		p.lines++
		say(p.w, "%s | %s\n", e.Target, newOutputLine(e.Text))
		return
	}
	text := plainLine(e)
	if text == "" {
		return
	}
	if lines := tail(e); len(lines) > 0 && e.Kind == build.ImageFailed && (p.speaker != e.Target || p.lines < len(lines)) {
		say(p.w, "%s: last lines of the output:\n", e.Target)
		for _, line := range lines {
			say(p.w, "%s | %s\n", e.Target, newOutputLine(line))
		}
	}
	sayLines(p.w, text)
	p.speaker = ""
}

// plainLine returns the line that stands for an event other than output, "" for none.
func plainLine(e build.Event) string {
	switch e.Kind {
	case build.StepStarted:
		if len(e.Why) > 0 {
			return e.Step + ": " + whyLine(e)
		}
	case build.OpStarted:
		return e.Target + ": " + e.Text
	case build.Warning:
		return "warning: " + warning(e)
	case build.Rewritten:
		return e.Target + ": " + rewrittenLine(e)
	case build.ImageDone:
		return e.Target + ": " + doneLine(e)
	case build.ImageFailed:
		return e.Target + ": " + failedLine(e)
	case build.ImageSkipped:
		return e.Target + ": " + skippedLine(e)
	}
	return ""
}
