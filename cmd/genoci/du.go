package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"genoci/internal/build"
	"genoci/internal/kept"
	"genoci/internal/space"
)

func newDu() *cobra.Command {
	var f storageFlags
	var asJSON, blobs bool
	cmd := &cobra.Command{
		Use:   "du [TAG...]",
		Short: "Show disk use",
		Long: `Du shows how much disk space images, trees and the rest of the cache take,
largest first. SIZE is all of it. OWN is what would become free if only that
one went; the rest is shared. Tags of one image share a line.

Blobs count with their stored size, everything else with its blocks on disk.
Shared parts count once: folders of overlay, blocks of btrfs, and blocks of vfs
if the file system can share them.

With tags, du shows those tags, their trees and their blobs.`,
		Example: `  genoci du
  genoci du web
  genoci du --blobs --json`,
		ValidArgsFunction: completeTags(&f.layout, 0),
		RunE: func(cmd *cobra.Command, tags []string) error {
			inv, err := f.survey(cmd.Context(), len(tags) > 0, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if len(tags) > 0 {
				if tag, ok := inv.Only(tags); !ok {
					return withHint(fmt.Errorf("tag %q does not exist in %s", tag, inv.Layout), "genoci ls lists the tags")
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), newJSONUsage(inv))
			}
			printUsage(cmd.OutOrStdout(), inv, blobs || len(tags) > 0, len(tags) == 0)
			return nil
		},
	}
	f.addLayout(cmd.Flags())
	f.addState(cmd.Flags())
	cmd.Flags().BoolVar(&blobs, "blobs", false, "show blobs too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// survey looks at all that genoci keeps, sorted by size.
func (f *storageFlags) survey(ctx context.Context, needLayout bool, messages io.Writer) (*space.Inventory, error) {
	p, err := f.locations(needLayout)
	if err != nil {
		return nil, err
	}
	if p.Layout != nil {
		defer p.Layout.Close()
	}
	release, err := use(ctx, p.Layout, p.Cache)
	if err != nil {
		return nil, err
	}
	defer release()
	inv, err := space.Survey(ctx, p, nil, false)
	if err != nil {
		return nil, err
	}
	f.tellUnusable(messages, p, inv)
	slices.SortStableFunc(inv.Images, func(a, b space.Image) int { return cmp.Compare(b.Size, a.Size) })
	slices.SortStableFunc(inv.Blobs, func(a, b space.Blob) int { return cmp.Compare(b.Size, a.Size) })
	slices.SortStableFunc(inv.Trees, func(a, b space.Tree) int { return cmp.Compare(b.Size, a.Size) })
	return inv, nil
}

// jsonUsage is what du --json prints.
type jsonUsage struct {
	Layout  string           `json:"layout,omitempty"`
	Cache   string           `json:"cache"`
	Images  []jsonUsageImage `json:"images"`
	Blobs   []jsonUsageBlob  `json:"blobs"`
	Trees   []jsonUsageTree  `json:"trees"`
	Sums    []jsonUsageSum   `json:"sums"`
	Tagged  int64            `json:"tagged"` // what the images take
	Kept    int64            `json:"kept"`   // what the cache and the drivers take: what gc --max-size limits
	Foreign []string         `json:"foreign,omitempty"`
}

type jsonUsageImage struct {
	Digest digest.Digest `json:"digest"`
	Tags   []string      `json:"tags"`
	Size   int64         `json:"size"`
	Own    int64         `json:"own"`
}

type jsonUsageBlob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Images int           `json:"images"` // that reach it
}

type jsonUsageTree struct {
	Kind   space.Kind `json:"kind"`
	Driver string     `json:"driver"`
	Name   string     `json:"name"`
	Size   int64      `json:"size"`
	Own    int64      `json:"own"`
	Used   time.Time  `json:"used"`
	Tags   []string   `json:"tags,omitempty"`  // whose tree it is
	Below  []string   `json:"below,omitempty"` // that stand on it
	Result bool       `json:"result"`          // a step made it, as the cache knows
	Dir    string     `json:"dir,omitempty"`   // of a checkout
}

type jsonUsageSum struct {
	Kind  space.Kind `json:"kind"`
	Count int        `json:"count"`
	Size  int64      `json:"size"`
}

func newJSONUsage(inv *space.Inventory) jsonUsage {
	j := jsonUsage{
		Layout: inv.Layout, Cache: inv.Cache, Tagged: inv.Tagged(), Kept: inv.Kept(), Foreign: inv.Foreign,
		Images: []jsonUsageImage{}, Blobs: []jsonUsageBlob{}, Trees: []jsonUsageTree{}, Sums: []jsonUsageSum{},
	}
	for _, i := range inv.Images {
		j.Images = append(j.Images, jsonUsageImage{i.Digest, append([]string{}, i.Tags...), i.Size, i.Own})
	}
	for _, b := range inv.Blobs {
		j.Blobs = append(j.Blobs, jsonUsageBlob(b))
	}
	for _, t := range inv.Trees {
		tree := jsonUsageTree{t.Kind, t.Store.Name, t.Name, t.Size, t.Own, t.Used, t.Tags, t.Below, t.Known, ""}
		if t.Work != nil {
			tree.Dir, tree.Tags = t.Work.Dir, []string{t.Work.Tag}
		}
		j.Trees = append(j.Trees, tree)
	}
	for _, s := range inv.Sums() {
		if s.Count > 0 || s.Size > 0 {
			j.Sums = append(j.Sums, jsonUsageSum(s))
		}
	}
	return j
}

// printUsage prints tables of images, trees and, where they are wanted, blobs and sums.
func printUsage(w io.Writer, inv *space.Inventory, blobs, sums bool) {
	if len(inv.Images) > 0 {
		rows := [][]string{{"SIZE", "OWN", "IMAGE"}}
		for _, i := range inv.Images {
			rows = append(rows, []string{size(i.Size), size(i.Own), cmp.Or(few(i.Tags), short(i.Digest))})
		}
		table(w, rows)
		say(w, "\n")
	}
	if len(inv.Trees) > 0 {
		rows := [][]string{{"SIZE", "OWN", "USED", "TREE", "OF"}}
		for _, t := range inv.Trees {
			rows = append(rows, []string{size(t.Size), size(t.Own), t.Used.Format(time.DateOnly), treeName(t), treeUse(t)})
		}
		table(w, rows)
		say(w, "\n")
	}
	if blobs && len(inv.Blobs) > 0 {
		rows := [][]string{{"SIZE", "IMAGES", "BLOB"}}
		for _, b := range inv.Blobs {
			rows = append(rows, []string{size(b.Size), strconv.Itoa(b.Images), string(b.Digest)})
		}
		table(w, rows)
		say(w, "\n")
	}
	if sums {
		printSums(w, inv)
	}
}

func printSums(w io.Writer, inv *space.Inventory) {
	rows := [][]string{{"SIZE", "COUNT", "KIND"}}
	all := inv.Sums()
	slices.SortStableFunc(all, func(a, b space.Sum) int { return cmp.Compare(b.Size, a.Size) })
	var total int64
	for _, s := range all {
		total += s.Size
		if s.Count > 0 || s.Size > 0 {
			rows = append(rows, []string{size(s.Size), strconv.Itoa(s.Count), string(s.Kind)})
		}
	}
	rows = append(rows, []string{size(total), "", "in all, " + size(inv.Kept()) + " of it in the cache"})
	table(w, rows)
	if len(inv.Foreign) > 0 {
		say(w, "not of genoci, in %s: %s\n", inv.Cache, few(inv.Foreign))
	}
}

// treeName says which tree it is.
func treeName(t space.Tree) string {
	name := short(digest.Digest(t.Name))
	switch t.Kind {
	case space.Failed:
		if target, ok := kept.FailedTarget(t.Name); ok {
			name = build.FailedRef(target)
		}
	case space.Checkouts:
		name = "checkout"
	case space.Open:
		name = "in use"
	}
	return t.Store.Name + " " + name
}

// treeUse says what a tree is for.
func treeUse(t space.Tree) string {
	switch {
	case t.Work != nil:
		return t.Work.Tag + ", in " + quoted(t.Work.Dir)
	case t.Kind != space.Snapshots:
		return ""
	case len(t.Tags) > 0:
		return few(t.Tags)
	case len(t.Below) > 0:
		return "below " + few(t.Below)
	case t.Known:
		return "the cache"
	}
	return "nothing; gc removes it"
}

// few returns a list of names, and of many only the first ones.
func few(names []string) string {
	const most = 3
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
