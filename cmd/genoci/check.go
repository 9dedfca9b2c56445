package main

import (
	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var f specFlags
	cmd := &cobra.Command{
		Use:   "check [-f FILE]",
		Short: "Say what is wrong in a spec",
		Long: `Check finds all mistakes of the spec in one run, without building anything: unknown keys, wrong values, bases
that nothing has, targets that need each other, and files, layouts and tags that are not there. Each is printed with its
position, in the order of the file. Check does not look into files, nor does it ask for URLs. Build does the same
before it begins.`,
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
