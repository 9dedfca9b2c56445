package main

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/sandbox"
)

// status says how a check of doctor ended.
type status string

const (
	fine    status = "ok"
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
	var layoutDir, stateDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and how to mend what it lacks",
		Long: `Doctor tries out what builds need: namespaces, subordinate ids, the storage drivers in the cache folder, file systems, a
static busybox. It looks as the caller, so it may say other things to root than to an ordinary user. For what is
lacking it says how to get it.

Steps that only unpack, copy or remove need none of it.`,
		Example: `  genoci doctor
  genoci doctor --cache-dir /srv/cache --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := cacheDir(stateDir)
			if err != nil {
				return err
			}
			d := examine(dir, layoutDir, sandbox.Enter())
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
	cacheDirVar(cmd.Flags(), &stateDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examine makes all checks. entered is the error of entering a namespace, nil when the process is in one.
func examine(cacheDir, layoutDir string, entered error) diagnosis {
	checks := []check{checkNamespaces(entered)}
	if entered == nil {
		if sandbox.Rootless() {
			checks = append(checks, checkIDs())
		}
		checks = append(checks, checkDrivers(cacheDir)...)
	}
	checks = append(checks, checkFolder("cache", cacheDir), checkFolder("layout", layoutDir), checkBusybox())
	broken := slices.ContainsFunc(checks, func(c check) bool { return c.Status == lacking })
	return diagnosis{OK: !broken, Checks: checks}
}

func checkNamespaces(entered error) check {
	c := check{Name: "namespaces", Status: fine}
	switch {
	case entered != nil:
		c.Status, c.Detail = lacking, entered.Error()
		c.Fix = "see the message; as root no user namespace is needed"
	case sandbox.Rootless():
		c.Detail = "user, mount, pid, uts and ipc, as an ordinary user"
	default:
		c.Detail = "mount, pid, uts and ipc, as root"
	}
	return c
}

// checkIDs looks at the ids that the user namespace has.
func checkIDs() check {
	c := check{Name: "subordinate ids", Status: fine}
	ids, err := user.CurrentProcessUIDMap()
	if err != nil {
		return check{Name: c.Name, Status: slower, Detail: err.Error()}
	}
	var n int64
	for _, m := range ids {
		n += m.Count
	}
	c.Detail = fmt.Sprintf("%d user ids", n)
	if n < 65536 {
		c.Status = slower
		c.Detail += "; package managers need 65536"
		c.Fix = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, with newuidmap (package uidmap) installed"
	}
	return c
}

// checkDrivers opens each storage driver in the cache folder.
func checkDrivers(dir string) []check {
	c, err := cache.Open(dir)
	if err != nil {
		return []check{{Name: "drivers", Status: lacking, Detail: err.Error(), Fix: "name a folder that can be written: --cache-dir DIR"}}
	}
	mode := " as root"
	if sandbox.Rootless() {
		mode = " rootless"
	}
	var checks []check
	works := false
	for _, d := range drivers() {
		if d.open == nil {
			continue
		}
		one := check{Name: d.name + mode, Status: fine, Detail: "works in " + dir}
		if _, err := openDriver(d, c); err != nil {
			one.Status, one.Detail = slower, err.Error()
			one.Fix = "name a cache folder on a local ext4, xfs or btrfs: --cache-dir DIR"
		}
		works = works || one.Status == fine
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
	there := dir
	for {
		if _, err := os.Stat(there); err == nil || there == filepath.Dir(there) {
			break
		}
		there = filepath.Dir(there)
	}
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
	path, err := exec.LookPath("busybox")
	if err != nil {
		c.Detail = "not found: images without a shell cannot run anything"
		return c
	}
	if !isStatic(path) {
		c.Detail = path + " is not static: images without a shell cannot run anything"
		return c
	}
	return check{Name: c.Name, Status: fine, Detail: path}
}

// isStatic reports whether the program at path runs without a dynamic linker.
func isStatic(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

func printDiagnosis(w io.Writer, d diagnosis) {
	var rows [][]string
	for _, c := range d.Checks {
		rows = append(rows, []string{string(c.Status), c.Name, strings.ReplaceAll(c.Detail, "\n", "; ")})
	}
	table(w, rows)
	for _, c := range d.Checks {
		if c.Fix != "" {
			fmt.Fprintf(w, "%s: %s\n", c.Name, c.Fix)
		}
	}
}
