package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/layer"
	"genoci/internal/sandbox"
	"genoci/internal/spec"
)

func newGet() *cobra.Command {
	var f storageFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "get TAG:/PATH [DEST]",
		Short: "Copy a file or folder out of an image or a tree",
		Long: `Get copies a file or folder out of an image without unpacking the image. It
finds PATH in the indexes of the layers, and reads only the layers that hold
it. In place of TAG you can give a digest, the folder of a checkout, or
TARGET@failed, the tree of a failed step. Get follows symlinks as programs in
the image would.

DEST is the name of the copy, or an existing folder for it; the default is the
current folder. If DEST is -, the content of the file goes to stdout; on a
terminal, odd characters are escaped. Get does not overwrite anything. With
--force it replaces a file, but never a folder. If get fails, it removes the
partial copy. A killed get leaves a folder .genoci-get-*, which the next get
into the same folder removes.

Get copies folders with everything in them: modes, times, symlinks and hard
links. As root, files keep their owners. As an ordinary user, all files belong
to you, and lose their setuid and setgid bits. Devices are left out.`,
		Example: `  genoci get web:/etc/nginx/nginx.conf
  genoci get web:/etc/os-release - | grep VERSION
  genoci get sha256:6c3c62:/usr/share/doc /tmp/doc
  genoci get ./mounted:/etc/hosts
  genoci get web@failed:/var/log/build.log`,
		Args:              upTo(1, "TAG:/PATH", "DEST"),
		ValidArgsFunction: completePaths(&f),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, at, err := parseOperand(args[0])
			if err != nil {
				return err
			}
			g := getter{stderr: cmd.ErrOrStderr(), stdout: cmd.OutOrStdout(), force: force, root: givesFiles()}
			dest := ""
			if len(args) == 2 {
				dest = args[1]
			}
			if dest != "-" { // before anything is read
				if dest, err = g.destination(dest, at); err != nil {
					return err
				}
			}
			root, release, err := f.openRoot(cmd.Context(), cmd.ErrOrStderr(), ref)
			if err != nil {
				return err
			}
			defer release()
			if err := g.get(cmd.Context(), root, at, dest); err != nil {
				return fmt.Errorf("get %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.addLayout(cmd.Flags())
	f.addState(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return withSpareCache(cmd, &f.config.CacheDir)
}

// givesFiles reports whether files that the process makes can belong to anybody: it is root, and not only since it looks into a tree.
func givesFiles() bool { return os.Geteuid() == 0 && !inUserNamespace() }

// inUserNamespace reports whether an ordinary user has started the program, which has entered a namespace where it is root.
func inUserNamespace() bool { return sandbox.Inside() && sandbox.Rootless() }

// parseOperand takes TAG:/PATH to pieces. Tags and digests may have colons, but none before a slash that ends them.
func parseOperand(text string) (ref, at string, err error) {
	ref, at, ok := strings.Cut(text, ":/")
	if !ok || ref == "" {
		return "", "", withHint(usagef("get: %q is not TAG:/PATH", text), "as in: genoci get web:/etc/os-release")
	}
	return ref, at, nil
}

// filesystem is what can be copied from.
type filesystem interface {
	layer.View

	// Subtree returns what stands at the canonical path and below it, as layer.Apply wants it, with paths relative to path. release is
	// due when nothing is read any more.
	Subtree(ctx context.Context, path string) (changes []layer.Change, release func() error, err error)
}

// getter copies out of a root filesystem.
type getter struct {
	stdout, stderr io.Writer
	force          bool
	root           bool // files keep their owners
}

// destination returns the path of the copy that the user wants, which must not be there, or may be replaced. at is what is copied.
func (g *getter) destination(dest, at string) (string, error) {
	base := path.Base(path.Clean("/" + at))
	if dest == "" {
		dest = "."
	}
	info, err := os.Stat(dest)
	switch {
	case err == nil && info.IsDir() && base != "/":
		dest = filepath.Join(dest, base)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case err != nil && strings.HasSuffix(dest, "/"):
		return "", withHint(usagef("%s: no such folder", dest), "make it first, or leave out the slash to give the copy this name")
	}
	switch info, err := os.Lstat(dest); {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(dest)); err != nil {
			return "", withHint(usagef("%s: no such folder", filepath.Dir(dest)), "make it first")
		}
		return dest, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", withHint(usagef("%s: is a folder that is there already", dest), "name a DEST that does not exist yet")
	case !g.force:
		return "", withHint(usagef("%s: is there already", dest), "--force replaces it")
	}
	return dest, nil
}

// get copies what root has at a path to dest.
func (g *getter) get(ctx context.Context, root filesystem, at, dest string) (err error) {
	real, err := g.find(root, at)
	if err != nil {
		return err
	}
	e, _, err := root.Lookup(real)
	switch {
	case err != nil:
		return err
	case dest == "-" && e.Type != layer.TypeFile:
		return withHint(usagef("it is a %s; only files can go to stdout", typeName(e.Type)), "name a DEST")
	case isDevice(e):
		return fmt.Errorf("it is a %s; devices are not copied", typeName(e.Type))
	}
	changes, release, err := root.Subtree(ctx, real)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if dest == "-" {
		return g.print(changes[0])
	}
	return g.place(ctx, g.copied(changes), dest)
}

// find returns the canonical path of what is at a path, symlinks followed.
func (g *getter) find(root filesystem, at string) (string, error) {
	named, err := layer.Resolve(root, at, false)
	if err != nil {
		return "", err
	}
	real, err := layer.Resolve(root, at, true)
	if err != nil {
		return "", err
	}
	link, ok, err := root.Lookup(named)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", notThere(root, named)
	case link.Type != layer.TypeSymlink:
		return real, nil
	}
	if _, ok, err := root.Lookup(real); err != nil || !ok {
		return "", errors.Join(err, fmt.Errorf("/%s is a symlink to %s, and there is no /%s", named, quoted(link.Link), real))
	}
	say(g.stderr, "note: /%s is a symlink to %s: /%s is copied\n", quoted(named), quoted(link.Link), quoted(real))
	return real, nil
}

// notThere is the error for a path that has nothing.
func notThere(root filesystem, at string) error {
	dir, name := path.Split(at)
	dir = path.Clean(dir)
	var names []string
	for e, err := range root.Children(dir) {
		if err != nil {
			return err
		}
		names = append(names, path.Base(e.Path))
	}
	err := fmt.Errorf("/%s: %w", at, fs.ErrNotExist)
	if near := spec.Nearest(name, names); near != "" {
		return withHint(err, "did you mean %s?", quoted(path.Join("/", dir, near)))
	}
	return err
}

// copied returns what is copied of changes: no devices, and no setuid bits of files that get another owner.
func (g *getter) copied(changes []layer.Change) []layer.Change {
	var devices []string
	changes = slices.DeleteFunc(changes, func(ch layer.Change) bool {
		if isDevice(ch.Entry) {
			devices = append(devices, quoted(ch.Path))
		}
		return isDevice(ch.Entry)
	})
	if n := len(devices); n > 0 {
		if n > maxReasons {
			devices = append(devices[:maxReasons], "...")
		}
		say(g.stderr, "note: left out %s: %s\n", plural(n, "device"), strings.Join(devices, ", "))
	}
	for i := range changes {
		if !g.root && changes[i].Type != layer.TypeDir {
			changes[i].Mode &^= 0o6000
		}
	}
	return changes
}

// print writes the content of a file to stdout.
func (g *getter) print(file layer.Change) error {
	if file.Open == nil {
		return nil
	}
	r, err := file.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(raw(g.stdout), r)
	return err
}

// place puts changes, the first of which is the copy itself, to dest: all or nothing. They are made in a folder beside it that nobody
// else can enter.
func (g *getter) place(ctx context.Context, changes []layer.Change, dest string) (err error) {
	temp, err := newUnfinished(filepath.Dir(dest))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.remove()) }()
	made := filepath.Join(temp.dir, "copy")
	o := layer.UnpackOptions{KeepOwner: g.root}
	if changes[0].Type != layer.TypeDir {
		changes[0].Path, changes[0].Group = "copy", ""
		err = layer.Apply(ctx, temp.dir, changes, o)
	} else {
		made = temp.dir // it is renamed in its place: a folder that its owner may not write to could not be moved
		if err = layer.Apply(ctx, made, changes[1:], o); err == nil {
			err = temp.unmark()
		}
		if err == nil {
			err = layer.Apply(ctx, made, changes[:1], o)
		}
	}
	if err != nil {
		return err
	}
	if g.force && changes[0].Type != layer.TypeDir {
		return os.Rename(made, dest)
	}
	err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, dest, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot do that
		if _, err := os.Lstat(dest); err == nil {
			return &fs.PathError{Op: "make", Path: dest, Err: fs.ErrExist}
		}
		return os.Rename(made, dest)
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: dest, Err: err}
	}
	return nil
}

// isDevice reports whether an entry is a device node.
func isDevice(e layer.Entry) bool { return e.Type == layer.TypeChar || e.Type == layer.TypeBlock }

// typeName returns what people call a type of entries.
func typeName(t layer.Type) string {
	switch t {
	case layer.TypeFile:
		return "file"
	case layer.TypeDir:
		return "folder"
	case layer.TypeSymlink:
		return "symlink"
	case layer.TypeChar:
		return "character device"
	case layer.TypeBlock:
		return "block device"
	case layer.TypeFIFO:
		return "fifo"
	}
	return "?"
}
