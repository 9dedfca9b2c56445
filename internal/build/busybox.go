package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"genoci/internal/source"
)

// busybox is a static busybox of the host, which is lent to images without a shell.
type busybox struct {
	file    source.File
	applets func() ([]string, error) // what it can do; asked once
}

// StaticBusybox returns the path of a static busybox on the PATH of the host. The error says that there is
// none, or why the one that is there cannot serve.
func StaticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errors.New("no busybox on the host")
	}
	return path, checkStatic(path)
}

// findBusybox finds the busybox that the user named, or a static one on the PATH.
func findBusybox(src *source.Source, path string) (*busybox, error) {
	var err error
	if path == "" {
		path, err = StaticBusybox()
	} else if path, err = filepath.Abs(path); err == nil {
		err = checkStatic(path)
	}
	if err != nil {
		return nil, fmt.Errorf("none can be lent to it: %w; install busybox-static, or name one with --busybox", err)
	}
	ctx := context.Background()
	f, err := src.File(ctx, path, "")
	if err != nil {
		return nil, err
	}
	return &busybox{file: f, applets: sync.OnceValues(func() ([]string, error) {
		list, err := exec.CommandContext(ctx, f.Path, "--list").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --list: %w", f.Path, err)
		}
		return strings.Fields(string(list)), nil
	})}, nil
}

// busybox returns the busybox to lend, looked for once.
func (b *Builder) busybox() (*busybox, error) {
	b.lendOnce.Do(func() {
		b.lend = sync.OnceValues(func() (*busybox, error) { return findBusybox(b.src, b.Busybox) })
	})
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
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked, and a static one is needed", path)
		}
	}
	return nil
}
