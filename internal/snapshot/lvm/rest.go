package lvm

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultMaxActive is how many volumes of a group may be active. When there are more, those of the
// older ones that nobody uses are deactivated by one command.
const defaultMaxActive = 32

// rest deactivates volumes when there are too many. What goes wrong is left to the next time: an
// active volume is in nobody's way.
func (d *Driver) rest() {
	if !d.resting.TryLock() {
		return
	}
	defer d.resting.Unlock()
	active := d.active()
	if len(active) <= d.maxActive {
		return
	}
	args := []string{"--activate", "n"}
	for _, v := range active[:len(active)-d.maxActive/2] { // the newest are about to be used
		if isIdle(v.device()) {
			args = append(args, v.String())
		}
	}
	if len(args) > 2 {
		_ = lvmAtOnce("lvchange", args...)
	}
}

// active returns the group's volumes that are active, of all stores, the oldest first.
func (d *Driver) active() []volume {
	entries, err := os.ReadDir(mapper)
	if err != nil {
		return nil
	}
	start := volume{d.pool.group, prefix}.device()
	var active []volume
	since := make(map[volume]int64)
	for _, e := range entries {
		id, ok := strings.CutPrefix(mapper+e.Name(), start)
		if !ok {
			continue
		}
		v := volume{d.pool.group, prefix + id}
		if info, err := e.Info(); err == nil {
			since[v] = info.ModTime().UnixNano()
		}
		active = append(active, v)
	}
	slices.SortFunc(active, func(a, b volume) int { return cmp.Compare(since[a], since[b]) })
	return active
}

// isIdle reports whether a device is not in use: one that is mounted cannot be opened with O_EXCL
// (open(2)).
func isIdle(device string) bool {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
