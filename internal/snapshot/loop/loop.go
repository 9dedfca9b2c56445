// Package loop makes block devices of files (loop(4)), for storage that is kept in one.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// Attach makes the file a block device (loop(4)), and returns that, open. The device stays until
// Detach or the end of the machine; with autoclear also no longer than it is open or mounted, so
// that a process that is killed leaves nothing. A file that is a device already stays that device.
// The error wraps snapshot.ErrUnsupported where the machine has no loop devices.
func Attach(file string, autoclear bool) (device *os.File, err error) {
	devices, err := Devices(file)
	if err != nil {
		return nil, err
	}
	if len(devices) > 0 {
		return os.OpenFile(devices[0], os.O_RDWR, 0)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	// Without the page cache in between where the file system below can. 4096 suits every disk.
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 4096, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_DIRECT_IO}}
	if autoclear {
		config.Info.Flags |= unix.LO_FLAGS_AUTOCLEAR
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path) // what losetup(8) shows where the kernel's own name does not fit
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; modprobe loop, or give the container /dev/loop-control and loop devices", snapshot.ErrUnsupported, err)
	}
	defer control.Close()
	const tries = 100 // others may take the device that was free
	for range tries {
		var n int
		if n, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE); err != nil {
			return nil, os.NewSyscallError("ioctl LOOP_CTL_GET_FREE", err)
		}
		if device, err = configure(fmt.Sprintf("/dev/loop%d", n), &config); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return device, err
}

func configure(device string, config *unix.LoopConfig) (*os.File, error) {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), config); err != nil {
		_ = dev.Close() // nothing was written
		return nil, wrapPath("attach", device, err)
	}
	return dev, nil
}

// Devices returns the loop devices that the file is.
func Devices(file string) (devices []string, err error) {
	var want, got unix.Stat_t
	if err := unix.Stat(file, &want); err != nil {
		return nil, wrapPath("stat", file, err)
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, name := range backing {
		path, err := os.ReadFile(name)
		if err != nil {
			continue // it was detached just now
		}
		if unix.Stat(strings.TrimSuffix(string(path), "\n"), &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			devices = append(devices, "/dev/"+strings.Split(name, "/")[3])
		}
	}
	return devices, nil
}

// File returns the file that a loop device is, "" if it is no such device.
func File(device string) string {
	path, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(path), "\n")
}

// Detach ends what Attach began, as soon as nothing uses the device any more.
func Detach(device string) error {
	dev, err := os.Open(device)
	if err != nil {
		return err
	}
	defer dev.Close()
	err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) { // it is detached
		return nil
	}
	return wrapPath("detach", device, err)
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
