package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"genoci/internal/build"
	"genoci/internal/plan"
	"genoci/internal/spec"
)

// planFlags are the flags of plan.
type planFlags struct {
	spec      specFlags
	step      stepFlags
	json, dot bool
}

func newPlan() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [-f FILE] [TARGET...]",
		Short: "Show what build would do",
		Long: `Plan shows what build would do, in order, and does none of it. It lists the
images, their bases, and their steps with all actions. Each step makes one
layer. For each step it says how build would carry it out:

  cached   an earlier build made the layer
  compose  put together as an archive; needs no privileges
  execute  run in a root filesystem

For an expand, it also says whether the archive becomes the layer unchanged,
and otherwise why it must be rewritten.`,
		Example: `  genoci plan
  genoci plan web
  genoci plan --json | jq '.images[].steps[].outcome'
  genoci plan --dot | dot -Tsvg >plan.svg`,
		ValidArgsFunction: completeTargets(&f.spec),
		RunE: func(cmd *cobra.Command, targets []string) error {
			if f.json && f.dot {
				return usagef("plan: --json and --dot exclude each other")
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), targets)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.spec.add(fs)
	f.step.add(fs)
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.BoolVar(&f.dot, "dot", false, "print a graph for Graphviz")
	return withSpareCache(cmd, &f.step.cacheDir)
}

func (f *planFlags) run(ctx context.Context, w io.Writer, targets []string) error {
	p, err := f.spec.plan(targets)
	if err != nil {
		return err
	}
	if f.dot {
		printDot(w, p)
		return nil
	}
	fc, err := f.forecast(ctx, p)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(w, newJSONPlan(p, fc))
	}
	printPlan(w, p, fc)
	return nil
}

// forecast says how build would carry out each step of p.
func (f *planFlags) forecast(ctx context.Context, p *plan.Plan) (map[*plan.Step]build.Prospect, error) {
	b, err := f.step.builder(f.spec.layout)
	if err != nil {
		return nil, err
	}
	if b.Layout != nil {
		defer b.Layout.Close()
	}
	prospects, _, err := b.Forecast(ctx, p)
	return prospects, err
}

// stepOps returns all that runs in s, hooks too, in order.
func stepOps(s *plan.Step) []spec.Action {
	var ops []spec.Action
	for _, h := range s.Pre {
		ops = append(ops, spec.Action{Op: h, Pos: h.Pos})
	}
	ops = append(ops, s.Ops...)
	for _, h := range s.Post {
		ops = append(ops, spec.Action{Op: h, Pos: h.Pos})
	}
	return ops
}

func printPlan(w io.Writer, p *plan.Plan, prospects map[*plan.Step]build.Prospect) {
	for _, i := range p.Images {
		say(w, "%s (%s)\n", i, strings.Join(describe(i), ", "))
		for _, s := range i.Steps {
			printStep(w, s, prospects[s])
		}
	}
}

// printStep prints what runs in a step, after how it is carried out.
func printStep(w io.Writer, s *plan.Step, prospect build.Prospect) {
	label := string(prospect.Outcome)
	for _, op := range stepOps(s) {
		how := prospect.Archive(s, op).String()
		if how != "" {
			how = " (" + how + ")"
		}
		say(w, "  %-8s %s%s\n", label, op.Op, how)
		label = ""
	}
}

// describe says what an image stands on, and what else is special about it.
func describe(i *plan.Image) []string {
	about := []string{"on " + i.Base.String()}
	for _, from := range i.From {
		about = append(about, "copies from "+from.String())
	}
	if len(i.Steps) == 0 {
		about = append(about, "config only")
	}
	if i.Target.BuildOnly {
		about = append(about, "build only")
	}
	return about
}

// jsonPlan is what plan --json prints. Names and meanings stay as they are; fields may come.
type jsonPlan struct {
	File   string          `json:"file"`
	Images []jsonPlanImage `json:"images"` // bases first
}

type jsonPlanImage struct {
	Target    string         `json:"target"`
	Base      string         `json:"base"`           // as a spec writes it
	From      []string       `json:"from,omitempty"` // other targets that it copies from
	BuildOnly bool           `json:"buildOnly,omitempty"`
	Steps     []jsonPlanStep `json:"steps"` // each makes a layer
}

type jsonPlanStep struct {
	Name    string        `json:"name"`
	Outcome build.Outcome `json:"outcome"`
	Ops     []jsonPlanOp  `json:"ops"`
}

type jsonPlanOp struct {
	Text    string   `json:"text"`              // the op in a line
	Inputs  []string `json:"inputs,omitempty"`  // what it reads: paths, globs, URLs
	Archive string   `json:"archive,omitempty"` // what becomes of the archive of an expand
	Line    int      `json:"line"`
	Column  int      `json:"column"`
}

func newJSONPlan(p *plan.Plan, prospects map[*plan.Step]build.Prospect) jsonPlan {
	out := jsonPlan{File: p.Spec.File, Images: []jsonPlanImage{}}
	for _, i := range p.Images {
		img := jsonPlanImage{
			Target: i.String(), Base: i.Base.String(), BuildOnly: i.Target.BuildOnly, Steps: []jsonPlanStep{},
		}
		for _, from := range i.From {
			img.From = append(img.From, from.String())
		}
		for _, s := range i.Steps {
			step := jsonPlanStep{Name: s.Name(), Outcome: prospects[s].Outcome}
			for _, op := range stepOps(s) {
				step.Ops = append(step.Ops, jsonPlanOp{op.Op.String(), spec.ShownInputs(op.Op), prospects[s].Archive(s, op).String(), op.Pos.Line, op.Pos.Col})
			}
			img.Steps = append(img.Steps, step)
		}
		out.Images = append(out.Images, img)
	}
	return out
}

// printDot prints p in the language of Graphviz: an arrow leads from what is needed to what needs
// it, a dashed one where files are copied.
func printDot(w io.Writer, p *plan.Plan) {
	say(w, "digraph genoci {\n  rankdir=LR\n  node [shape=box]\n")
	foreign := make(map[string]bool)
	for _, i := range p.Images {
		style := ""
		if i.Target.BuildOnly {
			style = " [style=dashed]"
		}
		say(w, "  %q%s\n", i.String(), style)
		if base := i.Base.String(); i.Base.Kind == plan.Tag || i.Base.Kind == plan.OCI {
			if !foreign[base] {
				say(w, "  %q [shape=ellipse]\n", base)
			}
			foreign[base] = true
		}
	}
	for _, i := range p.Images {
		if i.Base.Kind != plan.Empty {
			say(w, "  %q -> %q\n", i.Base.String(), i.String())
		}
		for _, from := range i.From {
			say(w, "  %q -> %q [style=dashed]\n", from.String(), i.String())
		}
	}
	say(w, "}\n")
}
