package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"genoci/internal/build"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/plan"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// stepFlags are the flags that decide how steps are carried out: build has them, and plan, which
// foretells build.
type stepFlags struct {
	cacheDir     string
	noCache      bool
	noHooks      bool
	compression  string
	reproducible bool
	busybox      string
}

func (s *stepFlags) add(fs *pflag.FlagSet) {
	cacheDirVar(fs, &s.cacheDir)
	fs.BoolVar(&s.noCache, "no-cache", false, "carry out every step")
	fs.BoolVar(&s.noHooks, "no-hooks", false, "refuse specs with hooks (pre, post), which run on the host")
	choiceVar(fs, &s.compression, "compression", "of new layers; auto is gzip, and archives that are layers as they are stay gzip or zstd",
		"auto", "gzip", "zstd", "none")
	fs.BoolVar(&s.reproducible, "reproducible", true, "give files that steps make the time of the build's epoch; =false keeps real times")
	busyboxVar(fs, &s.busybox)
}

// buildFlags are the flags of build.
type buildFlags struct {
	spec      specFlags
	step      stepFlags
	storage   storageFlags
	jobs      count
	keepGoing bool
	shell     bool
	why       bool
	progress  string
	json      bool
}

func newBuild() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [-f FILE] [TARGET...]",
		Short: "Build images from a spec",
		Long: `Build builds the given targets, and the targets that they need. Without a
TARGET, it builds all targets of the spec.

Each image gets the tag NAME and a dated tag, NAME-YYYY-MM-DD_N. All tags move
together at the end. If the build fails, no tag moves; with --keep-going, the
tags of images that do not depend on the failure move. If no input of a step
changed, its result comes from the cache.

Steps that only unpack, copy or remove are put together as archives. Steps that
run a command need a root filesystem, in a namespace. For an ordinary user,
that needs ranges in /etc/subuid and /etc/subgid.

If a command fails, its tree is kept as TARGET@failed, for genoci shell. With
--shell-on-failure, a shell opens there at once: after other steps were stopped
or, with --keep-going, are finished. After the shell, the build ends as usual.

SOURCE_DATE_EPOCH sets the time of the build. The summary goes to stdout;
--json prints it as JSON.`,
		Example: `  genoci build                         all targets of genoci.yaml
  genoci build -f web.yaml api         one target, and what it stands on
  genoci build --arg VERSION=1.2       with a value for ${{VERSION}}
  genoci build --why                   and say why a step is carried out again
  genoci build --shell-on-failure      and open a shell where a step fails
  genoci build --layout /srv/images --compression zstd
  genoci build --progress json 2>events.json --json >result.json`,
		ValidArgsFunction: completeTargets(&f.spec),
		RunE: func(cmd *cobra.Command, targets []string) error {
			if f.shell && !onTerminal(true) {
				return withHint(usagef("--shell-on-failure: stdin and stdout are not a terminal"), "without it, genoci shell TARGET@failed opens one later")
			}
			defer f.storage.flushed()
			res, err := f.run(cmd.Context(), targets)
			err = f.finish(cmd, res, f.hintThere(cmd, err))
			if f.shell && cmd.Context().Err() == nil {
				return f.shellAfter(cmd, err)
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.spec.add(fs)
	f.storage.addDriver(fs)
	f.storage.addHidden(fs)
	fs.Var(&f.jobs, "jobs", "images to build at once (default: four for each processor)")
	f.step.add(fs)
	fs.BoolVar(&f.keepGoing, "keep-going", false, "after a failure, build what does not depend on it")
	fs.BoolVar(&f.shell, "shell-on-failure", false, "open a shell in the failed step's tree")
	fs.BoolVar(&f.why, "why", false, "say why a step is not taken from the cache")
	choiceVar(fs, &f.progress, "progress", "how progress is shown on stderr", progressModes...)
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

func (f *buildFlags) run(ctx context.Context, targets []string) (*build.Result, error) {
	p, err := f.spec.plan(targets)
	if err != nil {
		return nil, err
	}
	if executes(p) {
		res, err := f.build(ctx, p) // what a step leaves that fails is to be found in the cache folder
		return res, hintWritable(err, f.step.cacheDir)
	}
	var res *build.Result
	err = sparingly(os.Stderr, &f.step.cacheDir, func() (err error) {
		res, err = f.build(ctx, p)
		return err
	})
	return res, err
}

// executes reports whether a step of the plan runs something.
func executes(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Images, func(i *plan.Image) bool {
		return slices.ContainsFunc(i.Steps, (*plan.Step).Executes)
	})
}

// build carries out a plan.
func (f *buildFlags) build(ctx context.Context, p *plan.Plan) (*build.Result, error) {
	b, err := f.step.builder(f.spec.layout)
	if err != nil {
		return nil, err
	}
	var v *oneAtATime // from when the process is where it builds
	report := func(e build.Event) {
		if v != nil {
			v.Report(e)
		}
	}
	f.storage.config.CacheDir = f.step.cacheDir
	if err := f.storage.resolve(); err != nil {
		return nil, err
	}
	b.Report, b.Driver = report, f.opener(report)
	b.Jobs, b.KeepGoing, b.Why = int(f.jobs), f.keepGoing, f.why
	release, err := b.Cache.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if b.Layout != nil {
		// From before the first look, so that what is found stays.
		if err := b.Layout.Use(ctx); err != nil {
			return nil, err
		}
	}
	leave := func() {
		release()
		if b.Layout != nil {
			b.Layout.Close()
		}
	}
	if err := enterFor(ctx, b, p, leave); err != nil {
		return nil, err
	}
	if b.Layout == nil {
		if b.Layout, err = layout.Create(f.spec.layout); err != nil {
			return nil, err
		}
	}
	defer b.Layout.Close()
	v = newView(f.progress)
	defer v.Close()
	defer context.AfterFunc(ctx, v.interrupted)()
	return b.Build(ctx, p)
}

// opener returns the func that opens the storage driver, which reports why earlier ones do not
// work.
func (f *buildFlags) opener(report func(build.Event)) func() (snapshot.Driver, error) {
	return func() (snapshot.Driver, error) {
		opened, err := f.storage.drivers.Open()
		if err != nil {
			return nil, err
		}
		for _, text := range passedOver(opened) {
			report(build.Event{Time: time.Now(), Kind: build.Warning, Text: text})
		}
		return opened.Driver, nil
	}
}

// builder returns a Builder that does as the flags say. Its layout is nil where there is none in
// dir yet; what only building needs is not set.
func (s *stepFlags) builder(dir string) (*build.Builder, error) {
	epoch, err := sourceEpoch()
	if err != nil {
		return nil, err
	}
	var compression layer.Compression
	if s.compression != "auto" {
		if compression, err = layer.CompressionByName(s.compression); err != nil {
			return nil, err
		}
	}
	c, err := openCache(s.cacheDir)
	if err != nil {
		return nil, err
	}
	l, err := layout.Open(dir)
	if errors.Is(err, layout.ErrNotExist) {
		l = nil
	} else if err != nil {
		return nil, err
	}
	return &build.Builder{
		Layout: l, LayoutDir: dir, Cache: c, NoCache: s.noCache, NoHooks: s.noHooks, RealTimes: !s.reproducible,
		SourceEpoch: epoch, Compression: compression, Recompress: s.compression != "auto", Busybox: s.busybox, Netrc: netrcFile(), Rootless: sandbox.Rootless(),
	}, nil
}

// enterFor brings the process into a namespace of its own if b needs one to build p. The program
// may start anew in it. What is known to fail is told before anything is built; not so with
// KeepGoing, since then the others are to be built. Where the process will only wait for one that
// it starts, leave is called: that one holds what it needs, for as long as it does.
func enterFor(ctx context.Context, b *build.Builder, p *plan.Plan, leave func()) error {
	if sandbox.Inside() {
		return nil
	}
	_, needed, err := b.Forecast(ctx, p)
	if err != nil && !b.KeepGoing {
		return err
	}
	if err != nil {
		needed = executes(p)
	}
	if !needed {
		return nil
	}
	if os.Geteuid() != 0 {
		leave()
	}
	return sandbox.Enter()
}

// finish prints the result, and returns err as the user is to see it.
func (f *buildFlags) finish(cmd *cobra.Command, res *build.Result, err error) error {
	out := cmd.OutOrStdout()
	if cause := context.Cause(cmd.Context()); err != nil && cause != nil {
		err = cause
	}
	mode := resolveProgress(f.progress, os.Stderr)
	if f.json {
		dir, absErr := filepath.Abs(f.spec.layout)
		if absErr != nil {
			return absErr
		}
		if jsonErr := printJSON(out, newJSONResult(dir, res, err)); jsonErr != nil {
			return errors.Join(err, jsonErr)
		}
	} else if res != nil && len(res.Images) > 0 && cmd.Context().Err() == nil {
		printSummary(out, res)
	}
	switch {
	case err == nil:
		if !f.json && (mode == "tty" || mode == "plain") {
			printUses(cmd.ErrOrStderr(), f.spec.layout, res)
		}
		return nil
	case mode == "json":
		newJSONView(cmd.ErrOrStderr()).fail(err)
		return &cliError{err: err, code: exitCode(err), told: true}
	case mode == "tty" || mode == "plain":
		tailsShown(err)
	}
	return err
}

// tailsShown notes that the output of failed commands was shown as it happened.
func tailsShown(err error) {
	for _, e := range joined(err) {
		if step := stepError(e); step != nil {
			step.Shown = true
		}
	}
}

// hintThere lets hints of how to look into what failed steps left name the cache folder where the
// command line does.
func (f *buildFlags) hintThere(cmd *cobra.Command, err error) error {
	if err == nil || !cmd.Flags().Changed("cache-dir") {
		return err
	}
	failures := joined(err)
	for i, e := range failures {
		failures[i] = &elsewhereError{e, f.step.cacheDir}
	}
	return errors.Join(failures...)
}

// shellAfter prints err, and opens a shell in what the first step left whose failure it tells.
func (f *buildFlags) shellAfter(cmd *cobra.Command, err error) error {
	failures := joined(err)
	i := slices.IndexFunc(failures, func(e error) bool { step := stepError(e); return step != nil && step.Kept != "" })
	if i < 0 {
		return err
	}
	printError(cmd.ErrOrStderr(), err)
	told := &cliError{err: err, code: exitCode(err), told: true}
	in := shellFlags{session: sessionFlags{network: "auto", busybox: f.step.busybox}, storage: f.storage}
	err = in.inFailed(cmd.Context(), cmd.ErrOrStderr(), stepError(failures[i]).Target, nil)
	printError(cmd.ErrOrStderr(), err) // not how the shell ended, but why it could not begin
	return told
}
