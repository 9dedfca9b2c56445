package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/command"
	"genoci/internal/sandbox"
	"genoci/internal/storage"
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
	var f storageFlags
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
			err := f.resolve()
			if err != nil {
				return err
			}
			d := f.examine(cmd.Context())
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
	f.addLayout(cmd.Flags())
	f.addState(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examine makes all checks.
func (f *storageFlags) examine(ctx context.Context) diagnosis {
	var checks []check
	for _, feature := range sandbox.Check() {
		c := check{Name: feature.Name, Status: fine, Detail: feature.Detail, Fix: feature.Fix}
		switch {
		case !feature.OK:
			c.Status = lacking
		case feature.Fix != "":
			c.Status = slower
		}
		checks = append(checks, c)
	}
	if !isLacking(checks) {
		checks = append(checks, checkDrivers(f.drivers.Probe(ctx))...)
	}
	checks = append(checks, checkFolder("cache", f.config.CacheDir, true), checkFolder("layout", f.layout, false), checkBusybox())
	return diagnosis{OK: !isLacking(checks), Checks: checks}
}

func isLacking(checks []check) bool {
	return slices.ContainsFunc(checks, func(c check) bool { return c.Status == lacking })
}

// checkDrivers says which storage drivers work. A driver that nobody asked for may lack what it
// needs.
func checkDrivers(reports []storage.Report, err error) []check {
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
			one.Status, one.Detail, one.Fix = slower, r.Why, remedyText(r.Remedy, r.Name)
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

// checkFolder says which file system the folder is on, or will be on, and what it can do. copies
// says whether it is to say what copies of files take there.
func checkFolder(name, dir string, copies bool) check {
	c := check{Name: name + " folder", Status: fine}
	disk, err := storage.DiskOf(dir, copies)
	if err != nil {
		return check{Name: c.Name, Status: slower, Detail: err.Error()}
	}
	c.Detail = fmt.Sprintf("%s on %s, %s free", dir, fsName(disk.Type), size(disk.Free))
	switch {
	case !disk.Writable:
		c.Status, c.Fix = slower, "make it writable, or name another folder"
		c.Detail += ", not writable"
	case copies && disk.Reflink:
		c.Detail += ", copies share their blocks (reflink)"
	case copies:
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
