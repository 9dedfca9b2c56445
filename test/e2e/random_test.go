package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"genoci/test/killat"
	"genoci/test/program"
	"genoci/test/strict"
)

// A build is a function of its spec and of what the files that it names hold. Each round makes a
// spec by a seed and builds it ten times, each time in other circumstances: number of jobs, state
// of cache and layout, storage driver, user, umask, time zone, working folder, times of the inputs,
// and what was built, broken or killed before. All images have the same digests.
//
// GENOCI_RANDOM_SEED=N replays the round that printed N, and GENOCI_RANDOM_FOR=1h goes on with
// further seeds for that long.
func TestRandomSpecs(t *testing.T) {
	seed, rounds, until := rand.Uint64N(1e9), 2, time.Time{}
	if s := os.Getenv("GENOCI_RANDOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed, rounds = n, 1
	}
	if s := os.Getenv("GENOCI_RANDOM_FOR"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		until = time.Now().Add(d)
	}
	m := newRandomMachine(t)
	var images, failed, specs int
	for ; !t.Failed() && (rounds > 0 || time.Now().Before(until)); rounds, seed = rounds-1, seed+1 {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			spec := newRandomSpec(rand.New(rand.NewPCG(seed, 1)))
			r := m.round(t, spec, seed)
			specs, images, failed = specs+1, images+r.compared, failed+r.failed
			if r.differs == "" {
				t.Logf("GENOCI_RANDOM_SEED=%d: %d targets, %d images compared, digests %x", seed, len(spec.targets), r.compared, sha256.Sum256([]byte(fmt.Sprint(r.want[""].result))))
				return
			}
			t.Errorf("replay: GENOCI_RANDOM_SEED=%d\n%s\n%s", seed, r.differs, spec)
			if small, why := m.shrink(t, spec, seed); why != "" {
				t.Errorf("the same with less:\n%s\n%s", why, small)
			}
		})
	}
	t.Logf("%d specs, %d images compared, %d of targets that fail", specs, images, failed)
}

// randomMachine is what the rounds have in common: the program, its users, and the storage drivers.
type randomMachine struct {
	bin     string
	users   []string            // "" is the caller
	drivers map[string][]string // the environment of each that works
	btrfs   map[string]string   // by user: its folder on the btrfs
}

func newRandomMachine(t *testing.T) *randomMachine {
	strict.Need(t, "busybox")
	m := &randomMachine{bin: filepath.Join(program.Temp(t), "genoci"), users: []string{""}}
	data, err := os.ReadFile(program.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.bin, data, 0o755); err != nil {
		t.Fatal(err)
	}
	m.drivers = program.Drivers(t, "overlay", "vfs", "btrfs")
	if len(m.drivers) == 0 {
		strict.Lack(t, "userns", "no storage driver works")
	}
	name := os.Getenv("GENOCI_TEST_USER")
	if _, err := user.Lookup(name); os.Getuid() == 0 && name != "" && err == nil {
		m.users = append(m.users, name)
	}
	if env := m.drivers["btrfs"]; env != nil {
		_, dir, _ := strings.Cut(env[0], "=")
		m.btrfs = make(map[string]string)
		for _, name := range m.users {
			m.btrfs[name] = filepath.Join(dir, "of-"+name)
			if err := os.MkdirAll(m.btrfs[name], 0o755); err != nil {
				t.Fatal(err)
			}
			if name != "" {
				program.Give(t, m.btrfs[name], name)
			}
		}
	}
	return m
}

// randomRound is one spec, and the folders in which it is built.
type randomRound struct {
	*randomMachine
	t        *testing.T
	dir      string
	spec     *randomSpec
	seed     uint64
	want     map[string]*randomBuild // by variant: its first build
	compared int
	failed   int    // images that no build made
	differs  string // what was not equal
}

// randomBuild is one build of the spec.
type randomBuild struct {
	said   []string // its circumstances
	layout program.Layout
	result map[string]string // target: digest of the image
	layers map[string]string // target: the DiffIDs
	images map[string]program.Image
	errors map[string]string // target: why it failed
}

func (m *randomMachine) round(t *testing.T, spec *randomSpec, seed uint64) *randomRound {
	r := &randomRound{randomMachine: m, t: t, dir: program.Temp(t), spec: spec, seed: seed, want: make(map[string]*randomBuild)}
	for _, name := range m.users {
		for _, clone := range []string{"", "renamed", "executed"} {
			dir := r.clone(name, clone)
			randomInputs(t, filepath.Join(dir, spec.folder(clone)), spec.links)
			program.Write(t, dir, "genoci.yaml", spec.yaml(clone))
		}
		if name != "" {
			program.Give(t, r.home(name), name)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range 10 {
		if r.build(rng, i); r.differs != "" {
			break
		}
	}
	for _, name := range m.users {
		for _, layout := range r.layouts(name) {
			if res := r.runner(name).Try(t, "verify", "--layout", layout); res.Code != 0 && r.differs == "" {
				r.differs = "verify " + layout + ":\n" + res.Stdout + res.Stderr
			}
		}
	}
	return r
}

// home is the folder of a user, with all that its builds read and write.
func (r *randomRound) home(name string) string { return filepath.Join(r.dir, "home-"+name) }

func (r *randomRound) clone(name, clone string) string {
	return filepath.Join(r.home(name), "clone"+clone)
}

func (r *randomRound) layouts(name string) []string {
	found, err := filepath.Glob(filepath.Join(r.home(name), "oci*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

func (r *randomRound) runner(name string) *program.Runner {
	return &program.Runner{Dir: r.home(name), As: name, Bin: r.bin, Env: []string{"GENOCI_CACHE_DIR=" + filepath.Join(r.home(name), "cache")}}
}

// build makes the i-th build of the round and compares it with those before.
func (r *randomRound) build(rng *rand.Rand, i int) {
	t := r.t
	name := pick(rng, r.users)
	drivers := slices.Sorted(maps.Keys(r.drivers))
	if r.spec.links && (name != "" || os.Getuid() != 0) {
		// An ordinary user's overlay does not keep the names of a file together (ADR 0024).
		drivers = slices.DeleteFunc(drivers, func(d string) bool { return d == "overlay" })
	}
	driver := pick(rng, drivers)
	variant := ""
	if i > 1 {
		variant = pick(rng, []string{"", "", "", "renamed", "executed"})
	}
	home, clone := r.home(name), r.clone(name, variant)
	b := &randomBuild{layout: program.Layout(filepath.Join(home, "oci"))}
	say := func(format string, args ...any) { b.said = append(b.said, fmt.Sprintf(format, args...)) }
	say("build %d of %q on %s", i, name, driver)
	if variant != "" {
		say("in the clone %q", variant)
	}

	run := r.runner(name)
	if driver == "btrfs" {
		run = run.With("GENOCI_BTRFSMOUNT=" + r.btrfs[name])
	}
	switch rng.IntN(8) {
	case 0, 1:
		say("cold, with a new layout")
		run = run.With("GENOCI_CACHE_DIR=" + filepath.Join(home, fmt.Sprint("cache", i)))
		b.layout = program.Layout(filepath.Join(home, fmt.Sprint("oci", i)))
	case 2:
		say("a layout that lost its cache")
		run = run.With("GENOCI_CACHE_DIR=" + filepath.Join(home, fmt.Sprint("cache", i)))
	case 3:
		say("a cache that lost its layout")
		b.layout = program.Layout(filepath.Join(home, fmt.Sprint("oci", i)))
	case 4:
		say("a cache that lost %s", r.lose(rng, run))
	default:
		say("what earlier builds left")
	}
	zone := pick(rng, []string{"UTC", "Asia/Tokyo", "America/New_York"})
	run = run.With(append(r.spec.env, "TZ="+zone, "LANG="+pick(rng, []string{"C", "C.UTF-8", "de_DE.UTF-8"}))...)
	umask := pick(rng, []string{"022", "077", "002"})
	say("umask %s", umask)
	r.touch(rng, filepath.Join(clone, r.spec.folder(variant)))

	file := "genoci.yaml"
	switch rng.IntN(3) {
	case 0:
		run.Dir = clone
	case 1:
		file = filepath.Join(filepath.Base(clone), file)
	default:
		run.Dir, file = "/", filepath.Join(clone, file)
	}
	command := func(file string, args ...string) *exec.Cmd {
		args = append([]string{"-c", `umask "$1"; shift; exec "$@"`, "sh", umask, r.bin, "build", "-f", file, "--layout", string(b.layout), "--driver", driver, "--keep-going",
			"--json", "--progress", "plain"}, args...)
		return run.Other(t, "sh", args...)
	}
	other := func(content string) string {
		program.Write(t, clone, "other.yaml", content)
		return filepath.Join(filepath.Dir(file), "other.yaml")
	}
	switch rng.IntN(10) {
	case 0, 1:
		names := r.spec.tagged()
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		say("each of %q before", names)
		for _, target := range names {
			r.result(command(file, target))
		}
	case 2, 3:
		broken, target := r.spec.broken(rng)
		say("%q broken before", target)
		r.result(command(other(broken.yaml(variant))))
	case 4:
		n := 1 + rng.IntN(1000)
		say("killed before change %d before", n)
		killat.Run(t, command(file), n)
		noProcesses(t, home)
	case 5:
		first, second := r.spec.split(rng)
		say("in two files, %s with %q", "the second", second.tagged())
		// A tag that the first one lacks would be a mistake in the second.
		if made, _ := r.result(command(other(first.yaml(variant)))); len(made) == len(first.tagged()) && len(second.tagged()) > 0 {
			r.result(command(other(second.yaml(variant))))
		}
	case 6:
		say("gc before")
		run.Try(t, "gc", "--layout", string(b.layout), "--keep", "1", "--max-size", pick(rng, []string{"1MB", "100MB"}))
	}
	args := []string{"--jobs", pick(rng, []string{"1", "2", "16"})}
	if rng.IntN(6) == 0 {
		args = append(args, "--no-cache")
	}
	say("%s", strings.Join(args, " "))
	b.result, b.errors = r.result(command(file, args...))
	if r.differs == "" && len(b.result) > 0 {
		r.read(b)
	}
	if os.Getenv("GENOCI_RANDOM_SEED") != "" {
		t.Log(strings.Join(b.said, ", "))
	}
	if r.differs != "" {
		r.differs = strings.Join(b.said, ", ") + ":\n" + r.differs
		return
	}
	r.compared += len(b.result)
	r.compare(variant, b)
}

// result runs a build to its end and returns the digests of the images that it made, and why others
// failed.
func (r *randomRound) result(cmd *exec.Cmd) (digests, failed map[string]string) {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run() // its exit code tells
	if code := cmd.ProcessState.ExitCode(); code > 1 || code < 0 {
		r.differs = fmt.Sprintf("exit code %d of %q\n%s", code, cmd.Args, errs.String())
		return nil, nil
	}
	var said struct {
		Images []struct{ Target, Digest string }
		Errors []struct{ Target, Error string }
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil {
		r.t.Fatalf("%v\n%s", err, out.String())
	}
	digests, failed = make(map[string]string), make(map[string]string)
	tagged := r.spec.tagged()
	for _, img := range said.Images {
		if slices.Contains(tagged, img.Target) { // one that others stand on has a digest, too
			digests[img.Target] = img.Digest
		}
	}
	for _, e := range said.Errors {
		failed[e.Target] = e.Error
		if strings.Contains(e.Error, "panic") || e.Target == "" {
			r.differs = fmt.Sprintf("%q: %s\n%s", cmd.Args, e.Error, errs.String())
		}
	}
	return digests, failed
}

// read reads the images of a build, before the next one moves their tags.
func (r *randomRound) read(b *randomBuild) {
	b.layers, b.images = make(map[string]string), make(map[string]program.Image)
	tags := b.layout.Tags(r.t)
	for target, digest := range b.result {
		if tags[target].Digest != digest {
			r.differs = fmt.Sprintf("the tag %s is %q, and not %s", target, tags[target].Digest, digest)
			return
		}
		b.images[target] = b.layout.Image(r.t, target)
		b.layers[target] = strings.Join(b.images[target].Config.RootFS.DiffIDs, " ")
	}
}

// compare compares b with the first build of its variant, and its layers with those of the first
// build of all.
func (r *randomRound) compare(variant string, b *randomBuild) {
	first := r.want[variant]
	if first == nil {
		r.want[variant], first = b, b
		if variant == "" {
			for _, target := range r.spec.tagged() {
				if b.result[target] == "" {
					r.failed++
				}
			}
		}
	}
	all := r.want[""]
	for _, target := range r.spec.tagged() { // bases first
		layers, want := b.layers[target], all.layers[target]
		if b.result[target] == first.result[target] && layers == want {
			continue
		}
		r.differs = fmt.Sprintf("target %q differs between\n%s\n%s\n", target, strings.Join(first.said, ", "), strings.Join(b.said, ", "))
		if layers != want {
			first = all
		}
		if first.result[target] == "" || b.result[target] == "" {
			r.differs += fmt.Sprintf("one failed: %q, %q\n%v\n%v", first.result[target], b.result[target], first.errors, b.errors)
		} else {
			r.differs += r.explain(first, b, target)
		}
		return
	}
}

// explain says what differs between two images of one target: the first layer that does, else the
// config.
func (r *randomRound) explain(a, b *randomBuild, target string) string {
	x, y := a.images[target], b.images[target]
	for i := range min(len(x.Manifest.Layers), len(y.Manifest.Layers)) {
		if x.Config.RootFS.DiffIDs[i] == y.Config.RootFS.DiffIDs[i] {
			continue
		}
		one, err := a.layout.Entries(x, i)
		two, err2 := b.layout.Entries(y, i)
		if err != nil || err2 != nil {
			return fmt.Sprintf("layer %d: %v, %v", i, err, err2)
		}
		return fmt.Sprintf("layer %d (-first +second):\n%s", i, cmp.Diff(strings.Join(one, "\n"), strings.Join(two, "\n")))
	}
	return "manifest and config (-first +second):\n" + cmp.Diff(x, y)
}

// touch gives some input files other times, and where the spec does not ask for modes, other modes.
func (r *randomRound) touch(rng *rand.Rand, dir string) {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 || rng.IntN(3) > 0 {
			return err
		}
		if r.spec.modes == "git" {
			mode := os.FileMode(0o600)
			if info, err := d.Info(); err != nil {
				return err
			} else if info.Mode()&0o100 != 0 {
				mode = 0o700
			}
			if err := os.Chmod(path, mode|os.FileMode(rng.IntN(0o100))&0o066); err != nil {
				return err
			}
		}
		then := time.Unix(rng.Int64N(2e9), rng.Int64N(1e9))
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// lose removes some of what the cache has, and says what.
func (r *randomRound) lose(rng *rand.Rand, run *program.Runner) string {
	cache := filepath.Join(r.home(run.As), "cache")
	var lost []string
	for _, kind := range []string{"steps/*/*", "toc/*", "nodes/*", "last/*", "layouts/*", "inputs/*", "overlay", "overlay/snapshots/*", "vfs", "vfs/snapshots/*"} {
		if rng.IntN(2) == 0 {
			continue
		}
		found, err := filepath.Glob(filepath.Join(cache, kind))
		if err != nil {
			r.t.Fatal(err)
		}
		// Names are not equal between runs, so that chances cannot follow them; numbers can.
		some := rng.IntN(4)
		found = slices.DeleteFunc(found, func(string) bool { some++; return some%3 == 0 })
		if len(found) == 0 {
			continue
		}
		lost = append(lost, kind)
		args := append([]string{"rm", "-rf"}, found...)
		if run.As != "" || os.Getuid() != 0 {
			args = append([]string{"unshare", "--map-root-user", "--map-auto"}, args...) // what subordinate ids own
		}
		run.Tool(r.t, args[0], args[1:]...)
	}
	return strings.Join(lost, ", ")
}

// shrink looks for a smaller spec of which two builds differ.
func (m *randomMachine) shrink(t *testing.T, spec *randomSpec, seed uint64) (*randomSpec, string) {
	until := time.Now().Add(2 * time.Minute)
	why := ""
	try := func(s *randomSpec) bool {
		if s == nil || time.Now().After(until) {
			return false
		}
		r := m.round(t, s, seed)
		if r.differs == "" {
			return false
		}
		spec, why = s, r.differs
		return true
	}
	for i := len(spec.targets) - 1; i > 0; i-- {
		try(spec.without(i, -1))
	}
	for i := len(spec.targets) - 1; i > 0; i-- {
		for j := len(spec.targets[i].ops) - 1; j >= 0; j-- {
			try(spec.without(i, j))
		}
	}
	return spec, why
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }
