package main

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// job is a piece of work that tools are compared in. What each means is said by the scenarios that
// want it.
type job string

const (
	expand         job = "expand"       // $in.tar.gz becomes the only layer of an image
	expandZstd     job = "expand zstd"  // likewise $in.tar.zst
	expandRun      job = "expand, run"  // $in.tar.gz, and a second image on it that runs one small command
	run            job = "run"          // one small command on the base, which is there
	chain          job = "chain"        // 20 images in a row on the base, each with one small command
	parallel       job = "parallel"     // 8 images on the base, each sleeping 0.5 s and writing 10 MB of random data
	expandRunAgain job = "expand again" // expandRun once more, nothing changed
	chainAgain     job = "chain again"  // chain once more, nothing changed
	copyIn         job = "copy"         // the file or folder $in becomes the only layer of an image
	unpack         job = "unpack"       // the image of $in becomes a folder
)

// kind says what a tool is in the comparison.
type kind string

const (
	product   kind = "product"   // genoci
	peer      kind = "peer"      // does the same work; the fastest one of a scenario is what genoci is compared with
	yardstick kind = "yardstick" // does a part of the work, and shows what the machine can do
)

// tool is a way to do jobs: one program, or several together.
type tool struct {
	name  string
	kind  kind
	about string   // what it is, in a line of the docs
	needs []string // programs that have to be on PATH
	// version is a command line; the first line that it prints goes into the report.
	version string
	env     []string
	files   map[string]string // written into each new place
	// daemon is a command line that runs as long as a place is used; ready is one that succeeds
	// when it can be asked.
	daemon, ready string
	jobs          map[job]work
}

// work is how a tool does a job. The fields are command lines, run in the place's folder one after
// the other; as in a makefile, a line without anything that a shell would interpret is run
// directly, others by /bin/sh -e.
//
// In them, and in env and files, $corpus stands for the folder of the inputs, $in for the name of
// the scenario's input, $n for the number of the run, which makes it differ from the runs before,
// $dir for the place's folder, and $bench for this program.
type work struct {
	after job      // goes on in the place where this job was done, instead of in a new one
	again bool     // with the number of the run of that job, so that nothing is new
	setup []string // not timed, once for each place
	timed []string
	less  []string // timed too, and taken off: what timed does besides that which is to be measured
	check check    // whether timed did its work; after the first run only
	clean []string // not timed, after each run
	note  string   // what is not as the scenario has it
	part  bool     // it is so much less that the result is shown, but not compared
}

// check looks at the result of a job.
type check func(p *place) error

// place is where a tool works: a folder on the disk that is measured, and what is known of it.
type place struct {
	tool   *tool
	dir    string
	vars   map[string]string
	daemon *daemon
	run    int         // number of the newest run
	done   map[job]int // jobs whose result is here, with the number of their newest run
}

var variable = regexp.MustCompile(`\$[a-z]+`)

// expandVars replaces the variables that the place knows; what it does not know is left to the
// shell.
func (p *place) expandVars(text string) string {
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := p.vars[name[1:]]; ok {
			return value
		}
		return name
	})
}

// path returns a path of the place's folder.
func (p *place) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// interpreted are the characters that make a line one for the shell.
const interpreted = "|&;<>()$`\\\"'*?[]#~\n"

// command returns the process that runs a line in the place.
func (p *place) command(ctx context.Context, line string) *exec.Cmd {
	line = p.expandVars(line)
	args := []string{"/bin/sh", "-ec", line}
	if !strings.ContainsAny(line, interpreted) {
		args = strings.Fields(line)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "TMPDIR="+p.path("tmp"))
	for _, v := range p.tool.env {
		cmd.Env = append(cmd.Env, p.expandVars(v))
	}
	return cmd
}

// write puts the tool's files into the place.
func (p *place) write() error {
	if err := os.MkdirAll(p.path("tmp"), 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.tool.files)) {
		if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p.path(name), []byte(p.expandVars(p.tool.files[name])), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// missing returns the programs that a tool needs and PATH lacks.
func (t *tool) missing() []string {
	var names []string
	for _, name := range t.needs {
		if _, err := exec.LookPath(name); err != nil {
			names = append(names, name)
		}
	}
	return names
}
