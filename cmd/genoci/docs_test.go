package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"genoci/internal/build"
	"genoci/internal/storage"
)

// TestDocs shows that docs/cli.md knows every command, flag, driver, setting and event, and that
// each command's help has an example.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	want := func(text string) {
		t.Helper()
		if !strings.Contains(page, text) {
			t.Errorf("docs/cli.md does not have %q", text)
		}
	}
	for _, cmd := range newRoot().Commands() {
		if cmd.Hidden {
			continue
		}
		want("`genoci " + cmd.Name())
		if !strings.Contains(cmd.Example, "genoci "+cmd.Name()) {
			t.Errorf("%s: no example of it in its help", cmd.Name())
		}
		if !strings.Contains(cmd.Long, exitHelp) {
			t.Errorf("%s: no exit codes in its help", cmd.Name())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				want("`--" + f.Name)
			}
		})
	}
	for _, driver := range storage.Names() {
		want("| `" + driver + "` |")
	}
	for _, s := range settings {
		want("`" + s.env() + "`")
		want("`" + s.key() + "`")
	}
	for _, kind := range []build.Kind{
		build.BuildStarted, build.ImageStarted, build.StepStarted, build.OpStarted, build.Output, build.Progress, build.Warning, build.Rewritten,
		build.StepDone, build.ImageDone, build.ImageFailed, build.ImageSkipped, build.BuildDone,
	} {
		want("`" + string(kind) + "`")
	}
}
