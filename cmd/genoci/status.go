package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"genoci/internal/cache"
	"genoci/internal/checkout"
)

// statusOf is a checkout as status --json prints it.
type statusOf struct {
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
}

func newStatus() *cobra.Command {
	var f deskFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List what is checked out, and how much was changed",
		Long: `Status lists the checkouts: where each is, of what, since when, and how many files, folders and links were changed in it.
Checkouts of all drivers and layouts are shown. "not mounted" stands where the machine was started anew: the same
checkout command mounts the tree again, with its changes.`,
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
			list := []statusOf{}
			for _, c := range all {
				list = append(list, statusOfCheckout(cmd.Context(), state, c))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printStatus(cmd.OutOrStdout(), list)
		},
	}
	f.addHidden(cmd.Flags())
	cacheDirVar(cmd.Flags(), &f.cacheDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func statusOfCheckout(ctx context.Context, state *cache.Cache, c *checkout.Checkout) statusOf {
	s := statusOf{
		Dir: c.Dir, Tag: c.Tag, Image: c.Image.String(), Layout: c.Layout, Driver: c.Driver.String(),
		Since: c.Began().UTC(), Shown: c.Linked(), InUse: c.Kept.Held,
	}
	if s.InUse {
		return s
	}
	if err := s.count(ctx, state, c); err != nil {
		s.Error = err.Error()
	}
	return s
}

// count finds what was changed.
func (s *statusOf) count(ctx context.Context, state *cache.Cache, c *checkout.Checkout) error {
	images, err := images(state, c.Layout, io.Discard)
	if err != nil {
		return err
	}
	defer images.Layout.Close()
	changes, err := c.Changes(ctx, images, nil)
	if err != nil {
		return err
	}
	defer changes.Close()
	all, err := changes.Own()
	for _, change := range all {
		s.Changes++
		s.Bytes += change.Size
	}
	return err
}

// changed says in words what is known of a checkout.
func (s statusOf) changed() string {
	text := "nothing changed"
	switch {
	case s.Error != "":
		text = s.Error
	case s.InUse:
		text = "in use by another genoci command"
	case s.Changes > 0:
		text = fmt.Sprintf("%s, %s", plural(s.Changes, "change"), size(s.Bytes))
	}
	if !s.Shown {
		text += fmt.Sprintf("; not mounted, or %s is gone: genoci checkout %s %s", s.Dir, s.Tag, s.Dir)
	}
	return text
}

func printStatus(w io.Writer, list []statusOf) error {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing is checked out")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FOLDER\tTAG\tDRIVER\tSINCE\tCHANGED")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Dir, s.Tag, s.Driver, s.Since.Format("2006-01-02 15:04"), s.changed())
	}
	return t.Flush()
}
