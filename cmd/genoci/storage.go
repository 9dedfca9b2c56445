package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
	"genoci/internal/storage"
)

func newStorage() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "storage",
		Short: "Set up and look at the storage of root filesystems",
		Long: `Storage sets up a driver that needs preparation. For btrfs, it makes a btrfs in
a file and mounts it; no other program is needed. For lvm, it makes a volume
group and a thin pool in a file, with the lvm command. Afterwards, builds with
--driver btrfs or lvm keep their trees there.

The settings driver, lofile, btrfsmount, lvbasedir, vg, thinpool, lvsize and
thinsize say where. They have the names of the original's config files.

There is no record of a setup: the file itself shows that genoci made it. If
setup, detach or unsetup is killed, the same command finishes the work. A link
to genoci named lpack accepts the commands of the original: lpack setup, lpack
unsetup.`,
		Example: `  genoci storage status
  genoci storage setup --driver btrfs --lofile /var/lib/genoci.btrfs \
    --btrfsmount /mnt/genoci
  genoci storage setup --driver lvm --lofile /var/lib/genoci.lvm \
    --lvbasedir /mnt/genoci --lvsize 50GB
  genoci storage detach
  genoci storage unsetup`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	for _, sub := range []*cobra.Command{newStorageSetup(), newStorageStatus(), newStorageDetach(), newStorageUnsetup()} {
		sub.Long += "\n\n" + exitHelp
		cmd.AddCommand(sub)
	}
	return cmd
}

// addStorageFlags adds the flags of the storage commands.
func addStorageFlags(cmd *cobra.Command, f *storageFlags) {
	cmd.Flags().SortFlags = false
	f.addDriver(cmd.Flags())
	f.addDriverOwn(cmd.Flags())
	cacheDirVar(cmd.Flags(), &f.config.CacheDir)
}

func newStorageSetup() *cobra.Command {
	var f storageFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make a btrfs or a thin pool in a file, and attach it",
		Long: `Setup makes a btrfs in a file, mounts it, and says what it did. It keeps what
exists, so it also attaches the file again after a restart of the machine. The
file is sparse: it takes as much disk as its content, up to --size, and gives
space back. A larger --size makes it larger.

If the folder --btrfsmount is on a btrfs, setup uses that, and makes no file.
Otherwise it needs root.

For lvm, setup makes a volume group and a thin pool in the file. If the volume
group --vg has the thin pool --thinpool, setup uses these, and makes nothing.`,
		Example: `  genoci storage setup --driver btrfs
  genoci storage setup --driver btrfs --lofile /var/lib/genoci.btrfs \
    --btrfsmount /mnt/genoci --size 50GB
  genoci build --driver btrfs --btrfsmount /mnt/genoci`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := f.backing("setup")
			if err != nil {
				return err
			}
			done, err := b.Setup(cmd.Context())
			for _, what := range done {
				say(cmd.ErrOrStderr(), "%s\n", what)
			}
			if err != nil {
				return storageError("setup", err)
			}
			if f.config.Driver == storage.Auto {
				say(cmd.ErrOrStderr(), "note: builds and checkouts use it with --driver %s, or with that as the setting driver\n", storage.DefaultSetup())
			}
			return printState(cmd.OutOrStdout(), b)
		},
	}
	addStorageFlags(cmd, &f)
	cmd.Flags().Var(&f.size, "size", "`SIZE` that the storage may grow to, as 500MB or 50GB (default 20GiB)")
	return cmd
}

func newStorageDetach() *cobra.Command {
	var f storageFlags
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Unmount the storage, and keep it",
		Long: `Detach unmounts what setup mounted. All content stays, and setup attaches it
again. Detach refuses to run while a process uses the storage.`,
		Example: `  genoci storage detach --driver btrfs`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := f.backing("detach")
			if err != nil {
				return err
			}
			if err := storage.Detach(cmd.Context(), b); err != nil {
				return storageError("detach", err)
			}
			return printState(cmd.OutOrStdout(), b)
		},
	}
	addStorageFlags(cmd, &f)
	return cmd
}

func newStorageUnsetup() *cobra.Command {
	var f storageFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "unsetup",
		Short: "Unmount the storage, and remove it",
		Long: `Unsetup unmounts and removes what setup made, with all content. It first shows
what that is, and asks. Images are in the layout and stay; trees can be made of
them again.

Unsetup refuses to run while a build or a checkout uses the storage. It removes
nothing that setup did not make.`,
		Example: `  genoci storage unsetup --driver btrfs
  genoci storage unsetup --driver btrfs --force`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := f.backing("unsetup")
			if err != nil {
				return err
			}
			err = unsetup(cmd.Context(), b, force, cmd.InOrStdin(), cmd.ErrOrStderr())
			return storageError("unsetup", err)
		},
	}
	addStorageFlags(cmd, &f)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return cmd
}

// unsetup removes b, after it was said what that destroys, and confirmed.
func unsetup(ctx context.Context, b storage.Backing, force bool, in io.Reader, messages io.Writer) error {
	removed, err := storage.Unsetup(ctx, b, func(r storage.Removal) error {
		if force {
			return nil
		}
		what := strings.Join(doomed(r), ", ")
		return confirm(in, messages, "unsetup", what, "removed", fmt.Sprintf("remove %s?", what))
	})
	switch {
	case errors.Is(err, storage.ErrNotSetUp):
		say(messages, "not set up: nothing to remove\n")
		return nil
	case err != nil:
		return err
	case removed != nil:
		say(messages, "removed %s\n", strings.Join(doomed(*removed), ", "))
	}
	return nil
}

// doomed says what unsetup destroys.
func doomed(r storage.Removal) []string {
	var all []string
	switch {
	case r.State.Removed:
		all = append(all, "what is left of "+r.State.File)
	case r.State.Made:
		all = append(all, fmt.Sprintf("%s (%s)", r.State.File, size(r.State.Taken)))
	default:
		all = append(all, r.Dir)
	}
	if r.Snapshots > 0 {
		all = append(all, plural(r.Snapshots, "snapshot"))
	}
	if r.Failed > 0 {
		all = append(all, plural(r.Failed, "tree")+" of failed steps")
	}
	return all
}

// backing returns what the verb is about, if the caller may change that. For an ordinary user, the
// program begins anew where trees can be looked at; root has to stay where mounts are seen by all.
func (f *storageFlags) backing(verb string) (storage.Backing, error) {
	b, err := f.unresolved().Backing()
	if err != nil {
		return nil, storageError(verb, err)
	}
	if os.Geteuid() != 0 && verb != "setup" {
		err = sandbox.Enter()
	}
	return b, err
}

// storageError returns an error of the storage commands with its exit code and a hint.
func storageError(verb string, err error) error {
	var noSetup *storage.NoSetupError
	var notRoot *storage.RootError
	var inUse *storage.CheckedOutError
	switch {
	case errors.As(err, &noSetup):
		return withHint(usagef("storage %s: %w", verb, err), "--driver %s does", noSetup.Other)
	case errors.As(err, &notRoot):
		return withHint(lackingf("storage %s: %w", verb, err),
			"as root: %s; a folder of yours on a btrfs needs no setup: GENOCI_BTRFSMOUNT=DIR", storageCommand(verb, notRoot.Backing))
	case errors.As(err, &inUse):
		var all []string
		for _, c := range inUse.Checkouts {
			all = append(all, fmt.Sprintf("%s (%s)", quoted(c.Dir), c.Tag))
		}
		return withHint(fmt.Errorf("storage %s: %s in it: %s", verb, plural(len(all), "checkout"), strings.Join(all, ", ")),
			"genoci checkin keeps what was changed in a checkout, genoci abort drops it")
	case errors.Is(err, storage.ErrBusy):
		return withHint(fmt.Errorf("storage %s: %w", verb, err), "try again when it has ended")
	case errors.Is(err, snapshot.ErrUnsupported):
		return fmt.Errorf("storage %s: %w", verb, err)
	case errors.Is(err, unix.EPERM):
		return withHint(lackingf("storage %s: %w", verb, err),
			"in a container, this takes --privileged; genoci storage status says which drivers work without")
	}
	return err
}

// storageCommand is the storage command that is about b in any folder.
func storageCommand(verb string, b storage.Backing) string {
	return words(append([]string{"genoci", "storage", verb}, b.Flags()...))
}

// remedyText says what the user can do about a driver that does not work.
func remedyText(r storage.Remedy, driver string) string {
	switch r {
	case storage.LocalCache:
		return "name a cache folder on a local ext4, xfs or btrfs: --cache-dir DIR"
	case storage.WritableCache:
		return "name a cache folder that can be written: --cache-dir DIR"
	case storage.SetUpOrFolder:
		return "as root: genoci storage setup --driver " + driver + "; or name a folder of yours on a btrfs: GENOCI_BTRFSMOUNT=DIR"
	case storage.SetUpOrPool:
		return "as root: genoci storage setup --driver " + driver + "; or name a thin pool that is there: GENOCI_VG=NAME GENOCI_THINPOOL=NAME"
	case storage.SeeDoctor:
		return "genoci doctor says what this machine lacks, and how to mend it"
	}
	return ""
}

// remedyHint says what the user can do about an error of the storage.
func remedyHint(e *storage.Error) hint {
	switch e.Remedy {
	case storage.Attach:
		return advice("%s attaches %s", storageCommand("setup", e.Backing), quoted(e.File))
	case storage.OtherFileOrFolder:
		return advice("name another file or folder: --lofile FILE, --btrfsmount DIR")
	case storage.OtherFileOrGroup:
		return advice("name another file or volume group: --lofile FILE, --vg NAME; or a thin pool that the group has: --thinpool NAME")
	case storage.GiveUp:
		return advice("all in it is lost when the mount ends; genoci storage unsetup does that")
	case storage.CloseVolumes:
		return advice("genoci status lists the checkouts; a build that goes on uses volumes, too")
	case storage.MakeSpace:
		return advice("make space where its file is, then: genoci storage detach, genoci storage setup; what was committed is there again")
	}
	return hint{}
}
