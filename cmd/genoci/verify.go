package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"genoci/internal/layer"
	"genoci/internal/layout"
)

func newVerify() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every blob of the layout",
		Long: `Verify reads every blob of the layout and checks its digest and size. It checks
every manifest and config, and decompresses every layer to compare it with its
config. It prints one line for each problem. Any problem makes the exit code 1.`,
		Example: `  genoci verify
  genoci verify --layout /srv/images`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			out, problems := cmd.OutOrStdout(), 0
			blobs, bytes, err := l.Verify(cmd.Context(), decompressLayer, func(p layout.Problem) {
				problems++
				say(out, "%s\n", problemLine(p))
			})
			if err != nil {
				return err
			}
			if problems > 0 {
				return fmt.Errorf("%s: %s", dir, plural(problems, "problem"))
			}
			say(out, "ok: %s, %s\n", plural(blobs, "blob"), size(bytes))
			return nil
		},
	}
	layoutVar(cmd.Flags(), &dir)
	return cmd
}

// problemLine returns "TAG: DIGEST: what is wrong", without the parts that are not known.
func problemLine(p layout.Problem) string {
	line := p.Err.Error()
	if p.Digest != "" {
		line = string(p.Digest) + ": " + line
	}
	if p.Tag != "" {
		line = p.Tag + ": " + line
	}
	return line
}

// decompressLayer returns the uncompressed content of a layer of the media type.
func decompressLayer(mediaType string, r io.Reader) (io.ReadCloser, error) {
	c, err := layer.CompressionByMediaType(mediaType)
	if err != nil {
		return nil, errors.Join(err, errors.ErrUnsupported)
	}
	return c.NewReader(r)
}
