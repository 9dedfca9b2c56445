package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/command"
	"genoci/internal/sandbox"
)

// status says how a check of doctor ended.
type status string

const (
	fine    status = "ok"
	unused  status = "unused"  // a storage driver that is not set up, and not needed
	slower  status = "warning" // builds work; some are slower, or some specs do not work
	lacking status = "lacking" // run, install and hooks do not work
)

// check is a thing that doctor looked at. It is an element of what doctor --json prints.
type check struct {
	Name   string `json:"name"`
	Status status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// diagnosis is what doctor --json prints.
type diagnosis struct {
	OK     bool    `json:"ok"` // nothing is lacking
	Checks []check `json:"checks"`
}

func newDoctor() *cobra.Command {
	var layoutDir string
	var storage storageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine lacks, and how to get it",
		Long: `Doctor tests what builds need: namespaces, subordinate ids, the storage drivers
in the cache folder, file systems, and a static busybox. It tests as the
caller, so root and an ordinary user may get different results. For each thing
that is missing, it says how to get it.

Steps that only unpack, copy or remove need none of this.`,
		Example: `  genoci doctor
  genoci doctor --cache-dir /srv/cache --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := storage.resolve()
			if err != nil {
				return err
			}
			d := examine(cmd.Context(), &storage, layoutDir)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), d)
			} else {
				printDiagnosis(cmd.OutOrStdout(), d)
			}
			if err == nil && !d.OK {
				err = &cliError{err: errors.New("this machine lacks something"), code: exitLacking, told: true}
			}
			return err
		},
	}
	layoutVar(cmd.Flags(), &layoutDir)
	storage.addHidden(cmd.Flags())
	cacheDirVar(cmd.Flags(), &storage.cacheDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examine makes all checks.
func examine(ctx context.Context, storage *storageFlags, layoutDir string) diagnosis {
	var checks []check
	for _, f := range sandbox.Check() {
		c := check{Name: f.Name, Status: fine, Detail: f.Detail, Fix: f.Fix}
		switch {
		case !f.OK:
			c.Status = lacking
		case f.Fix != "":
			c.Status = slower
		}
		checks = append(checks, c)
	}
	if !isLacking(checks) {
		checks = append(checks, checkDrivers(storage.probe(ctx))...)
	}
	checks = append(checks, checkFolder("cache", storage.cacheDir), checkFolder("layout", layoutDir), checkBusybox())
	return diagnosis{OK: !isLacking(checks), Checks: checks}
}

func isLacking(checks []check) bool {
	return slices.ContainsFunc(checks, func(c check) bool { return c.Status == lacking })
}

// checkDrivers says which storage drivers work. A driver that nobody asked for may lack what it needs.
func checkDrivers(reports []driverReport, err error) []check {
	if err != nil {
		return []check{{Name: "drivers", Status: lacking, Detail: err.Error(), Fix: "name a folder that can be written: --cache-dir DIR"}}
	}
	mode := " as root"
	if sandbox.Rootless() {
		mode = " rootless"
	}
	var checks []check
	works := false
	for _, r := range reports {
		one := check{Name: r.Name + mode, Status: fine, Detail: "works in " + r.Dir}
		switch {
		case r.Works:
			works = true
		case r.Expected:
			one.Status, one.Detail, one.Fix = slower, r.Why, r.Fix
		default:
			one.Status, one.Detail = unused, r.Why
		}
		checks = append(checks, one)
	}
	if !works {
		for i := range checks {
			checks[i].Status = lacking
		}
	}
	return checks
}

// checkFolder says which file system the folder is on, or will be on, and what it can do.
func checkFolder(name, dir string) check {
	c := check{Name: name + " folder", Status: fine}
	there := existingFolder(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(there, &fs); err != nil {
		return check{Name: c.Name, Status: slower, Detail: (&os.PathError{Op: "statfs", Path: there, Err: err}).Error()}
	}
	c.Detail = fmt.Sprintf("%s on %s, %s free", dir, fsName(fs.Type), size(int64(fs.Bavail)*fs.Bsize))
	switch err := unix.Access(there, unix.W_OK); {
	case err != nil:
		c.Status, c.Fix = slower, "make it writable, or name another folder"
		c.Detail += ", not writable"
	case name == "cache" && reflinks(there):
		c.Detail += ", copies share their blocks (reflink)"
	case name == "cache":
		c.Detail += ", no reflink: the vfs driver copies all bytes"
	}
	return c
}

// fsName returns the name of a file system by its number (statfs(2)).
func fsName(magic int64) string {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs",
		0x2fc12fc1: "zfs", unix.V9FS_MAGIC: "9p",
	}
	return cmp.Or(names[magic], fmt.Sprintf("a file system of type 0x%x", magic))
}

// reflinks reports whether files in dir can share blocks (FICLONE, ioctl_ficlone(2)).
func reflinks(dir string) bool {
	from, err := os.CreateTemp(dir, ".genoci-doctor-")
	if err != nil {
		return false
	}
	defer os.Remove(from.Name())
	defer from.Close()
	to, err := os.CreateTemp(dir, ".genoci-doctor-")
	if err != nil {
		return false
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil
}

// checkBusybox looks for the busybox that images without a shell are lent.
func checkBusybox() check {
	c := check{Name: "busybox", Status: slower, Fix: "install the package busybox-static, or name one: --busybox FILE"}
	path, err := command.StaticBusybox()
	if err != nil {
		c.Detail = err.Error() + ": images without a shell cannot run anything"
		return c
	}
	return check{Name: c.Name, Status: fine, Detail: path}
}

func printDiagnosis(w io.Writer, d diagnosis) {
	var rows [][]string
	for _, c := range d.Checks {
		rows = append(rows, []string{string(c.Status), c.Name, strings.ReplaceAll(c.Detail, "\n", "; ")})
	}
	table(w, rows)
	for _, c := range d.Checks {
		if c.Fix != "" {
			say(w, "%s: %s\n", c.Name, c.Fix)
		}
	}
}
