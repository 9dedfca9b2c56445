// Bench compares genoci with its peers side by side, and with what the machine can do at best.
//
// It is run by run.sh, which builds it, the programs and the inputs. What it measures is data:
// scenarios in scenario.go, and for each tool a file that says how the tool does the jobs of the
// scenarios. Results go into results.json, and from there into docs/benchmarks.md and the pictures
// beside it; see report.go, chart.go and plot.go.
//
// The program runs in a mount and a process namespace of its own, on a disk that is made for it, so
// that nothing is left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what run.sh gives.
type options struct {
	programs  string  // folders, as in PATH, of genoci, buildctl and buildkitd
	corpus    string  // folder of the inputs
	disk      string  // folder that the disk's file is in
	size      int64   // of the disk, GB; 0: none is made, and folder disk is measured on
	runs      int     // of each tool in each scenario
	slow      float64 // seconds: tools that take longer run once
	scenarios string  // ids, or beginnings of them, separated by commas; all when empty
	peers     string  // names of tools beside genoci and the limits, separated by commas; all when empty
	parts     string  // scenarios, trace, growth, drivers, emulated, or several of them
	inputs    bool    // only print the names of the inputs
	machine   string  // program that runs another one in a virtual machine
	results   string  // file that results are added to
	docs      string  // folder that docs and pictures are written into
}

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// start tells apart what the program is run for.
func start(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if len(args) > 0 && args[0] == "limit" {
		return limit(ctx, args[1:])
	}
	if len(args) == 3 && args[0] == "inside" {
		return measureInside(ctx, args[1], args[2])
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	switch {
	case o.inputs:
		fmt.Println(strings.Join(o.inputNames(), " "))
		return nil
	case o.parts == "":
		return render(o)
	case os.Getuid() != 0:
		return errors.New("only root can make the disk to measure on, and run the peers as they run best")
	case os.Getenv(inside) == "":
		code, err := enter()
		if err == nil && code != 0 {
			os.Exit(code)
		}
		return err
	}
	return bench(ctx, o)
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.programs, "programs", "", "`folders` of programs, as in PATH")
	flags.StringVar(&o.corpus, "corpus", "", "`folder` of the inputs")
	flags.StringVar(&o.disk, "disk", "/var/tmp", "`folder` for the file of the disk that is measured on")
	flags.Int64Var(&o.size, "size", 36, "size of the disk, `GB`")
	flags.IntVar(&o.runs, "runs", 3, "how often each tool does each scenario")
	flags.Float64Var(&o.slow, "slow", 10, "`seconds` beyond which a tool, but for genoci and the limits, does a scenario only once")
	flags.StringVar(&o.scenarios, "scenarios", "", "`ids` of scenarios, or beginnings of them, separated by commas (default all)")
	flags.StringVar(&o.peers, "peers", "", "`names` of tools beside genoci and the limits, separated by commas (default all)")
	flags.StringVar(&o.parts, "parts", "", "what to measure, separated by commas: scenarios, trace, growth, drivers, emulated (default: nothing, docs are written anew)")
	flags.BoolVar(&o.inputs, "inputs", false, "print the names of the inputs that the parts need, and do nothing else")
	flags.StringVar(&o.machine, "machine", "../test/vm/run.sh", "`program` that runs another one in a virtual machine")
	flags.StringVar(&o.results, "results", "", "`file` that results are added to")
	flags.StringVar(&o.docs, "docs", "", "`folder` for docs and pictures")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if len(o.selected()) == 0 {
		return o, fmt.Errorf("no scenario begins with %q", o.scenarios)
	}
	return o, nil
}

// listed reports whether a list separated by commas is empty or has an item for which is holds.
func listed(list string, is func(item string) bool) bool {
	return list == "" || slices.ContainsFunc(strings.Split(list, ","), func(item string) bool { return is(strings.TrimSpace(item)) })
}

// selected returns the scenarios to measure.
func (o options) selected() []scenario {
	return slices.DeleteFunc(scenarios(), func(sc scenario) bool {
		return !listed(o.scenarios, func(item string) bool { return strings.HasPrefix(sc.id, item) })
	})
}

// tools returns the tools to measure.
func (o options) tools() []*tool {
	return slices.DeleteFunc(tools(), func(t *tool) bool {
		asked := listed(o.peers, func(item string) bool { return strings.EqualFold(t.name, item) })
		return !asked && t.kind != product && t.name != "limit"
	})
}

// inputNames returns the inputs of all parts that are asked for.
func (o options) inputNames() []string {
	var names []string
	for part := range strings.SplitSeq(o.parts, ",") {
		switch part {
		case "scenarios":
			names = append(names, inputs(o.selected())...)
		case "trace":
			names = append(names, traceInput)
		case "growth":
			names = append(names, growthInput)
		case "drivers", "emulated":
			names = append(names, driverInput)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// inputs returns what the scenarios work on.
func inputs(scenarios []scenario) []string {
	var names []string
	for _, sc := range scenarios {
		if !slices.Contains(names, sc.input) {
			names = append(names, sc.input)
		}
	}
	return names
}

// bench measures all parts that are asked for.
func bench(ctx context.Context, o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", o.programs+":"+os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	if err := privateMounts(); err != nil {
		return err
	}
	disk := mountPoint
	if o.size > 0 {
		if err := mountDisk(ctx, o.disk, o.size<<30); err != nil {
			return err
		}
	} else {
		disk = o.disk
	}
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
	s := &suite{
		scenarios: o.selected(), tools: o.tools(), runs: o.runs, slow: o.slow,
		corpus: filepath.Join(disk, "corpus"), disk: disk, bench: self, say: say,
	}
	return s.parts(ctx, o)
}

// parts measures the parts that are asked for, one after the other, and writes what was found after
// each.
func (s *suite) parts(ctx context.Context, o options) error {
	r, err := readReport(o.results)
	if err != nil {
		return err
	}
	start := time.Now()
	r.Machine = describeMachine()
	r.addVersions(ctx, s.tools)
	for part := range strings.SplitSeq(o.parts, ",") {
		switch part {
		case "scenarios":
			if err = s.copyInputs(o.corpus, inputs(s.scenarios)); err == nil {
				err = s.run(ctx, func(done outcome) error { r.add(done); return r.write(o.results) })
			}
		case "trace":
			if err = s.copyInputs(o.corpus, []string{traceInput}); err == nil {
				r.Traces, err = s.trace(ctx)
			}
		case "growth":
			if err = s.copyInputs(o.corpus, []string{growthInput}); err == nil {
				r.Growth, err = s.grow(ctx)
			}
		case "drivers":
			if err = s.copyInputs(o.corpus, []string{driverInput}); err == nil {
				var all []driverResult
				all, err = s.measureDrivers(ctx)
				r.addDrivers(all)
			}
		case "emulated":
			var all []driverResult
			all, err = measureEmulated(ctx, o.machine, o.corpus)
			r.addDrivers(all)
		default:
			err = fmt.Errorf("no such part: %q", part)
		}
		if err != nil {
			return err
		}
		if err := r.write(o.results); err != nil {
			return err
		}
	}
	s.say("measured in %s", time.Since(start).Round(time.Second))
	if o.docs == "" {
		return r.table(os.Stdout)
	}
	return r.docs(o.docs)
}

// render writes the docs from results that are there.
func render(o options) error {
	r, err := readReport(o.results)
	if err != nil {
		return err
	}
	if o.docs == "" {
		return r.table(os.Stdout)
	}
	return r.docs(o.docs)
}

// copyInputs copies inputs to the disk, so that reading them costs every tool the same.
func (s *suite) copyInputs(from string, names []string) error {
	if err := os.MkdirAll(s.corpus, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		found := 0
		for _, suffix := range []string{"", ".tar.gz", ".tar.zst"} {
			src := filepath.Join(from, name+suffix)
			if _, err := os.Stat(src); err != nil {
				continue
			}
			found++
			// No hard links and no reflinks: each input has its own blocks on the disk.
			cmd := exec.Command("cp", "-a", "--no-clobber", src, s.corpus)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("copy %s: %w: %s", src, err, out)
			}
		}
		if found == 0 {
			return fmt.Errorf("input %s is not in %s", name, from)
		}
	}
	return settle(s.corpus)
}

// machine is what the measurements were made on.
type machine struct {
	Processor, Kernel, System string
	Cores                     int
	Memory                    int64 // bytes
}

func describeMachine() machine {
	m := machine{Cores: runtime.NumCPU()}
	m.Processor = field("/proc/cpuinfo", "model name", ":")
	m.System = strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`)
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(data))
	}
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal", ":"), &m.Memory); err == nil {
		m.Memory <<= 10
	}
	return m
}

// field returns what a file of lines "name SEPARATOR value" has for name.
func field(file, name, separator string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
