package main

import (
	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var f specFlags
	cmd := &cobra.Command{
		Use:   "check [-f FILE]",
		Short: "Find the mistakes in a spec",
		Long: `Check finds all mistakes of a spec in one run, and builds nothing. It reports
unknown keys, wrong values, unknown bases, targets that need each other, and
missing files, layouts and tags. Each error shows its place; they come in the
order of the file.

Check does not read the content of files, and does not fetch URLs. Build makes
the same checks before it starts.`,
		Example: `  genoci check
  genoci check -f web.yaml --arg VERSION=1.2`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.plan(nil)
			if err != nil {
				return err
			}
			say(cmd.OutOrStdout(), "ok: %s\n", plural(len(p.Images), "target"))
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}
