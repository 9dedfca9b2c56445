// Every example is built: with every storage driver that works here, and with its targets in every
// order. All of these must give the same images, and those that want.txt says.
//
// want.txt holds the config of each target and the layers that the target adds to its base. What a
// prepare.sh makes differs from machine to machine; a target whose layers it changes has the line
// "layers differ from machine to machine" there, which -update keeps.
package examples

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"genoci/test/program"
	"genoci/test/strict"
)

var update = flag.Bool("update", false, "rewrite want.txt")

const differ = "layers differ from machine to machine"

func TestExamples(t *testing.T) {
	specs, err := filepath.Glob("*/genoci.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		t.Run(filepath.Dir(spec), func(t *testing.T) { testExample(t, filepath.Dir(spec)) })
	}
}

func testExample(t *testing.T, name string) {
	dir := program.Temp(t)
	copyTree(t, name, dir)
	prepared := prepare(t, dir)
	want := readWant(t, name)

	var first *outcome
	outer := t
	try := func(t *testing.T, driver string, env []string, targets ...string) {
		built := buildIn(t, dir, program.Temp(outer), driver, env, targets)
		if first == nil {
			first = built
			checkWant(t, name, want, built.describe(t, want))
		}
		if diff := built.diff(t, first); diff != "" {
			t.Errorf("not the images that the first build gave (-first +this):\n%s", diff)
		}
	}
	t.Run("auto", func(t *testing.T) { try(t, "auto", nil) })
	for _, driver := range []string{"overlay", "btrfs", "vfs"} {
		t.Run(driver, func(t *testing.T) { try(t, driver, program.NeedDriver(t, driver)) })
	}
	if prepared {
		return // the inputs are large, and orders are tried by the others
	}
	for i, order := range permutations(slices.Sorted(maps.Keys(first.images))) {
		t.Run(fmt.Sprintf("order%d", i+1), func(t *testing.T) { try(t, "auto", nil, order...) })
	}
}

// outcome is what a build left: its layout, and the images by target, without those that have no
// tag.
type outcome struct {
	layout program.Layout
	images map[string]program.Image
}

// buildIn builds targets (none: all) in dir, into a new layout and with a new cache, both in the
// folder state.
func buildIn(t *testing.T, dir, state, driver string, env, targets []string) *outcome {
	t.Helper()
	out := &outcome{program.Layout(filepath.Join(state, "oci")), make(map[string]program.Image)}
	r := program.In(dir).With("GENOCI_CACHE_DIR=" + filepath.Join(state, "cache")).With(env...)
	stdout := r.Run(t, append([]string{"build", "--json", "--layout", string(out.layout), "--driver", driver}, targets...)...)
	var result struct {
		Images []struct{ Tags []string }
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	for _, img := range result.Images {
		if len(img.Tags) > 0 {
			out.images[img.Tags[0]] = out.layout.Image(t, img.Tags[0])
		}
	}
	return out
}

// diff returns how the images differ from those of first.
func (o *outcome) diff(t *testing.T, first *outcome) string {
	t.Helper()
	var diff strings.Builder
	for name, img := range first.images {
		switch other, ok := o.images[name]; {
		case !ok:
			fmt.Fprintf(&diff, "-%s\n", name)
		case other.Digest != img.Digest:
			fmt.Fprintf(&diff, "%s:\n%s", name, cmp.Diff(first.text(t, name), o.text(t, name)))
		}
	}
	return diff.String()
}

// text describes the target with its top layer, in lines.
func (o *outcome) text(t *testing.T, name string) []string {
	t.Helper()
	img := o.images[name]
	var b strings.Builder
	writeConfig(&b, img)
	lines := strings.Split(b.String(), "\n")
	if n := len(img.Manifest.Layers); n > 0 {
		lines = append(lines, o.layout.Layer(t, img, n-1)...)
	}
	return lines
}

// prepare runs the example's prepare.sh, if it has one, and reports that. Status 77 says what is
// lacking.
func prepare(t *testing.T, dir string) bool {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "prepare.sh")); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	cmd := exec.Command("./prepare.sh")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77 {
		strict.Lack(t, "examples", strings.TrimSpace(string(out)))
	}
	if err != nil {
		t.Fatalf("prepare.sh: %v\n%s", err, out)
	}
	return true
}

// copyTree copies the example to dir, with modes that do not depend on the umask of the checkout.
func copyTree(t *testing.T, name, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(name)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// describe returns the section of each image in want.txt.
func (o *outcome) describe(t *testing.T, want map[string]string) map[string]string {
	t.Helper()
	sections := make(map[string]string)
	for name, img := range o.images {
		var b strings.Builder
		writeConfig(&b, img)
		below := o.layersBelow(img)
		switch {
		case strings.Contains(want[name], differ):
			fmt.Fprintln(&b, differ)
		case below == len(img.Manifest.Layers):
			fmt.Fprintln(&b, "no layer")
		}
		for i := below; i < len(img.Manifest.Layers) && !strings.Contains(want[name], differ); i++ {
			fmt.Fprintf(&b, "layer %s\n", img.Config.RootFS.DiffIDs[i])
			for _, line := range o.layout.Layer(t, img, i) {
				fmt.Fprintf(&b, "  %s\n", line)
			}
		}
		sections[name] = b.String()
	}
	return sections
}

// layersBelow returns how many layers of img are those of the target that it stands on.
func (o *outcome) layersBelow(img program.Image) int {
	for _, other := range o.images {
		if other.Digest == img.Manifest.Annotations["org.opencontainers.image.base.digest"] {
			return len(other.Manifest.Layers)
		}
	}
	return 0
}

func writeConfig(b *strings.Builder, img program.Image) {
	c := img.Config.Config
	list := func(name string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(b, "%s %q\n", name, values)
		}
	}
	text := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%s %s\n", name, value)
		}
	}
	pairs := func(name string, values map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			if k != "org.opencontainers.image.base.digest" {
				fmt.Fprintf(b, "%s %s=%s\n", name, k, values[k])
			}
		}
	}
	list("entrypoint", c.Entrypoint)
	list("cmd", c.Cmd)
	list("env", c.Env)
	text("user", c.User)
	text("workdir", c.WorkingDir)
	text("stopsignal", c.StopSignal)
	list("volumes", slices.Sorted(maps.Keys(c.Volumes)))
	if c.Healthcheck != nil {
		fmt.Fprintf(b, "healthcheck %+v\n", *c.Healthcheck)
	}
	list("expose", slices.Sorted(maps.Keys(c.ExposedPorts)))
	pairs("label", c.Labels)
	pairs("annotation", img.Manifest.Annotations)
	text("author", img.Config.Author)
	text("created", img.Config.Created)
	for _, h := range img.Config.History {
		fmt.Fprintf(b, "history %s\n", h.CreatedBy)
	}
}

// readWant reads want.txt: a line "== TARGET" and what is wanted, for each target.
func readWant(t *testing.T, name string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(name, "want.txt"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for section := range strings.SplitSeq("\n"+string(data), "\n== ") {
		if target, text, ok := strings.Cut(section, "\n"); ok && target != "" {
			want[target] = strings.TrimRight(text, "\n") + "\n"
		}
	}
	return want
}

func checkWant(t *testing.T, name string, want, got map[string]string) {
	t.Helper()
	if *update {
		var sections []string
		for _, target := range slices.Sorted(maps.Keys(got)) {
			sections = append(sections, "== "+target+"\n"+got[target])
		}
		if err := os.WriteFile(filepath.Join(name, "want.txt"), []byte(strings.Join(sections, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not as want.txt says (-want +got):\n%s", diff)
	}
}

// permutations returns the orders of names: all of up to three, else as they are and reversed.
func permutations(names []string) [][]string {
	if len(names) < 2 {
		return nil
	}
	if len(names) > 3 {
		reversed := slices.Clone(names)
		slices.Reverse(reversed)
		return [][]string{names, reversed}
	}
	var all [][]string
	for i, name := range names {
		rest := slices.Delete(slices.Clone(names), i, i+1)
		tails := permutations(rest)
		if tails == nil {
			tails = [][]string{rest}
		}
		for _, tail := range tails {
			all = append(all, append([]string{name}, tail...))
		}
	}
	return all
}
