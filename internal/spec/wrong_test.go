package spec

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata/wrong.txt")

// wrongFile holds wrong specs, each with the full text of its errors:
//
//	=== NAME
//	the spec
//	--- errors
//	the errors
//	(a blank line)
const wrongFile = "testdata/wrong.txt"

// wrongSpec is one entry of wrongFile.
type wrongSpec struct{ name, yaml, want string }

// wrongSpecs reads wrongFile.
func wrongSpecs(t testing.TB) []wrongSpec {
	t.Helper()
	data, err := os.ReadFile(wrongFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []wrongSpec
	for entry := range strings.SplitSeq(strings.TrimPrefix(string(data), "=== "), "\n=== ") {
		name, rest, _ := strings.Cut(entry, "\n")
		yaml, want, ok := strings.Cut(rest, "--- errors\n")
		if !ok {
			t.Fatalf("%s: %s: no errors", wrongFile, name)
		}
		out = append(out, wrongSpec{name, yaml, strings.TrimRight(want, "\n")})
	}
	return out
}

func TestWrongSpecs(t *testing.T) {
	specs := wrongSpecs(t)
	var updated strings.Builder
	for _, w := range specs {
		t.Run(w.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(w.yaml), Options{})
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error is %v, not Errors", err)
			}
			if diff := cmp.Diff(w.want, err.Error()); diff != "" && !*update {
				t.Errorf("errors differ (-want +got):\n%s", diff)
			}
			updated.WriteString("=== " + w.name + "\n" + w.yaml + "--- errors\n" + err.Error() + "\n\n")
		})
	}
	if *update {
		if err := os.WriteFile(wrongFile, []byte(updated.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
