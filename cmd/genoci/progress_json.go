package main

import (
	"cmp"
	"encoding/json"
	"io"
	"time"

	"genoci/internal/build"
	"genoci/internal/stepkey"
)

// jsonEvent is a line of --progress json. Fields that do not fit an event, or are zero, are left
// out. Names and meanings stay as they are; fields and events may come, so readers skip what they
// do not know.
type jsonEvent struct {
	Time    time.Time     `json:"time"`              // RFC 3339
	Event   build.Kind    `json:"event"`             // as the constants of build.Kind, or "error": the last line of a build that failed
	Target  string        `json:"target,omitempty"`  //
	Step    string        `json:"step,omitempty"`    // TARGET, or TARGET#2 for the second of several layers
	Text    string        `json:"text,omitempty"`    // op-started: the op; step-started: why (--why); output: the line; progress: what; warning; image-skipped: the failed target
	File    string        `json:"file,omitempty"`    // of the spec, error only
	Line    int           `json:"line,omitempty"`    // in the spec, from 1
	Column  int           `json:"column,omitempty"`  //
	Done    int64         `json:"done,omitempty"`    // progress: bytes
	Total   int64         `json:"total,omitempty"`   // progress: bytes, left out when unknown; build-started: images
	Outcome build.Outcome `json:"outcome,omitempty"` // step-started, step-done: cached, compose or execute
	Added   int64         `json:"added,omitempty"`   // step-done: bytes of the new layer
	Seconds float64       `json:"seconds,omitempty"` // step-done, build-done: time taken
	Image   *jsonImage    `json:"image,omitempty"`   // image-done
	Error   string        `json:"error,omitempty"`   // image-failed, error
	Hint    string        `json:"hint,omitempty"`    // error: what to do
	Exit    int           `json:"exit,omitempty"`    // error: exit status of the command that failed
}

// jsonView shows each event as a line of JSON.
type jsonView struct{ enc *json.Encoder }

func newJSONView(w io.Writer) jsonView {
	return jsonView{newJSONEncoder(w)}
}

func (j jsonView) Close() {}

func (j jsonView) Report(e build.Event) {
	out := jsonEvent{
		Time: e.Time, Event: e.Kind, Target: e.Target, Step: e.Step, Text: cmp.Or(e.Text, stepkey.InALine(e.Why)), Line: e.Pos.Line, Column: e.Pos.Col,
		Done: e.Done, Total: e.Total, Outcome: e.Outcome, Added: e.Added, Seconds: e.Elapsed.Seconds(),
	}
	if e.Image != nil {
		img := newJSONImage(*e.Image)
		out.Image = &img
	}
	if e.Err != nil {
		out.Error = e.Err.Error()
	}
	_ = j.enc.Encode(out) // whoever reads the events may leave; the build goes on
}

// fail writes err as the last lines, one for each error that it is made of.
func (j jsonView) fail(err error) {
	for _, f := range newJSONFailures(err) {
		_ = j.enc.Encode(jsonEvent{
			Time: time.Now(), Event: "error", Target: f.Target, File: f.File, Line: f.Line, Column: f.Column,
			Error: f.Error, Hint: f.Hint, Exit: f.Exit,
		})
	}
}
