package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"genoci/internal/cache"
	"genoci/internal/layout"
	"genoci/internal/space"
)

// gcFlags are the flags of gc.
type gcFlags struct {
	removal  removalFlags
	keep     count
	keepDays count
	failed   bool
	maxSize  byteSize
}

func newGC() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what no tag needs",
		Long: `Gc removes what nothing needs any more:

  - blobs that no tag reaches
  - layers of build_only targets that no tag needs
  - trees, layer indexes and step results that no tag needs
  - downloads that were not used for 60 days
  - trees of failed steps, after a week
  - files that killed processes left

A tree, index or result stays while a tag of any layout that was built into
needs it, or something else in the cache does.

--keep and --keep-days also remove dated tags (NAME-YYYY-MM-DD_N), and what
only those tags need. A tag stays if either rule keeps it. The newest dated tag
of the image that NAME stands for always stays. --keep counts images: several
tags of one image count once. Gc never removes any other tag.

--max-size limits the cache folder and the trees; images do not count. Gc
first removes what takes the least time to make again, for each byte. Among
equals, it first removes what was not used for longest. Checkouts stay, and so
do the images that they were made from.

Gc refuses to run while a build uses the layout or the cache. All tags that are
left stay valid, even if gc is killed.`,
		Example: `  genoci gc --dry-run
  genoci gc --keep 5
  genoci gc --keep 3 --keep-days 30 --max-size 20GB`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.removal.storage.addLayout(fs)
	f.removal.storage.addState(fs)
	fs.Var(&f.keep, "keep", "remove dated tags, but those of the newest N images of each name")
	fs.Var(&f.keepDays, "keep-days", "remove dated tags, but those of the last N days")
	fs.BoolVar(&f.failed, "failed", false, "remove all trees of steps that failed, however new")
	fs.Var(&f.maxSize, "max-size", "of all beside the images: the cache and the unpacked trees")
	f.removal.addOutput(fs)
	return cmd
}

func (f *gcFlags) run(ctx context.Context, out, messages io.Writer) error {
	p, err := f.removal.storage.locations(true)
	if err != nil {
		return err
	}
	defer p.Layout.Close()
	if b, st := f.removal.storage.drivers.Detached(); b != nil {
		return withHint(fmt.Errorf("gc: the storage in %s is not attached: images may be checked out there, which then have to stay", st.File),
			"%s attaches it", storageCommand("setup", b))
	}
	now := time.Now()
	c, err := space.Collect(ctx, p, space.Keep{Count: int(f.keep), Days: int(f.keepDays)}, now)
	if err != nil {
		return err
	}
	defer c.Close()
	release, err := p.Cache.Exclude()
	if err != nil {
		return err
	}
	defer release()
	inv, err := space.Survey(ctx, p, c, true)
	if err != nil {
		return err
	}
	f.removal.storage.tellUnusable(messages, p, inv)
	plan := inv.Plan(space.Policy{Limit: f.maxSize.limit(), Failed: f.failed}, now)
	if err := f.removal.carry(ctx, plan, out, printRemoval); err != nil {
		return err
	}
	if tagged := inv.Tagged(); f.maxSize.set && tagged > f.maxSize.bytes {
		say(messages, "note: the images of the layout take %s, more than --max-size, which does not limit them; --keep and --keep-days remove old ones\n", size(tagged))
	}
	if plan.Over() {
		return withHint(fmt.Errorf("gc: the cache and the trees still take %s, more than --max-size %s", size(plan.Left), size(f.maxSize.bytes)),
			"checkouts stay, and trees that a process has; genoci du shows them")
	}
	return nil
}

// removalFlags are the flags of the commands that remove what a plan says.
type removalFlags struct {
	storage      storageFlags
	dryRun, json bool
}

func (f *removalFlags) addOutput(fs *pflag.FlagSet) {
	fs.BoolVar(&f.dryRun, "dry-run", false, "only say what would be removed")
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

// carry carries a plan out, unless it is to be shown only, and says what was removed: with text, or
// as JSON.
func (f *removalFlags) carry(ctx context.Context, plan *space.Plan, out io.Writer, text func(w io.Writer, p *space.Plan, dryRun bool)) error {
	if !f.dryRun {
		if err := plan.Carry(ctx); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(out, newJSONRemoval(plan, f.dryRun))
	}
	text(out, plan, f.dryRun)
	return nil
}

// jsonRemoval is what gc --json and clean --json print.
type jsonRemoval struct {
	DryRun    bool              `json:"dryRun"`
	Tags      []string          `json:"tags"`
	Blobs     []digest.Digest   `json:"blobs"`
	Temporary int               `json:"temporary"` // files of the layout
	Items     []jsonRemovalItem `json:"items"`     // of the cache and the drivers, in the order in which they go
	Freed     int64             `json:"freed"`
	Left      int64             `json:"left"` // beside the images
}

type jsonRemovalItem struct {
	Kind space.Kind `json:"kind"`
	Name string     `json:"name"`
	Size int64      `json:"size"`
	Why  string     `json:"why"`
}

func newJSONRemoval(p *space.Plan, dryRun bool) jsonRemoval {
	j := jsonRemoval{
		DryRun: dryRun, Tags: []string{}, Blobs: []digest.Digest{}, Temporary: len(p.Temps), Items: []jsonRemovalItem{}, Freed: p.Freed(), Left: p.Left,
	}
	for _, t := range p.Tags {
		j.Tags = append(j.Tags, t.Name)
	}
	for _, b := range p.Blobs {
		j.Blobs = append(j.Blobs, b.Digest)
	}
	for _, i := range p.Items {
		j.Items = append(j.Items, jsonRemovalItem{i.Kind, i.Name, i.Size, reasonText(i.Why)})
	}
	return j
}

// printRemoval prints what was removed in a line, before that, in a dry run, all of it.
func printRemoval(w io.Writer, p *space.Plan, dryRun bool) {
	verb := "removed"
	if dryRun {
		verb = "would remove"
		var rows [][]string
		for _, t := range p.Tags {
			rows = append(rows, []string{"tag", "", t.Name, ""})
		}
		for _, b := range p.Blobs {
			rows = append(rows, []string{"blob", size(b.Size), string(b.Digest), "no tag reaches it"})
		}
		for _, t := range p.Temps {
			if t.Scratch {
				rows = append(rows, []string{"scratch layer", size(t.Size), t.Path, "no tag needs it"})
			} else {
				rows = append(rows, []string{"temporary", size(t.Size), t.Path, "its process has ended"})
			}
		}
		for _, i := range p.Items {
			rows = append(rows, []string{string(i.Kind), size(i.Size), i.Name, reasonText(i.Why)})
		}
		table(w, rows)
	}
	var trees int
	for _, i := range p.Items {
		if i.IsTree() {
			trees++
		}
	}
	say(w, "%s %s, %s, %s and %s, %s; the cache and the trees then take %s\n", verb, plural(len(p.Tags), "tag"), plural(len(p.Blobs), "blob"),
		plural(trees, "tree"), plural(len(p.Items)-trees+len(p.Temps), "other file"), size(p.Freed()), size(p.Left))
}

// reasonText says why something goes.
func reasonText(r space.Reason) string {
	switch r {
	case space.Needed:
	case space.ProcessEnded:
		return "its process has ended"
	case space.NoLayer:
		return "nobody has its layer"
	case space.NoBlob:
		return "its layer is in no layout"
	case space.LayoutGone:
		return "the layout is gone"
	case space.Idle:
		return fmt.Sprintf("not used for %d days", space.IdleDays)
	case space.Everything:
		return "all goes"
	case space.FailedStep:
		return "it failed"
	case space.OldFailedStep:
		return "it failed more than a week ago"
	case space.NoUse:
		return "no tag and no result is of it"
	case space.Limit:
		return "there is a limit, and it costs least"
	case space.NothingLeft:
		return "nothing is left that it is about"
	}
	return ""
}

// isInUse reports whether a build uses what is to be cleaned up.
func isInUse(err error) bool {
	return errors.Is(err, layout.ErrInUse) || errors.Is(err, cache.ErrInUse)
}
