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
	"strings"

	"github.com/spf13/cobra"

	"genoci/internal/layer"
	"genoci/internal/rootfs"
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
			ref, at, err := parseOperand(cmd.Name(), args[0])
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

// givesFiles reports whether files that the process makes can belong to anybody: it is root, and
// not only since it looks into a tree.
func givesFiles() bool { return os.Geteuid() == 0 && !inUserNamespace() }

// inUserNamespace reports whether an ordinary user has started the program, which has entered a
// namespace where it is root.
func inUserNamespace() bool { return sandbox.Inside() && sandbox.Rootless() }

// parseOperand takes TAG:/PATH, an argument of the command verb, to pieces. Tags and digests may
// have colons, but none before a slash that ends them.
func parseOperand(verb, text string) (ref, at string, err error) {
	ref, at, ok := strings.Cut(text, ":/")
	if !ok || ref == "" {
		return "", "", withHint(usagef("%s: %q is not TAG:/PATH", verb, text), "as in: genoci %s web:/etc/os-release", verb)
	}
	return ref, at, nil
}

// getter copies out of a root filesystem.
type getter struct {
	stdout, stderr io.Writer
	force          bool
	root           bool // files keep their owners
}

// destination returns the path of the copy that the user wants, which must not be there, or may be
// replaced. at is what is copied.
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
		return "", withHint(usagef("%s: the folder exists already", dest), "name a DEST that does not exist yet")
	case !g.force:
		return "", withHint(usagef("%s: it exists already", dest), "--force replaces it")
	}
	return dest, nil
}

// get copies what root has at a path to dest.
func (g *getter) get(ctx context.Context, root *rootfs.Root, at, dest string) error {
	found, err := rootfs.Find(root.View, at)
	if err != nil {
		return findError(err)
	}
	if found.Named != "" {
		say(g.stderr, "note: /%s is a symlink to %s: /%s is copied\n", quoted(found.Named), quoted(found.Link), quoted(found.Path))
	}
	switch {
	case dest == "-" && found.Entry.Type != layer.TypeFile:
		return withHint(usagef("it is a %s; only files can go to stdout", typeName(found.Entry.Type)), "name a DEST")
	case rootfs.IsDevice(found.Entry):
		return fmt.Errorf("it is a %s; devices are not copied", typeName(found.Entry.Type))
	case dest == "-":
		return g.print(ctx, root, found)
	}
	leftOut, err := rootfs.Copy(ctx, root, found, dest, rootfs.CopyOptions{KeepOwner: g.root, Replace: g.force})
	if n := len(leftOut); n > 0 {
		var names []string
		for _, path := range leftOut[:min(n, maxReasons)] {
			names = append(names, quoted(path))
		}
		if n > maxReasons {
			names = append(names, "...")
		}
		say(g.stderr, "note: left out %s: %s\n", plural(n, "device"), strings.Join(names, ", "))
	}
	return err
}

// print writes the content of a file to stdout.
func (g *getter) print(ctx context.Context, root *rootfs.Root, found rootfs.Found) (err error) {
	r, release, err := rootfs.Content(ctx, root, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	defer r.Close()
	_, err = io.Copy(raw(g.stdout), r)
	return err
}

// findError returns the error of a path that leads to nothing, with a hint.
func findError(err error) error {
	var dangling *rootfs.DanglingError
	var missing *rootfs.NotFoundError
	switch {
	case errors.As(err, &dangling):
		return fmt.Errorf("/%s is a symlink to %s, and there is no /%s", dangling.Named, quoted(dangling.Link), dangling.Path)
	case errors.As(err, &missing):
		dir, name := path.Split(missing.Path)
		if near := spec.Nearest(name, missing.Names); near != "" {
			return withHint(err, "did you mean %s?", quoted(path.Join("/", dir, near)))
		}
	}
	return err
}

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
