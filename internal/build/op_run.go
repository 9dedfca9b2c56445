package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"genoci/internal/sandbox"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// lentDir is where a command finds what the build lends to it: packages, scripts, busybox. It is a
// mount, and never reaches the layer.
const lentDir = "/.genoci"

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
	tail := out.tail()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.opError(s.n, s.Step, a, err, tail)
}

// runScript runs shell text, or a script of the host.
func (s *step) runScript(ctx context.Context, root string, op *spec.Run, in *input, out *output) error {
	cmd := s.command(root, op.Env, out)
	cmd.Dir, cmd.User = op.Workdir, op.User
	cmd.Network = sandbox.Network(op.Network)
	lend := &lending{s: s, cmd: cmd}
	shell := op.Shell
	if shell == nil {
		shell = []string{"/bin/sh", "-e"}
	}
	switch {
	case in.script != nil:
		path, interpreter, err := lend.script(*in.script)
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
		path, err := lend.file("script", strings.NewReader(op.Script), 0o755)
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
	if err := lend.shell(); err != nil {
		return err
	}
	return cmd.Run(ctx)
}

// command is a command in the tree with the environment of the step.
func (s *step) command(root string, env []spec.KV, out *output) *sandbox.Cmd {
	return &sandbox.Cmd{
		Root: root, Env: proxyEnv(s.stepEnv(s.n, env)), Stdout: out, Stderr: out,
	}
}

// lending is what the build lends to one command.
type lending struct {
	s   *step
	cmd *sandbox.Cmd
	dir string // on the host; "" while nothing is lent
}

// file lends a file of the given content, and returns its path inside.
func (l *lending) file(name string, content io.Reader, mode os.FileMode) (string, error) {
	if err := l.mount(); err != nil {
		return "", err
	}
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = copyBuffer(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return "", err
	}
	return lentDir + "/" + name, nil
}

// mount makes the folder of what is lent a mount of the command.
func (l *lending) mount() error {
	if l.dir != "" {
		return nil
	}
	dir, err := l.s.tempDir()
	if err != nil {
		return err
	}
	l.dir = dir
	l.cmd.Binds = append(l.cmd.Binds, sandbox.Bind{Source: dir, Dest: lentDir})
	return nil
}

// input lends a file that the step reads, exactly as it was digested.
func (l *lending) input(name string, f source.File, mode os.FileMode) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return l.file(name, r, mode)
}

// script lends a script of the host, and returns its path inside and the program of its interpreter line.
func (l *lending) script(f source.File) (path, interpreter string, err error) {
	if path, err = l.input(f.Name, f, 0o755); err != nil {
		return "", "", err
	}
	r, err := os.Open(filepath.Join(l.dir, f.Name))
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE, execve(2)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", "", err
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	if rest, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(rest); len(words) > 0 {
			return path, words[0], nil
		}
	}
	if strings.HasPrefix(line, "\x7fELF") {
		return path, path, nil
	}
	return path, "", nil
}

// shell lends a static busybox where the command is a shell that the image does not have.
func (l *lending) shell() error {
	if l.cmd.Args[0] != "/bin/sh" {
		return nil
	}
	if _, err := sandbox.LookPath(l.cmd.Root, "/bin/sh", l.cmd.Env); err == nil {
		return nil
	}
	bb, err := l.s.busybox()
	if err != nil {
		return fmt.Errorf("the image has no /bin/sh, and %w", err)
	}
	if _, err := l.input("bin/busybox", bb.file, 0o755); err != nil {
		return err
	}
	applets, err := bb.applets()
	if err != nil {
		return err
	}
	for _, name := range applets {
		if name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(l.dir, "bin", name)); err != nil {
			return err
		}
	}
	l.s.lent = bb.file.String()
	l.cmd.Args[0] = lentDir + "/bin/sh"
	for i, kv := range l.cmd.Env {
		if strings.HasPrefix(kv, "PATH=") {
			l.cmd.Env[i] = kv + ":" + lentDir + "/bin"
		}
	}
	return nil
}
