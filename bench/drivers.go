package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// storage is a storage driver of genoci on a file system, as it is measured.
type storage struct {
	name, driver string
	setup, clean []string // command lines
	env          []string
	sizes        []int // files of the base
	emulated     bool  // measured in a virtual machine, where all takes many times as long
}

// storages are those that docs/benchmarks.md shows. Drivers that copy whole trees are not given a
// million files.
func storages() []storage {
	const small, large = 100_000, 1_000_000
	return []storage{
		{name: "overlay, ext4", driver: "overlay", sizes: []int{small, large}},
		{
			name: "btrfs, loopback", driver: "btrfs", sizes: []int{small, large},
			setup: []string{"genoci storage setup"}, clean: []string{"genoci storage unsetup --force"},
			env: []string{"GENOCI_LOFILE=$dir/btrfs.img", "GENOCI_BTRFSMOUNT=$dir/btrfs"},
		},
		{
			name: "vfs, xfs with reflinks", driver: "vfs", sizes: []int{small},
			setup: []string{"truncate -s 8G xfs.img", "mkfs.xfs -q xfs.img", "mkdir xfs", "mount -o loop,noatime xfs.img xfs"}, clean: []string{"umount xfs"},
			env: []string{"GENOCI_CACHE_DIR=$dir/xfs/cache"},
		},
		{name: "vfs, ext4", driver: "vfs", sizes: []int{small}},
		{name: "overlay, emulated machine", driver: "overlay", sizes: []int{small}, emulated: true},
		{
			name: "lvm, emulated machine", driver: "lvm", sizes: []int{small}, emulated: true,
			setup: []string{"genoci storage setup"}, clean: []string{"genoci storage unsetup --force"},
			env: []string{"GENOCI_LOFILE=$dir/lvm.img", "GENOCI_LVBASEDIR=$dir/lvm", "GENOCI_LVSIZE=3G", "GENOCI_THINSIZE=2G"},
		},
	}
}

// driverResult is what a storage took at one size: medians, in seconds.
type driverResult struct {
	Storage   string    `json:"storage"`
	Processor string    `json:"processor"`
	Time      time.Time `json:"time"`
	Files     int       `json:"files"`
	Make      float64   `json:"make"`   // genoci checkout
	Commit    float64   `json:"commit"` // genoci checkin of one changed file
	Calls     int       `json:"calls"`  // system calls of that checkin
	Walk      float64   `json:"walk"`   // lstat(2) of everything in the tree, in parallel
	Chain     float64   `json:"chain"`  // 20 runs in a row on Debian; 0: not measured at this size
}

// driverRuns is how often each time is measured.
const driverRuns = 3

// driverInput is what chains stand on.
const driverInput = "deb"

// measureDrivers measures the storages that need no virtual machine.
func (s *suite) measureDrivers(ctx context.Context) ([]driverResult, error) {
	var all []driverResult
	err := s.measureStorages(ctx, false, func(r driverResult) error {
		all = append(all, r)
		return nil
	})
	return all, err
}

// measureStorages measures the storages that are emulated, or the others, and reports what each
// took at each size.
func (s *suite) measureStorages(ctx context.Context, emulated bool, report func(driverResult) error) error {
	for _, st := range storages() {
		if st.emulated != emulated {
			continue
		}
		input := driverInput
		for _, files := range st.sizes {
			r, err := s.measureDriver(ctx, st, files, input)
			if err != nil {
				return fmt.Errorf("%s, %d files: %w", st.name, files, err)
			}
			s.say("%s, %d files: %+v", st.name, files, r)
			if err := report(r); err != nil {
				return err
			}
			input = ""
		}
	}
	return nil
}

// resultMark begins a line with a result, among what else the serial line of a virtual machine
// brings.
const resultMark = "result: "

// measureInside measures the emulated storages in folder dir, inside the virtual machine, with the
// inputs in folder corpus. It prints a line for each result.
func measureInside(ctx context.Context, corpus, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s := &suite{tools: tools()[:1], runs: driverRuns, corpus: corpus, disk: dir, bench: self, say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}}
	return s.measureStorages(ctx, true, func(r driverResult) error {
		line, err := json.Marshal(r)
		if err == nil {
			fmt.Println(resultMark + string(line))
		}
		return err
	})
}

// measureEmulated runs measureInside by a program that starts it in a virtual machine
// (test/vm/run.sh), and returns the results.
func measureEmulated(ctx context.Context, machine, corpus string) ([]driverResult, error) {
	genoci, err := exec.LookPath("genoci")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	files, err := os.MkdirTemp("", "genoci-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(files)
	name := driverInput + ".tar.gz"
	if err := os.Symlink(filepath.Join(corpus, name), filepath.Join(files, name)); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, machine, self, "inside", "/run/files", "/tmp")
	cmd.Env = append(os.Environ(), "GENOCI_BIN="+genoci, "GENOCI_TEST_VM_FILES="+files, "GENOCI_TEST_VM_MEMORY=8G", "GENOCI_TEST_VM_TIMEOUT=10800")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stderr), os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", machine, err)
	}
	var all []driverResult
	for line := range bytes.Lines(out.Bytes()) {
		if text, ok := bytes.CutPrefix(line, []byte(resultMark)); ok {
			var r driverResult
			if err := json.Unmarshal(text, &r); err != nil {
				return nil, fmt.Errorf("%s printed %q: %w", machine, line, err)
			}
			all = append(all, r)
		}
	}
	return all, nil
}

// measureDriver measures a storage, in a place of its own; the chain only where there is an input
// for it.
func (s *suite) measureDriver(ctx context.Context, st storage, files int, input string) (r driverResult, err error) {
	r = driverResult{Storage: st.name, Processor: describeMachine().Processor, Files: files, Time: time.Now().UTC().Truncate(time.Second)}
	product := *s.tools[0]
	product.env = append(append(product.env[:len(product.env):len(product.env)], "GENOCI_DRIVER="+st.driver), st.env...)
	product.files = map[string]string{
		"base.yaml":  "base:\n  expand: base.tar.gz\n",
		"deb.yaml":   "$in:\n  expand: $corpus/$in.tar.gz\n",
		"chain.yaml": chainSpec(20),
	}
	s.places = map[placeKey]*place{}
	key := placeKey{product.name, input, job(st.name)}
	p, err := s.newPlace(ctx, key, &product)
	if err != nil {
		return r, err
	}
	defer s.drop(key)
	if err := writeArchive(p.path("base.tar.gz"), files); err != nil {
		return r, err
	}
	lines := append(st.setup[:len(st.setup):len(st.setup)], "genoci build -f base.yaml", "genoci unpack base")
	if err := p.lines(ctx, lines...); err != nil {
		return r, err
	}
	defer func() {
		if cleanErr := p.lines(ctx, st.clean...); err == nil {
			err = cleanErr
		}
	}()
	if err := p.measureCheckouts(ctx, &r); err != nil {
		return r, err
	}
	if input == "" {
		return r, nil
	}
	if err := p.lines(ctx, "genoci build -f deb.yaml", "genoci unpack $in"); err != nil {
		return r, err
	}
	r.Chain, err = p.median(ctx, driverRuns, "", "genoci build -f chain.yaml --arg n=$n", "")
	return r, err
}

// measureCheckouts measures the times of a checkout and of a checkin of one changed file.
func (p *place) measureCheckouts(ctx context.Context, r *driverResult) (err error) {
	const makeTree, change, commit = "genoci checkout base tree-$n", "echo changed >tree-$n/d0000/f000", "genoci checkin --dir tree-$n new-$n"
	if r.Make, err = p.median(ctx, driverRuns, "", makeTree, "genoci abort tree-$n"); err != nil {
		return err
	}
	if r.Commit, err = p.median(ctx, driverRuns, makeTree+" && "+change, commit, ""); err != nil {
		return err
	}
	if r.Walk, err = p.median(ctx, driverRuns, makeTree, "$bench limit walk tree-$n", "genoci abort tree-$n"); err != nil {
		return err
	}
	if err := p.lines(ctx, makeTree+" && "+change, "strace -c -f -U calls,errors,name -o strace.out "+commit); err != nil {
		return err
	}
	r.Calls, err = totalCalls(p.path("strace.out"))
	return err
}

// median runs a command line some times, with what is to come before and after each time, and
// returns the median of its times.
func (p *place) median(ctx context.Context, runs int, before, timed, after string) (float64, error) {
	var r result
	for range runs {
		p.run++
		p.vars["n"] = strconv.Itoa(p.run)
		if err := p.lines(ctx, before); err != nil {
			return 0, err
		}
		if err := p.quiet(); err != nil {
			return 0, err
		}
		got, err := p.measure(ctx, []string{timed})
		if err != nil {
			return 0, err
		}
		r.Samples = append(r.Samples, got)
		if err := p.lines(ctx, after); err != nil {
			return 0, err
		}
	}
	p.run++
	p.vars["n"] = strconv.Itoa(p.run)
	return r.median(wall), nil
}

// lines runs command lines, untimed.
func (p *place) lines(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if line == "" {
			continue
		}
		if err := p.measureLine(ctx, line, &sample{}); err != nil {
			return err
		}
	}
	return nil
}

// totalCalls returns the number in the last line of what strace -c -U calls,... wrote.
func totalCalls(name string) (int, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) == 0 || fields[len(fields)-1] != "total" {
		return 0, fmt.Errorf("%s: no total", name)
	}
	return strconv.Atoi(fields[0])
}

// walkAll looks at everything below a folder by lstat(2), with some goroutines for each processor.
func walkAll(top string) error {
	entries, err := os.ReadDir(top)
	if err != nil {
		return err
	}
	tokens := make(chan struct{}, 4*runtime.GOMAXPROCS(0))
	errs := make(chan error, len(entries))
	var wg sync.WaitGroup
	for _, e := range entries {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			errs <- filepath.WalkDir(filepath.Join(top, e.Name()), func(_ string, d fs.DirEntry, err error) error {
				if err == nil {
					_, err = d.Info()
				}
				return err
			})
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
