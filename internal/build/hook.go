package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/command"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/spec"
)

// hooks runs hooks in the tree, one after the other. Post hooks all run, whatever fails.
func (s *step) hooks(ctx context.Context, tree snapshot.Tree, hooks []*spec.Hook) error {
	if len(hooks) == 0 {
		return nil
	}
	if err := s.enterHooks(tree); err != nil {
		return s.opError(s.n, s.Step, spec.Action{Op: hooks[0], Pos: hooks[0].Pos}, err, nil)
	}
	var errs []error
	for _, h := range hooks {
		a := spec.Action{Op: h, Pos: h.Pos}
		s.opStarted(a)
		out := s.newOutput()
		err := s.hook(ctx, s.room, h, out)
		if err == nil {
			out.Tail()
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, s.opError(s.n, s.Step, a, err, out.Tail()))
		if !h.Post {
			break
		}
	}
	return errors.Join(errs...)
}

// cleanUp runs the post hooks of an image that failed with err after its pre hooks began, and where no tree was at hand in which post hooks could
// run. They have one as it was before the step that failed, or an empty one where that cannot be had; it goes afterwards.
func (b *Builder) cleanUp(ctx context.Context, nodes nodes, n *node, err error) error {
	last := n.Steps[len(n.Steps)-1]
	if !n.hooksOn || len(last.Post) == 0 {
		return err
	}
	n.hooksOn = false
	ctx = context.WithoutCancel(ctx)
	st := &step{Builder: b, nodes: nodes, n: n, Step: last}
	st.setRunner()
	tree, treeErr := st.newTree(ctx)
	if treeErr != nil {
		tree, treeErr = b.opened.New(ctx, "")
	}
	if treeErr != nil {
		return errors.Join(err, b.stepError(n, last, fmt.Errorf("make a tree for post hooks: %w", treeErr)))
	}
	return errors.Join(err, st.hooks(ctx, tree, last.Post), st.leaveHooks(), tree.Close())
}

// hook runs one.
func (s *step) hook(ctx context.Context, room *hookRoom, h *spec.Hook, out *command.Output) error {
	args, err := s.hookArgs(h, room)
	if err != nil {
		return err
	}
	env := append(os.Environ(), "GENOCI_TARGET="+s.n.String(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.n.epoch))
	cmd := &sandbox.HostCmd{Args: args, Env: append(env, room.env()...), Dir: s.src.Dir, Output: out}
	return cmd.Run(ctx)
}

// hookArgs returns the words of the command that a hook is.
func (s *step) hookArgs(h *spec.Hook, room *hookRoom) ([]string, error) {
	file := s.src.Abs(h.Script)
	if fi, err := os.Stat(file); !h.IsWord() || err != nil || !fi.Mode().IsRegular() {
		return []string{"/bin/sh", "-e", "-c", strings.ReplaceAll(h.Script, "%ROOT%", room.Root())}, nil
	}
	program, arg, err := command.Interpreter(file)
	switch {
	case err != nil:
		return nil, err
	case program == "":
		return []string{"/bin/sh", "-e", file}, nil
	case program == file:
		return []string{file}, nil
	case arg == "":
		return []string{program, file}, nil
	}
	return []string{program, arg, file}, nil
}

// hookRoom is what hooks of a step see of its tree.
type hookRoom struct {
	*sandbox.TreeView
	remove func() error // removes the folder at which it is mounted
}

// enterHooks makes the room for the hooks of the step, unless it is there.
func (s *step) enterHooks(tree snapshot.Tree) error {
	if s.room != nil {
		return nil
	}
	dir, remove, err := hookFolder(s.Cache)
	if err != nil {
		return err
	}
	view, err := sandbox.ShowTree(tree.Dir(), dir)
	if err != nil {
		return errors.Join(err, remove())
	}
	s.room = &hookRoom{view, remove}
	return s.room.furnish()
}

// leaveHooks ends the room, if there is one, and all that hooks have mounted in the tree.
func (s *step) leaveHooks() error {
	if s.room == nil {
		return nil
	}
	room := s.room
	s.room = nil
	if err := room.Close(); err != nil {
		return err // the folder stays: what is mounted there is not to be removed
	}
	return room.remove()
}

// hookFolder makes an empty folder whose path is the same word in every shell, quoted or not.
func hookFolder(c *cache.Cache) (dir string, remove func() error, err error) {
	if dir, remove, err = command.Folder(c); err != nil || isPlain(dir) {
		return dir, remove, err
	}
	if err := remove(); err != nil {
		return "", nil, err
	}
	for _, place := range []string{os.TempDir(), "/tmp", "/var/tmp", "/dev/shm"} {
		if !isPlain(place) {
			continue
		}
		if dir, err = os.MkdirTemp(place, "genoci-"); err == nil {
			return dir, func() error { return os.Remove(dir) }, nil
		}
	}
	return "", nil, fmt.Errorf("hooks need a folder whose path needs no quotes in a shell, and %w", err)
}

// isPlain reports whether path is absolute, and a shell takes it as it is.
func isPlain(path string) bool {
	return filepath.IsAbs(path) && strings.IndexFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@", r))
	}) < 0
}

// chrootScript is a chroot(1) before the host's own in PATH. Programs of the image follow the image's links, so their root is the view for that.
const chrootScript = `#!/bin/sh
for arg do
	shift
	case $arg in "$GENOCI_ROOT" | "$GENOCI_ROOT/") arg=$GENOCI_CHROOT ;; esac
	set -- "$@" "$arg"
done
exec "${0%/*}/host/chroot" "$@"
`

// programs is the folder of programs for hooks in the room.
func (r *hookRoom) programs() string { return filepath.Join(r.Extra(), "bin") }

// furnish puts the programs for hooks into the room.
func (r *hookRoom) furnish() error {
	host := ""
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/bin", "/bin") {
		if file := filepath.Join(dir, "chroot"); filepath.IsAbs(file) && unix.Access(file, unix.X_OK) == nil {
			host = file
			break
		}
	}
	if err := os.MkdirAll(filepath.Join(r.programs(), "host"), 0o755); err != nil || host == "" {
		return err
	}
	return errors.Join(
		os.Symlink(host, filepath.Join(r.programs(), "host", "chroot")),
		os.WriteFile(filepath.Join(r.programs(), "chroot"), []byte(chrootScript), 0o755),
	)
}

// env is what the environment of hooks says of the room.
func (r *hookRoom) env() []string {
	path := r.programs()
	if have, ok := os.LookupEnv("PATH"); ok {
		path += ":" + have
	}
	return []string{"GENOCI_ROOT=" + r.Root(), "GENOCI_CHROOT=" + r.Chroot(), "PATH=" + path}
}
