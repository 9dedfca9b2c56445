package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// trace is what strace -c -f counted for a scenario.
type trace struct {
	ID, Command string
	Summary     string // as strace wrote it
}

// traceInput is what the scenarios that are traced work on.
const traceInput = "deb"

// trace counts the system calls of genoci in S3 and S6, in places as the scenarios have them.
func (s *suite) trace(ctx context.Context) ([]trace, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		s.say("system calls are not counted: %v", err)
		return nil, nil
	}
	s.places = map[placeKey]*place{}
	defer func() {
		for key := range s.places {
			s.drop(key)
		}
	}()
	var traces []trace
	for _, sc := range scenarios() {
		if sc.id != "S3 deb" && sc.id != "S6 S2" && sc.id != "S6 S4 deb" {
			continue
		}
		s.say("system calls of %s", sc.id)
		t, err := s.traceScenario(ctx, sc)
		if err != nil {
			return nil, fmt.Errorf("system calls of %s: %w", sc.id, err)
		}
		traces = append(traces, t)
	}
	return traces, nil
}

func (s *suite) traceScenario(ctx context.Context, sc scenario) (trace, error) {
	product := s.tools[0]
	p, err := s.place(ctx, product, sc.job, sc.input)
	if err != nil {
		return trace{}, err
	}
	// Once before, so that what is counted is not the first time.
	if _, err := p.do(ctx, sc.job); err != nil {
		return trace{}, err
	}
	w := product.jobs[sc.job]
	if !w.again {
		p.run++
		p.vars["n"] = fmt.Sprint(p.run)
	}
	line := w.timed[0]
	if err := p.measureLine(ctx, "strace -c -f -U calls,errors,name -S calls -o strace.out "+line, &sample{}); err != nil {
		return trace{}, err
	}
	summary, err := os.ReadFile(p.path("strace.out"))
	return trace{sc.id, p.expandVars(line), strings.TrimRight(string(summary), "\n")}, err
}
