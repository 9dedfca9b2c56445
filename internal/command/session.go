package command

import (
	"context"
	"fmt"
	"os"
	"slices"

	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/source"
)

// Session is a command, or a shell, that a person runs in a tree, in the sandbox that steps run in.
// It finds in /.genoci what Setting has lent, and there, if Setting has a command, the program
// "again", which runs it.
type Session struct {
	Root    string   // of the tree
	Args    []string // the command; none: a shell
	Setting Setting

	// TTY: Stdin and Stdout are terminals, and the command gets one of its own.
	TTY                   bool
	Stdin, Stdout, Stderr *os.File

	Warn    func(text string) // is told what of the sandbox this machine does not allow; may be nil
	Cache   *cache.Cache      // has what is lent meanwhile
	Busybox string            // lent to a tree without /bin/sh; "": looked for on the host
}

// Run runs the command and waits for it. The error is a *sandbox.ExitError where it ran and failed.
func (s *Session) Run(ctx context.Context) (err error) {
	release := func() error { return nil }
	defer func() {
		if releaseErr := release(); err == nil {
			err = releaseErr
		}
	}()
	cmd := &sandbox.Cmd{
		Root: s.Root, Args: s.Args, Env: s.env(), Dir: s.Setting.Dir, User: s.Setting.User,
		Network: sandbox.Network(s.Setting.Network), TTY: s.TTY, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Warn: s.Warn,
	}
	c := &Command{Cmd: cmd, busybox: s.findBusybox, tempDir: func() (dir string, err error) {
		dir, release, err = Folder(s.Cache)
		return dir, err
	}}
	sh, err := c.sh()
	if len(s.Args) == 0 {
		if err != nil {
			return err
		}
		cmd.Args = []string{sh}
		if bash, err := sandbox.LookPath(s.Root, "bash", cmd.Env); err == nil {
			cmd.Args = []string{bash}
		}
	}
	if err := c.again(s.Setting, sh); err != nil {
		return fmt.Errorf("lend what the step had: %w", err)
	}
	return cmd.Run(ctx)
}

// env is the environment of the command: with the terminal that it is on, and without a file for
// what is typed into a shell, which would stay in the tree.
func (s *Session) env() []string {
	env := proxyEnv(slices.Clone(s.Setting.Env))
	if term := os.Getenv("TERM"); s.TTY && term != "" && !hasEnv(env, "TERM") {
		env = append(env, "TERM="+term)
	}
	if len(s.Args) == 0 && !hasEnv(env, "HISTFILE") {
		env = append(env, "HISTFILE=")
	}
	if !hasEnv(env, "PATH") {
		env = append(env, "PATH="+sandbox.DefaultPath)
	}
	return env
}

func (s *Session) findBusybox() (*Busybox, error) {
	state, err := s.Cache.Dir(cache.InputsDir)
	if err != nil {
		return nil, err
	}
	src, err := source.Open("/", state)
	if err != nil {
		return nil, err
	}
	return FindBusybox(src, s.Busybox)
}
