package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const docFile = "../../docs/spec.md"

// docExamples returns the YAML examples of docs/spec.md, by the line on which each begins.
func docExamples(t testing.TB) map[int]string {
	t.Helper()
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	examples := map[int]string{}
	begin, fence := 0, ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			begin, fence = i+2, line
		case line == "```":
			fence = ""
		case fence == "```yaml":
			examples[begin] += line + "\n"
		}
	}
	return examples
}

func TestDocExamples(t *testing.T) {
	examples := docExamples(t)
	if len(examples) < 20 {
		t.Fatalf("%d examples found in %s", len(examples), docFile)
	}
	validate := validator(t)
	for line, example := range examples {
		s, err := Parse("genoci.yaml", []byte(example), Options{})
		if err != nil {
			t.Errorf("%s:%d: %v", docFile, line, err)
			continue
		}
		if err := validate(example); err != nil {
			t.Errorf("%s:%d: schema: %v", docFile, line, err)
		}
		needs := needsOf(example)
		for _, target := range s.Targets {
			for _, a := range target.Actions {
				if run, ok := a.Op.(*Run); ok && !run.IsFile && !strings.Contains(run.Script, "/") {
					continue
				}
				for _, in := range a.Op.Inputs() {
					if !needs(in) {
						t.Errorf("%s:%d: %q is not in a comment \"# needs:\"", docFile, line, in)
					}
				}
			}
		}
	}
}

// needsOf returns whether an input of a spec is named in its comment "# needs:".
func needsOf(example string) func(string) bool {
	var needs []string
	for line := range strings.SplitSeq(example, "\n") {
		if rest, ok := strings.CutPrefix(line, "# needs:"); ok {
			needs = append(needs, strings.Fields(rest)...)
		}
	}
	return func(in string) bool {
		for _, need := range needs {
			if isURL(in) && need == "network" {
				return true
			}
			if ok, _ := filepath.Match(filepath.Clean(in), strings.TrimSuffix(need, "/")); ok {
				return true
			}
		}
		return false
	}
}

// TestDocKeys wants a place in the reference for each key of the language, with an example that
// uses it.
func TestDocKeys(t *testing.T) {
	doc, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, example := range docExamples(t) {
		all.WriteString(example)
	}
	for _, name := range allKeys() {
		if !strings.Contains(string(doc), "`"+name+"`") && !strings.Contains(string(doc), "# "+name+"\n") {
			t.Errorf("%s says nothing of %q", docFile, name)
		}
		if !strings.Contains(all.String(), name+":") {
			t.Errorf("%s has no example with %q", docFile, name)
		}
	}
}

// allKeys returns the keys of all tables.
func allKeys() []string {
	var out []string
	add := func(names []string) { out = append(out, names...) }
	add(names(targetTable()))
	add(names(expandTable()))
	add(names(copyTable()))
	add(names(installTable()))
	add(names(runTable()))
	add(names(stepTable()))
	add(names(healthcheckTable()))
	add(names(settingsTable()))
	return out
}

func names[T any](t table[T]) []string {
	var out []string
	for _, f := range t.fields {
		out = append(out, f.name)
	}
	return out
}

func TestExamplesOfTheRepository(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/genoci.yaml")
	if err != nil {
		t.Fatal(err)
	}
	validate := validator(t)
	for _, file := range files {
		if _, err := Load(file, Options{}); err != nil {
			t.Errorf("%v", err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(string(data)); err != nil {
			t.Errorf("%s: schema: %v", file, err)
		}
	}
}
