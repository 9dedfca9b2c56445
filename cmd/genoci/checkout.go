package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"genoci/internal/checkout"
	"genoci/internal/snapshot"
)

func newCheckout() *cobra.Command {
	var f storageFlags
	cmd := &cobra.Command{
		Use:   "checkout TAG [DIR]",
		Short: "Make a tree of an image, to change by hand",
		Long: `Checkout makes a copy-on-write tree of an image, for any tool to change. DIR
becomes a symlink to the tree. By default, DIR is a folder of the tag's name in
the present folder, or below --btrfsmount if that is used. Then:

  genoci checkin   makes an image of your changes
  genoci abort     drops them
  genoci chroot    runs a command in the tree
  genoci status    lists all checkouts

You can check out several images at once, and one image several times, each in
a DIR of its own.

As root, the storage driver of builds makes the tree. With overlay it is a
mount, until checkin or abort. After a restart of the machine, the same
checkout command mounts it again, with your changes. An ordinary user cannot
keep a mount. The tree is then a plain folder. Its files share their blocks
with other trees on xfs and btrfs, and are copies elsewhere. Files of users
other than root belong to subordinate ids; genoci chroot can change them.

The path of the link goes to stdout.`,
		Example: `  genoci checkout web                    in ./mounted
  genoci checkout web-2026-11-25_1 /tmp/w
  cd "$(genoci checkout web)"`,
		Args:              upTo(1, "TAG", "DIR"),
		ValidArgsFunction: completeTags(&f.layout, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "" // a default
			if len(args) == 2 {
				dir = args[1]
			}
			return f.checkout(cmd.Context(), args[0], dir, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.addLayout(cmd.Flags())
	f.addDriver(cmd.Flags())
	f.addState(cmd.Flags())
	return cmd
}

// defaultCheckout is where checkout puts its link: as in the original, below the folder that was
// set up for the driver, and where there is none, in the working folder.
func (f *storageFlags) defaultCheckout(driver string) string {
	return filepath.Join(f.drivers.SetUpFolder(driver), "mounted")
}

func (f *storageFlags) checkout(ctx context.Context, tag, dir string, out, messages io.Writer) error {
	defer f.flushed()
	state, err := f.enter()
	if err != nil {
		return err
	}
	l, img, err := openImage(ctx, f.layout, tag)
	if err != nil {
		return err
	}
	defer l.Close()
	release, err := use(ctx, l, state)
	if err != nil {
		return err
	}
	defer release()
	all, err := f.checkouts(ctx, messages)
	if err != nil {
		return err
	}
	c := checkoutAt(all, dir)
	var store checkout.Store
	if c == nil {
		if store, err = f.openShared(messages); err != nil {
			return err
		}
		if dir == "" {
			dir = f.defaultCheckout(store.Driver.String())
			c = checkoutAt(all, dir)
		}
	}
	there := c
	if there != nil {
		store = there.Store // whatever driver it was made with
	}
	c, again, err := store.Open(ctx, imagesOf(state, l, messages), img, tag, dir)
	switch {
	case errors.Is(err, snapshot.ErrUnsupported):
		return withHint(err, "--driver vfs makes a plain folder")
	case errors.Is(err, checkout.ErrTaken) && there != nil && !there.Linked():
		return withHint(usagef("%w", err), "%s shows that again; or name another folder", openAgain(there, l))
	case errors.Is(err, checkout.ErrTaken):
		return withHint(usagef("%w", err), "name another folder: genoci checkout %s DIR; genoci status lists the checkouts", tag)
	case err != nil:
		return err
	}
	how := "checked out"
	if again {
		how = "was checked out already"
	}
	say(messages, "%s %s in %s (driver %s)\n", c.Tag, how, quoted(c.Dir), c.Store.Driver)
	sayPath(out, c.Dir)
	return nil
}

func newAbort() *cobra.Command {
	var f storageFlags
	cmd := &cobra.Command{
		Use:   "abort [DIR]",
		Short: "Drop a checkout and its changes",
		Long: `Abort ends a checkout. It removes the tree and the link to it. Your changes are
lost; the image stays. You can leave DIR out if there is only one checkout, or
if you are in it.`,
		Example: `  genoci abort
  genoci abort /tmp/w`,
		Args: upTo(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := f.enter(); err != nil {
				return err
			}
			all, err := f.checkouts(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			c, err := f.pick(all, first(args))
			if err != nil {
				return err
			}
			if err := c.Abort(cmd.Context()); err != nil {
				return inUse(err, c)
			}
			say(cmd.ErrOrStderr(), "dropped the checkout of %s in %s\n", c.Tag, quoted(c.Dir))
			return nil
		},
	}
	f.addState(cmd.Flags())
	return cmd
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
