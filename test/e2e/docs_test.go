package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"genoci/test/program"
)

// Every example of docs/spec.md builds as it stands there, with the inputs that its comment "#
// needs:" names. What needs the network is only checked. Packages are installed into a Debian; for
// all else a busybox will do.
func TestDocs(t *testing.T) {
	program.NeedDriver(t, "auto")
	debian := program.Input(t, "debian", "GENOCI_TEST_DEB_ROOTFS")
	deb := program.Input(t, "deb", "GENOCI_TEST_DEB")
	examples := docExamples(t, "../../docs/spec.md")
	if len(examples) < 20 {
		t.Fatalf("%d examples", len(examples))
	}
	w := newWorkspace(t)
	busyboxRoot(w)
	small := filepath.Join(w.Dir, "sys.tgz")
	for name, example := range examples {
		t.Run(name, func(t *testing.T) {
			e := &workspace{program.In(program.Temp(t)), t, ""}
			e.Env = w.Env // one cache for all
			e.write("genoci.yaml", example)
			needs := docNeeds(example)
			rootfs := small
			if slices.ContainsFunc(needs, func(need string) bool { return strings.HasSuffix(need, ".deb") }) {
				rootfs = debian
			}
			for _, need := range needs {
				e.provide(need, rootfs, deb)
			}
			if slices.Contains(needs, "network") {
				e.Run(t, "check")
				return
			}
			e.build()
			e.Run(t, "verify")
		})
	}
}

// docExamples returns the YAML examples of a page, by the heading and the line that they stand
// under.
func docExamples(t *testing.T, page string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	examples := map[string]string{}
	heading, inYAML := "", false
	name := ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case line == "```yaml":
			inYAML, name = true, heading+" line "+strconv.Itoa(i+1)
		case line == "```":
			inYAML = false
		case inYAML:
			examples[name] += line + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.Trim(line, "# `")
		}
	}
	return examples
}

// docNeeds returns what the comments "# needs:" of an example name.
func docNeeds(example string) []string {
	var needs []string
	for line := range strings.SplitSeq(example, "\n") {
		if rest, ok := strings.CutPrefix(line, "# needs:"); ok {
			needs = append(needs, strings.Fields(rest)...)
		}
	}
	return needs
}

// provide makes an input of an example, by the look of its name.
func (w *workspace) provide(need, rootfs, deb string) {
	w.t.Helper()
	switch {
	case need == "network":
	case need == "rootfs.tar.gz" || need == "cirros.tar.gz":
		w.link(need, rootfs)
	case strings.HasSuffix(need, ".deb"):
		w.link(need, deb)
	case strings.HasSuffix(need, "/"):
		w.write(filepath.Join(need, "file"), "content\n")
	case strings.Contains(need, ".t"):
		w.write("top/"+need, "content\n")
		w.Tool(w.t, "tar", "--create", "--auto-compress", "--file", need, "top")
	default:
		w.write(need, "#!/bin/sh\necho \"$@\"\n")
	}
}
