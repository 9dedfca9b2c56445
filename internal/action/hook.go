package action

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
	"genoci/internal/source"
	"genoci/internal/spec"
)

// HookRoom is what hooks of a step see of its tree.
type HookRoom struct {
	view   *sandbox.TreeView
	remove func() error // removes the folder at which it is mounted
}

// EnterHooks makes the room for the hooks of a step, whose tree has the root folder root.
func EnterHooks(c *cache.Cache, root string) (*HookRoom, error) {
	dir, remove, err := hookFolder(c)
	if err != nil {
		return nil, err
	}
	view, err := sandbox.ShowTree(root, dir)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	r := &HookRoom{view, remove}
	return r, r.furnish()
}

// Close ends the room, and all that hooks have mounted in the tree.
func (r *HookRoom) Close() error {
	if err := r.view.Close(); err != nil {
		return err // the folder stays: what is mounted there is not to be removed
	}
	return r.remove()
}

// Below returns the root folder of the tree without what hooks have mounted in it.
func (r *HookRoom) Below() string { return r.view.Below() }

// Run runs a hook of a target on the host.
func (r *HookRoom) Run(ctx context.Context, src *source.Source, h *spec.Hook, target string, epoch int64, out *command.Output) error {
	args, err := r.args(src, h)
	if err != nil {
		return err
	}
	env := append(os.Environ(), "GENOCI_TARGET="+target, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch))
	cmd := &sandbox.HostCmd{Args: args, Env: append(env, r.env()...), Dir: src.Dir, Output: out}
	return cmd.Run(ctx)
}

// args returns the words of the command that a hook is.
func (r *HookRoom) args(src *source.Source, h *spec.Hook) ([]string, error) {
	file := src.Abs(h.Script)
	if fi, err := os.Stat(file); !h.IsWord() || err != nil || !fi.Mode().IsRegular() {
		return []string{"/bin/sh", "-e", "-c", strings.ReplaceAll(h.Script, "%ROOT%", r.view.Root())}, nil
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

// chrootScript is a chroot(1) before the host's own in PATH. Programs of the image follow the
// image's links, so their root is the view for that.
const chrootScript = `#!/bin/sh
for arg do
	shift
	case $arg in "$GENOCI_ROOT" | "$GENOCI_ROOT/") arg=$GENOCI_CHROOT ;; esac
	set -- "$@" "$arg"
done
exec "${0%/*}/host/chroot" "$@"
`

// programs is the folder of programs for hooks in the room.
func (r *HookRoom) programs() string { return filepath.Join(r.view.Extra(), "bin") }

// furnish puts the programs for hooks into the room.
func (r *HookRoom) furnish() error {
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
func (r *HookRoom) env() []string {
	path := r.programs()
	if have, ok := os.LookupEnv("PATH"); ok {
		path += ":" + have
	}
	return []string{"GENOCI_ROOT=" + r.view.Root(), "GENOCI_CHROOT=" + r.view.Chroot(), "PATH=" + path}
}
