package spec

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"genoci/internal/shown"
)

// Run is one script in the sandbox.
type Run struct {
	// Script is shell text; or the name of a file of the host, beside the spec, which is run
	// inside. With IsFile it names a file; else, where it is a single word, it does if there is
	// such a file.
	Script  string
	IsFile  bool     // "args" is written with a single word, which then must name a file
	Shell   []string // interpreter; nil is /bin/sh -e for text, and a file's own interpreter line
	Args    []string // of the file, or $1, $2 and so on of the text
	Workdir string   // absolute; "" is /
	User    string   // "", USER or USER:GROUP; "" is root
	Env     []KV     // beside the image's and the target's; values are literal
	Network string   // "", "host" or "none"; "" is host
	Written *Written // where arguments stand in it
}

func (r *Run) written() **Written { return &r.Written }

func (*Run) whole(text string) Op { return &Run{Script: text} }

// Runs implements Op.
func (*Run) Runs() bool { return true }

// Images implements Op.
func (*Run) Images() []string { return nil }

// Inputs implements Op.
func (r *Run) Inputs() []string {
	if r.isWord() {
		return []string{r.Script}
	}
	return nil
}

// isWord reports whether Script may name a file.
func (r *Run) isWord() bool { return !strings.ContainsAny(r.Script, blanks) }

// String implements Op.
func (r *Run) String() string {
	r = shownAs(r)
	return summary("run", strings.Join(append([]string{r.Script}, shown.Words(r.Args)...), " "))
}

func runShape() shape[[]Action] {
	script := textAction(schema{"pattern": nonBlank}, func(s string) (Op, error) {
		_, err := notEmpty(s)
		return &Run{Script: s}, err
	})
	return actionShape(script, script, tableAction(runTable()))
}

func runTable() table[Run] {
	return table[Run]{
		fields: []field[Run]{
			key("script", "Shell text, or the name of a script beside the spec.", stringShape(),
				func(r *Run) *string { return &r.Script }, "command", "cmd", "run", "file", "src", "text"),
			key("shell", "Interpreter, which is given the text with -c; when left out, /bin/sh -e, or the interpreter line of a file.", interpreterShape(),
				func(r *Run) *[]string { return &r.Shell }, "interpreter"),
			key("args", "Arguments of the script; a single word in script must then be a file beside the spec.", commandShape(),
				func(r *Run) *[]string { return &r.Args }, "arguments"),
			key("workdir", "Folder in the image to run in; / when left out.", absoluteShape(),
				func(r *Run) *string { return &r.Workdir }, "working_dir", "cwd", "dir"),
			key("user", "USER, USER:GROUP or numbers; root when left out.", ownerShape(),
				func(r *Run) *string { return &r.User }),
			key("env", "Environment of this script only, beside the image's and the target's.", literalEnvironmentShape(),
				func(r *Run) *[]KV { return &r.Env }, "environment"),
			key("network", "host (the default), or none.", networkShape(),
				func(r *Run) *string { return &r.Network }, "net"),
		},
		later:  []string{"secrets", "mounts"},
		facets: schema{"required": []string{"script"}},
		check:  checkRun,
	}
}

// checkRun checks the keys of a run together.
func checkRun(d *decoder, n *yaml.Node, keys keys, r *Run) {
	d.require(n, keys, "script")
	_, hasArgs := keys["args"]
	r.IsFile = hasArgs && r.isWord()
}

// interpreterShape is a command that is not empty.
func interpreterShape() shape[[]string] {
	return checked(commandShape(), func(words []string) error {
		if len(words) == 0 || words[0] == "" {
			return errEmpty
		}
		return nil
	})
}

// networkShape is the networks that a script can have.
func networkShape() shape[string] {
	networks := []string{"host", "none"}
	return shape[string]{stringForm("a string", schema{"enum": networks}, func(s string) error {
		if s == "host" || s == "none" {
			return nil
		}
		return &textError{msg: fmt.Sprintf("expected host or none, found %q", s), suggest: didYouMean(s, networks)}
	})}
}
