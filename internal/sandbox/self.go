package sandbox

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// self returns the running program, as a file from which copies of it are started in a root
// filesystem. It is a copy in memory that nobody can write. The program's own file must not be
// used: an image whose "program" leads back to /proc/self/exe would get a way to that file, and
// where it runs as the file's owner, could write to it (CVE-2019-5736).
var self = sync.OnceValues(func() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("genoci", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 knows no MFD_EXEC: all may be executed there
		fd, err = unix.MemfdCreate("genoci", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.EACCES) {
		return nil, lacks{"memfd_create: " + err.Error(), "sysctl -w vm.memfd_noexec=0"}
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	dst := os.NewFile(uintptr(fd), "genoci")
	if _, err := dst.ReadFrom(src); err != nil {
		dst.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(dst.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		dst.Close()
		return nil, os.NewSyscallError("seal", err)
	}
	return dst, nil
})
