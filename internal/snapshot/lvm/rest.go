package lvm

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultMaxActive is how many volumes may be active while nobody uses them. When there are more, the older half is deactivated by one command.
const defaultMaxActive = 32

// rest deactivates volumes when there are too many. What goes wrong is left to the next time: an active volume is in nobody's way.
func (d *Driver) rest() {
	if !d.resting.TryLock() {
		return
	}
	defer d.resting.Unlock()
	idle := d.idle()
	if len(idle) <= d.maxActive {
		return
	}
	args := []string{"--activate", "n"}
	for _, v := range idle[:len(idle)-d.maxActive/2] {
		args = append(args, v.String())
	}
	_ = lvmAtOnce("lvchange", args...)
}

// idle returns the active volumes that are not mounted anywhere, the oldest first.
func (d *Driver) idle() []volume {
	entries, err := os.ReadDir(mapper)
	if err != nil || len(entries) <= d.maxActive {
		return nil
	}
	start := volume{d.pool.group, prefix}.device()
	since := make(map[volume]int64)
	var idle []volume
	for _, e := range entries {
		id, ok := strings.CutPrefix(mapper+e.Name(), start)
		if !ok {
			continue
		}
		// A device that is mounted can be opened only without O_EXCL (open(2)).
		fd, err := unix.Open(mapper+e.Name(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		_ = unix.Close(fd)
		v := volume{d.pool.group, prefix + id}
		if info, err := e.Info(); err == nil {
			since[v] = info.ModTime().UnixNano()
		}
		idle = append(idle, v)
	}
	slices.SortFunc(idle, func(a, b volume) int { return cmp.Compare(since[a], since[b]) })
	return idle
}
