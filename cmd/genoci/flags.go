package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"genoci/internal/cache"
	"genoci/internal/storage"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value   *string
	allowed []string
}

func (c *choice) String() string { return *c.value }
func (c *choice) Type() string   { return strings.Join(c.allowed, "|") }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("invalid value %q: expected one of %s", s, strings.Join(c.allowed, ", "))
	}
	*c.value = s
	return nil
}

// choiceVar adds a flag that takes one of allowed to fs; the first is the default.
func choiceVar(fs *pflag.FlagSet, value *string, name, usage string, allowed ...string) {
	*value = allowed[0]
	fs.Var(&choice{value, allowed}, name, usage)
}

// driverVar adds the flag --driver to fs.
func driverVar(fs *pflag.FlagSet, value *string) {
	choiceVar(fs, value, "driver", "storage of root filesystems", append([]string{storage.Auto}, storage.Names()...)...)
}

// count is a flag that takes a number from 1.
type count int

func (c *count) Type() string { return "N" }
func (c *count) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

func (c *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a positive integer", s)
	}
	*c = count(n)
	return nil
}

// argFlag is the name of the flag --arg.
const argFlag = "arg"

// args is the flag --arg NAME=VALUE.
type args map[string]string

func (a args) String() string { return "" }
func (a args) Type() string   { return "NAME=VALUE" }
func (a args) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not NAME=VALUE", s)
	}
	a[name] = value
	return nil
}

// defaultLayout is the folder of the layout where nobody names one.
const defaultLayout = "./oci"

// layoutVar adds the flag --layout.
func layoutVar(fs *pflag.FlagSet, dir *string) {
	fs.StringVar(dir, "layout", defaultLayout, "`DIR` of the OCI image layout")
}

// cacheDirVar adds the flag --cache-dir.
func cacheDirVar(fs *pflag.FlagSet, dir *string) {
	fs.StringVar(dir, "cache-dir", "", "`DIR` of genoci's own state (default $XDG_CACHE_HOME/genoci)")
}

// busyboxVar adds the flag --busybox.
func busyboxVar(fs *pflag.FlagSet, file *string) {
	fs.StringVar(file, "busybox", "", "static busybox that is lent to images without a shell, `FILE` (default: looked for on the host)")
}

// cacheDir returns the folder of genoci's own state: as given, or by the XDG base directory
// specification.
func cacheDir(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", withHint(lackingf("cache folder: %w", err), "name one: --cache-dir DIR, or GENOCI_CACHE_DIR")
	}
	return filepath.Join(dir, "genoci"), nil
}

// openCache opens the cache in that folder.
func openCache(given string) (*cache.Cache, error) {
	dir, err := cacheDir(given)
	if err != nil {
		return nil, err
	}
	c, err := cache.Open(dir)
	if err == nil {
		c.SealAt(secretFile())
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOTDIR) {
		err = withHint(lackingf("%w", err), "name a folder that can be written: --cache-dir DIR, or GENOCI_CACHE_DIR")
	}
	return c, err
}

// secretFile returns the file of the random key of cache folders, by the XDG base directory
// specification, version 0.8; "" where there is no home.
func secretFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // as the specification says
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "genoci", "secret")
}

// netrcFile returns the file of users and passwords for the hosts of URLs, where curl looks for it
// too; "" where there is no home.
func netrcFile() string {
	if file := os.Getenv("NETRC"); file != "" {
		return file
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".netrc")
}

// sourceEpoch returns SOURCE_DATE_EPOCH (reproducible-builds.org), seconds since 1970, or nil where
// it is not set.
func sourceEpoch() (*int64, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return nil, usagef("SOURCE_DATE_EPOCH: invalid value %q: expected a number of seconds since 1970", text)
	}
	return &n, nil
}
