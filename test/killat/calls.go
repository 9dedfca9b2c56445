package killat

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// callInfo is struct ptrace_syscall_info of ptrace(2), as far as it is the same on all processors.
type callInfo struct {
	op     uint8
	_      [3]byte
	_      uint32
	_, _   uint64
	number uint64
	args   [6]uint64
}

// From linux/ptrace.h.
const (
	getSyscallInfo = 0x420e
	syscallEntry   = 1
)

// entered returns the system call that a stopped thread is about to make; not ok means that it has
// just made one.
func entered(pid int) (number uint64, args [6]uint64, ok bool) {
	var info callInfo
	size := unsafe.Sizeof(info)
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(pid), size, uintptr(unsafe.Pointer(&info)), 0, 0)
	return info.number, info.args, errno == 0 && info.op == syscallEntry
}

// peek reads eight bytes of a thread's memory.
func peek(pid int, at uint64) (uint64, error) {
	var word [8]byte
	_, err := unix.PtracePeekData(pid, uintptr(at), word[:])
	return binary.NativeEndian.Uint64(word[:]), err
}

// always are calls that change something whatever their arguments are.
var always = map[uint64]bool{
	unix.SYS_MKDIRAT: true, unix.SYS_MKNODAT: true, unix.SYS_LINKAT: true, unix.SYS_SYMLINKAT: true,
	unix.SYS_UNLINKAT: true, unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true,
	unix.SYS_PWRITE64: true, unix.SYS_COPY_FILE_RANGE: true, unix.SYS_FTRUNCATE: true, unix.SYS_FALLOCATE: true,
	unix.SYS_FSYNC: true, unix.SYS_FDATASYNC: true, unix.SYS_SYNCFS: true,
	unix.SYS_FCHMOD: true, unix.SYS_FCHMODAT: true, unix.SYS_FCHOWN: true, unix.SYS_FCHOWNAT: true, unix.SYS_UTIMENSAT: true,
	unix.SYS_SETXATTR: true, unix.SYS_LSETXATTR: true, unix.SYS_FSETXATTR: true,
	unix.SYS_REMOVEXATTR: true, unix.SYS_LREMOVEXATTR: true, unix.SYS_FREMOVEXATTR: true,
	unix.SYS_MOUNT: true, unix.SYS_UMOUNT2: true, unix.SYS_MOVE_MOUNT: true, unix.SYS_MOUNT_SETATTR: true,
	unix.SYS_FLOCK: true,
}

// changes reports whether a call changes something that others see.
func changes(pid int, number uint64, args [6]uint64) bool {
	const making = unix.O_CREAT | unix.O_TRUNC
	switch {
	case always[number]:
		return true
	case number == unix.SYS_OPENAT:
		return args[2]&making != 0
	case number == unix.SYS_OPENAT2:
		flags, err := peek(pid, args[2]) // the first field of struct open_how
		return err == nil && flags&making != 0
	case number == unix.SYS_WRITE, number == unix.SYS_IOCTL:
		return isPath(pid, args[0]) && !(number == unix.SYS_IOCTL && args[1]>>8&0xff == 'T') // ioctl_tty(2)
	}
	return false
}

// isPath reports whether a descriptor is of something that has a path: no pipe, no socket, no
// eventfd.
func isPath(pid int, fd uint64) bool {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	return err == nil && strings.HasPrefix(target, "/") && target != os.DevNull && !strings.HasPrefix(target, "/dev/pts/")
}
