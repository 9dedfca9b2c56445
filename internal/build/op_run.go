package build

import (
	"context"
	"fmt"

	"genoci/internal/command"
	"genoci/internal/image"
	"genoci/internal/sandbox"
	"genoci/internal/spec"
)

// maxScript is the longest text that is given as an argument (Linux allows 128 KiB for one); a
// longer one is lent as a file.
const maxScript = 100 << 10

// run carries out an op that runs something in the tree.
func (s *step) run(ctx context.Context, root string, a spec.Action, in *input) error {
	s.opStarted(a)
	out := s.newOutput()
	var err error
	switch op := a.Op.(type) {
	case *spec.Run:
		err = s.runScript(ctx, root, op, in, out)
	case *spec.Install:
		err = s.install(ctx, root, op, in, out)
	default:
		err = fmt.Errorf("%T runs nothing", op)
	}
	tail := out.Tail()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.opError(s.n, s.Step, a, err, tail)
}

// runScript runs shell text, or a script of the host.
func (s *step) runScript(ctx context.Context, root string, op *spec.Run, in *input, out *command.Output) error {
	c := s.runner.Command(root, out)
	cmd := c.Cmd
	cmd.Env = image.SetFirstEnv(cmd.Env, spec.Environ(op.Env))
	cmd.Dir, cmd.User = op.Workdir, op.User
	cmd.Network = sandbox.Network(op.Network)
	shell := op.Shell
	if shell == nil {
		shell = []string{"/bin/sh", "-e"}
	}
	switch {
	case in.script != nil:
		path, interpreter, err := c.Script(*in.script)
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
