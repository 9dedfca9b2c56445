package sandbox

import (
	"encoding/binary"

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

// confine adds the calls by which a process takes on the credentials of a command: its user and
// groups, the default capabilities and the seccomp filter.
//
// The filter comes while the process has CAP_SYS_ADMIN: without that the kernel would ask for
// no_new_privs, and no set-user-id program would work.
func (c *calls) confine(who identity, filter []byte) {
	groups := make([]byte, 0, 4*len(who.Groups))
	for _, g := range who.Groups {
		groups = binary.NativeEndian.AppendUint32(groups, uint32(g))
	}
	c.add("setgroups", unix.SYS_SETGROUPS, uint64(len(who.Groups)), c.put(groups))
	uid, gid := uint64(who.UID), uint64(who.GID)
	c.add("setresgid", unix.SYS_SETRESGID, gid, gid, gid)
	bounds, known := boundingSet()
	keep := capabilityMask()
	for n := range known { // a new user namespace has all of them again
		if bounds&keep&(1<<n) == 0 {
			c.add("prctl PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0)
		}
	}
	program := c.words(uint64(len(filter)/filterInstruction), c.put(filter)) // struct sock_fprog (linux/filter.h)
	c.add("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, program)
	c.add("setresuid", unix.SYS_SETRESUID, uid, uid, uid)
	// Executing the program gave root what was in the bounding set then; another user has lost all.
	var permitted uint64
	if who.UID == 0 {
		permitted = bounds & keep
	}
	c.capset(permitted)
}

// capset adds the call that sets the capabilities of the process, permitted and effective, and none
// inheritable, and so none ambient (capset(2)).
func (c *calls) capset(permitted uint64) {
	header := make([]byte, 0, 8)
	header = binary.NativeEndian.AppendUint32(header, unix.LINUX_CAPABILITY_VERSION_3)
	header = binary.NativeEndian.AppendUint32(header, 0) // the process itself
	var sets []byte
	for _, half := range []uint32{uint32(permitted), uint32(permitted >> 32)} {
		for _, set := range []uint32{half, half, 0} { // effective, permitted, inheritable
			sets = binary.NativeEndian.AppendUint32(sets, set)
		}
	}
	c.add("capset", unix.SYS_CAPSET, c.put(header), c.put(sets))
}

// boundingSet returns the capability bounding set of this thread, one bit for each capability, and
// how many capabilities the kernel knows.
func boundingSet() (set, known uint64) {
	for ; known < 64; known++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(known), 0, 0, 0)
		if err != nil {
			break // EINVAL: the kernel knows no more
		}
		set |= uint64(in) << known
	}
	return set, known
}
