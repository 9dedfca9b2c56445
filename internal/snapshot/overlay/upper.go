package overlay

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"genoci/internal/snapshot/treecopy"
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

// copyOptions leave out the attributes that only have a meaning in the upper folder that they were
// made for.
func (a attributes) copyOptions() treecopy.Options {
	return treecopy.Options{
		Opaque: a.opaque(),
		Keep: func(name string) bool {
			return !strings.HasPrefix(name, string(a)) || a.escaped(name) || name == string(a)+"protattr"
		},
	}
}

// redirects reports whether a folder of the parent can be renamed: it is then a redirect in the
// upper folder. Where the attributes can be set by anybody, the kernel makes none, and rename(2) of
// such a folder is the error EXDEV.
func (a attributes) redirects() bool { return a == rootAttributes }

// record is what the overlay has noted about a file or folder of an upper folder.
type record struct {
	opaque   bool   // it hides what the lowers have at its path
	redirect string // it is merged with that path of the lowers in place of its own: absolute, or a name beside it; "": none
}

// alone reports whether a folder is not merged with what the lowers have at its path.
func (r record) alone() bool { return r.opaque || r.redirect != "" }

// walk calls visit for everything in an upper folder, folders before what is in them. visit may
// return fs.SkipDir and fs.SkipAll.
//
// It is an error if there is something else than whiteouts, opaque folders and redirects that does
// not stand for itself: a metacopy, a file without its content, cannot be made under our mount
// options.
func (a attributes) walk(ctx context.Context, upper string, visit func(path string, r record) error) error {
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
		var r record
		if d.IsDir() || d.Type().IsRegular() {
			if r, err = a.record(name, d.IsDir()); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return visit(path, r)
	})
}

// record reads the overlay's records of one file or folder.
func (a attributes) record(name string, folder bool) (r record, err error) {
	names, err := a.names(name)
	if err != nil {
		return r, err
	}
	for _, attr := range names {
		switch kind := strings.TrimPrefix(attr, string(a)); {
		case kind == "opaque":
			value, err := a.value(name, attr)
			if err != nil {
				return r, err
			}
			if value != "y" {
				return r, fmt.Errorf("overlay attribute %s is %q", attr, value)
			}
			r.opaque = true
		case kind == "redirect" && folder && a.redirects():
			if r.redirect, err = a.value(name, attr); err != nil {
				return r, err
			}
			if !isRedirect(r.redirect) {
				return r, fmt.Errorf("overlay attribute %s is %q", attr, r.redirect)
			}
		case slices.Contains([]string{"origin", "impure", "nlink", "upper", "uuid", "protattr"}, kind):
		default:
			return r, fmt.Errorf("overlay attribute %s is not supported here", attr)
		}
	}
	return r, nil
}

// isRedirect reports whether the value of a redirect is one that the kernel makes.
func isRedirect(value string) bool {
	return value != "/" && path.Clean(value) == value && value != "." && value != ".." && (value[0] == '/' || !strings.Contains(value, "/"))
}

// value returns the value of an attribute of the overlay's: a path, at most.
func (a attributes) value(name, attr string) (string, error) {
	var value [unix.PathMax]byte
	n, err := unix.Lgetxattr(name, attr, value[:])
	return string(value[:max(n, 0)]), err
}

// names returns which of the overlay's own attributes a file has.
func (a attributes) names(name string) ([]string, error) {
	all, err := treecopy.XattrNames(func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) })
	return slices.DeleteFunc(all, func(attr string) bool {
		return !strings.HasPrefix(attr, string(a)) || a.escaped(attr)
	}), err
}

// checkUpper returns an error if a tree's upper folder has something in it that does not stand for
// itself, and whether it has redirects.
func (a attributes) checkUpper(ctx context.Context, upper string) (redirects bool, err error) {
	err = a.walk(ctx, upper, func(_ string, r record) error {
		redirects = redirects || r.redirect != ""
		return nil
	})
	return redirects, err
}

// checkPlain returns an error if a plain folder has something in it that an overlay would not show
// as it is.
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
		return fmt.Errorf("%s: attributes %s* have a special meaning in an overlay", name, a)
	})
}

// checkDevice refuses the device that the overlay has for whiteouts.
func checkDevice(name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if st.Rdev == 0 {
		return fmt.Errorf("%s: the character device 0:0 means a removed file in an overlay", name)
	}
	return nil
}
