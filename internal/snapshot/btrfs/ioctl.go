package btrfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of btrfs, from the kernel's include/uapi/linux/btrfs.h. Each takes an open file of the
// file system, and a struct, whose size is in the call's number.

const magic = 0x94

func ioctlNumber(direction, number uint, size uintptr) uint {
	return direction<<30 | uint(size)<<16 | magic<<8 | number
}

const (
	toKernel   = 1
	fromKernel = 2
)

// firstObject is the inode number of the root folder of each subvolume (BTRFS_FIRST_FREE_OBJECTID).
const firstObject = 256

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	_    int64 // fd
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd   int64
	_    uint64 // transid
	_    uint64 // flags
	_    [4]uint64
	name [4040]byte
}

// sendArgs is struct btrfs_ioctl_send_args.
type sendArgs struct {
	fd     int64
	_      uint64 // clone_sources_count
	_      uint64 // clone_sources
	parent uint64
	flags  uint64
	_      uint32 // version
	_      [28]byte
}

// lookupArgs is struct btrfs_ioctl_ino_lookup_args.
type lookupArgs struct {
	tree, object uint64
	_            [4080]byte // name
}

// pathArgs is struct btrfs_ioctl_ino_path_args.
type pathArgs struct {
	inode, size uint64
	_           [4]uint64
	buffer      *dataContainer
}

// dataContainer is struct btrfs_data_container, as large as the kernel fills it for names.
type dataContainer struct {
	_            uint32 // bytes_left
	bytesMissing uint32
	count        uint32
	missed       uint32
	data         [4096 - 16]byte
}

// rootRefs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootRefs struct {
	_     uint64 // min_treeid, which the kernel moves on
	refs  [255]rootRef
	count uint8
	_     [7]byte
}

// rootRef says that the subvolume tree has a name in the folder dir.
type rootRef struct{ tree, dir uint64 }

// lookupUserArgs is struct btrfs_ioctl_ino_lookup_user_args.
type lookupUserArgs struct {
	dir, tree uint64
	name      [256]byte
	path      [3824]byte
}

const readOnly = 1 << 1 // BTRFS_SUBVOL_RDONLY

// ioctl makes a call on an open file. arg points to the call's struct.
func ioctl[T any](fd int, direction, number uint, arg *T) error {
	request := ioctlNumber(direction, number, unsafe.Sizeof(*arg))
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(arg)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// createSubvolume makes an empty subvolume called name in an open folder.
func createSubvolume(parent int, name string) error {
	var args volArgsV2
	copy(args.name[:], name)
	return ioctl(parent, toKernel, 24, &args) // BTRFS_IOC_SUBVOL_CREATE_V2
}

// snapshotSubvolume makes a subvolume that shares all blocks with the one whose root folder is open
// as src.
func snapshotSubvolume(parent int, name string, src int) error {
	args := volArgsV2{fd: int64(src)}
	copy(args.name[:], name)
	return ioctl(parent, toKernel, 23, &args) // BTRFS_IOC_SNAP_CREATE_V2
}

// destroySubvolume removes a subvolume with all that is in it, but for other subvolumes, whose
// presence is an error. It takes CAP_SYS_ADMIN, or the mount option user_subvol_rm_allowed.
func destroySubvolume(parent int, name string) error {
	var args volArgs
	copy(args.name[:], name)
	return ioctl(parent, toKernel, 15, &args) // BTRFS_IOC_SNAP_DESTROY
}

// setReadOnly makes the subvolume whose root folder is open read-only, or writable again. That is
// refused with EPERM while it is being sent.
func setReadOnly(fd int, on bool) error {
	var flags uint64
	if err := ioctl(fd, fromKernel, 25, &flags); err != nil { // BTRFS_IOC_SUBVOL_GETFLAGS
		return err
	}
	if flags&readOnly != 0 == on {
		return nil
	}
	flags ^= readOnly
	return ioctl(fd, toKernel, 26, &flags) // BTRFS_IOC_SUBVOL_SETFLAGS
}

// startCleaning has the kernel give back the space of removed subvolumes soon, which it does else
// within half a minute.
func startCleaning(fd int) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(ioctlNumber(0, 8, 0)), 0) // BTRFS_IOC_SYNC
	if errno != 0 {
		return os.NewSyscallError("sync", errno)
	}
	return nil
}

// firstDevice returns the path of the device that holds the file system of an open file.
func firstDevice(fd int) (string, error) {
	var args struct { // struct btrfs_ioctl_dev_info_args
		id          uint64
		uuid        [16]byte
		used, total uint64
		fsid        [16]byte
		_           [377]uint64
		path        [1024]byte
	}
	args.id = 1
	err := ioctl(fd, toKernel|fromKernel, 30, &args) // BTRFS_IOC_DEV_INFO
	return text(args.path[:]), os.NewSyscallError("find device", err)
}

// resizeToDevice makes the file system as large as its device.
func resizeToDevice(fd int) error {
	var args volArgs
	copy(args.name[:], "max")
	return ioctl(fd, toKernel, 3, &args) // BTRFS_IOC_RESIZE
}

// treeID returns the number of the subvolume that holds an open folder.
func treeID(fd int) (uint64, error) {
	args := lookupArgs{object: firstObject}
	err := ioctl(fd, toKernel|fromKernel, 18, &args) // BTRFS_IOC_INO_LOOKUP
	return args.tree, os.NewSyscallError("find subvolume", err)
}

// send writes to the file to how the subvolume from differs from the one numbered parent. Both have
// to be read-only. It takes CAP_SYS_ADMIN in the first user namespace.
func send(from int, parent uint64, to int) error {
	const noFileData = 1 << 0                                                                     // BTRFS_SEND_FLAG_NO_FILE_DATA
	return ioctl(from, toKernel, 38, &sendArgs{fd: int64(to), parent: parent, flags: noFileData}) // BTRFS_IOC_SEND
}

// pathsOf returns all names of an inode in the subvolume that holds an open file. complete is false
// where there are more.
func pathsOf(fd int, inode uint64) (paths []string, complete bool, err error) {
	var buffer dataContainer
	args := pathArgs{inode: inode, size: uint64(unsafe.Sizeof(buffer)), buffer: &buffer}
	err = ioctl(fd, toKernel|fromKernel, 35, &args) // BTRFS_IOC_INO_PATHS
	for i := range buffer.count {
		offset := binary.NativeEndian.Uint64(buffer.data[8*i:]) // of the path, from the first offset on
		paths = append(paths, text(buffer.data[offset:]))
	}
	return paths, buffer.missed == 0 && buffer.bytesMissing == 0, os.NewSyscallError("find names of inode", err)
}

// subvolumesIn returns the paths of the subvolumes that lie in the one whose root folder is open,
// relative to it, without those that lie in other ones.
func subvolumesIn(fd int) ([]string, error) {
	var paths []string
	for args := (rootRefs{}); ; {
		err := ioctl(fd, toKernel|fromKernel, 61, &args)   // BTRFS_IOC_GET_SUBVOL_ROOTREF
		if err != nil && !errors.Is(err, unix.EOVERFLOW) { // that there are more
			return nil, os.NewSyscallError("list subvolumes", err)
		}
		for _, ref := range args.refs[:args.count] {
			lookup := lookupUserArgs{dir: ref.dir, tree: ref.tree}
			if err := ioctl(fd, toKernel|fromKernel, 62, &lookup); err != nil { // BTRFS_IOC_INO_LOOKUP_USER
				return nil, os.NewSyscallError("find name of subvolume", err)
			}
			paths = append(paths, text(lookup.path[:])+text(lookup.name[:]))
		}
		if err == nil {
			return paths, nil
		}
	}
}

// text returns the text before the first NUL.
func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return strings.Clone(string(before))
}
