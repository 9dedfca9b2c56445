package main

import (
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/layout"
)

func newTag() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "tag OLD NEW",
		Short: "Give an image another tag",
		Long: `Tag gives the image of OLD, a tag or a digest, the tag NEW. If NEW exists, it
moves; its old image stays in the layout until gc removes it.`,
		Example: `  genoci tag web release
  genoci tag sha256:6c3c62 web       (back to an earlier build)`,
		Args:              exactly("OLD", "NEW"),
		ValidArgsFunction: completeTags(&dir, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTagName(args[1]); err != nil {
				return err
			}
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			var desc v1.Descriptor
			err = l.Update(cmd.Context(), func(x *layout.Index) (err error) {
				if desc, err = descriptorOf(l, x.Tags(), args[0]); err == nil {
					x.Set(args[1], desc)
				}
				return err
			})
			if err == nil {
				say(cmd.ErrOrStderr(), "%s: %s\n", args[1], short(desc.Digest))
			}
			return err
		},
	}
	layoutVar(cmd.Flags(), &dir)
	return cmd
}
