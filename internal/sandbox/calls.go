package sandbox

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// calls is a list of system calls that a process of its own carries out, up to the first that
// fails. There is nothing else to that process: it is a program of the list, a few instructions
// that go through it, and the data that it points to, all written for the occasion.
//
// So what Run starts beside the command, and what becomes the command, is no copy of this program.
// It starts in a tenth of the time, and is worth nothing to a command that gets hold of it.
type calls struct {
	list  []call
	names []string // of the calls, for errors
	data  []byte
}

// call is an entry of the list.
type call struct {
	Number      uint64
	Least, Most int64 // any other result is a failure
	Args        [5]uint64
}

// add adds a call that fails when it returns an error.
func (c *calls) add(name string, number uint64, args ...uint64) {
	c.append(name, call{Number: number, Most: math.MaxInt64}, args)
}

// try adds a call whose errors do not matter.
func (c *calls) try(name string, number uint64, args ...uint64) {
	c.append(name, call{Number: number, Least: math.MinInt64, Most: math.MaxInt64}, args)
}

// expect adds a call that fails unless it returns the error.
func (c *calls) expect(name string, errno unix.Errno, number uint64, args ...uint64) {
	c.append(name, call{Number: number, Least: -int64(errno), Most: -int64(errno)}, args)
}

// wait adds a read of one message of at most size bytes, which fails when there comes none any
// more. It returns the address of the message.
func (c *calls) wait(fd uint64, size int) uint64 {
	addr := c.put(make([]byte, size))
	c.append("read", call{Number: unix.SYS_READ, Least: 1, Most: math.MaxInt64}, []uint64{fd, addr, uint64(size)})
	return addr
}

func (c *calls) append(name string, e call, args []uint64) {
	copy(e.Args[:], args)
	c.list, c.names = append(c.list, e), append(c.names, name)
}

// put adds data, and returns its address.
func (c *calls) put(b []byte) uint64 {
	const align = 8
	c.data = append(c.data, make([]byte, -len(c.data)&(align-1))...)
	addr := uint64(programAddr + dataOffset + len(c.data))
	c.data = append(c.data, b...)
	return addr
}

// text adds a string that ends with a zero byte.
func (c *calls) text(s string) uint64 { return c.put(append([]byte(s), 0)) }

// texts adds a list of strings, in the form of execve(2).
func (c *calls) texts(list []string) uint64 {
	addrs := make([]uint64, len(list)+1)
	for i, s := range list {
		addrs[i] = c.text(s)
	}
	return c.words(addrs...)
}

// words adds numbers of 64 bits.
func (c *calls) words(list ...uint64) uint64 {
	var b []byte
	for _, word := range list {
		b = binary.NativeEndian.AppendUint64(b, word)
	}
	return c.put(b)
}

// When a call fails, the process writes a report to callsFD and exits: the address of the entry,
// and the result, 64 bits each.
const (
	callsFD    = 3
	reportSize = 16
)

// failure returns the error that a report is about.
func (c *calls) failure(report []byte) error {
	if len(report) != reportSize {
		return fmt.Errorf("unexpected unexpected report of %d bytes", len(report))
	}
	entry := (binary.NativeEndian.Uint64(report) - programAddr - listOffset) / uint64(binary.Size(call{}))
	if entry >= uint64(len(c.names)) {
		return fmt.Errorf("unexpected unexpected report of call %d", entry)
	}
	result := int64(binary.NativeEndian.Uint64(report[8:]))
	if result >= 0 {
		return fmt.Errorf("%s: unexpected result %d", c.names[entry], result)
	}
	return os.NewSyscallError(c.names[entry], unix.Errno(-result))
}

// The program is a file that is mapped to memory at programAddr: first the headers, the
// instructions and the list, then, page by page elsewhere, the data, which can be written.
const (
	programAddr = 0x400000
	listOffset  = 0x200
	dataOffset  = 0x100000
)

// headers are those of the program (elf(5)).
type headers struct {
	File     elf.Header64
	Segments [2]elf.Prog64
}

// image returns what the file of the program has before the data.
func (c *calls) image() ([]byte, error) {
	var h headers
	fileSize, segmentSize := binary.Size(h.File), binary.Size(h.Segments[0])
	start := binary.Size(h)
	end := listOffset + len(c.list)*binary.Size(call{})
	if start+len(instructions) > listOffset || end > dataOffset {
		return nil, fmt.Errorf("too many system calls: %d", len(c.list))
	}
	h.File = elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: programAddr + uint64(start),
		Phoff: uint64(fileSize), Ehsize: uint16(fileSize), Phentsize: uint16(segmentSize), Phnum: uint16(len(h.Segments)),
	}
	segment := func(flags elf.ProgFlag, offset, size int) elf.Prog64 {
		return elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Align: dataOffset,
			Off: uint64(offset), Vaddr: programAddr + uint64(offset), Filesz: uint64(size), Memsz: uint64(size),
		}
	}
	h.Segments = [...]elf.Prog64{
		segment(elf.PF_R|elf.PF_X, 0, end),
		segment(elf.PF_R|elf.PF_W, dataOffset, len(c.data)),
	}
	image, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		return nil, err
	}
	image = append(image, instructions...)
	image = append(image, make([]byte, listOffset-len(image))...)
	return binary.Append(image, binary.LittleEndian, c.list)
}

// program returns the program as a file in memory that nobody can write. The number of the file is
// none of those that a process gives to the files that it starts with.
//
// An image whose "program" leads to /proc/self/exe may get hold of the file that a process in its
// root was started from. If that were this program's own, and the command ran as the file's owner,
// it could write to it (CVE-2019-5736).
func (c *calls) program() (*os.File, error) {
	image, err := c.image()
	if err != nil {
		return nil, err
	}
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
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(high), "genoci")
	_, err = f.WriteAt(image, 0)
	if err == nil {
		_, err = f.WriteAt(c.data, dataOffset)
	}
	if err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write a program: %w", err)
	}
	return f, nil
}

// startBare starts the process without standard files, under that name, and returns the socket at
// whose other end callsFD is.
func (c *calls) startBare(name string, sys *syscall.SysProcAttr) (pid int, conn *os.File, err error) {
	program, err := c.program()
	if err != nil {
		return 0, nil, err
	}
	defer program.Close()
	conn, other, err := socketFor(program)
	if err != nil {
		return 0, nil, err
	}
	defer other.Close()
	const none = ^uintptr(0)
	pid, err = syscall.ForkExec(procFD(program), []string{name}, &syscall.ProcAttr{
		Dir: "/", Files: []uintptr{none, none, none, other.Fd()}, Sys: sys,
	})
	if err != nil {
		conn.Close()
		return 0, nil, err
	}
	return pid, conn, nil
}

// socketFor returns a pair of sockets for a process that is started from the program. The number of
// the one that it gets is above the program's: the syscall package moves descriptors that are in
// its way to the numbers behind all that a child gets, and one of those may be the program's, which
// the child then would not find any more.
func socketFor(program *os.File) (own, other *os.File, err error) {
	own, low, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	defer low.Close()
	high, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, int(program.Fd())+1)
	if err != nil {
		own.Close()
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return own, os.NewFile(uintptr(high), "socket"), nil
}

// procFD is the path by which a process opens, or executes, a file that it has open.
func procFD(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
