package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/image"
	"genoci/internal/sandbox"
	"genoci/internal/source"
	"genoci/internal/spec"
	"genoci/internal/stepkey"
)

// maxScript is the longest text that is given as an argument (Linux allows 128 KiB for one); a
// longer one is lent as a file.
const maxScript = 100 << 10

// run runs shell text, or a script of the host.
type run struct {
	at     At
	op     *spec.Run
	script *source.File // of the host; nil for shell text
}

func runKind() kind {
	return &kindOf[*spec.Run, runNode]{
		word: "run", new: func(at At, op *spec.Run) Action { return &run{at: at, op: op} },
		named: func(n runNode) string { return n.Run },
		fields: func() []field[runNode] {
			return []field[runNode]{
				listField("args", func(n runNode) []string { return n.Args }),
				{
					name: "env", digest: true, same: func(was, is runNode) bool { return slices.Equal(was.Env, is.Env) },
					tell: func(t teller, was, is runNode) []stepkey.Reason {
						all := stepkey.EnvironmentChanges(was.Env, is.Env)
						for i := range all {
							all[i].Op, all[i].Pos = t.of.At().Action.Op.String(), t.of.At().Action.Pos
						}
						return all
					},
				},
				valueField("network", func(n runNode) string { return n.Network }),
				{name: "script", same: func(was, is runNode) bool { return was.Run == is.Run }, tell: tellText},
				{name: "script", digest: true, same: func(was, is runNode) bool { return was.Script == is.Script }, tell: tellScript},
				listField("shell", func(n runNode) []string { return n.Shell }),
				valueField("user", func(n runNode) string { return n.User }),
				valueField("workdir", func(n runNode) string { return n.Workdir }),
			}
		},
	}
}

// tellText tells that the text of a run differs.
func tellText(t teller, was, is runNode) []stepkey.Reason {
	if was.Script == "" && is.Script == "" {
		return []stepkey.Reason{t.text("", was.Run, is.Run)}
	}
	return []stepkey.Reason{t.replaced("script", was.Run, is.Run)}
}

// tellScript tells that the script of the host differs that a run runs.
func tellScript(t teller, was, is runNode) []stepkey.Reason {
	r := t.of.(*run)
	if was.Script == "" || is.Script == "" {
		return []stepkey.Reason{t.replaced("script", was.Script, is.Script)}
	}
	name := inputOf(r.op)
	before, beforeErr := t.with.node(was.Script)
	now, nowErr := readScript(r.script)
	if beforeErr == nil && nowErr == nil {
		return []stepkey.Reason{t.text(name, string(before), string(now))}
	}
	return []stepkey.Reason{t.input(stepkey.ScriptChanged, name, was.Script, is.Script)}
}

// runNode is the part of a run in a key.
type runNode struct {
	Run     string
	Script  string   `json:",omitempty"` // digest of a script of the host
	Shell   []string `json:",omitempty"`
	Args    []string `json:",omitempty"`
	Workdir string   `json:",omitempty"`
	User    string   `json:",omitempty"`
	Env     []string `json:",omitempty"`
	Network string   `json:",omitempty"`
}

// At implements Action.
func (r *run) At() At { return r.at }

// Node implements Action.
func (r *run) Node(Ground) (any, error) {
	node := runNode{
		Run: r.op.Script, Shell: r.op.Shell, Args: r.op.Args, Workdir: r.op.Workdir,
		User: r.op.User, Env: stepkey.HideValues(spec.Environ(r.op.Env)), Network: r.op.Network,
	}
	if r.script != nil {
		node.Script = r.script.String()
	}
	return node, nil
}

// Written implements Action.
func (r *run) Written(of any) any {
	node, written := of.(runNode), spec.Shown(r.op).(*spec.Run)
	node.Run, node.Shell, node.Args, node.Workdir, node.User, node.Network = written.Script, written.Shell, written.Args, written.Workdir, written.User, written.Network
	return node
}

// Names implements Reader. A word that is no file is shell text.
func (r *run) Names(src *source.Source) ([]string, func(string) ([]string, error)) {
	if !r.op.IsFile && danglingScript(src, r.op) == nil {
		return nil, src.Find
	}
	return localNames(r.at.Action, false), src.Find
}

// Find implements Reader: a single word that is the name of an existing file is a script of the
// host.
func (r *run) Find(ctx context.Context, h Host) error {
	if !r.op.IsFile {
		if r.op.Script == "" || strings.ContainsAny(r.op.Script, " \t\n") {
			return nil
		}
		if err := danglingScript(h.Source, r.op); err != nil {
			return err
		}
		if fi, err := os.Stat(h.Source.Abs(r.op.Script)); err != nil || !fi.Mode().IsRegular() {
			return nil
		}
	}
	f, err := h.Source.File(ctx, r.op.Script, "")
	r.script = &f
	return err
}

// danglingScript returns the error of a run whose script is a single word that names a symlink
// beside the spec that leads to nothing.
func danglingScript(src *source.Source, op *spec.Run) error {
	if op.Script == "" || strings.ContainsAny(op.Script, " \t\n") || strings.HasPrefix(op.Script, "/") {
		return nil
	}
	return source.Dangling(src.Abs(op.Script))
}

// Unread implements Reader.
func (*run) Unread() bool { return false }

// Complete implements Reader.
func (*run) Complete(context.Context, Host) error { return nil }

// Keep implements Reader. It keeps the text of a script of the host, unless it is a large one, or
// is no longer what was run.
func (r *run) Keep(c *cache.Cache, _ Host) error {
	if r.script == nil || r.script.Size > maxScript {
		return nil
	}
	text, err := readScript(r.script)
	if err != nil {
		return nil
	}
	return c.KeepNode(r.script.Digest, text)
}

func readScript(f *source.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Run implements Runner.
func (r *run) Run(ctx context.Context, s *Stage, root string, out *command.Output) error {
	op := r.op
	c := s.Commands.Command(root, out)
	cmd := c.Cmd
	cmd.Env = image.SetFirstEnv(cmd.Env, spec.Environ(op.Env))
	cmd.Dir, cmd.User = op.Workdir, op.User
	cmd.Network = sandbox.Network(op.Network)
	shell := op.Shell
	if shell == nil {
		shell = []string{"/bin/sh", "-e"}
	}
	switch {
	case r.script != nil:
		path, interpreter, err := c.Script(*r.script)
		if err != nil {
			return err
		}
		cmd.Args = append([]string{path}, op.Args...)
		if op.Shell != nil || interpreter == "" {
			cmd.Args = append(append([]string(nil), shell...), cmd.Args...)
		} else if _, err := sandbox.LookPath(root, interpreter, cmd.Env); err != nil && interpreter != "/bin/sh" {
			return fmt.Errorf("the interpreter of %s, %s, is not in the image", op.Script, interpreter)
		} else if interpreter == "/bin/sh" {
			// Its interpreter line may be missing in the image, where a busybox can stand in.
			if _, err := sandbox.LookPath(root, interpreter, cmd.Env); err != nil {
				cmd.Args = append([]string{"/bin/sh"}, cmd.Args...)
			}
		}
	case len(op.Script) > maxScript:
		path, err := c.Text("script", op.Script, 0o755)
		if err != nil {
			return err
		}
		cmd.Args = append(append(append([]string(nil), shell...), path), op.Args...)
	default:
		cmd.Args = append(append([]string(nil), shell...), "-c", op.Script)
		if len(op.Args) > 0 {
			cmd.Args = append(append(cmd.Args, shell[0]), op.Args...)
		}
	}
	return c.Run(ctx)
}
