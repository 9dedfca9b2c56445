package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"genoci/internal/source"
)

// busybox is a static busybox of the host, which is lent to images without a shell.
type busybox struct {
	file    source.File
	applets []string
}

// errNoBusybox says how to get one.
var errNoBusybox = errors.New("no static busybox was found on the host to lend to it (install busybox-static, or name one with --busybox)")

// findBusybox finds the busybox that the user named, or a static one on the PATH.
func (b *Builder) findBusybox() (*busybox, error) {
	path := b.Busybox
	if path == "" {
		found, err := exec.LookPath("busybox")
		if err != nil {
			return nil, errNoBusybox
		}
		path = found
	}
	if err := checkStatic(path); err != nil {
		if b.Busybox == "" {
			return nil, errNoBusybox
		}
		return nil, err
	}
	ctx := context.Background()
	f, err := b.src.File(ctx, path, "")
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, f.Path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", f.Path, err)
	}
	return &busybox{file: f, applets: strings.Fields(string(list))}, nil
}

// busybox returns the busybox to lend, looked for once.
func (b *Builder) busybox() (*busybox, error) {
	b.lendOnce.Do(func() { b.lend = sync.OnceValues(b.findBusybox) })
	return b.lend()
}

// busyboxDigest is that of the busybox that would be lent now; "" for none.
func (b *Builder) busyboxDigest() string {
	bb, err := b.busybox()
	if err != nil {
		return ""
	}
	return bb.file.String()
}

// checkStatic returns an error unless path is a program that needs no dynamic linker.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("busybox %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("busybox %s: is dynamically linked, a static one is needed", path)
		}
	}
	return nil
}
