package lvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
	"genoci/internal/snapshot/loop"
)

// Loopback is a volume group with a thin pool, in a file that is a block device. There is no record
// of it: the file and the group say themselves that Setup has made them, the file by its first
// bytes, which lvm leaves alone, and the group by [Tag]. A group without it is somebody else's, and
// neither changed nor removed. Methods take root.
//
// A file that is not whole yet, or no longer, has another name. So a kill at any moment leaves what
// the same method mends when it is called again.
type Loopback struct {
	File     string // absolute
	Group    string
	Pool     string
	Dir      string // the driver's folder
	Size     int64  // of the file, in bytes: more, where the pool does not fit into it. 0: DefaultSize, or as the pool needs it
	PoolSize int64  // 0: what fits into the file
}

// DefaultSize is the size of a new file, which is sparse.
const DefaultSize = 20 << 30

var (
	// ErrForeign is wrapped where the file, or the group, was not made by Setup.
	ErrForeign = errors.New("not made by genoci storage setup")
	// ErrBusy is wrapped where a volume is in use.
	ErrBusy = errors.New("in use")
)

// State is what there is of a Loopback.
type State struct {
	Made    bool   // the file is there, and Setup made it
	Foreign bool   // the file or the group is there, and Setup did not
	Halfway bool   // a process was killed that was making or removing the file: Setup and Destroy mend that
	Given   bool   // no file is needed: the group and the pool are somebody else's
	Device  string // the block device that the file is, "" if it is none
	Ready   bool   // the pool is there, and active

	Size     int64 // of the pool, in bytes
	Used     int64 // of it
	Taken    int64 // by the file, of the file system that holds it
	HostFree int64 // left there

	group bool // there is a volume group of the name
	pool  bool // it has a thin pool of the name
}

func (l *Loopback) pool() volume { return volume{l.Group, l.Pool} }

// unfinished is the name of the file while it is not whole.
func (l *Loopback) unfinished() string {
	return filepath.Join(filepath.Dir(l.File), "."+filepath.Base(l.File)+".genoci-new")
}

// mark is what the file begins with. The label of lvm is in the second sector.
const mark = "genoci thin pool 1\n"

// State looks at what there is.
func (l *Loopback) State() (s State, err error) {
	if err := check(fileSystems()[0]); err != nil {
		return s, err
	}
	if _, err := os.Lstat(l.unfinished()); err == nil {
		s.Halfway = true
	}
	if err := l.lookAtFile(&s); err != nil {
		return s, err
	}
	return s, l.lookAtGroup(&s)
}

func (l *Loopback) lookAtFile(s *State) error {
	f, err := os.OpenFile(l.File, os.O_RDONLY|unix.O_NONBLOCK, 0) // a fifo is opened at once, too
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	var host unix.Statfs_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &st), unix.Fstatfs(int(f.Fd()), &host)); err != nil {
		return &fs.PathError{Op: "stat", Path: l.File, Err: err}
	}
	begin := make([]byte, len(mark))
	_, err = io.ReadFull(f, begin)
	s.Made = err == nil && string(begin) == mark && st.Uid == 0 // what another user can write to, as a file in /tmp may be, is not attached
	s.Foreign = !s.Made
	s.Taken, s.HostFree = st.Blocks*512, int64(host.Bavail)*host.Bsize
	devices, err := loop.Devices(l.File)
	if len(devices) > 0 {
		s.Device = devices[0]
	}
	return err
}

func (l *Loopback) lookAtGroup(s *State) error {
	groups, err := report("vgs", "vg_tags", "--select", "vg_name="+quote(l.Group))
	if err != nil || len(groups) == 0 {
		return err
	}
	s.group = true
	pools, err := report("lvs", "lv_size,data_percent", "--select", "segtype=thin-pool && lv_name="+quote(l.Pool), l.Group)
	if err != nil {
		return err
	}
	if len(pools) > 0 {
		s.pool = true
		s.Size, _ = strconv.ParseInt(pools[0][0], 10, 64)
		percent, _ := strconv.ParseFloat(pools[0][1], 64) // empty while it is not active
		s.Used = int64(float64(s.Size) / 100 * percent)
		p := pool{volume: l.pool()}
		_, err := p.activeDevice()
		s.Ready = err == nil
	}
	if !hasTag(groups[0][0]) {
		s.Made, s.Foreign, s.Given = false, !s.pool, s.pool
	}
	return nil
}

func hasTag(tags string) bool {
	for tag := range strings.SplitSeq(tags, ",") {
		if tag == Tag {
			return true
		}
	}
	return false
}

// Setup makes what is missing, and returns what it did, a line each.
func (l *Loopback) Setup() (done []string, err error) {
	unlock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := l.State()
	if err != nil {
		return nil, err
	}
	if s.Foreign {
		return nil, l.foreign(s)
	}
	for _, step := range []func(*State) (string, error){l.makeGroup, l.attach, l.makePool, l.activate} {
		what, err := step(&s)
		if what != "" {
			done = append(done, what)
		}
		if err != nil {
			return done, err
		}
	}
	return done, os.MkdirAll(l.Dir, 0o700)
}

// foreign is the error about something of somebody else's that is in the way.
func (l *Loopback) foreign(s State) error {
	if s.group {
		return fmt.Errorf("volume group %s has no thin pool %s: %w", l.Group, l.Pool, ErrForeign)
	}
	return &fs.PathError{Op: "set up", Path: l.File, Err: ErrForeign}
}

// lock keeps others from setting up or ending the same loopback meanwhile.
func (l *Loopback) lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(l.File), 0o755); err != nil {
		return nil, err
	}
	const patience = time.Minute // any process may lock a folder
	f, err := durable.LockWithin(context.Background(), filepath.Dir(l.File), durable.Exclusive, patience)
	if err != nil {
		return nil, err
	}
	return func() { durable.Unlock(f) }, nil
}

// What lvm takes beside the pool: its description, and that of the pool twice, since one is to mend
// the other.
const (
	groupMetadata = 64 << 20 // room for some 50,000 volumes
	extent        = 4 << 20
)

// poolMetadata returns the size of the description of a pool: some bytes for each block that a
// volume has of its own.
func poolMetadata(pool int64) int64 {
	const mib = 1 << 20
	return min(max(pool/128/mib, 16), 1024) * mib
}

// sizes returns the sizes of the file and of the pool.
func (l *Loopback) sizes() (file, pool int64) {
	beside := func(pool int64) int64 { return groupMetadata + 2*poolMetadata(pool) + 4*extent }
	whole := func(n int64) int64 { return (n + extent - 1) / extent * extent }
	if l.PoolSize > 0 {
		pool = whole(l.PoolSize)
		return max(whole(l.Size), pool+beside(pool)), pool
	}
	file = whole(cmp.Or(l.Size, DefaultSize))
	return file, file - whole(beside(file))
}

// makeGroup makes the file, with a group in it, if there is none.
func (l *Loopback) makeGroup(s *State) (string, error) {
	if s.Made || s.Given {
		return "", nil
	}
	size, pool := l.sizes()
	if pool < 64<<20 {
		return "", fmt.Errorf("set up %s: %d MB are not enough for a thin pool", l.File, size/1000_000)
	}
	if err := l.removeUnfinished(); err != nil {
		return "", err
	}
	f, err := os.OpenFile(l.unfinished(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return "", err
	}
	if s.Device, err = attachLoop(l.unfinished()); err != nil {
		return "", err
	}
	if _, err = lvm(nil, "vgcreate", "--addtag", Tag, "--metadatasize", strconv.Itoa(groupMetadata)+"b", l.Group, s.Device); err != nil {
		return "", errors.Join(err, l.removeUnfinished())
	}
	if err := markDevice(s.Device); err != nil {
		return "", err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, l.unfinished(), unix.AT_FDCWD, l.File, unix.RENAME_NOREPLACE); err != nil {
		return "", &fs.PathError{Op: "rename", Path: l.unfinished(), Err: err}
	}
	register(s.Device)
	s.Made, s.group = true, true
	return fmt.Sprintf("made %s, of %d MB at most, with the volume group %s", l.File, size/1000_000, l.Group), nil
}

// markDevice writes the mark, through the device: what is written to the file may not be seen
// there.
func markDevice(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(mark), 0); err != nil {
		return err
	}
	return f.Sync()
}

// register has lvm know a device by the name that its file has now, where it only looks at devices
// that it knows (lvmdevices(8)). Where it does not keep such a list, the command fails.
func register(device string) {
	if _, err := os.Stat("/etc/lvm/devices/system.devices"); err == nil {
		_, _ = lvm(nil, "lvmdevices", "--adddev", device)
	}
}

// attach makes the file a block device.
func (l *Loopback) attach(s *State) (string, error) {
	if s.Given || s.Device != "" && s.group {
		return "", nil
	}
	var err error
	if s.Device, err = attachLoop(l.File); err != nil {
		return "", err
	}
	register(s.Device)
	groups, err := report("pvs", "vg_name", "--select", "pv_name="+quote(s.Device))
	if err != nil {
		return "", err
	}
	if len(groups) == 0 || groups[0][0] != l.Group {
		err := fmt.Errorf("%s holds the volume group %[3]q, not %[2]s", l.File, l.Group, groups)
		return "", errors.Join(err, loop.Detach(s.Device))
	}
	return fmt.Sprintf("attached %s as %s", l.File, s.Device), l.lookAtGroup(s)
}

// makePool makes the thin pool. When it is full, what is written to it fails at once; by default it
// would wait for a minute.
func (l *Loopback) makePool(s *State) (string, error) {
	if s.pool {
		return "", nil
	}
	_, size := l.sizes()
	bytes := func(n int64) string { return strconv.FormatInt(n, 10) + "b" }
	if _, err := lvm(nil, "lvcreate", "--type", "thin-pool", "--name", l.Pool, "--addtag", Tag, "--ignoremonitoring", "--size", bytes(size),
		"--poolmetadatasize", bytes(poolMetadata(size)), "--chunksize", "64k", "--zero", "y", l.Group); err != nil {
		return "", err
	}
	s.pool, s.Ready = true, true
	_, err := lvm(nil, "lvchange", "--errorwhenfull", "y", "--ignoremonitoring", l.pool().String())
	return fmt.Sprintf("made the thin pool %v, of %d MB", l.pool(), size/1000_000), err
}

// activate activates the pool.
func (l *Loopback) activate(s *State) (string, error) {
	if s.Ready {
		return "", nil
	}
	return fmt.Sprintf("activated the thin pool %v", l.pool()), l.pool().activate()
}

// attachLoop makes the file a block device, and returns its path.
func attachLoop(file string) (string, error) {
	device, err := loop.Attach(file, false)
	if err != nil {
		return "", err
	}
	return device.Name(), device.Close()
}

// Detach deactivates the group and ends the block device. All that is in it stays.
func (l *Loopback) Detach() error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := l.State()
	if err != nil || s.Given || !s.Made {
		return err
	}
	if s.group {
		if err := l.deactivate(); err != nil {
			return err
		}
	}
	return detachLoops(l.File)
}

// deactivate deactivates all volumes of the group.
func (l *Loopback) deactivate() error {
	err := lvmAtOnce("vgchange", "--activate", "n", "--ignoremonitoring", l.Group)
	if err != nil && strings.Contains(err.Error(), " in use") {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

func detachLoops(file string) error {
	devices, err := loop.Devices(file)
	for _, device := range devices {
		err = errors.Join(err, loop.Detach(device))
	}
	return err
}

// Destroy removes what Setup has made, and the driver's folder. Of a group that is somebody else's,
// the volumes of that folder.
func (l *Loopback) Destroy() error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := l.State()
	if err != nil {
		return err
	}
	switch {
	case s.Foreign:
		return l.foreign(s)
	case s.Given:
		if err := removeVolumes(l.Group, "tags="+quote(storeTag(l.Dir))); err != nil {
			return err
		}
		return beneath.RemovePath(l.Dir)
	case !s.Made:
		return l.removeUnfinished()
	}
	if s.group {
		if err := l.deactivate(); err != nil {
			return err
		}
	}
	// A folder without its volumes would promise snapshots that are gone; volumes without their
	// folder are nobody's.
	if err := beneath.RemovePath(l.Dir); err != nil {
		return err
	}
	if err := os.Rename(l.File, l.unfinished()); err != nil {
		return err
	}
	return l.removeUnfinished()
}

// removeUnfinished removes a file that is not whole, and its group, if it is attached and has one.
func (l *Loopback) removeUnfinished() error {
	devices, err := loop.Devices(l.unfinished())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, device := range devices {
		groups, err := report("pvs", "vg_name,vg_tags", "--select", "pv_name="+quote(device))
		if err != nil {
			return err
		}
		if len(groups) == 0 || !hasTag(groups[0][len(groups[0])-1]) {
			continue
		}
		if _, err := lvm(nil, "vgremove", "--force", groups[0][0]); err != nil {
			return err
		}
	}
	if err := detachLoops(l.unfinished()); err != nil {
		return err
	}
	return os.Remove(l.unfinished())
}
