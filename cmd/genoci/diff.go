package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/rootfs"
)

// diffFlags are the flags of diff.
type diffFlags struct {
	storage           storageFlags
	stat, json, times bool
}

func newDiff() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Show what differs between two images or trees",
		Long: `Diff shows how B differs from A: files and folders that were added (A), deleted
(D) or modified (M), what changed in each, and then the config. A and B can be
a tag, a digest, the folder of a checkout, or TARGET@failed, the tree of a
failed step.

With one operand, diff shows what that one changed. It compares an image with
its base, or, if the base is not in the layout, with the image without its last
layer. It compares a checkout with the image that was checked out, and a failed
step with the tree that it started from.

Diff uses the indexes of the layers. It unpacks nothing, skips layers that both
have, and reads only changed files of a tree. A failed step has no config to
compare. Times count only with --times.`,
		Example: `  genoci diff web
  genoci diff web-2026-11-25_1 web
  genoci diff web@failed
  genoci diff --stat debian:12 web
  genoci diff web --json | jq -r '.files[] | select(.change == "added") | .path'`,
		Args:              upTo(1, "A", "B"),
		ValidArgsFunction: completeRoots(&f.storage, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	f.storage.addLayout(cmd.Flags())
	f.storage.addState(cmd.Flags())
	cmd.Flags().BoolVar(&f.stat, "stat", false, "count files and bytes by folder")
	cmd.Flags().BoolVar(&f.times, "times", false, "let modification times count")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return withSpareCache(cmd, &f.storage.config.CacheDir)
}

func (f *diffFlags) run(ctx context.Context, stdout, stderr io.Writer, args []string) error {
	out := jsonDiff{From: args[0], To: args[len(args)-1], Config: []jsonConfigChange{}}
	var old rootfs.Stack
	if len(args) == 2 {
		var err error
		if old, err = f.storage.stackOf(ctx, stderr, args[0]); err != nil {
			return err
		}
	}
	root, release, err := f.storage.openRoot(ctx, stderr, out.To)
	if err != nil {
		return err
	}
	defer release()
	if len(args) == 1 {
		var origin rootfs.Origin
		if old, origin, err = root.Base(ctx); err != nil {
			return fmt.Errorf("diff %s: %w", out.To, err)
		}
		out.From = originText(origin)
		if !f.json {
			say(stderr, "note: compared with %s\n", out.From)
		}
	}
	now, err := root.Stack(ctx)
	if err != nil {
		return fmt.Errorf("diff %s: %w", out.To, err)
	}
	d, err := rootfs.Compare(ctx, old, now, f.times)
	if err != nil {
		return fmt.Errorf("diff %s %s: %w", out.From, out.To, err)
	}
	switch w := bufio.NewWriter(stdout); {
	case f.json:
		return printJSON(stdout, newJSONDiff(d, out, !f.stat))
	case f.stat:
		printDiffStat(stdout, d)
		return nil
	default:
		printDiff(w, d)
		return w.Flush()
	}
}

// stackOf returns the layers of what ref names. These can be looked into when nothing is open any
// more.
func (f *storageFlags) stackOf(ctx context.Context, stderr io.Writer, ref string) (rootfs.Stack, error) {
	root, release, err := f.openRoot(ctx, stderr, ref)
	if err != nil {
		return rootfs.Stack{}, err
	}
	defer release()
	s, err := root.Stack(ctx)
	if err != nil {
		return rootfs.Stack{}, fmt.Errorf("diff %s: %w", ref, err)
	}
	return s, nil
}

// printDiff prints a line for each difference.
func printDiff(w io.Writer, d rootfs.Diff) {
	for _, f := range d.Files {
		say(w, "%s\n", fileLine(f))
	}
	for _, c := range d.Config {
		say(w, "%s\n", configLine(c))
	}
}

// fileLine is a difference in a line: "M /etc/motd (mode 0644 -> 0600, content)".
func fileLine(d layer.Difference) string {
	name := shownPath(d.Path(), d.New != nil && d.New.Type == layer.TypeDir || d.New == nil && d.Old.Type == layer.TypeDir)
	switch {
	case d.New == nil:
		return "D " + name
	case d.Old != nil:
		return fmt.Sprintf("M %s (%s)", name, strings.Join(attributeTexts(d), ", "))
	case d.New.Type == layer.TypeSymlink:
		return fmt.Sprintf("A %s -> %s", name, quoted(d.New.Link))
	case rootfs.OtherName(d.New) != "":
		return fmt.Sprintf("A %s (hard link to %s)", name, quoted(rootfs.OtherName(d.New)))
	}
	return "A " + name
}

// shownPath is a path in an image as people see it.
func shownPath(p string, isDir bool) string {
	p = path.Join("/", p)
	if isDir && p != "/" {
		p += "/"
	}
	return quoted(p)
}

// attributeTexts says what is different about what stands at a path in both trees.
func attributeTexts(d layer.Difference) []string {
	var texts []string
	add := func(attr layer.Attributes, name string, value func(*layer.Entry) string) {
		switch {
		case !d.Attributes.Has(attr):
		case value == nil:
			texts = append(texts, name)
		default:
			texts = append(texts, fmt.Sprintf("%s %s -> %s", name, value(d.Old), value(d.New)))
		}
	}
	add(layer.AttrType, "type", func(e *layer.Entry) string { return typeName(e.Type) })
	add(layer.AttrMode, "mode", modeOf)
	add(layer.AttrOwner, "owner", func(e *layer.Entry) string { return fmt.Sprintf("%d:%d", e.UID, e.GID) })
	add(layer.AttrContent, "content", nil)
	add(layer.AttrSize, "size", func(e *layer.Entry) string { return strconv.FormatInt(e.Size, 10) })
	add(layer.AttrLink, "link", func(e *layer.Entry) string { return quoted(e.Link) })
	add(layer.AttrDevice, "device", func(e *layer.Entry) string { return fmt.Sprintf("%d:%d", e.Major, e.Minor) })
	if d.Attributes.Has(layer.AttrXattrs) {
		texts = append(texts, xattrTexts(d.Old.Xattrs, d.New.Xattrs)...)
	}
	add(layer.AttrHardLink, "hard link", func(e *layer.Entry) string { return orNone(quoted(rootfs.OtherName(e))) })
	add(layer.AttrTime, "time", func(e *layer.Entry) string { return timeOf(e).Format(time.RFC3339) })
	return texts
}

// xattrTexts says which extended attributes came, went or changed.
func xattrTexts(old, now map[string]string) []string {
	both := maps.Clone(old)
	if both == nil {
		both = map[string]string{}
	}
	maps.Copy(both, now)
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(both)) {
		was, had := old[name]
		is, has := now[name]
		switch {
		case !had:
			texts = append(texts, "xattr "+quoted(name)+" added")
		case !has:
			texts = append(texts, "xattr "+quoted(name)+" removed")
		case was != is:
			texts = append(texts, "xattr "+quoted(name)+" changed")
		}
	}
	return texts
}

func modeOf(e *layer.Entry) string { return fmt.Sprintf("%04o", e.Mode) }

func timeOf(e *layer.Entry) time.Time { return time.Unix(e.MTime, 0).UTC() }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// configLine is a change of the config in a line: "M config user (1 -> 2)".
func configLine(c image.Change) string {
	name := "config " + c.Field
	if c.Key != "" {
		name += " " + quoted(c.Key)
	}
	switch old, now := configText(c.Old), configText(c.New); {
	case c.Old != nil && c.New != nil:
		return fmt.Sprintf("M %s (%s -> %s)", name, old, now)
	case c.New == nil:
		return "D " + name
	case now == "":
		return "A " + name
	case c.Key != "":
		return "A " + name + "=" + now
	default:
		return "A " + name + " " + now
	}
}

// configText is a value of a config as people see it.
func configText(value any) string {
	switch v := value.(type) {
	case []string:
		return quoted(words(v))
	case string:
		return quoted(v)
	}
	return ""
}

// printDiffStat prints how much differs in each folder.
func printDiffStat(w io.Writer, d rootfs.Diff) {
	folders, total := d.ByFolder()
	rows := [][]string{{"FOLDER", "ADDED", "DELETED", "MODIFIED", "BYTES"}}
	row := func(name string, c rootfs.Tally) {
		var bytes []string
		if c.BytesAdded > 0 {
			bytes = append(bytes, "+"+size(c.BytesAdded))
		}
		if c.BytesDeleted > 0 {
			bytes = append(bytes, "-"+size(c.BytesDeleted))
		}
		rows = append(rows, []string{name, strconv.Itoa(c.Added), strconv.Itoa(c.Deleted), strconv.Itoa(c.Modified), strings.Join(bytes, " ")})
	}
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		row(quoted(name), folders[name])
	}
	if len(d.Config) > 0 {
		row("config", d.ConfigTally())
	}
	row("total", total)
	table(w, rows)
}

// jsonDiff is what diff --json prints. Names and meanings stay as they are; fields may come.
type jsonDiff struct {
	From    string             `json:"from"`           // as it was named, or what it is
	To      string             `json:"to"`             //
	Files   []jsonDifference   `json:"files,omitzero"` // in the order of paths; not with --stat
	Config  []jsonConfigChange `json:"config"`
	Folders []jsonCount        `json:"folders"` // of two levels at most
	Total   jsonCount          `json:"total"`
}

type jsonDifference struct {
	Path       string     `json:"path"`                 // absolute
	Change     string     `json:"change"`               // added, deleted or modified
	Attributes []string   `json:"attributes,omitempty"` // that were modified: type, mode, owner, content, ...
	Old        *jsonEntry `json:"old,omitempty"`
	New        *jsonEntry `json:"new,omitempty"`
}

// jsonEntry is what stands at a path.
type jsonEntry struct {
	Type     string            `json:"type"` // file, folder, symlink, fifo, character device, block device
	Mode     string            `json:"mode"` // octal
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Size     int64             `json:"size,omitempty"`
	Digest   digest.Digest     `json:"digest,omitempty"` // of the content of a file
	MTime    time.Time         `json:"mtime"`
	Link     string            `json:"link,omitempty"`     // the text of a symlink
	HardLink string            `json:"hardLink,omitempty"` // the first other name of the same file
	Device   string            `json:"device,omitempty"`   // MAJOR:MINOR
	Xattrs   map[string][]byte `json:"xattrs,omitempty"`   // values in base64
}

type jsonConfigChange struct {
	Field string `json:"field"`         // as in a spec
	Key   string `json:"key,omitempty"` // of a variable, label, ...
	Old   any    `json:"old,omitempty"` // a string, or a list of them
	New   any    `json:"new,omitempty"`
}

type jsonCount struct {
	Folder       string `json:"folder,omitempty"`
	Added        int    `json:"added"`
	Deleted      int    `json:"deleted"`
	Modified     int    `json:"modified"`
	BytesAdded   int64  `json:"bytesAdded"`
	BytesDeleted int64  `json:"bytesDeleted"`
}

func newJSONCount(folder string, c rootfs.Tally) jsonCount {
	return jsonCount{folder, c.Added, c.Deleted, c.Modified, c.BytesAdded, c.BytesDeleted}
}

// newJSONDiff completes out; files says whether each of them is listed.
func newJSONDiff(d rootfs.Diff, out jsonDiff, files bool) jsonDiff {
	if files {
		out.Files = []jsonDifference{}
		for _, f := range d.Files {
			out.Files = append(out.Files, newJSONDifference(f))
		}
	}
	for _, c := range d.Config {
		out.Config = append(out.Config, jsonConfigChange(c))
	}
	folders, total := d.ByFolder()
	out.Folders, out.Total = []jsonCount{}, newJSONCount("", total)
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		out.Folders = append(out.Folders, newJSONCount(name, folders[name]))
	}
	return out
}

func newJSONDifference(d layer.Difference) jsonDifference {
	j := jsonDifference{Path: path.Join("/", d.Path()), Change: "modified", Old: newJSONEntry(d.Old), New: newJSONEntry(d.New)}
	switch {
	case d.Old == nil:
		j.Change = "added"
	case d.New == nil:
		j.Change = "deleted"
	}
	for _, a := range []struct {
		attr layer.Attributes
		name string
	}{
		{layer.AttrType, "type"}, {layer.AttrMode, "mode"}, {layer.AttrOwner, "owner"}, {layer.AttrContent, "content"}, {layer.AttrSize, "size"},
		{layer.AttrLink, "link"}, {layer.AttrDevice, "device"}, {layer.AttrXattrs, "xattrs"}, {layer.AttrHardLink, "hardLink"}, {layer.AttrTime, "mtime"},
	} {
		if d.Attributes.Has(a.attr) {
			j.Attributes = append(j.Attributes, a.name)
		}
	}
	return j
}

func newJSONEntry(e *layer.Entry) *jsonEntry {
	if e == nil {
		return nil
	}
	j := &jsonEntry{
		Type: typeName(e.Type), Mode: modeOf(e), UID: e.UID, GID: e.GID, Size: e.Size, MTime: timeOf(e), HardLink: rootfs.OtherName(e),
	}
	switch e.Type {
	case layer.TypeFile:
		j.Digest = digest.NewDigestFromBytes(digest.SHA256, e.Digest[:])
	case layer.TypeSymlink:
		j.Link = e.Link
	case layer.TypeChar, layer.TypeBlock:
		j.Device = fmt.Sprintf("%d:%d", e.Major, e.Minor)
	}
	for name, value := range e.Xattrs {
		if j.Xattrs == nil {
			j.Xattrs = map[string][]byte{}
		}
		j.Xattrs[name] = []byte(value)
	}
	return j
}
