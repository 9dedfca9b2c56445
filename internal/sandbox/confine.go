package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identity is whom a command runs as.
type identity struct {
	UID, GID int
	Groups   []int
}

// capabilities are those that moby leaves to a container (capabilities(7); daemon/pkg/oci/caps,
// DefaultCapabilities).
var capabilities = []struct {
	name  string
	value uint
}{
	{"CAP_CHOWN", unix.CAP_CHOWN},
	{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_FSETID", unix.CAP_FSETID},
	{"CAP_FOWNER", unix.CAP_FOWNER},
	{"CAP_MKNOD", unix.CAP_MKNOD},
	{"CAP_NET_RAW", unix.CAP_NET_RAW},
	{"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETUID", unix.CAP_SETUID},
	{"CAP_SETFCAP", unix.CAP_SETFCAP},
	{"CAP_SETPCAP", unix.CAP_SETPCAP},
	{"CAP_NET_BIND_SERVICE", unix.CAP_NET_BIND_SERVICE},
	{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT},
	{"CAP_KILL", unix.CAP_KILL},
	{"CAP_AUDIT_WRITE", unix.CAP_AUDIT_WRITE},
}

// capabilityMask is the set of capabilities, one bit for each.
func capabilityMask() uint64 {
	var mask uint64
	for _, c := range capabilities {
		mask |= 1 << c.value
	}
	return mask
}

// confine gives the calling thread, and no other, the credentials of a command: its user and
// groups, the default capabilities and the seccomp filter. The thread must be locked, and be of no
// other use afterwards.
//
// The filter comes while the thread has CAP_SYS_ADMIN: without that the kernel would ask for
// no_new_privs, and no set-user-id program would work.
func confine(who identity, filter []byte) error {
	if err := setGroups(who.Groups); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(who.GID), uintptr(who.GID), uintptr(who.GID)); errno != 0 {
		return os.NewSyscallError("setresgid", errno)
	}
	keep := capabilityMask()
	if err := boundCapabilities(keep); err != nil {
		return os.NewSyscallError("prctl PR_CAPBSET_DROP", err)
	}
	if err := setFilter(filter); err != nil {
		return os.NewSyscallError("seccomp", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(who.UID), uintptr(who.UID), uintptr(who.UID)); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	if err := limitCapabilities(keep); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// setGroups is setgroups(2) for this thread alone; syscall.Setgroups is for all.
func setGroups(groups []int) error {
	gids := make([]uint32, len(groups)+1)
	for i, g := range groups {
		gids[i] = uint32(g)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&gids[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// boundCapabilities drops all but keep from the bounding set.
func boundCapabilities(keep uint64) error {
	last, err := lastCapability()
	for c := uint(0); err == nil && c <= last; c++ {
		if keep&(1<<c) == 0 {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		}
	}
	return err
}

// lastCapability is the highest capability that the kernel knows.
func lastCapability() (uint, error) {
	// Capabilities have one bit of 64 each; the kernel refuses to read the one after the last.
	for c := uint(unix.CAP_LAST_CAP); ; c++ {
		if c == 64 {
			return 63, nil
		}
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == unix.EINVAL {
			return c - 1, nil
		}
	}
}

// limitCapabilities leaves the thread those of its capabilities that are in keep, permitted and
// effective, and none inheritable, and so none ambient.
func limitCapabilities(keep uint64) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // the low and the high 32 capabilities
	if err := unix.Capget(&hdr, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		sets[i].Permitted &= uint32(keep >> (32 * i))
		sets[i].Effective = sets[i].Permitted
		sets[i].Inheritable = 0
	}
	return unix.Capset(&hdr, &sets[0])
}

// setFilter installs a seccomp program for this thread.
func setFilter(filter []byte) error {
	prog := unix.SockFprog{
		Len:    uint16(len(filter) / filterInstruction),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(filter))),
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
