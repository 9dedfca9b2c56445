package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"genoci/internal/layout"
	"genoci/internal/spec"
)

func newRm() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "rm TAG...",
		Short: "Remove tags",
		Long: `Rm removes tags from the layout. If one of them does not exist, it removes
none. The blobs stay until gc removes those that no tag needs.`,
		Example: `  genoci rm web-2026-11-23_1
  genoci rm old older && genoci gc`,
		Args:              atLeastOne("TAG"),
		ValidArgsFunction: completeTags(&dir, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			slices.Sort(args)
			return l.Update(cmd.Context(), func(x *layout.Index) error { return removeTags(x, slices.Compact(args)) })
		},
	}
	layoutVar(cmd.Flags(), &dir)
	return cmd
}

// removeTags removes tags from x. The error names all that do not exist.
func removeTags(x *layout.Index, tags []string) error {
	var names []string
	there := map[string]bool{}
	for _, t := range x.Tags() {
		names = append(names, t.Name)
		there[t.Name] = true
	}
	var failed []error
	for _, tag := range tags {
		if there[tag] {
			continue
		}
		err := fmt.Errorf("tag %s: %w", tag, layout.ErrNotExist)
		if near := spec.Nearest(tag, names); near != "" {
			failed = append(failed, withHint(err, "did you mean %q?", near))
		} else {
			failed = append(failed, noSuchTag(err))
		}
	}
	x.Remove(tags...)
	return errors.Join(failed...)
}
