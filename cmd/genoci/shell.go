package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"genoci/internal/build"
	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/kept"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/storage"
)

// sessionFlags are what a person can say about a command that runs in a tree.
type sessionFlags struct {
	user    string
	workdir string
	env     []string
	network string
	busybox string
}

func (s *sessionFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&s.user, "user", "", "run as `USER` or USER:GROUP of the image, by name or number")
	fs.StringVar(&s.workdir, "workdir", "", "run in `DIR` of the image")
	fs.StringArrayVar(&s.env, "env", nil, "set the variable `NAME=VALUE`; NAME alone takes the value that it has here")
	choiceVar(fs, &s.network, "network", "what is seen of the network; auto is what the step had, and host for images", "auto", "host", "none")
	busyboxVar(fs, &s.busybox)
}

// apply changes what a command is run with as the flags say.
func (s *sessionFlags) apply(to *command.Setting) error {
	if s.user != "" {
		to.User = s.user
	}
	if s.workdir != "" {
		to.Dir = s.workdir
	}
	if s.network != "auto" {
		to.Network = s.network
	}
	for _, kv := range s.env {
		name, _, given := strings.Cut(kv, "=")
		if name == "" {
			return usagef("--env: %q is not NAME=VALUE", kv)
		}
		if value, ok := os.LookupEnv(name); !given && ok {
			kv += "=" + value
		} else if !given {
			continue
		}
		to.Env = append(slices.DeleteFunc(to.Env, func(old string) bool { return strings.HasPrefix(old, name+"=") }), kv)
	}
	return nil
}

// run runs a command, or a shell where args are empty, in the tree with the root folder dir, on the
// terminal if there is one. How it ends is how the program is to end.
func (s *sessionFlags) run(ctx context.Context, c *cache.Cache, dir string, setting command.Setting, args []string) error {
	if err := s.apply(&setting); err != nil {
		return err
	}
	session := command.Session{
		Root: dir, Args: args, Setting: setting, TTY: onTerminal(len(args) == 0), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Cache: c, Busybox: s.busybox, Warn: func(text string) { say(os.Stderr, "warning: %s\n", text) },
	}
	err := session.Run(ctx)
	var exit *sandbox.ExitError
	switch {
	case ctx.Err() == nil && errors.As(err, &exit):
		return &cliError{err: err, code: exit.Code, told: true}
	case errors.Is(err, sandbox.ErrNotFound):
		return &cliError{err: err, code: exitNotFound}
	}
	return err
}

// exitNotFound is the exit code of shells where there is no such command.
const exitNotFound = 127

// onTerminal reports whether a command is to have a terminal. Other than a shell, a command whose
// errors go elsewhere has none, since a terminal takes both in one.
func onTerminal(shell bool) bool {
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return isTerminal(os.Stdin) && isTerminal(os.Stdout) && (shell || isTerminal(os.Stderr))
}

// shellFlags are the flags of shell.
type shellFlags struct {
	session sessionFlags
	storage storageFlags
}

func newShell() *cobra.Command {
	var f shellFlags
	cmd := &cobra.Command{
		Use:   "shell {TARGET@failed|TAG} [-- COMMAND [ARG...]]",
		Short: "Open a shell in the tree of a failed step, or in an image",
		Long: `Shell runs a command in the sandbox that steps run in; without a command, it
opens a shell. That is the image's bash, otherwise its sh, otherwise a busybox
that genoci lends. It uses the terminal if there is one. The exit code is the
command's: 127 if there is no such command, or 128 plus the number of the
signal that ended it.

TARGET@failed opens the tree that the last failed step of TARGET left. The
command gets the environment, user, folder and network of the failed one. The
folder /.genoci has the files that were lent to that command, in their present
state. /.genoci/again runs the failed command once more. Your changes stay
until TARGET is built, or fails again. They never become part of an image.

A TAG or a digest opens a new tree of that image, with the environment, user
and folder of its config. Your changes are dropped when the shell ends.`,
		Example: `  genoci shell web@failed                        look around
  genoci shell web@failed -- /.genoci/again      run the failed command again
  genoci shell web@failed --user root -- apt-get install -y strace
  genoci shell web -- cat /etc/os-release        run a command in an image`,
		Args:              atLeastOne("TARGET@failed or TAG"),
		ValidArgsFunction: completeShell(&f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.storage.resolve(); err != nil {
				return err
			}
			if target, ok := build.FailedTarget(args[0]); ok {
				return f.inFailed(cmd.Context(), cmd.ErrOrStderr(), target, args[1:])
			}
			return f.inImage(cmd.Context(), cmd.ErrOrStderr(), args[0], args[1:])
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.session.add(fs)
	f.storage.addLayout(fs)
	f.storage.addDriver(fs)
	f.storage.addState(fs)
	return cmd
}

// inFailed runs a command in what a failed step of the target left.
func (f *shellFlags) inFailed(ctx context.Context, stderr io.Writer, target string, args []string) error {
	tree, note, drv, err := f.storage.openFailed(ctx, target)
	if err != nil {
		return err
	}
	c, err := openCache(f.storage.config.CacheDir)
	if err != nil {
		return errors.Join(err, tree.Close())
	}
	if len(args) == 0 {
		told := fmt.Sprintf("%s:%d:%d: %s: %s (%s ago)", note.Spec, note.Line, note.Column, untabbed(note.Op), untabbed(note.Error),
			duration(time.Since(note.Time).Truncate(time.Second)))
		if len(note.Setting.Args) > 0 {
			told += "; /.genoci/again runs it once more"
		}
		say(stderr, "note: %s\n", told)
	}
	err = errors.Join(f.session.run(ctx, c, tree.Dir(), note.Setting, args), tree.Close())
	if newer, noteErr := build.NoteOfFailed(ctx, drv, target); noteErr == nil && !newer.Time.Equal(note.Time) {
		say(stderr, "note: %s is what a newer failure left by now; what you had open is gone\n", build.FailedRef(target))
	}
	return err
}

// openFailed opens what a failed step of the target left, and the driver that keeps it, where trees
// can be looked at: the program may begin anew.
func (f *storageFlags) openFailed(ctx context.Context, target string) (snapshot.Tree, *build.FailedNote, snapshot.Driver, error) {
	ref := build.FailedRef(target)
	folders, err := f.drivers.Holding(kept.Failed(target))
	if err == nil && len(folders) == 0 {
		err = f.noFailed(ref)
	}
	if err == nil {
		err = sandbox.Enter()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	drv, err := storage.Newest(ctx, folders, kept.Failed(target))
	if err != nil {
		return nil, nil, nil, err
	}
	if drv == nil {
		return nil, nil, nil, f.noFailed(ref)
	}
	tree, note, err := build.OpenFailed(ctx, drv, target)
	switch {
	case errors.Is(err, snapshot.ErrHeld):
		err = withHint(fmt.Errorf("%s: %w", ref, snapshot.ErrHeld), "try again when the shell that is open in it has ended")
	case errors.Is(err, snapshot.ErrNotExist):
		err = f.noFailed(ref)
	}
	return tree, note, drv, err
}

// noFailed is the error for a tree that there is not, with those that there are.
func (f *storageFlags) noFailed(ref string) error {
	err := fmt.Errorf("%s: no failed step left anything", ref)
	if others, otherErr := f.failedRefs(); otherErr == nil && len(others) > 0 {
		return withHint(err, "there is %s", strings.Join(others, ", "))
	}
	return withHint(err, "there is something after a build in which a step failed that runs something")
}

// failedRefs returns what users call the trees that failed steps left, sorted.
func (f *storageFlags) failedRefs() ([]string, error) {
	all, err := f.drivers.Keeping()
	var refs []string
	for _, folder := range all {
		for _, name := range folder.Trees {
			if target, ok := kept.FailedTarget(name); ok {
				refs = append(refs, build.FailedRef(target))
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), err
}

// inImage runs a command in a tree made from an image.
func (f *shellFlags) inImage(ctx context.Context, stderr io.Writer, ref string, args []string) (err error) {
	defer f.storage.flushed()
	c, err := f.storage.enter()
	if err != nil {
		return err
	}
	tree, setting, err := f.treeOf(ctx, stderr, c, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	if len(args) == 0 {
		say(stderr, "note: what is changed here is dropped when the shell ends\n")
	}
	return f.session.run(ctx, c, tree.Dir(), setting, args)
}

// treeOf makes a tree of an image, and says what its config has a command run with. From then on gc
// may remove what it was made of.
func (f *shellFlags) treeOf(ctx context.Context, stderr io.Writer, c *cache.Cache, ref string) (snapshot.Tree, command.Setting, error) {
	var setting command.Setting
	l, img, err := openImage(ctx, f.storage.layout, ref)
	if err != nil {
		return nil, setting, err
	}
	defer l.Close()
	release, err := use(ctx, l, c)
	if err != nil {
		return nil, setting, err
	}
	defer release()
	drv, err := f.storage.open(stderr)
	if err != nil {
		return nil, setting, err
	}
	name, err := imagesOf(c, l, stderr).Snapshot(ctx, drv, img, checkoutsOf(drv).Unpack)
	if err != nil {
		return nil, setting, err
	}
	config := img.Config.Config
	setting = command.Setting{Env: config.Env, Dir: config.WorkingDir, User: config.User}
	tree, err := drv.New(ctx, name)
	return tree, setting, err
}
