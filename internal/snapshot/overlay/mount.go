package overlay

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// overlay is what a mount is made of.
type overlay struct {
	lowers      []string // top first
	upper, work string   // "": read-only
	volatile    bool     // what is written need not be there after a power cut
	noIndex     bool     // see options
}

// mount mounts o at the folder target.
func (d *Driver) mount(o overlay, target string) error {
	err := d.tryMount(o, target)
	// With an index the kernel refuses folders of a mount that is just going away: another
	// namespace may have a copy of it for a moment.
	for try := time.Duration(1); errors.Is(err, unix.EBUSY) && try < 50; try++ {
		time.Sleep(try * time.Millisecond)
		err = d.tryMount(o, target)
	}
	if errors.Is(err, unix.ESTALE) { // the folders were copied to elsewhere since the index was made
		o.noIndex = true
		return d.tryMount(o, target)
	}
	return err
}

func (d *Driver) tryMount(o overlay, target string) error {
	op, err := o.open()
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	defer op.close()
	options := op.options(d.attrs)
	err = mountNew(op.lowers, options, target)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if mountOld(op.lowers, options, target) == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// opened is an overlay whose folders are handed over as open files, by their names in
// /proc/self/fd: these are short enough for every limit (256 bytes an option, 4096 for all in
// mount(2)), and hold no ":" or ",".
type opened struct {
	overlay
	files []*os.File
}

// open opens the folders of o.
func (o overlay) open() (opened, error) {
	op := opened{overlay: overlay{volatile: o.volatile, noIndex: o.noIndex}}
	for _, dir := range o.lowers {
		lower, err := op.add(dir)
		if err != nil {
			return op, err
		}
		op.lowers = append(op.lowers, lower)
	}
	if o.upper == "" {
		return op, nil
	}
	var err error
	if op.upper, err = op.add(o.upper); err != nil {
		return op, err
	}
	op.work, err = op.add(o.work)
	return op, err
}

// add opens a folder; when that fails, it closes all that was opened.
func (op *opened) add(dir string) (string, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		op.close()
		return "", err
	}
	op.files = append(op.files, f)
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

func (op *opened) close() {
	for _, f := range op.files {
		f.Close()
	}
}

// option is one option of a mount; without a value it is a flag.
type option struct{ key, value string }

// options returns the options but for the lowers. The defaults of the first four depend on the
// kernel's configuration and on module parameters. With "nofollow" no redirect is made nor heeded;
// "off" may heed it, and is refused together with userxattr, as "on" is. With an index, which the
// kernel has in the work folder, the names of a file of the lowers stay names of one file when it
// is changed by one of them. It needs file handles, which the kernel does not give in user
// namespaces.
func (op *opened) options(attrs attributes) []option {
	redirect, index := "nofollow", "off"
	if attrs.redirects() && op.upper != "" {
		redirect = "on"
		if !op.noIndex {
			index = "on"
		}
	}
	options := []option{{"redirect_dir", redirect}, {"metacopy", "off"}, {"index", index}, {"xino", "off"}}
	if attrs == rootlessAttributes {
		options = append(options, option{key: "userxattr"})
	}
	if op.upper != "" {
		options = append(options, option{"upperdir", op.upper}, option{"workdir", op.work})
	}
	if op.volatile {
		options = append(options, option{key: "volatile"})
	}
	return options
}

// mountNew mounts by fsopen(2), which takes the lowers one by one since Linux 6.7, and tells in
// words what is wrong.
func mountNew(lowers []string, options []option, target string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, lower := range lowers {
		options = append(options, option{"lowerdir+", lower})
	}
	for _, o := range options {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			return withLog(fs, o.key, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return withLog(fs, "create", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return withLog(fs, "fsmount", err)
	}
	defer unix.Close(mount)
	err = unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// withLog adds to an error what the kernel says about it: each read of the context returns a
// message, "e " before it.
func withLog(fs int, what string, err error) error {
	var messages []string
	buf := make([]byte, 1024)
	for {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n == 0 {
			break
		}
		_, message, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
		messages = append(messages, strings.TrimPrefix(message, "overlay: "))
	}
	if len(messages) > 0 {
		what = strings.Join(messages, "; ")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// mountOld mounts by mount(2).
func mountOld(lowers []string, options []option, target string) error {
	text := "lowerdir=" + strings.Join(lowers, ":")
	for _, o := range options {
		text += "," + o.key
		if o.value != "" {
			text += "=" + o.value
		}
	}
	return os.NewSyscallError("mount", unix.Mount("overlay", target, "overlay", 0, text))
}
