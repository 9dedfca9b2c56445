package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"genoci/internal/build"
	"genoci/internal/cache"
	"genoci/internal/checkout"
	"genoci/internal/kept"
	"genoci/internal/layout"
)

// checkoutStatus is a checkout as status --json prints it.
type checkoutStatus struct {
	Dir     string    `json:"dir"`
	Tag     string    `json:"tag"`
	Image   string    `json:"image"`
	Layout  string    `json:"layout"`
	Driver  string    `json:"driver"`
	Since   time.Time `json:"since"`
	Shown   bool      `json:"shown"` // the link leads to the tree
	InUse   bool      `json:"inUse"` // another command has the tree, and nothing is known of the changes
	Changes int       `json:"changes"`
	Bytes   int64     `json:"bytes"` // of files that were changed or added
	Error   string    `json:"error,omitempty"`

	sight checkout.Sight
	again string // the command that shows it again
}

// failedStatus is what a failed step left, as status --json prints it.
type failedStatus struct {
	Name   string    `json:"name"` // TARGET@failed
	Spec   string    `json:"spec"`
	Line   int       `json:"line"`
	Column int       `json:"column"`
	Op     string    `json:"op"`
	Error  string    `json:"error"`
	Exit   int       `json:"exit,omitempty"`
	Time   time.Time `json:"time"`
	Driver string    `json:"driver"`
	InUse  bool      `json:"inUse"`
}

// statusReport is what status --json prints.
type statusReport struct {
	Checkouts []checkoutStatus `json:"checkouts"`
	Failed    []failedStatus   `json:"failed"`
}

func newStatus() *cobra.Command {
	var f storageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List checkouts, and trees of failed steps",
		Long: `Status lists the checkouts: the folder, the image, the age, and how many files,
folders and links changed. It shows checkouts of all drivers and layouts. "not
mounted" means that the machine was restarted; the command beside it mounts the
tree again, with its changes. Below, status lists the trees of failed steps,
for genoci shell.`,
		Example: `  genoci status
  genoci status --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := f.enter()
			if err != nil {
				return err
			}
			all, err := f.checkouts(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			f.tellDetached(cmd.ErrOrStderr())
			r := statusReport{Checkouts: []checkoutStatus{}}
			for _, c := range all {
				r.Checkouts = append(r.Checkouts, newCheckoutStatus(cmd.Context(), state, c))
			}
			if r.Failed, err = f.failedStatuses(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f.addState(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func newCheckoutStatus(ctx context.Context, state *cache.Cache, c *checkout.Checkout) checkoutStatus {
	s := checkoutStatus{
		Dir: c.Dir, Tag: c.Tag, Image: c.Image.String(), Layout: c.Layout, Driver: c.Store.Driver.String(),
		Since: c.Began().UTC(), Shown: c.Linked(), InUse: c.Kept.Held,
	}
	images, err := imagesBelow(state, c, io.Discard)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	defer images.Layout.Close()
	if s.sight = c.Sight(); s.sight != checkout.Visible {
		s.again = openAgain(c, images.Layout)
	}
	if s.InUse {
		return s
	}
	if s.Changes, s.Bytes, err = c.Count(ctx, images); err != nil {
		s.Error = err.Error()
	}
	return s
}

// hidden says why the checkout cannot be seen, and which command shows it again.
func (s checkoutStatus) hidden() string {
	switch s.sight {
	case checkout.Visible:
	case checkout.NotMounted:
		return "not mounted: " + s.again
	case checkout.LinkGone:
		return quoted(s.Dir) + " is gone: " + s.again
	case checkout.LinkTaken:
		return quoted(s.Dir) + " is something else, and in the way: " + s.again
	}
	return ""
}

// openAgain is the command that shows a checkout again.
func openAgain(c *checkout.Checkout, l *layout.Layout) string {
	ref, err := c.TagNow(l)
	if err != nil || ref == "" {
		ref = short(c.Image)
	}
	args := []string{"genoci", "checkout", ref, c.Dir}
	if here, err := filepath.Abs(defaultLayout); err != nil || here != c.Layout {
		args = append(args, "--layout", c.Layout)
	}
	return words(args)
}

// changed says in words what is known of a checkout.
func (s checkoutStatus) changed() string {
	text := "nothing changed"
	switch {
	case s.Error != "":
		text = s.Error
	case s.InUse:
		text = "in use by another genoci command"
	case s.Changes > 0:
		text = fmt.Sprintf("%s, %s", plural(s.Changes, "change"), size(s.Bytes))
	}
	if s.again != "" {
		text += "; " + s.hidden()
	}
	return text
}

// failedStatuses returns what failed steps left.
func (f *storageFlags) failedStatuses(ctx context.Context, w io.Writer) ([]failedStatus, error) {
	drvs, err := f.openKeeping(w)
	if err != nil {
		return nil, err
	}
	all := []failedStatus{}
	for _, drv := range drvs {
		trees, err := drv.Kept(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range trees {
			target, ok := kept.FailedTarget(k.Name)
			if !ok {
				continue
			}
			n, err := build.ParseFailedNote(k)
			if err != nil {
				return nil, err
			}
			all = append(all, failedStatus{
				build.FailedRef(target), n.Spec, n.Line, n.Column, n.Op, n.Error, n.Exit, n.Time.UTC(), drv.String(), k.Held,
			})
		}
	}
	slices.SortFunc(all, func(a, b failedStatus) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (r statusReport) print(w io.Writer) error {
	if len(r.Checkouts) == 0 {
		say(w, "nothing is checked out\n")
	}
	rows := [][]string{{"FOLDER", "TAG", "DRIVER", "SINCE", "CHANGED"}}
	for _, s := range r.Checkouts {
		rows = append(rows, []string{quoted(s.Dir), s.Tag, s.Driver, s.Since.Format("2006-01-02 15:04"), s.changed()})
	}
	if len(rows) > 1 {
		table(w, rows)
	}
	rows = [][]string{{"FAILED", "DRIVER", "SINCE", "ACTION", "ERROR"}}
	for _, f := range r.Failed {
		rows = append(rows, []string{f.Name, f.Driver, f.Time.Format("2006-01-02 15:04"), untabbed(f.Op), untabbed(f.Error)})
	}
	if len(rows) > 1 {
		say(w, "\n")
		table(w, rows)
	}
	return nil
}
