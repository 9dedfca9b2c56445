package main

import (
	"github.com/spf13/cobra"

	"genoci/internal/spec"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the spec language",
		Long: `Schema prints the JSON schema (draft-07) of specs, for editors that complete
and check YAML. A schema cannot express every rule; genoci check knows all of
them.`,
		Example: `  genoci schema >genoci.schema.json
  first line of a spec:  # yaml-language-server: $schema=genoci.schema.json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(spec.Schema())
			return err
		},
	}
}
