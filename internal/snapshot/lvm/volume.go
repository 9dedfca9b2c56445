package lvm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// Tag is what all volumes and groups have that genoci has made, and nothing else has.
const Tag = "genoci"

// prefix is what the names of this driver's volumes begin with.
const prefix = "genoci_"

// volume is a logical volume.
type volume struct{ group, name string }

func (v volume) String() string { return v.group + "/" + v.name }

// parseVolume is the inverse of String.
func parseVolume(text string) (volume, error) {
	group, name, ok := strings.Cut(strings.TrimSpace(text), "/")
	if !ok {
		return volume{}, fmt.Errorf("invalid volume name %q", text)
	}
	return volume{group, name}, nil
}

// device returns the path at which the volume is while it is active. Hyphens are doubled, since a
// single one joins the two names.
func (v volume) device() string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return mapper + double(v.group) + "-" + double(v.name)
}

const mapper = "/dev/mapper/"

// activate makes the volume's device appear.
func (v volume) activate() error {
	_, err := lvm(nil, "lvchange", "--activate", "y", "--ignoreactivationskip", "--ignoremonitoring", v.String())
	return err
}

// removeVolumes removes the volumes of a group that a selection names. That there are none is no
// error.
func removeVolumes(group, selection string) error {
	_, err := lvm(nil, "lvremove", "--select", selection, group)
	return err
}

// storeTag returns the tag of the volumes of the store in the folder dir. A tag has few characters
// (lvm(8)); others are written as in "#20".
func storeTag(dir string) string {
	tag := []byte(Tag + "=")
	for _, c := range []byte(dir) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/._+-", c) >= 0:
			tag = append(tag, c)
		default:
			tag = fmt.Appendf(tag, "#%02x", c)
		}
	}
	return string(tag)
}

// pool is a thin pool.
type pool struct {
	volume
	uuid string // of the pool in its group, as the device mapper has it
	size int64  // bytes
}

// openPool returns the pool, which it activates if nothing has yet.
func openPool(group, name string) (pool, error) {
	p := pool{volume: volume{group, name}}
	err := p.examine()
	if errors.Is(err, fs.ErrNotExist) {
		if err = p.activate(); err == nil {
			err = p.examine()
		}
	}
	if err != nil {
		return p, fmt.Errorf("thin pool %v: %w: %w; genoci storage setup --driver lvm makes or attaches one in a file; or name an existing one with the settings vg and thinpool",
			p.volume, snapshot.ErrUnsupported, err)
	}
	return p, nil
}

// examine fills in what the device mapper knows of the pool, while it is active.
func (p *pool) examine() error {
	device, err := p.activeDevice()
	if err != nil {
		return err
	}
	uuid, err := os.ReadFile(filepath.Join(device, "dm/uuid"))
	if err != nil {
		return err
	}
	sectors, err := os.ReadFile(filepath.Join(device, "size"))
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
	text, _, _ := strings.Cut(strings.TrimPrefix(string(uuid), "LVM-"), "-")
	p.uuid, p.size = strings.TrimSpace(text), n*512
	return err
}

// activeDevice returns the folder of sysfs about the pool's device. While there are active volumes
// it is another one, on which they stand.
func (p *pool) activeDevice() (string, error) {
	var st unix.Stat_t
	err := unix.Stat(p.device()+"-tpool", &st)
	if err != nil {
		err = unix.Stat(p.device(), &st)
	}
	if err != nil {
		return "", &fs.PathError{Op: "stat", Path: p.device(), Err: err}
	}
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// usage returns how full the pool is, in percent: its data, and its description.
func (p *pool) usage() (data, metadata float64, err error) {
	lines, err := report("lvs", "data_percent,metadata_percent", p.String())
	if err != nil {
		return 0, 0, err
	}
	if len(lines) != 1 || len(lines[0]) != 2 {
		return 0, 0, fmt.Errorf("lvs %v: %q", p.volume, lines)
	}
	data, err = strconv.ParseFloat(lines[0][0], 64)
	if err == nil {
		metadata, err = strconv.ParseFloat(lines[0][1], 64)
	}
	return data, metadata, err
}

// explain adds to an error of writing that the pool is full, where it is.
func (p *pool) explain(err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EIO) {
		return err
	}
	const full = 99.5
	if data, metadata, usageErr := p.usage(); usageErr == nil && (data >= full || metadata >= full) {
		return fmt.Errorf("thin pool %v is full (data %.0f%%, metadata %.0f%%): %w; remove what nobody needs with genoci gc, or enlarge the pool with lvextend(8)",
			p.volume, data, metadata, err)
	}
	return err
}

// check returns why the device mapper cannot be used, and what would help.
func check(system fileSystem) error {
	lacks := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{snapshot.ErrUnsupported}, args...)...)
	}
	if !isRoot() {
		return lacks("the device mapper takes root")
	}
	for _, c := range []struct{ name, pkg string }{{"lvm", "lvm2"}, {system.make[0], system.pkg}} {
		if _, err := findCommand(c.name); err != nil {
			return lacks("the command %s is not installed; install the package %s", c.name, c.pkg)
		}
	}
	// Where it is a module, it is loaded by the first who opens this.
	if f, err := os.Open(mapper + "control"); err == nil {
		_ = f.Close()
	} else if _, err := os.Stat("/sys/class/misc/device-mapper"); err != nil {
		return lacks("the kernel has no device mapper; load it: modprobe dm_mod, or use another driver")
	}
	return nil
}

// isRoot reports whether the process is root of the machine, and not of a user namespace only.
func isRoot() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 && strings.Join(strings.Fields(string(data)), " ") == "0 0 4294967295"
}
