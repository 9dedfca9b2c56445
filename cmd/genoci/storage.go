package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
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
func addStorageFlags(cmd *cobra.Command, s *storageFlags) {
	cmd.Flags().SortFlags = false
	driverVar(cmd.Flags(), &s.driver)
	s.addPlaces(cmd.Flags())
	cacheDirVar(cmd.Flags(), &s.cacheDir)
}

func newStorageSetup() *cobra.Command {
	var s storageFlags
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
			b, err := s.backing("setup")
			if err != nil {
				return err
			}
			done, err := b.setup(cmd.Context())
			for _, what := range done {
				say(cmd.ErrOrStderr(), "%s\n", what)
			}
			if err != nil {
				return storageError("setup", err)
			}
			if s.driver == "auto" {
				say(cmd.ErrOrStderr(), "note: builds and checkouts use it with --driver %s, or with that as the setting driver\n", defaultSetup)
			}
			return printState(cmd.OutOrStdout(), b)
		},
	}
	addStorageFlags(cmd, &s)
	cmd.Flags().Var(&s.size, "size", "`SIZE` that the storage may grow to, as 500MB or 50GB (default 20GiB)")
	return cmd
}

func newStorageDetach() *cobra.Command {
	var s storageFlags
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Unmount the storage, and keep it",
		Long: `Detach unmounts what setup mounted. All content stays, and setup attaches it
again. Detach refuses to run while a process uses the storage.`,
		Example: `  genoci storage detach --driver btrfs`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.backing("detach")
			if err != nil {
				return err
			}
			// What cannot be looked at, as after an error of the disk, is detached all the more.
			if c, err := contentsOf(cmd.Context(), b); err == nil {
				if err := c.checkIdle("detach"); err != nil {
					return err
				}
			}
			if err := b.detach(); err != nil {
				return storageError("detach", err)
			}
			return printState(cmd.OutOrStdout(), b)
		},
	}
	addStorageFlags(cmd, &s)
	return cmd
}

func newStorageUnsetup() *cobra.Command {
	var s storageFlags
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
			b, err := s.backing("unsetup")
			if err != nil {
				return err
			}
			err = unsetup(cmd.Context(), b, force, cmd.InOrStdin(), cmd.ErrOrStderr())
			return storageError("unsetup", err)
		},
	}
	addStorageFlags(cmd, &s)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return cmd
}

// unsetup removes b, when it was said what that destroys, and confirmed.
func unsetup(ctx context.Context, b backing, force bool, in io.Reader, messages io.Writer) error {
	s, err := b.state()
	switch {
	case err != nil:
		return err
	case s.Foreign, s.Halfway:
		return b.destroy() // which refuses, or removes what is left
	case !s.Made && (!s.Given || !hasStore(filepath.Join(s.Mount, storeName))):
		say(messages, "not set up: nothing to remove\n")
		return nil
	}
	wasReady := s.ready()
	if !wasReady { // to see whether somebody has a checkout there
		if _, err := b.setup(ctx); err != nil {
			return err
		}
	}
	c, err := contentsOf(ctx, b)
	if err == nil {
		err = c.checkUnused("unsetup")
	}
	if err == nil && !force {
		what := strings.Join(doomed(s, c), ", ")
		err = confirm(in, messages, "unsetup", what, "removed", fmt.Sprintf("remove %s?", what))
	}
	if err != nil {
		if !wasReady {
			err = errors.Join(err, b.detach())
		}
		return err
	}
	if err := b.destroy(); err != nil {
		return err
	}
	say(messages, "removed %s\n", strings.Join(doomed(s, c), ", "))
	return nil
}

// doomed says what unsetup destroys.
func doomed(s backingState, c contents) []string {
	var all []string
	switch {
	case s.Removed:
		all = append(all, "what is left of "+s.File)
	case s.Made:
		all = append(all, fmt.Sprintf("%s (%s)", s.File, size(s.Taken)))
	default:
		all = append(all, s.Mount+"/genoci")
	}
	if c.snapshots > 0 {
		all = append(all, plural(c.snapshots, "snapshot"))
	}
	if c.failed > 0 {
		all = append(all, plural(c.failed, "tree")+" of failed steps")
	}
	return all
}

// storageReport is what storage status --json prints.
type storageReport struct {
	Driver  string         `json:"driver"`          // the setting
	Takes   string         `json:"takes,omitempty"` // the driver that a build takes
	Drivers []driverReport `json:"drivers"`
}

func newStorageStatus() *cobra.Command {
	var s storageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which storage drivers work, and what is set up",
		Long: `Status tests the storage drivers as the caller. For each it says where it keeps
its trees, what is set up for it, and, if it does not work, why and what would
help. It also says which driver a build takes.`,
		Example: `  genoci storage status
  genoci storage status --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.resolve(); err != nil {
				return err
			}
			if _, err := openCache(s.cacheDir); err != nil {
				return err
			}
			reports, err := s.probe(cmd.Context())
			if err != nil {
				return err
			}
			r := storageReport{Driver: s.driver, Takes: s.takes(reports), Drivers: reports}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			printStorage(cmd.OutOrStdout(), r)
			return nil
		},
	}
	addStorageFlags(cmd, &s)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// takes returns the driver that a build takes, "" if none works.
func (s *storageFlags) takes(reports []driverReport) string {
	for _, r := range reports {
		if r.Works && (r.Name == s.driver || s.driver == "auto" && r.Expected) {
			return r.Name
		}
	}
	return ""
}

func printStorage(w io.Writer, r storageReport) {
	for _, d := range r.Drivers {
		mark := "works"
		if !d.Works {
			mark = "does not work"
		}
		say(w, "%s %s in %s\n", d.Name, mark, d.Dir)
		lines := d.lines()
		for _, line := range lines {
			say(w, "  %s\n", line)
		}
	}
	switch {
	case r.Takes == "":
		say(w, "a build with --driver %s fails\n", r.Driver)
	case r.Driver == "auto":
		say(w, "--driver auto takes %s\n", r.Takes)
	default:
		say(w, "a build takes %s\n", r.Takes)
	}
}

// lines says what else is known of the driver.
func (d driverReport) lines() []string {
	var lines []string
	if d.Backing != nil {
		lines = d.Backing.lines()
	}
	switch {
	case d.Why != "":
		lines = append(lines, "why: "+d.Why)
		if d.Fix != "" {
			lines = append(lines, "hint: "+d.Fix)
		}
	case d.copier && d.Reflink:
		lines = append(lines, "copies share their blocks (reflink)")
	case d.copier:
		lines = append(lines, "no reflink: copies take all bytes")
	}
	return lines
}

func printState(w io.Writer, b backing) error {
	s, err := b.state()
	if err != nil {
		return err
	}
	for _, line := range s.lines() {
		say(w, "%s\n", line)
	}
	return nil
}

// defaultSetup is the driver that is set up where none is named: the one that needs no other program.
const defaultSetup = "btrfs"

// backing returns what the verb is about, if the caller may change that. For an ordinary user, the program begins anew where trees can be
// looked at; root has to stay where mounts are seen by all.
func (s *storageFlags) backing(verb string) (backing, error) {
	name := s.driver
	if name == "auto" {
		name = defaultSetup
	}
	for _, d := range s.drivers() {
		if d.name != name {
			continue
		}
		if d.backing == nil {
			return nil, withHint(usagef("storage %s: the driver %s needs no setup", verb, name), "--driver %s does", defaultSetup)
		}
		b, err := d.backing()
		if err == nil {
			err = mayBeUser(b, verb)
		}
		if err == nil && os.Geteuid() != 0 && verb != "setup" {
			err = sandbox.Enter()
		}
		return b, err
	}
	return nil, usagef("storage %s: no driver %s", verb, name)
}

// storageError gives an error of the system its exit code.
func storageError(verb string, err error) error {
	switch {
	case errors.Is(err, snapshot.ErrUnsupported):
		return fmt.Errorf("storage %s: %w", verb, err)
	case errors.Is(err, unix.EPERM):
		return withHint(lackingf("storage %s: %w", verb, err), "in a container, this takes --privileged; genoci storage status says which drivers work without")
	}
	return err
}
