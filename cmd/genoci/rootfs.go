package main

import (
	"context"
	"io"

	"github.com/spf13/pflag"

	"genoci/internal/layer"
)

// rootfs is a root filesystem to look into.
type rootfs interface {
	layer.View

	// Subtree returns what stands at the canonical path and below it, as layer.Apply wants it, with paths relative to path. release is
	// due when nothing is read any more.
	Subtree(ctx context.Context, path string) (changes []layer.Change, release func() error, err error)
}

// lookFlags are the flags of commands that look into root filesystems.
type lookFlags struct {
	layout   string
	cacheDir string
}

func (f *lookFlags) add(fs *pflag.FlagSet) {
	layoutVar(fs, &f.layout)
	cacheDirVar(fs, &f.cacheDir)
}

// open finds the root filesystem that ref names. release is due when it is not needed any more.
func (f *lookFlags) open(ctx context.Context, stderr io.Writer, ref string) (root rootfs, release func(), err error) {
	l, img, err := openImage(f.layout, ref)
	if err != nil {
		return nil, nil, err
	}
	state, err := openCache(f.cacheDir)
	if err == nil {
		root, err = imagesOf(state, l, stderr).Open(ctx, img)
	}
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return root, func() { l.Close() }, nil
}
