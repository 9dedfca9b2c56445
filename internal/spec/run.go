package spec

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Run is one script in the sandbox.
type Run struct {
	// Script is shell text, or the name of a file of the host beside the spec, which is then run by its
	// own interpreter line. With IsFile it names a file; else, where it is one word and Shell is not set,
	// it does if there is such a file.
	Script  string
	IsFile  bool     // Script must be a file: "args" is written
	Shell   []string // interpreter of shell text; nil is /bin/sh -e. Never set together with IsFile
	Args    []string // of the file; none for shell text
	Workdir string   // absolute; "" is /
	User    string   // "", USER or USER:GROUP; "" is root
	Env     []KV     // beside the image's and the target's; values are literal
	Network string   // "", "host" or "none"; "" is host
}

func (*Run) isOp() {}

// Inputs implements Op.
func (r *Run) Inputs() []string {
	words := strings.Fields(r.Script)
	switch {
	case r.IsFile:
		return []string{r.Script}
	case r.Shell == nil && len(words) == 1:
		return words
	}
	return nil
}

// String implements Op.
func (r *Run) String() string {
	return summary("run", strings.Join(append([]string{r.Script}, r.Args...), " "))
}

func runShape() shape[[]Action] {
	script := textAction(schema{"pattern": `\S`}, func(s string) (Op, error) {
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
			key("shell", "Interpreter that is given the shell text; /bin/sh -e when left out.", interpreterShape(),
				func(r *Run) *[]string { return &r.Shell }, "interpreter"),
			key("args", "Arguments of the script, which then must be a file beside the spec.", commandShape(),
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
		later: []string{"secrets", "mounts"},
		facets: schema{
			"required":     []string{"script"},
			"dependencies": schema{"args": schema{"not": schema{"required": []string{"shell"}}}},
		},
		check: checkRun,
	}
}

// checkRun checks the keys of a run together.
func checkRun(d *decoder, n *yaml.Node, keys keys, r *Run) {
	d.require(n, keys, "script")
	args, ok := keys["args"]
	if !ok {
		return
	}
	r.IsFile = true
	if shell, ok := keys["shell"]; ok {
		d.errorf(posOf(shell.key), `"shell" cannot stand beside "args" (line %d): a script with arguments is a file, run by its own interpreter line`, args.key.Line)
	}
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
