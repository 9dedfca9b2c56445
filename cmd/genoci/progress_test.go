package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"genoci/internal/build"
	"genoci/internal/spec"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// at returns an event of target that came seconds after the epoch.
func at(seconds float64, kind build.Kind, target string, fill ...func(*build.Event)) build.Event {
	e := build.Event{Time: epoch.Add(time.Duration(seconds * float64(time.Second))), Kind: kind, Target: target}
	for _, f := range fill {
		f(&e)
	}
	return e
}

func text(s string) func(*build.Event)      { return func(e *build.Event) { e.Text = s } }
func total(n int64) func(*build.Event)      { return func(e *build.Event) { e.Total = n } }
func bytesOf(d, t int64) func(*build.Event) { return func(e *build.Event) { e.Done, e.Total = d, t } }
func failure(lines ...string) func(*build.Event) {
	return func(e *build.Event) {
		e.Err = &build.StepError{
			Target: e.Target, File: "genoci.yaml", Pos: spec.Pos{Line: 3, Col: 8}, Op: "run make",
			Tail: lines, Err: errors.New("exit status 2"),
		}
	}
}

func img(cached bool) func(*build.Event) {
	return func(e *build.Event) {
		e.Image = &build.ImageResult{
			Target: e.Target, Digest: "sha256:0123456789abcdef", Added: 60_458_723, Cached: cached, Elapsed: 4100 * time.Millisecond,
		}
	}
}

// story is a build in which something of every kind happens.
func story() []build.Event {
	return []build.Event{
		at(0, build.BuildStarted, "", total(4)),
		at(0, build.ImageStarted, "debian"),
		at(0, build.OpStarted, "debian", text("expand deb.tar.gz")),
		at(0, build.ImageStarted, "api"),
		at(1, build.Progress, "debian", text("expand"), bytesOf(31_200_000, 60_500_000)),
		at(1, build.OpStarted, "api", text("run make")),
		at(2, build.Output, "api", text("cc -c a.c")),
		at(2, build.Warning, "debian", text("run/x.sock: a socket; left out")),
		at(2, build.Output, "api", text("\x1b[31mcc: error\x1b[m\rcc: failed\x1b[2J")),
		at(3, build.ImageDone, "debian", img(false)),
		at(3, build.Output, "api", text("make: *** 1")),
		at(4, build.ImageFailed, "api", failure("cc -c a.c", "cc: failed", "make: *** 1")),
		at(4, build.ImageSkipped, "web", text("api")),
		at(4, build.ImageDone, "conf", img(true)),
		at(5, build.BuildDone, ""),
	}
}

func TestPlainView(t *testing.T) {
	var out bytes.Buffer
	v := newPlainView(&out)
	for _, e := range story() {
		v.Report(e)
	}
	want := `debian: expand deb.tar.gz
api: run make
api | cc -c a.c
warning: debian: run/x.sock: a socket; left out
api | cc: failed
debian: built in 4.1s, sha256:0123456789ab, 60.5 MB added
api | make: *** 1
api: last lines of the output:
api | cc -c a.c
api | cc: failed
api | make: *** 1
api: failed: exit status 2
web: skipped, since api failed
conf: cached, sha256:0123456789ab
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestInterruptedView: Ctrl-C is acknowledged at once, and what ends because of it is not told.
func TestInterruptedView(t *testing.T) {
	var out bytes.Buffer
	v := &oneAtATime{view: newPlainView(&out)}
	v.Report(build.Event{Kind: build.OpStarted, Target: "web", Text: "run make"})
	v.interrupted()
	v.Report(build.Event{Kind: build.Output, Target: "web", Text: "make: terminated"})
	v.Report(build.Event{Kind: build.ImageSkipped, Target: "web"})
	v.Report(build.Event{Kind: build.ImageFailed, Target: "api", Err: errors.New("umount: busy")})
	want := "web: run make\nwarning: interrupted; ending what runs\napi: failed: umount: busy\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestActionsView shows that groups do not overlap: api's lines wait until debian has ended.
func TestActionsView(t *testing.T) {
	var out bytes.Buffer
	v := newActionsView(&out)
	v.stop = "TOKEN"
	for _, e := range story() {
		v.Report(e)
	}
	v.Close()
	want := `::group::debian
::stop-commands::TOKEN
debian: expand deb.tar.gz
warning: debian: run/x.sock: a socket; left out
debian: built in 4.1s, sha256:0123456789ab, 60.5 MB added
::TOKEN::
::endgroup::
::group::api
::stop-commands::TOKEN
api: run make
api | cc -c a.c
api | cc: failed
api | make: *** 1
api: failed: exit status 2
::TOKEN::
::endgroup::
::group::web
::stop-commands::TOKEN
web: skipped, since api failed
::TOKEN::
::endgroup::
::group::conf
::stop-commands::TOKEN
conf: cached, sha256:0123456789ab
::TOKEN::
::endgroup::
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLiveLines(t *testing.T) {
	var l liveLines
	var stay []string
	for _, e := range story()[:9] {
		stay = append(stay, l.take(e)...)
	}
	now := epoch.Add(3 * time.Second)
	tests := []struct {
		name          string
		width, height int
		want          string
	}{
		{"wide", 80, 24, `
building: 0 of 4 images                                                    3.0s
 debian  expand deb.tar.gz               expand [#####.....] 31.2/60.5 MB  3.0s
 api     run make                                                          3.0s
         | cc: failed
`},
		{"narrow", 24, 24, `
building: 0 of 4>  3.0s
 debian  expand deb.ta>
 api     run make  3.0s
         | cc: failed
`},
		{"low", 80, 4, `
building: 0 of 4 images                                                    3.0s
 debian  expand deb.tar.gz               expand [#####.....] 31.2/60.5 MB  3.0s
 and 1 more
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := "\n" + strings.Join(l.render(now, tt.width, tt.height), "\n") + "\n"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			for _, line := range strings.Split(got, "\n") {
				if len([]rune(line)) >= tt.width {
					t.Errorf("%q does not fit", line)
				}
			}
		})
	}

	for _, e := range story()[9:] {
		stay = append(stay, l.take(e)...)
	}
	want := []string{
		"warning: debian: run/x.sock: a socket; left out",
		"debian  built in 4.1s, sha256:0123456789ab, 60.5 MB added",
		"api  failed: exit status 2",
		"  | cc -c a.c", "  | cc: failed", "  | make: *** 1",
		"web  skipped, since api failed",
		"conf  cached, sha256:0123456789ab",
	}
	if diff := cmp.Diff(want, stay); diff != "" {
		t.Error(diff)
	}
	if len(l.running) > 0 || l.ended != 4 {
		t.Errorf("after the end: %d running, %d ended", len(l.running), l.ended)
	}
}

func TestRows(t *testing.T) {
	widths := []int{10, 80, 0, 79}
	for width, want := range map[int]int{80: 4, 100: 4, 79: 5, 40: 6} {
		if got := rows(widths, width); got != want {
			t.Errorf("rows at width %d: %d, want %d", width, got, want)
		}
	}
}
