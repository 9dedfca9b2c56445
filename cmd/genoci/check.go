package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var f specFlags
	cmd := &cobra.Command{
		Use:   "check [-f FILE]",
		Short: "Say what is wrong in a spec",
		Long: `Check reads and plans the spec without building anything, and prints all errors of the file at once, each with
its position; so it does with files that the spec names and that are not there. What files hold is not looked at, nor
are URLs.`,
		Example: `  genoci check
  genoci check -f web.yaml --arg VERSION=1.2`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.plan(nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok: %s\n", plural(len(p.Images), "target"))
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}
