package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newGC() *cobra.Command {
	var dir string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what no tag needs",
		Long: `Gc removes blobs that nothing in the layout's index reaches, and temporary files: what builds that were killed left, and the layers
of targets with build_only that no tag needs. It refuses to run while builds use the layout.`,
		Example: `  genoci gc --dry-run
  genoci gc`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLayout(dir)
			if err != nil {
				return err
			}
			defer l.Close()
			c, err := l.Collect(cmd.Context(), nil)
			if err != nil {
				return err
			}
			defer c.Close()
			out, verb := cmd.OutOrStdout(), "removed"
			if dryRun {
				verb = "would remove"
				for _, b := range c.Blobs {
					fmt.Fprintf(out, "%s  %s\n", b.Digest, size(b.Size))
				}
			} else if err := c.Remove(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s and %s, %s\n", verb, plural(len(c.Blobs), "blob"), plural(len(c.Temps), "temporary file"), size(c.Bytes()))
			return nil
		},
	}
	layoutVar(cmd.Flags(), &dir)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	return cmd
}
