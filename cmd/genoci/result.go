package main

import (
	"cmp"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"genoci/internal/build"
	"genoci/internal/ref"
	"genoci/internal/sandbox"
)

// jsonResult is what build --json prints on stdout. Sizes are in bytes, times in seconds. Names and
// meanings stay as they are; fields may come.
type jsonResult struct {
	Layout  string        `json:"layout"` // absolute path
	Seconds float64       `json:"seconds"`
	Images  []jsonImage   `json:"images"`           // built or found in the cache, in the order of the plan
	Errors  []jsonFailure `json:"errors,omitempty"` // why others are not there
}

// jsonImage is an image in a result or an event.
type jsonImage struct {
	Target    string        `json:"target"`
	Digest    digest.Digest `json:"digest,omitempty"` // of the manifest; none where no tag needs it
	Size      int64         `json:"size"`             // of manifest, config and layers, compressed
	Added     int64         `json:"added"`            // of that, what this build added to the layout
	Layers    int           `json:"layers"`
	Cached    bool          `json:"cached"`              // nothing had to be carried out
	BuildOnly bool          `json:"buildOnly,omitempty"` // it has no tag
	Archives  []jsonArchive `json:"archives,omitempty"`  // that this build expanded
	Tags      []string      `json:"tags,omitempty"`      // that name it now; in the result only
	Seconds   float64       `json:"seconds"`
}

// jsonArchive is an archive that was expanded.
type jsonArchive struct {
	Op  string `json:"op"`  // in a line
	How string `json:"how"` // "taken as it is", or "rewritten: " with the reason
}

// jsonFailure is an error in a result or an event.
type jsonFailure struct {
	Error  string   `json:"error"`
	Target string   `json:"target,omitempty"`
	File   string   `json:"file,omitempty"` // the spec
	Line   int      `json:"line,omitempty"`
	Column int      `json:"column,omitempty"`
	Op     string   `json:"op,omitempty"`     // the step that failed
	Exit   int      `json:"exit,omitempty"`   // exit status of its command
	Output []string `json:"output,omitempty"` // last lines of its output
	Kept   string   `json:"kept,omitempty"`   // TARGET@failed, what the step left
	Hint   string   `json:"hint,omitempty"`
}

func newJSONImage(i build.ImageResult) jsonImage {
	var archives []jsonArchive
	for _, a := range i.Archives {
		archives = append(archives, jsonArchive{a.Op, a.Fate.String()})
	}
	return jsonImage{
		Target: i.Target, Digest: i.Digest, Size: i.Size, Added: i.Added, Layers: i.Layers, Cached: i.Cached,
		BuildOnly: i.BuildOnly, Archives: archives, Tags: i.Tags, Seconds: i.Elapsed.Seconds(),
	}
}

// newJSONFailures returns the errors that err is made of.
func newJSONFailures(err error) []jsonFailure {
	var all []jsonFailure
	for _, e := range joined(err) {
		list := specErrors(e)
		for _, s := range list {
			all = append(all, jsonFailure{
				Error: s.Error(), Target: s.Target, File: s.File, Line: s.Pos.Line, Column: s.Pos.Col, Hint: s.Suggest,
			})
		}
		if len(list) == 0 {
			all = append(all, newJSONFailure(e))
		}
	}
	return all
}

func newJSONFailure(err error) jsonFailure {
	f := jsonFailure{Error: err.Error(), Hint: hintFor(err).String()}
	if step := stepError(err); step != nil {
		f.Target, f.File, f.Line, f.Column = step.Target, step.File, step.Pos.Line, step.Pos.Col
		f.Op, f.Output, f.Kept = step.Op, step.Tail, step.Kept
	}
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		f.Exit = exit.Code
	}
	return f
}

func newJSONResult(dir string, res *build.Result, err error) jsonResult {
	out := jsonResult{Layout: dir, Images: []jsonImage{}}
	if res != nil {
		out.Seconds = res.Elapsed.Seconds()
		for _, i := range res.Images {
			out.Images = append(out.Images, newJSONImage(i))
		}
	}
	if err != nil {
		out.Errors = newJSONFailures(err)
	}
	return out
}

// stepError returns the step whose failure err tells, or nil.
func stepError(err error) *build.StepError {
	var step *build.StepError
	if errors.As(err, &step) {
		return step
	}
	return nil
}

// printSummary prints a table of the images: what they are, what they cost, and the tags that name
// them.
func printSummary(w io.Writer, res *build.Result) {
	rows := [][]string{{"TARGET", "DIGEST", "ADDED", "RESULT", "TIME", "TAGS"}}
	for _, i := range res.Images {
		how := "built"
		if i.Cached {
			how = "cached"
		}
		tags := strings.Join(i.Tags, " ")
		if i.BuildOnly {
			tags = "(build only)"
		}
		rows = append(rows, []string{i.Target, cmp.Or(short(i.Digest), "-"), size(i.Added), how, duration(i.Elapsed), tags})
	}
	table(w, rows)
	for _, i := range res.Images {
		for _, a := range i.Archives {
			say(w, "%s: %s: %s\n", i.Target, untabbed(a.Op), untabbed(a.Fate.String()))
		}
	}
}

// printUses prints how other programs take the last image of the result that has a tag.
func printUses(w io.Writer, layout string, res *build.Result) {
	tag := ""
	for _, i := range res.Images {
		if len(i.Tags) > 0 {
			tag = i.Tags[0]
		}
	}
	if tag == "" {
		return
	}
	say(w, "%s in %s, %s", plural(len(res.Images), "image"), duration(res.Elapsed), quoted(layout))
	if strings.Contains(layout, ":") { // other programs take the first colon for the end of the folder
		say(w, "\n")
		return
	}
	say(w, ". To use %s:\n", tag)
	named := shellQuote(layout + ":" + tag)
	rootless := ""
	if os.Getuid() != 0 || sandbox.Rootless() {
		rootless = " --rootless"
	}
	name := imageName(tag)
	say(w, "  skopeo copy oci:%s containers-storage:localhost/%s    # for podman and buildah\n", named, name)
	say(w, "  skopeo copy oci:%s docker-daemon:%s    # for docker\n", named, name)
	say(w, "  skopeo copy oci:%s docker://REGISTRY/%s\n", named, name)
	say(w, "  umoci unpack%s --image %s bundle\n", rootless, named)
}

// imageName returns NAME:TAG for other programs. Names of repositories have fewer letters than tags
// have, so not every tag of a layout can be one.
func imageName(tag string) string {
	name := tag + ":latest"
	if _, err := ref.Parse("docker://" + name); err != nil || strings.Contains(tag, "/") {
		return "genoci:" + tag
	}
	return name
}

// shellQuote returns s as a word of a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
