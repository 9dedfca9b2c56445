package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
)

func newUnpack() *cobra.Command {
	var dir string
	var bundle bool
	cmd := &cobra.Command{
		Use:   "unpack TAG DIR",
		Short: "Unpack an image into a folder",
		Long: `Unpack puts the root filesystem of an image into DIR, which is made, or must be empty. With --bundle, DIR becomes an OCI
runtime bundle: the root filesystem in DIR/rootfs, and a config.json made from the image's config, which runc and crun
start. Layers are checked against the digests of manifest and config while they are read. What was unpacked is
removed again when it fails.

As root, files keep their owners. As an ordinary user all files belong to the caller, devices are empty files, and a
bundle is one for a rootless runtime.`,
		Example: `  genoci unpack web /tmp/root
  genoci unpack --bundle web /tmp/bundle && runc run --bundle /tmp/bundle web1`,
		Args:              exactly("TAG", "DIR"),
		ValidArgsFunction: completeTags(&dir, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, img, err := openImage(dir, args[0])
			if err != nil {
				return err
			}
			defer l.Close()
			root := os.Geteuid() == 0
			if !root {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: not root: all files belong to the caller")
			}
			u := unpacker{layout: l, image: img, root: root}
			return intoFolder(args[1], func() error {
				if bundle {
					return u.bundle(cmd.Context(), args[1])
				}
				return u.rootfs(cmd.Context(), args[1])
			})
		},
	}
	layoutVar(cmd.Flags(), &dir)
	cmd.Flags().BoolVar(&bundle, "bundle", false, "make an OCI runtime bundle")
	return cmd
}

// intoFolder calls fill for the folder dir, which it makes, or which must be empty. When fill fails, what it put there is removed.
func intoFolder(dir string, fill func() error) error {
	made, err := emptyFolder(dir)
	if err != nil {
		return err
	}
	if err = fill(); err == nil {
		return nil
	}
	return errors.Join(err, emptyAgain(dir, made))
}

// emptyFolder makes the folder dir, or finds that it is empty; made says which.
func emptyFolder(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o755)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	if len(entries) > 0 {
		return false, withHint(usagef("%s: not empty", dir), "name a folder that does not exist yet")
	}
	return false, nil
}

// emptyAgain removes what is in dir, and dir itself if it was made.
func emptyAgain(dir string, made bool) error {
	if made {
		return layer.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, layer.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// unpacker unpacks an image.
type unpacker struct {
	layout *layout.Layout
	image  image.Image
	root   bool // the process may give files to anybody, and make devices
}

// rootfs unpacks all layers into the empty folder dir.
func (u *unpacker) rootfs(ctx context.Context, dir string) error {
	for i, desc := range u.image.Manifest.Layers {
		if err := u.layer(ctx, dir, desc, u.image.Config.RootFS.DiffIDs[i]); err != nil {
			return fmt.Errorf("unpack layer %s: %w", short(desc.Digest), err)
		}
	}
	return nil
}

// layer applies one layer to dir, and holds its bytes against both of its digests. Four things go on at once: reading and hashing what
// is stored, decompressing it, hashing that, and unpacking it.
func (u *unpacker) layer(ctx context.Context, dir string, desc v1.Descriptor, diffID digest.Digest) error {
	blob, err := u.layout.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	compression, err := layer.CompressionByMediaType(desc.MediaType)
	if err != nil {
		return err
	}
	stored := layer.ReadAhead(layout.Verified(blob, desc))
	defer stored.Close()
	options := layer.UnpackOptions{KeepOwner: u.root, Placeholders: !u.root}
	if compression.Name == "none" && desc.Digest == diffID { // one and the same digest, which is checked at the end
		return layer.Unpack(ctx, dir, stored, options)
	}

	decompressed, err := compression.NewReader(stored)
	if err != nil {
		return err
	}
	defer decompressed.Close()
	sum := diffID.Verifier()
	tar := layer.TeeAhead(decompressed, sum)
	defer tar.Close()
	if err := layer.Unpack(ctx, dir, tar, options); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stored); err != nil { // to its end, where the digest of the blob is checked
		return err
	}
	if !sum.Verified() {
		return fmt.Errorf("content does not have the diff ID %s of the config", diffID)
	}
	return nil
}
