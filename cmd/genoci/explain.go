package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"genoci/internal/build"
	"genoci/internal/plan"
	"genoci/internal/stepkey"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	spec specFlags
	step stepFlags
	json bool
}

func newExplain() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain [-f FILE] [TARGET...]",
		Short: "Show why build would carry out a step",
		Long: `Explain shows what build would do, as plan does, and why: what changed since
the last build of the spec, by file, by field and by line. It builds nothing.

Explain does not show the values of environment variables and arguments, since
they may be secrets.`,
		Example: `  genoci explain web
  genoci explain --json web | jq '.images[].steps[].reasons[]?.text'
  genoci build --why                   build, and say why at each step`,
		ValidArgsFunction: completeTargets(&f.spec),
		RunE: func(cmd *cobra.Command, targets []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), targets)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.spec.add(fs)
	f.step.add(fs)
	fs.BoolVar(&f.json, "json", false, "print JSON, with every difference")
	return cmd
}

func (f *explainFlags) run(ctx context.Context, w io.Writer, targets []string) error {
	p, err := f.spec.plan(targets)
	if err != nil {
		return err
	}
	b, err := f.step.builder(f.spec.layout)
	if err != nil {
		return err
	}
	if b.Layout != nil {
		defer b.Layout.Close()
	}
	all, err := b.Explain(ctx, p)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(w, newJSONExplanation(p, all))
	}
	printExplanation(w, p, all)
	return nil
}

// maxReasons is how many reasons of one action, and lines of one reason, people are shown.
const maxReasons = 20

// printExplanation prints the plan with the reasons below each step:
//
//	web (on debian)
//	  execute  copy src /src
//	           run make
//	    why    copy src /src: src/main.c changed (size 1200 -> 1210)
//	           run make: line 1 changed
//	             - make
//	             + make -j4
func printExplanation(w io.Writer, p *plan.Plan, all map[*plan.Step]build.Explanation) {
	for _, i := range p.Images {
		say(w, "%s (%s)\n", i, strings.Join(describe(i), ", "))
		for _, s := range i.Steps {
			printStep(w, s, all[s].Prospect)
			printReasons(w, all[s].Reasons)
		}
	}
}

func printReasons(w io.Writer, reasons []stepkey.Reason) {
	label, op, shown := "  why", "", 0
	for n, r := range reasons {
		if n > 0 && r.Op == op {
			shown++
		} else {
			op, shown = r.Op, 0
		}
		if shown == maxReasons {
			say(w, "  %-8s %s: and %d more\n", label, untabbed(op), sameOp(reasons[n:]))
		}
		if shown >= maxReasons {
			continue
		}
		say(w, "  %-8s %s\n", label, untabbed(r.String()))
		label = ""
		for i, line := range r.Lines {
			if i == maxReasons {
				say(w, "             and %d lines more\n", len(r.Lines)-i)
				break
			}
			say(w, "             %s\n", untabbed(line))
		}
	}
}

// sameOp returns how many of the first reasons concern one action.
func sameOp(reasons []stepkey.Reason) int {
	n := 0
	for n < len(reasons) && reasons[n].Op == reasons[0].Op {
		n++
	}
	return n
}

// jsonExplanation is what explain --json prints: the plan as plan --json has it, but for the
// inputs, with reasons. Names and meanings stay as they are; fields and kinds of reasons may come.
type jsonExplanation struct {
	File   string               `json:"file"`
	Images []jsonExplainedImage `json:"images"` // bases first
}

type jsonExplainedImage struct {
	Target string              `json:"target"`
	Base   string              `json:"base"` // as a spec writes it
	Steps  []jsonExplainedStep `json:"steps"`
}

type jsonExplainedStep struct {
	Name    string        `json:"name"`
	Outcome build.Outcome `json:"outcome"`
	Reasons []jsonReason  `json:"reasons,omitempty"` // why it is not cached; the most telling first
}

type jsonReason struct {
	Kind    stepkey.Kind `json:"kind"`
	Text    string       `json:"text"`              // the reason in a line
	Op      string       `json:"op,omitempty"`      // the action that it concerns, in a line
	Line    int          `json:"line,omitempty"`    // of the action in the spec, from 1
	Column  int          `json:"column,omitempty"`  //
	Path    string       `json:"path,omitempty"`    // of the file that changed
	Changes []jsonChange `json:"changes,omitempty"` // field by field
	Diff    []string     `json:"diff,omitempty"`    // of text and lists: "- " and what was, "+ " and what is
}

type jsonChange struct {
	Field string `json:"field"` // size, content, mode, link, type, path, ...
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

func newJSONExplanation(p *plan.Plan, all map[*plan.Step]build.Explanation) jsonExplanation {
	out := jsonExplanation{File: p.Spec.File, Images: []jsonExplainedImage{}}
	for _, i := range p.Images {
		img := jsonExplainedImage{Target: i.String(), Base: i.Base.String(), Steps: []jsonExplainedStep{}}
		for _, s := range i.Steps {
			step := jsonExplainedStep{Name: s.Name(), Outcome: all[s].Prospect.Outcome}
			for _, r := range all[s].Reasons {
				step.Reasons = append(step.Reasons, newJSONReason(r))
			}
			img.Steps = append(img.Steps, step)
		}
		out.Images = append(out.Images, img)
	}
	return out
}

func newJSONReason(r stepkey.Reason) jsonReason {
	out := jsonReason{Kind: r.Kind(), Text: r.String(), Op: r.Op, Line: r.Pos.Line, Column: r.Pos.Col, Path: r.Path, Diff: r.Lines}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, jsonChange(c))
	}
	return out
}
