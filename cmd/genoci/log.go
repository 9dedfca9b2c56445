package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"genoci/internal/history"
	"genoci/internal/layout"
	"genoci/internal/spec"
)

// logFlags are the flags of log.
type logFlags struct {
	storage    storageFlags
	stat, json bool
}

func newLog() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "log NAME",
		Short: "List the dated builds of a name, and what changed in each",
		Long: `Log lists the dated tags NAME-DATE_N, newest first. For each it shows the
image, its size, how much of that is new, and the layers. It also counts the
files and folders that were added (+), deleted (-) and modified (~) since the
build before. "config" means that the config changed too. A star marks the
builds that NAME stands for.

Log takes the changes from the indexes of the layers, as diff does. --stat
counts them by folder.`,
		Example: `  genoci log web
  genoci log --stat web
  genoci log web --json | jq -r '.[] | select(.current) | .tag'
  genoci diff web-2026-11-25_1 web     what it was`,
		Args:              exactly("NAME"),
		ValidArgsFunction: completeBuilds(&f.storage.layout),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0])
		},
	}
	f.storage.addLayout(cmd.Flags())
	f.storage.addState(cmd.Flags())
	cmd.Flags().BoolVar(&f.stat, "stat", false, "count files and bytes by folder")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return withSpareCache(cmd, &f.storage.config.CacheDir)
}

func (f *logFlags) run(ctx context.Context, stdout, stderr io.Writer, name string) error {
	l, err := openLayout(ctx, f.storage.layout)
	if err != nil {
		return err
	}
	defer l.Close()
	tags, err := l.Tags()
	if err != nil {
		return err
	}
	builds, err := buildsOf(tags, name)
	if err != nil {
		return err
	}
	state, err := openCache(f.storage.config.CacheDir)
	if err != nil {
		return err
	}
	release, err := state.Use(ctx)
	if err != nil {
		return err
	}
	defer release()
	list, err := history.List(ctx, imagesOf(state, l, stderr), builds, current(tags, name))
	switch {
	case f.json:
		return errors.Join(err, printJSON(stdout, jsonLog(list, f.stat)))
	case f.stat:
		printLogStat(stdout, list)
	default:
		printLog(stdout, list)
	}
	if now := current(tags, name); now != "" && !slices.ContainsFunc(builds, func(b layout.Build) bool { return b.Descriptor.Digest == now }) {
		say(stderr, "note: %s is %s now, which is none of these\n", name, short(now))
	}
	return err
}

// buildsOf returns the dated builds of a name: at least one.
func buildsOf(tags []layout.Tag, name string) ([]layout.Build, error) {
	if builds := layout.Builds(tags, name); len(builds) > 0 {
		return builds, nil
	}
	err := fmt.Errorf("%s: no dated builds", name)
	if d, ok := layout.ParseDated(name); ok && len(layout.Builds(tags, d.Name)) > 0 {
		return nil, withHint(err, "it is one of %s: genoci log %[1]s", d.Name)
	}
	if near := spec.Nearest(name, builtNames(tags)); near != "" {
		return nil, withHint(err, "did you mean %q?", near)
	}
	return nil, withHint(err, "genoci ls lists the tags; builds are those called NAME-DATE_N")
}

// builtNames returns the names that have dated builds, sorted.
func builtNames(tags []layout.Tag) []string {
	names := map[string]bool{}
	for _, t := range tags {
		if d, ok := layout.ParseDated(t.Name); ok {
			names[d.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// current returns what a tag names; "" where there is none.
func current(tags []layout.Tag, name string) digest.Digest {
	for _, t := range tags {
		if t.Name == name {
			return t.Descriptor.Digest
		}
	}
	return ""
}

// changedText says in a few words what changed in a build.
func changedText(b history.Build) string {
	switch {
	case b.Changes == nil:
		return ""
	case b.Changes.IsEmpty():
		return "nothing"
	}
	var what []string
	if _, total := b.Changes.ByFolder(); len(b.Changes.Files) > 0 {
		what = append(what, fmt.Sprintf("+%d -%d ~%d", total.Added, total.Deleted, total.Modified))
	}
	if len(b.Changes.Config) > 0 {
		what = append(what, "config")
	}
	return strings.Join(what, ", ")
}

// star marks the builds that the name stands for.
func star(b history.Build) string {
	if b.Current {
		return "*"
	}
	return ""
}

func printLog(w io.Writer, list []history.Build) {
	rows := [][]string{{"", "TAG", "DIGEST", "SIZE", "NEW", "LAYERS", "CHANGED"}}
	for _, b := range list {
		row := []string{star(b), b.Tag.String(), short(b.Tag.Descriptor.Digest), "?", "?", "?", ""}
		if b.Known {
			row = append(row[:3], size(b.Size()), size(b.Added), strconv.Itoa(len(b.Image.Manifest.Layers)), changedText(b))
		}
		rows = append(rows, row)
	}
	table(w, rows)
}

// printLogStat prints a paragraph for each build.
func printLogStat(w io.Writer, list []history.Build) {
	for i, b := range list {
		if i > 0 {
			say(w, "\n")
		}
		words := []string{b.Tag.String(), short(b.Tag.Descriptor.Digest)}
		if b.Known {
			words = append(words, size(b.Size()), size(b.Added)+" new", plural(len(b.Image.Manifest.Layers), "layer"))
		}
		if b.Current {
			words = append(words, "now "+b.Tag.Name)
		}
		say(w, "%s\n", strings.Join(words, ", "))
		switch {
		case b.Changes == nil:
		case b.Changes.IsEmpty():
			say(w, "%s\n", changedText(b))
		default:
			printDiffStat(w, *b.Changes)
		}
	}
}

// jsonBuild is an element of what log --json prints. Names and meanings stay as they are; fields
// may come.
type jsonBuild struct {
	Tag     string        `json:"tag"`
	Date    string        `json:"date"`
	Digest  digest.Digest `json:"digest"`  // of the manifest, or of the index of a multi-platform image
	Current bool          `json:"current"` // NAME is this image now
	Created *time.Time    `json:"created,omitempty"`
	Size    int64         `json:"size"` // of manifest, config and layers
	New     int64         `json:"new"`  // of those that the build before does not have
	Layers  int           `json:"layers"`
	Changes *jsonChanges  `json:"changes,omitempty"` // since the build before
}

type jsonChanges struct {
	jsonCount
	Config  int         `json:"config"`            // fields, and keys of maps
	Folders []jsonCount `json:"folders,omitempty"` // with --stat
}

func jsonLog(list []history.Build, folders bool) []jsonBuild {
	out := []jsonBuild{}
	for _, b := range list {
		j := jsonBuild{Tag: b.Tag.String(), Date: b.Tag.Date, Digest: b.Tag.Descriptor.Digest, Current: b.Current, New: b.Added}
		if b.Known {
			j.Created, j.Size, j.Layers = b.Image.Config.Created, b.Size(), len(b.Image.Manifest.Layers)
		}
		if b.Changes != nil {
			all := newJSONDiff(*b.Changes, jsonDiff{}, false)
			j.Changes = &jsonChanges{jsonCount: all.Total, Config: len(all.Config)}
			if folders {
				j.Changes.Folders = all.Folders
			}
		}
		out = append(out, j)
	}
	return out
}
