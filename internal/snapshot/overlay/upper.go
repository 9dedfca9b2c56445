package overlay

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot"
)

// attributes is the prefix of the extended attributes in which the overlay keeps its own records.
type attributes string

const (
	rootAttributes     attributes = "trusted.overlay."
	rootlessAttributes attributes = "user.overlay." // mount option userxattr
)

func (a attributes) opaque() string { return string(a) + "opaque" }

// escaped reports whether a name of the prefix is not the overlay's: a file in a mount that has an
// attribute trusted.overlay.x has trusted.overlay.overlay.x in the upper folder (Linux 6.7).
func (a attributes) escaped(name string) bool { return strings.HasPrefix(name, string(a)+"overlay.") }

// copyOptions leave out the attributes that only have a meaning in the upper folder that they were made for.
func (a attributes) copyOptions() snapshot.CopyOptions {
	return snapshot.CopyOptions{
		Opaque: a.opaque(),
		Keep: func(name string) bool {
			return !strings.HasPrefix(name, string(a)) || a.escaped(name) || name == string(a)+"protattr"
		},
	}
}

// walk calls visit for everything in an upper folder, folders before what is in them, and says of a folder whether it hides
// what the lowers have at its path. visit may return fs.SkipDir and fs.SkipAll.
//
// It is an error if something in the upper folder does not stand for itself: a redirect, which has the entries
// of a lower folder elsewhere, and a metacopy, a file without its content, cannot be made under our mount options.
func (a attributes) walk(ctx context.Context, upper string, visit func(path string, opaque bool) error) error {
	return filepath.WalkDir(upper, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		path, err := filepath.Rel(upper, name)
		if err != nil {
			return err
		}
		var opaque bool
		if d.IsDir() || d.Type().IsRegular() {
			if opaque, err = a.isOpaque(name); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return visit(path, opaque)
	})
}

// isOpaque reads the overlay's records of one file or folder.
func (a attributes) isOpaque(name string) (opaque bool, err error) {
	names, err := a.names(name)
	if err != nil {
		return false, err
	}
	for _, attr := range names {
		switch strings.TrimPrefix(attr, string(a)) {
		case "opaque":
			var value [16]byte
			n, err := unix.Lgetxattr(name, attr, value[:])
			if err != nil {
				return false, err
			}
			if string(value[:n]) != "y" {
				return false, fmt.Errorf("overlay attribute %s is %q", attr, value[:n])
			}
			opaque = true
		case "origin", "impure", "nlink", "upper", "uuid", "protattr":
		default:
			return false, fmt.Errorf("overlay attribute %s is not to be had here", attr)
		}
	}
	return opaque, nil
}

// names returns which of the overlay's own attributes a file has.
func (a attributes) names(name string) ([]string, error) {
	all, err := snapshot.XattrNames(func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) })
	return slices.DeleteFunc(all, func(attr string) bool {
		return !strings.HasPrefix(attr, string(a)) || a.escaped(attr)
	}), err
}

// checkUpper returns an error if a tree's upper folder has something in it that does not stand for itself.
func (a attributes) checkUpper(ctx context.Context, upper string) error {
	return a.walk(ctx, upper, func(string, bool) error { return nil })
}

// checkPlain returns an error if a plain folder has something in it that an overlay would not show as it is.
func (a attributes) checkPlain(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeCharDevice != 0 {
			return checkDevice(name)
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return nil
		}
		if names, err := a.names(name); err != nil || len(names) == 0 {
			return err
		}
		return fmt.Errorf("%s: an attribute %s* has a meaning of its own to the overlay driver", name, a)
	})
}

// checkDevice refuses the device that the overlay has for whiteouts.
func checkDevice(name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if st.Rdev == 0 {
		return fmt.Errorf("%s: the character device 0:0 stands for a removed file in the overlay driver", name)
	}
	return nil
}
