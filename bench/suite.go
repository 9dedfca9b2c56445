package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"
)

// suite runs scenarios.
type suite struct {
	scenarios []scenario
	tools     []*tool
	runs      int     // of each tool in each scenario
	slow      float64 // seconds: a tool that takes longer runs once, unless it is genoci or the limit of the scenario
	corpus    string  // folder of the inputs
	disk      string  // folder that places are made in
	bench     string  // this program
	say       func(format string, args ...any)

	places map[placeKey]*place
	made   int // places so far
}

// placeKey says which job a place was made for.
type placeKey struct {
	tool, input string
	job         job
}

// result is what a tool took for a scenario.
type result struct {
	Tool    string   `json:"tool"`
	Kind    kind     `json:"kind"`
	Samples []sample `json:"samples,omitempty"`
	Failed  string   `json:"failed,omitempty"` // why there are none, or not all
	Note    string   `json:"note,omitempty"`
	Part    bool     `json:"part,omitempty"` // does less than the others, and is not compared
}

// outcome is a scenario with the results of its tools.
type outcome struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Results []result  `json:"results"`
}

// run carries out all scenarios. An error is one of the suite itself; tools that fail are in their
// results.
func (s *suite) run(ctx context.Context, report func(outcome) error) error {
	s.places = map[placeKey]*place{}
	defer func() {
		for key := range s.places {
			s.drop(key)
		}
	}()
	// By input, so that what was made of one can be dropped before the next. No job goes on from
	// one on another input.
	order := inputs(s.scenarios)
	todo := slices.Clone(s.scenarios)
	slices.SortStableFunc(todo, func(a, b scenario) int {
		return slices.Index(order, a.input) - slices.Index(order, b.input)
	})
	for i, sc := range todo {
		s.say("%s: %s", sc.id, sc.text)
		o, err := s.runScenario(ctx, sc, todo[i+1:])
		if err != nil {
			return fmt.Errorf("%s: %w", sc.id, err)
		}
		if err := report(o); err != nil {
			return err
		}
		s.dropUnneeded(todo[i+1:])
		if s.disk == mountPoint {
			trim(s.disk)
		}
	}
	return nil
}

// runScenario lets the tools do a scenario's job in turns, and keeps the places that the scenarios
// to come go on in.
func (s *suite) runScenario(ctx context.Context, sc scenario, coming []scenario) (outcome, error) {
	o := outcome{ID: sc.id, Time: time.Now().UTC().Truncate(time.Second)}
	var tools []*tool
	for _, t := range s.tools {
		if w, ok := t.jobs[sc.job]; ok {
			tools = append(tools, t)
			o.Results = append(o.Results, result{Tool: t.name, Kind: t.kind, Note: w.note, Part: w.part})
		}
	}
	for n := range s.runs * quickRuns {
		for i, t := range tools {
			r := &o.Results[i]
			if n > 0 && !s.again(sc, *r, n) {
				continue
			}
			sample, err := s.runJob(ctx, t, sc, n == 0)
			if ctx.Err() != nil {
				return o, context.Cause(ctx)
			}
			s.dropUnneeded(append([]scenario{sc}, coming...))
			if err != nil {
				r.Failed = err.Error()
				s.say("  %-10s failed: %v", t.name, err)
				continue
			}
			r.Samples = append(r.Samples, sample)
			s.say("  %-10s %8.3f s, %8.3f s CPU, %4d MB", t.name, sample.Wall, sample.CPU, sample.Memory/1e6)
		}
	}
	return o, nil
}

// quick is the time, in seconds, below which a tool does a scenario quickRuns times as often, since
// short times vary more.
const (
	quick     = 0.5
	quickRuns = 3
)

// again reports whether a tool that has done a scenario is to do it in round n, too.
func (s *suite) again(sc scenario, r result, n int) bool {
	if r.Failed != "" {
		return false
	}
	first := r.Samples[0].Wall
	if first > s.slow && r.Kind != product && r.Tool != sc.atMost.tool {
		return false
	}
	return n < s.runs || first < quick
}

// runJob lets a tool do a job once.
func (s *suite) runJob(ctx context.Context, t *tool, sc scenario, first bool) (sample, error) {
	if missing := t.missing(); len(missing) > 0 {
		return sample{}, fmt.Errorf("not installed: %v", missing)
	}
	w := t.jobs[sc.job]
	p, err := s.place(ctx, t, sc.job, sc.input)
	if err != nil {
		return sample{}, err
	}
	got, err := p.do(ctx, sc.job)
	if err == nil && first && w.check != nil {
		if err = w.check(p); err != nil {
			err = fmt.Errorf("wrong result: %w", err)
		}
	}
	if err != nil {
		return sample{}, err
	}
	for _, line := range w.clean {
		if err := p.measureLine(ctx, line, &sample{}); err != nil {
			return sample{}, err
		}
	}
	return got, nil
}

// place returns where a tool can do a job next: a new place, or the one in which what the job goes
// on from was done.
func (s *suite) place(ctx context.Context, t *tool, j job, input string) (*place, error) {
	key := placeKey{t.name, input, t.root(j)}
	p := s.places[key]
	if p == nil || key.job == j {
		var err error
		if p, err = s.newPlace(ctx, key, t); err != nil {
			return nil, err
		}
	}
	return p, s.prepare(ctx, p, j)
}

// root returns the job that a job's place is made for.
func (t *tool) root(j job) job {
	for t.jobs[j].after != "" {
		j = t.jobs[j].after
	}
	return j
}

// prepare does, untimed, what a job needs that was not yet done in the place.
func (s *suite) prepare(ctx context.Context, p *place, j job) error {
	w := p.tool.jobs[j]
	if w.after != "" {
		if _, done := p.done[w.after]; !done {
			if err := s.prepare(ctx, p, w.after); err != nil {
				return err
			}
			if _, err := p.do(ctx, w.after); err != nil {
				return err
			}
		}
	}
	if _, done := p.done[j]; !done {
		for _, line := range w.setup {
			if err := p.measureLine(ctx, line, &sample{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// do does a job in a place that is prepared for it.
func (p *place) do(ctx context.Context, j job) (sample, error) {
	w := p.tool.jobs[j]
	p.run++
	n := p.run
	if w.again {
		n = p.done[w.after]
	}
	p.vars["n"] = strconv.Itoa(n)
	if err := p.quiet(); err != nil {
		return sample{}, err
	}
	got, err := p.measure(ctx, w.timed)
	if err != nil {
		return sample{}, err
	}
	if len(w.less) > 0 {
		less, err := p.measure(ctx, w.less)
		if err != nil {
			return sample{}, err
		}
		got.Wall -= less.Wall
		got.CPU -= less.CPU
	}
	got.Output = layoutSize(p.path("oci"))
	p.done[j] = n
	return got, nil
}

// quiet makes what is timed next start on a disk without unwritten data and with the input in the
// page cache. It also makes this program small: a process inherits the largest resident set of the
// one that starts it (setmax_mm_hiwater_rss in the kernel's exec_mmap).
func (p *place) quiet() error {
	debug.FreeOSMemory()
	// proc_pid_clear_refs(5): 5 resets the high-water mark.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return err
	}
	if err := settle(p.dir); err != nil {
		return err
	}
	inputs, err := filepath.Glob(filepath.Join(p.vars["corpus"], p.vars["in"]) + "*")
	for _, name := range inputs {
		err = errors.Join(err, warm(name))
	}
	return err
}

// layoutSize returns the bytes of all blobs of a layout; 0 where there is none.
func layoutSize(layout string) int64 {
	var size int64
	blobs, _ := filepath.Glob(filepath.Join(layout, "blobs", "*", "*"))
	for _, name := range blobs {
		if info, err := os.Stat(name); err == nil {
			size += info.Size()
		}
	}
	return size
}

// newPlace makes a place, in place of an older one of the same key.
func (s *suite) newPlace(ctx context.Context, key placeKey, t *tool) (*place, error) {
	s.drop(key)
	s.made++
	p := &place{tool: t, dir: filepath.Join(s.disk, strconv.Itoa(s.made)), done: map[job]int{}}
	p.vars = map[string]string{"corpus": s.corpus, "in": key.input, "n": "0", "dir": p.dir, "bench": s.bench}
	s.places[key] = p
	if err := p.write(); err != nil {
		return nil, err
	}
	return p, p.startDaemon(ctx)
}

// drop removes a place, if it is there.
func (s *suite) drop(key placeKey) {
	p := s.places[key]
	if p == nil {
		return
	}
	delete(s.places, key)
	p.daemon.stop()
	if err := removeAll(p.dir); err != nil {
		s.say("  %s", err)
	}
}

// dropUnneeded removes the places that none of the scenarios to come goes on in.
func (s *suite) dropUnneeded(coming []scenario) {
	for key, p := range s.places {
		needed := slices.ContainsFunc(coming, func(sc scenario) bool {
			w, ok := p.tool.jobs[sc.job]
			return ok && w.after != "" && sc.input == key.input && p.tool.root(sc.job) == key.job
		})
		if !needed {
			s.drop(key)
		}
	}
}

// median returns the middle of what of finds in the samples; the smaller one of two.
func (r result) median(of func(sample) float64) float64 {
	values := make([]float64, 0, len(r.Samples))
	for _, s := range r.Samples {
		values = append(values, of(s))
	}
	slices.SortFunc(values, cmp.Compare)
	if len(values) == 0 {
		return 0
	}
	return values[(len(values)-1)/2]
}

func wall(s sample) float64   { return s.Wall }
func cpu(s sample) float64    { return s.CPU }
func output(s sample) float64 { return float64(s.Output) }
