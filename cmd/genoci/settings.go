package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"genoci/internal/spec"
)

// Where a value comes from, the first that has it:
//
//	the flag
//	the environment: GENOCI_LAYOUT, GENOCI_DRIVER, ... (an empty value counts as none)
//	./atom_config.yaml
//	~/.config/atom/config.yaml
//	$XDG_CONFIG_HOME/genoci/config.yaml, ~/.config/genoci/config.yaml by default
//	the default that --help shows
//
// The first two files are the original's and have its keys; the third has those of the table below,
// with "_" for "-". Each file is checked as a whole, whether or not its values are needed.

// setting is a flag whose value can come from elsewhere.
type setting struct {
	flag string
	atom string // its key in the original's files; "" if there is none
	path bool   // its value is a path, in which a file may have "~" for the home folder
}

var settings = []setting{
	{"layout", "layoutdir", true},
	{"driver", "driver", false},
	{"jobs", "", false},
	{"compression", "", false},
	{"cache-dir", "", true},
	{"progress", "", false},
	{"busybox", "", true},
	{"lofile", "lofile", true},
	{"btrfsmount", "btrfsmount", true},
	{"lvbasedir", "lvbasedir", true},
	{"vg", "vg", false},
	{"thinpool", "thinpool", false},
	{"lvfs", "", false},
	{"lvsize", "lvsize", false},
	{"thinsize", "thinsize", false},
	{"max-size", "", false},
}

// atomUnused are keys of the original's files without effect: a network block device to be used for
// lvm, in place of the file.
var atomUnused = []string{"lvdev"}

func (s setting) env() string { return "GENOCI_" + strings.ToUpper(s.key()) }
func (s setting) key() string { return strings.ReplaceAll(s.flag, "-", "_") }

// value is what a place says about a setting.
type value struct{ text, origin string }

// applySettings gives the flags of cmd that were not set the values that the environment and the
// files have for them.
func applySettings(cmd *cobra.Command) error {
	wanted := make(map[setting]*pflag.Flag)
	for _, s := range settings {
		if f := cmd.Flags().Lookup(s.flag); f != nil {
			wanted[s] = f
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	files, err := readSettings()
	if err != nil {
		return err
	}
	for _, s := range settings {
		f := wanted[s]
		if f == nil || f.Changed {
			continue
		}
		v, ok, err := s.lookup(files)
		if err != nil {
			return err
		}
		if ok {
			if err := f.Value.Set(v.text); err != nil {
				return usagef("%s: %w", v.origin, err)
			}
		}
	}
	return nil
}

// lookup returns what the environment, or the first of files that has it, says about the setting.
func (s setting) lookup(files []map[string]value) (v value, ok bool, err error) {
	if text := os.Getenv(s.env()); text != "" {
		return value{text, s.env()}, true, nil
	}
	for _, f := range files {
		if v, ok = f[s.flag]; ok {
			if s.path {
				v.text, err = expandHome(v.text)
			}
			return v, true, err
		}
	}
	return value{}, false, nil
}

// settingsFile is a place of settings.
type settingsFile struct {
	path string
	keys map[string]string // the keys that it may have, with their flags; "" for those without effect
}

// settingsFiles returns the places in the order in which they count.
func settingsFiles() []settingsFile {
	atom, own := make(map[string]string), make(map[string]string)
	for _, s := range settings {
		own[s.key()] = s.flag
		if s.atom != "" {
			atom[s.atom] = s.flag
		}
	}
	for _, key := range atomUnused {
		atom[key] = ""
	}
	files := []settingsFile{{"atom_config.yaml", atom}}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, settingsFile{filepath.Join(home, ".config/atom/config.yaml"), atom})
	}
	if config, err := os.UserConfigDir(); err == nil {
		files = append(files, settingsFile{filepath.Join(config, "genoci/config.yaml"), own})
	}
	return files
}

// readSettings reads all settings files, and returns their values by the names of flags.
func readSettings() ([]map[string]value, error) {
	var all []map[string]value
	for _, f := range settingsFiles() {
		values, err := f.read()
		if err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, nil
}

// read returns the values of the file by the names of flags. A file that does not exist is empty,
// and so is one in the home of somebody else, as sudo may have it.
func (s settingsFile) read() (map[string]value, error) {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, &cliError{err: err, code: exitUsage}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, usagef("%s: %w", s.path, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, usagef("%s:%d: settings are a map of keys and values", s.path, top.Line)
	}
	values := make(map[string]value)
	seen := make(map[string]bool)
	for i := 0; i < len(top.Content); i += 2 {
		key, val := top.Content[i], top.Content[i+1]
		at := fmt.Sprintf("%s:%d", s.path, key.Line)
		flag, known := s.keys[key.Value]
		switch {
		case !known:
			return nil, unknownSetting(at, key.Value, s.keys)
		case seen[key.Value]:
			return nil, usagef("%s: %q stands here twice", at, key.Value)
		case val.Kind != yaml.ScalarNode || val.Tag == "!!null":
			return nil, usagef("%s: %s: expected one value", at, key.Value)
		}
		seen[key.Value] = true
		if flag != "" {
			values[flag] = value{val.Value, at + ": " + key.Value}
		}
	}
	return values, nil
}

func unknownSetting(at, key string, keys map[string]string) error {
	var names []string
	for k := range keys {
		names = append(names, k)
	}
	err := usagef("%s: unknown key %q", at, key)
	if near := spec.Nearest(key, names); near != "" {
		return withHint(err, "did you mean %q?", near)
	}
	return err
}

// expandHome puts the home folder in the place of a leading "~", as the original did in its
// settings.
func expandHome(path string) (string, error) {
	if path != "~" && (len(path) < 2 || path[:2] != "~/") {
		return path, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, path[1:]), err
}
