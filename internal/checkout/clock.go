package checkout

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clock is a moment, by the clock that file systems stamp with and by one that nobody can set.
type clock struct {
	Boot string `json:"boot"` // which start of the machine (random(4))
	Wall int64  `json:"wall"` // nanoseconds since 1970
	Up   int64  `json:"up"`   // nanoseconds since the start of the machine (clock_gettime(2), CLOCK_BOOTTIME)
}

func now() (clock, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return clock{}, err
	}
	var wall, up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &wall); err != nil {
		return clock{}, os.NewSyscallError("clock_gettime", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return clock{}, os.NewSyscallError("clock_gettime", err)
	}
	return clock{strings.TrimSpace(string(boot)), wall.Nano(), up.Nano()}, nil
}

// since returns the time before which what has a ctime is as it was then; zero where the clock was
// set back meanwhile, or may have been, so that ctimes say nothing.
func (c clock) since(later clock) time.Time {
	const slack = int64(100 * time.Millisecond) // the two clocks of one moment are not read at once, and one is coarse
	if c.Boot != later.Boot || later.Wall-c.Wall < later.Up-c.Up-slack {
		return time.Time{}
	}
	return time.Unix(0, c.Wall-slack)
}
