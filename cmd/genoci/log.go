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
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layout"
	"genoci/internal/rootfs"
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
	list, err := listBuilds(ctx, imagesOf(state, l, stderr), builds, current(tags, name))
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

// loggedBuild is what log says of a build.
type loggedBuild struct {
	build   layout.Build
	current bool
	known   bool // the image could be read
	image   image.Image
	added   int64        // bytes of blobs that the build before does not have
	changes *rootfs.Diff // from the build before; nil: there is none, or it is not known
}

// listBuilds describes builds. Of those that cannot be read, the index says what there is to say,
// and the error why.
func listBuilds(ctx context.Context, store imagefs.Store, builds []layout.Build, now digest.Digest) ([]loggedBuild, error) {
	list := make([]loggedBuild, len(builds))
	var failed []error
	var before *imagefs.Image
	for i, b := range slices.Backward(builds) {
		list[i] = loggedBuild{build: b, current: b.Descriptor.Digest == now}
		img, err := store.Layout.ImageAt(b.Descriptor, v1.Platform{})
		var opened *imagefs.Image
		if err == nil {
			list[i].known, list[i].image = true, img
			opened, err = store.Open(ctx, img)
		}
		if err == nil {
			err = list[i].compare(ctx, before, opened)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("tag %s: %w", b, err))
		}
		before = opened
	}
	slices.Reverse(failed)
	return list, errors.Join(failed...)
}

// compare says what is new in a build. before is nil for the first.
func (b *loggedBuild) compare(ctx context.Context, before, now *imagefs.Image) error {
	if before == nil {
		b.added = imageSize(now.Image)
		return nil
	}
	b.added = newBytes(before.Image, now.Image)
	if before.Image.Descriptor.Digest == now.Image.Descriptor.Digest {
		b.changes = &rootfs.Diff{}
		return nil
	}
	d, err := rootfs.Compare(ctx, rootfs.StackOf(before), rootfs.StackOf(now), false)
	b.changes = &d
	return err
}

// newBytes returns the size of those blobs of an image that another one does not have.
func newBytes(old, now image.Image) int64 {
	have := map[digest.Digest]bool{}
	for _, d := range blobsOf(old) {
		have[d.Digest] = true
	}
	var n int64
	for _, d := range blobsOf(now) {
		if !have[d.Digest] {
			n += d.Size
			have[d.Digest] = true
		}
	}
	return n
}

// blobsOf returns manifest, config and layers of an image.
func blobsOf(img image.Image) []v1.Descriptor {
	return append([]v1.Descriptor{img.Descriptor, img.Manifest.Config}, img.Manifest.Layers...)
}

// changed says in a few words what changed in a build.
func (b *loggedBuild) changed() string {
	switch {
	case b.changes == nil:
		return ""
	case b.changes.IsEmpty():
		return "nothing"
	}
	var what []string
	if _, total := b.changes.ByFolder(); len(b.changes.Files) > 0 {
		what = append(what, fmt.Sprintf("+%d -%d ~%d", total.Added, total.Deleted, total.Modified))
	}
	if len(b.changes.Config) > 0 {
		what = append(what, "config")
	}
	return strings.Join(what, ", ")
}

func (b *loggedBuild) star() string {
	if b.current {
		return "*"
	}
	return ""
}

func printLog(w io.Writer, list []loggedBuild) {
	rows := [][]string{{"", "TAG", "DIGEST", "SIZE", "NEW", "LAYERS", "CHANGED"}}
	for _, b := range list {
		row := []string{b.star(), b.build.String(), short(b.build.Descriptor.Digest), "?", "?", "?", ""}
		if b.known {
			row = append(row[:3], size(imageSize(b.image)), size(b.added), strconv.Itoa(len(b.image.Manifest.Layers)), b.changed())
		}
		rows = append(rows, row)
	}
	table(w, rows)
}

// printLogStat prints a paragraph for each build.
func printLogStat(w io.Writer, list []loggedBuild) {
	for i, b := range list {
		if i > 0 {
			say(w, "\n")
		}
		words := []string{b.build.String(), short(b.build.Descriptor.Digest)}
		if b.known {
			words = append(words, size(imageSize(b.image)), size(b.added)+" new", plural(len(b.image.Manifest.Layers), "layer"))
		}
		if b.current {
			words = append(words, "now "+b.build.Name)
		}
		say(w, "%s\n", strings.Join(words, ", "))
		switch {
		case b.changes == nil:
		case b.changes.IsEmpty():
			say(w, "%s\n", b.changed())
		default:
			printDiffStat(w, *b.changes)
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

func jsonLog(list []loggedBuild, folders bool) []jsonBuild {
	out := []jsonBuild{}
	for _, b := range list {
		j := jsonBuild{Tag: b.build.String(), Date: b.build.Date, Digest: b.build.Descriptor.Digest, Current: b.current, New: b.added}
		if b.known {
			j.Created, j.Size, j.Layers = b.image.Config.Created, imageSize(b.image), len(b.image.Manifest.Layers)
		}
		if b.changes != nil {
			all := newJSONDiff(*b.changes, jsonDiff{}, false)
			j.Changes = &jsonChanges{jsonCount: all.Total, Config: len(all.Config)}
			if folders {
				j.Changes.Folders = all.Folders
			}
		}
		out = append(out, j)
	}
	return out
}
