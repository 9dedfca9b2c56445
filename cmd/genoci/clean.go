package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"genoci/internal/space"
)

// cleanFlags are the flags of clean.
type cleanFlags struct {
	removal   removalFlags
	checkouts bool
	force     bool
}

func newClean() *cobra.Command {
	var f cleanFlags
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove the cache and all unpacked trees",
		Long: `Clean removes everything that can be made again: step results, the trees of
all drivers, trees of failed steps, indexes, digests and downloads. It does not
touch the layout. The next build carries out every step. To remove only what
nothing needs, use gc.

Checkouts stay unless you give --checkouts. Clean then asks before it drops
changes. Files of others in the cache folder stay, and clean names them. For an
ordinary user, clean also deletes files that belong to subordinate ids.

Clean refuses to run while a build uses the cache.`,
		Example: `  genoci clean --dry-run
  genoci clean
  genoci clean --checkouts --force`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	f.removal.storage.addState(fs)
	fs.BoolVar(&f.checkouts, "checkouts", false, "drop checkouts too, with all that was changed in them")
	fs.BoolVarP(&f.force, "force", "f", false, "do not ask before checkouts are dropped")
	f.removal.addOutput(fs)
	return cmd
}

func (f *cleanFlags) run(ctx context.Context, in io.Reader, out, messages io.Writer) error {
	p, err := f.removal.storage.stateLocations()
	if err != nil {
		return err
	}
	release, err := p.Cache.Exclude()
	if err != nil {
		return err
	}
	defer release()
	inv, err := space.Survey(ctx, p, nil, true)
	if err != nil {
		return err
	}
	plan := inv.Plan(space.Policy{All: true, Checkouts: f.checkouts}, time.Now())
	if err := f.confirm(in, messages, inv); err != nil {
		return err
	}
	if err := f.removal.carry(ctx, plan, out, printCleaned); err != nil {
		return err
	}
	return f.left(messages, p, inv)
}

// confirm asks before checkouts are dropped.
func (f *cleanFlags) confirm(in io.Reader, messages io.Writer, inv *space.Inventory) error {
	work := slices.DeleteFunc(slices.Clone(inv.Trees), func(t space.Tree) bool { return t.Kind != space.Checkouts })
	if !f.checkouts || f.force || f.removal.dryRun || len(work) == 0 {
		return nil
	}
	for _, t := range work {
		say(messages, "checkout of %s\n", treeUse(t))
	}
	what := plural(len(work), "checkout")
	return confirm(in, messages, "clean", what, "dropped", fmt.Sprintf("drop %s, with all that was changed there?", what))
}

// left says what stays, and returns an error where that should have gone.
func (f *cleanFlags) left(messages io.Writer, p space.Locations, inv *space.Inventory) error {
	f.removal.storage.tellDetached(messages)
	if len(inv.Foreign) > 0 {
		say(messages, "note: not of genoci, and left: %s\n", few(inv.Foreign))
	}
	for _, t := range inv.Trees {
		if t.Kind == space.Checkouts && !f.checkouts {
			say(messages, "note: the checkout of %s stays\n", treeUse(t))
		}
	}
	var errs []error
	for _, s := range p.Stores {
		if s.Err != nil {
			errs = append(errs, withHint(fmt.Errorf("clean: %s is left: %w", s.Dir, s.Err), "run it as the user whose builds made that folder"))
		}
	}
	return errors.Join(errs...)
}

// printCleaned prints what goes of each kind.
func printCleaned(w io.Writer, p *space.Plan, dryRun bool) {
	counts, sizes := map[space.Kind]int{}, map[space.Kind]int64{}
	for _, i := range p.Items {
		counts[i.Kind]++
		sizes[i.Kind] += i.Size
	}
	var rows [][]string
	for _, k := range space.Kinds() {
		if counts[k] > 0 {
			rows = append(rows, []string{size(sizes[k]), fmt.Sprint(counts[k]), string(k)})
		}
	}
	table(w, rows)
	verb := "removed"
	if dryRun {
		verb = "would remove"
	}
	say(w, "%s %s; %s are left\n", verb, size(p.Freed()), size(p.Left))
}
