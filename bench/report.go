package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

// report is all that was measured, as it stands in results.json.
type report struct {
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"` // by tool
	Outcomes []outcome         `json:"outcomes"`
	Traces   []trace           `json:"traces"`
	Growth   []growth          `json:"growth"`
	Drivers  []driverResult    `json:"drivers"`
}

// readReport reads a report; one that is not there is empty.
func readReport(name string) (*report, error) {
	r := &report{Versions: map[string]string{}}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || name == "" {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// write replaces the report in a file; without a name it does nothing.
func (r *report) write(name string) error {
	if name == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

// add puts an outcome in the place of an older one of the same scenario.
func (r *report) add(o outcome) {
	i := slices.IndexFunc(r.Outcomes, func(old outcome) bool { return old.ID == o.ID })
	if i < 0 {
		r.Outcomes = append(r.Outcomes, o)
		return
	}
	r.Outcomes[i] = o
}

// addDrivers puts results in the places of older ones of the same storages at the same sizes.
func (r *report) addDrivers(all []driverResult) {
	for _, d := range all {
		i := slices.IndexFunc(r.Drivers, func(old driverResult) bool { return old.Storage == d.Storage && old.Files == d.Files })
		if i < 0 {
			r.Drivers = append(r.Drivers, d)
			continue
		}
		r.Drivers[i] = d
	}
}

// addVersions asks the tools what they are.
func (r *report) addVersions(ctx context.Context, tools []*tool) {
	for _, t := range tools {
		p := place{tool: t, dir: "/"}
		if t.version == "" || len(t.missing()) > 0 {
			continue
		}
		if out, err := p.command(ctx, t.version).Output(); err == nil {
			r.Versions[t.name] = firstLine(string(out))
		}
	}
}

// verdict is a scenario's outcome, judged.
type verdict struct {
	scenario
	Time                 time.Time
	Results              []result
	Own, Limit, Best     float64 // seconds; 0: not known
	LimitText, BestName  string
	AtMost, Near, Target float64 // what Own may be; what Own may be for the other scenario's sake; factor that Ahead has to reach
	Ahead                float64
}

// verdicts judges all outcomes, in the order of the scenarios.
func (r *report) verdicts() []verdict {
	var all []verdict
	for _, sc := range scenarios() {
		i := slices.IndexFunc(r.Outcomes, func(o outcome) bool { return o.ID == sc.id })
		if i >= 0 {
			all = append(all, r.judge(sc, r.Outcomes[i]))
		}
	}
	return all
}

func (r *report) judge(sc scenario, o outcome) verdict {
	v := verdict{scenario: sc, Time: o.Time, Results: o.Results, Target: sc.ahead}
	for _, res := range o.Results {
		took := res.median(wall)
		switch {
		case took == 0:
		case res.Kind == product:
			v.Own = took
		case res.Kind == peer && !res.Part && (v.Best == 0 || took < v.Best):
			v.Best, v.BestName = took, res.Tool
		case res.Tool == sc.atMost.tool:
			v.Limit = took
		}
	}
	if v.LimitText = sc.atMost.text; sc.atMost.seconds > 0 {
		v.AtMost = sc.atMost.seconds
	} else {
		v.AtMost = sc.atMost.factor * v.Limit
	}
	if sc.near.scenario != "" {
		v.Near = sc.near.factor * r.own(sc.near.scenario)
	}
	if v.Own > 0 {
		v.Ahead = v.Best / v.Own
	}
	return v
}

// own returns what genoci took for a scenario; 0 when that is not known.
func (r *report) own(id string) float64 {
	for _, o := range r.Outcomes {
		for _, res := range o.Results {
			if o.ID == id && res.Kind == product {
				return res.median(wall)
			}
		}
	}
	return 0
}

// ID and Text are the scenario's.
func (v verdict) ID() string { return v.id }

// Text says what the scenario is.
func (v verdict) Text() string { return v.text }

// Wanted says what the time may be, and whether it is.
func (v verdict) Wanted() string {
	var parts []string
	if v.atMost.seconds > 0 {
		parts = append(parts, fmt.Sprintf("%s %s", seconds(v.atMost.seconds), mark(v.Own <= v.AtMost)))
	} else if v.Limit > 0 {
		parts = append(parts, fmt.Sprintf("%.2g × %s = %s %s", v.atMost.factor, seconds(v.Limit), seconds(v.AtMost), mark(v.Own <= v.AtMost)))
	}
	if v.Near > 0 {
		parts = append(parts, fmt.Sprintf("%.2g × %s %s", v.near.factor, v.near.scenario, mark(v.Own <= v.Near)))
	}
	return strings.Join(parts, "; ")
}

// Lead says how far ahead of the best peer genoci is, and whether that is enough.
func (v verdict) Lead() string {
	if v.Best == 0 || v.Own == 0 {
		return "–"
	}
	if v.Target == 0 {
		return fmt.Sprintf("%.1f ×", v.Ahead)
	}
	return fmt.Sprintf("%.1f × of %g × %s", v.Ahead, v.Target, mark(v.Ahead >= v.Target))
}

// OfLimit says how the time stands to the limit.
func (v verdict) OfLimit() string {
	if v.Limit == 0 || v.Own == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", v.Own/v.Limit)
}

// BestPeer names the fastest peer.
func (v verdict) BestPeer() string {
	if v.Best == 0 {
		return "–"
	}
	return v.BestName + " " + seconds(v.Best)
}

// Name and About are the tool's.
func (t *tool) Name() string { return t.name }

// About says what it is, in a line.
func (t *tool) About() string { return strings.ReplaceAll(t.about, "|", `\|`) }

// Title, Unit and About are the curve's.
func (c curve) Title() string { return c.title }

// Unit is what sizes count.
func (c curve) Unit() string { return c.unit }

// About says how the time is to grow.
func (c curve) About() string { return c.about }

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

// seconds writes a time with three digits.
func seconds(s float64) string {
	switch {
	case s == 0:
		return "–"
	case s < 0.01:
		return fmt.Sprintf("%.1f ms", s*1000)
	case s < 0.9995:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}

// megabytes writes a size.
func megabytes(n int64) string {
	switch {
	case n == 0:
		return "–"
	case n < 10e6:
		return fmt.Sprintf("%.1f", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0f", float64(n)/1e6)
}

// Row writes a result as cells of a table: median, smallest and largest time, CPU time, memory,
// size, and what there is to say.
func (r result) Row() string {
	if len(r.Samples) == 0 {
		return fmt.Sprintf("failed | | | | | %s", strings.ReplaceAll(r.Failed, "|", "¦"))
	}
	least, most, memory := r.Samples[0].Wall, r.Samples[0].Wall, int64(0)
	for _, s := range r.Samples {
		least, most, memory = min(least, s.Wall), max(most, s.Wall), max(memory, s.Memory)
	}
	spread := "once"
	if len(r.Samples) > 1 {
		spread = seconds(least) + " – " + seconds(most)
	}
	note := r.Note
	if r.Failed != "" {
		note = strings.Join([]string{note, "a later run failed: " + strings.ReplaceAll(r.Failed, "|", "¦")}, " ")
	}
	return fmt.Sprintf("%s | %s | %s | %s | %s | %s", seconds(r.median(wall)), spread, seconds(r.median(cpu)),
		megabytes(memory), megabytes(int64(r.median(output))), strings.TrimSpace(note))
}

// PeakMemory is the largest resident set of any process of genoci in all scenarios, in bytes, and
// where it was.
func (r *report) PeakMemory() (peak struct {
	Bytes    int64
	Scenario string
}) {
	for _, o := range r.Outcomes {
		for _, res := range o.Results {
			for _, s := range res.Samples {
				if res.Kind == product && s.Memory > peak.Bytes {
					peak.Bytes, peak.Scenario = s.Memory, o.ID
				}
			}
		}
	}
	return peak
}

// Dates says when the scenarios were begun: the first one, and the last.
func (r *report) Dates() string {
	if len(r.Outcomes) == 0 {
		return "no day yet"
	}
	byTime := func(a, b outcome) int { return a.Time.Compare(b.Time) }
	first, last := slices.MinFunc(r.Outcomes, byTime).Time, slices.MaxFunc(r.Outcomes, byTime).Time
	return first.Format("2006-01-02 15:04") + " to " + last.Format("2006-01-02 15:04 UTC")
}

//go:embed benchmarks.md.tmpl
var docsTemplate string

//go:embed table.md.tmpl
var tableTemplate string

// table writes the two tables of the scenarios.
func (r *report) table(w io.Writer) error { return r.execute(w, tableTemplate) }

// docs writes benchmarks.md and the pictures into a folder.
func (r *report) docs(folder string) error {
	pictures := map[string]string{"benchmarks.svg": chart(r.verdicts())}
	for _, g := range r.Growth {
		pictures["growth-"+g.Name+".svg"] = plot(g.Curve(), g)
	}
	for name, text := range pictures {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	var text strings.Builder
	if err := r.execute(&text, docsTemplate); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "benchmarks.md"), []byte(text.String()), 0o644)
}

func (r *report) execute(w io.Writer, text string) error {
	functions := template.FuncMap{
		"table": func() (string, error) {
			var b strings.Builder
			err := r.table(&b)
			return b.String(), err
		},
		"verdicts":  r.verdicts,
		"tools":     tools,
		"seconds":   seconds,
		"grouped":   grouped,
		"megabytes": megabytes,
		"mark":      mark,
		"maxMemory": func() int64 { return maxMemory },
	}
	t, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

// Curve returns what a growth was measured for.
func (g growth) Curve() curve {
	all := curves()
	return all[slices.IndexFunc(all, func(c curve) bool { return c.name == g.Name })]
}
