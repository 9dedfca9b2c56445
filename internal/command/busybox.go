package command

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

// Busybox is a static busybox of the host, which is lent to images without a shell.
type Busybox struct {
	file    source.File
	applets func() ([]string, error) // what it can do; asked once
}

// StaticBusybox returns the path of a static busybox on the PATH of the host. The error says that
// there is none, or why the one that is there cannot serve.
func StaticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errors.New("no busybox on the host")
	}
	return path, checkStatic(path)
}

// FindBusybox finds the busybox that the user named, or a static one on the PATH.
func FindBusybox(src *source.Source, path string) (*Busybox, error) {
	var err error
	if path == "" {
		path, err = StaticBusybox()
	} else if path, err = filepath.Abs(path); err == nil {
		err = checkStatic(path)
	}
	if err != nil {
		return nil, fmt.Errorf("genoci cannot lend it a busybox: %w; install busybox-static, or name one with --busybox", err)
	}
	ctx := context.Background()
	f, err := src.File(ctx, path, "")
	if err != nil {
		return nil, err
	}
	return &Busybox{file: f, applets: sync.OnceValues(func() ([]string, error) {
		list, err := exec.CommandContext(ctx, f.Path, "--list").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --list: %w", f.Path, err)
		}
		return strings.Fields(string(list)), nil
	})}, nil
}

// Digest returns the digest of the program, sha256:HEX.
func (b *Busybox) Digest() string { return b.file.String() }

// checkStatic returns an error unless path is a program that needs no dynamic linker.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked, but it must be static", path)
		}
	}
	return nil
}
