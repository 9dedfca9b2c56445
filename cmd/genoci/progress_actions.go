package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"

	"genoci/internal/build"
	"genoci/internal/spec"
)

// onActions reports whether the program runs in a job of GitHub Actions.
func onActions() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }

// actionsView shows the plain lines of each target in a group, which the log of a GitHub Actions
// job folds. Groups cannot overlap: the group of one target is open and shows its lines at once,
// the lines of others wait until it is closed.
//
// Commands of the runner that a step writes are not obeyed (::stop-commands::).
//
// Format: docs.github.com, "Workflow commands for GitHub Actions".
type actionsView struct {
	w      io.Writer
	stop   string // ends ::stop-commands::
	order  []*actionsGroup
	groups map[string]*actionsGroup
}

// actionsGroup holds a target's lines while its group is not open.
type actionsGroup struct {
	target string
	lines  strings.Builder
	plain  *plainView
	ended  bool
}

func newActionsView(w io.Writer) *actionsView {
	return &actionsView{w: w, stop: rand.Text(), groups: make(map[string]*actionsGroup)}
}

func (a *actionsView) Report(e build.Event) {
	if e.Target == "" {
		if e.Kind == build.Warning {
			say(a.w, "::warning::%s\n", actionsData(e.Text))
		}
		return
	}
	g := a.groups[e.Target]
	if g == nil {
		g = &actionsGroup{target: e.Target}
		g.plain = newPlainView(&g.lines)
		a.groups[e.Target] = g
		a.order = append(a.order, g)
		if len(a.order) == 1 {
			a.open(g)
		}
	}
	g.plain.Report(e)
	g.ended = e.Kind == build.ImageDone || e.Kind == build.ImageFailed || e.Kind == build.ImageSkipped
	a.flush()
}

// flush writes the lines of the open group, and closes it if its target has ended; and so on.
func (a *actionsView) flush() {
	for len(a.order) > 0 {
		g := a.order[0]
		fmt.Fprint(a.w, g.lines.String()) // of the plain view
		g.lines.Reset()
		if !g.ended {
			return
		}
		a.close(g)
		if len(a.order) > 0 {
			a.open(a.order[0])
		}
	}
}

func (a *actionsView) open(g *actionsGroup) {
	say(a.w, "::group::%s\n::stop-commands::%s\n", g.target, a.stop)
}

func (a *actionsView) close(g *actionsGroup) {
	say(a.w, "::%s::\n::endgroup::\n", a.stop)
	a.order = a.order[1:]
	delete(a.groups, g.target)
}

// Close writes what is left.
func (a *actionsView) Close() {
	for _, g := range a.order {
		g.ended = true
	}
	a.flush()
}

// annotate writes the commands that make GitHub show err beside the lines of the spec.
func annotate(w io.Writer, err error) {
	add := func(file string, pos spec.Pos, text string) {
		say(w, "::error file=%s,line=%d,col=%d::%s\n", actionsProperty(file), pos.Line, pos.Col, actionsData(text))
	}
	if step := stepError(err); step != nil {
		add(step.File, step.Pos, fmt.Sprintf("target %q: %s: %v", step.Target, step.Op, step.Err))
		return
	}
	list := specErrors(err)
	for _, e := range list {
		text := e.Msg
		if e.Target != "" {
			text = fmt.Sprintf("target %q: %s", e.Target, e.Msg)
		}
		add(e.File, e.Pos, text)
	}
	if len(list) == 0 {
		say(w, "::error::%s\n", actionsData(err.Error()))
	}
}

// actionsData escapes the text of a workflow command.
func actionsData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(writtenLines(s))
}

// actionsProperty escapes a property of a workflow command.
func actionsProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
