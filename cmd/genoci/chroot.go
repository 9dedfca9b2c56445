package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"genoci/internal/command"
	"genoci/internal/image"
)

// chrootFlags are the flags of chroot.
type chrootFlags struct {
	session sessionFlags
	storage storageFlags
}

func newChroot() *cobra.Command {
	var f chrootFlags
	cmd := &cobra.Command{
		Use:   "chroot [DIR] [COMMAND [ARG...]]",
		Short: "Open a shell, or run a command, in a checkout",
		Long: `Chroot runs a command in a checkout, in the sandbox that steps run in. Without
a command, it opens a shell: the image's bash, otherwise its sh, otherwise a
busybox that genoci lends. It uses the terminal if there is one. The command
runs as root in /, with the environment of the image's config; --user and
--workdir change that. Its changes stay in the checkout. The exit code is the
command's.

DIR is the folder of a checkout. You can leave it out if there is only one, or
if you are in it. Flags stand before DIR.`,
		Example: `  genoci chroot
  genoci chroot apt-get install -y strace
  genoci chroot /tmp/w sh -c 'rm -rf /var/cache/*'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.chroot(cmd.Context(), args, cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.SetInterspersed(false) // what follows is the command's
	f.session.add(fs)
	f.storage.addState(fs)
	return cmd
}

func (f *chrootFlags) chroot(ctx context.Context, args []string, stderr io.Writer) (err error) {
	state, err := f.storage.enter()
	if err != nil {
		return err
	}
	all, err := f.storage.checkouts(ctx, stderr)
	if err != nil {
		return err
	}
	dir := ""
	if len(args) > 0 && checkoutAt(all, args[0]) != nil {
		dir, args = args[0], args[1:]
	}
	if len(args) > 0 && args[0] == "--" { // as for shell
		args = args[1:]
	}
	c, err := f.storage.pick(all, dir)
	if err != nil {
		return err
	}
	images, err := imagesBelow(state, c, stderr)
	if err != nil {
		return err
	}
	img, err := images.Layout.Image(c.Image.String(), image.Host())
	if err = errors.Join(err, images.Layout.Close()); err != nil {
		return err
	}
	tree, err := c.Resume(ctx)
	if err != nil {
		return inUse(err, c)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	if len(args) == 0 {
		say(stderr, "note: in the checkout of %s in %s\n", c.Tag, quoted(c.Dir))
	}
	return f.session.run(ctx, state, tree.Dir(), command.Setting{Env: img.Config.Config.Env}, args)
}
