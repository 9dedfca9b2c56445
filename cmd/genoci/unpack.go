package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/beneath"
	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/sandbox"
)

// unpackFlags are the flags of unpack.
type unpackFlags struct {
	storage storageFlags
	bundle  bool
	trees   bool
}

func newUnpack() *cobra.Command {
	var f unpackFlags
	cmd := &cobra.Command{
		Use:   "unpack [TAG [DIR]]",
		Short: "Unpack an image into a folder, or images into trees",
		Long: `Unpack TAG DIR puts the root filesystem of an image into DIR. DIR must be
empty, or must not exist. With --bundle, DIR becomes an OCI runtime bundle for
runc and crun: the root filesystem is in DIR/rootfs, and config.json is made
from the image's config. Unpack checks all layers against the digests in
manifest and config. If it fails, it removes what it has unpacked.

If unpack makes DIR, only the caller can enter it (mode 0700). So nobody else
can use set-user-id programs and devices of the image. An existing DIR keeps
its mode and owner: mkdir -m 755 DIR makes one that everybody can enter.

As root, files keep their owners. As an ordinary user, all files belong to you,
and devices become empty files. In a bundle, you are root, and the other users
are your subordinate ids: genoci unshare rm -r DIR removes such a bundle.
Without subordinate ids, all files of a bundle belong to you, too.

Without DIR, unpack makes the tree of the image, or of all images, in the
folder of the storage driver. Builds and checkouts then find it. Existing trees
stay.`,
		Example: `  genoci unpack web /tmp/root
  genoci unpack --bundle web /tmp/bundle && runc run --bundle /tmp/bundle web1
  genoci unpack                       the trees of all tags
  genoci unpack --trees web api       the trees of two`,
		Args:              f.args,
		ValidArgsFunction: completeTags(&f.storage.layout, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || f.trees {
				return f.makeTrees(cmd, args)
			}
			note := ""
			if os.Geteuid() != 0 {
				note = "not root: all files belong to the caller"
				if f.bundle {
					// The program begins anew, as root of a namespace.
					note = fmt.Sprintf("all files of the bundle belong to the caller: %v", sandbox.Enter())
				}
			}
			l, img, err := openImage(cmd.Context(), f.storage.layout, args[0])
			if err != nil {
				return err
			}
			defer l.Close()
			if note != "" {
				say(cmd.ErrOrStderr(), "note: %s\n", note)
			}
			u := unpacker{layout: l, image: img, root: os.Geteuid() == 0}
			if !f.bundle {
				u.keepRoot = true
				return intoFolder(args[1], func() error { return u.rootfs(cmd.Context(), args[1]) })
			}
			if err := intoFolder(args[1], func() error { return u.bundle(cmd.Context(), args[1]) }); err != nil {
				return err
			}
			if inUserNamespace() {
				say(cmd.ErrOrStderr(), "note: files may belong to your subordinate ids; to remove them: genoci unshare rm -r %s\n", shellQuote(args[1]))
			}
			return nil
		},
	}
	f.storage.addLayout(cmd.Flags())
	f.storage.addDriver(cmd.Flags())
	f.storage.addState(cmd.Flags())
	cmd.Flags().BoolVar(&f.bundle, "bundle", false, "make an OCI runtime bundle")
	cmd.Flags().BoolVar(&f.trees, "trees", false, "make trees: all arguments are tags")
	return cmd
}

func (f *unpackFlags) args(cmd *cobra.Command, args []string) error {
	switch {
	case f.bundle && f.trees:
		return usagef("unpack: --bundle and --trees exclude each other")
	case f.bundle && len(args) < 2:
		return exactly("TAG", "DIR")(cmd, args)
	case len(args) > 2 && !f.trees:
		return withHint(usagef("unpack: unexpected argument %q", args[2]), "--trees makes the trees of several tags")
	}
	return nil
}

// makeTrees makes the trees of tags, or of all images of the layout.
func (f *unpackFlags) makeTrees(cmd *cobra.Command, tags []string) error {
	defer f.storage.flushed()
	ctx, messages := cmd.Context(), cmd.ErrOrStderr()
	state, err := f.storage.enter()
	if err != nil {
		return err
	}
	l, err := openLayout(ctx, f.storage.layout)
	if err != nil {
		return err
	}
	defer l.Close()
	release, err := use(ctx, l, state)
	if err != nil {
		return err
	}
	defer release()
	images, err := tagged(l, tags)
	if err != nil {
		return err
	}
	drv, err := f.storage.open(messages)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, t := range images {
		tag := t.Name
		img, err := l.ImageAt(t.Descriptor, image.Host())
		if len(tags) == 0 && (errors.Is(err, image.ErrNotImage) || errors.Is(err, layout.ErrNoImage)) {
			say(messages, "%s: left out: %v\n", tag, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", tag, err)
		}
		chain := image.ChainIDs(img.Config.RootFS.DiffIDs)
		if len(chain) == 0 || done[string(chain[len(chain)-1])] {
			continue
		}
		name := string(chain[len(chain)-1])
		done[name] = true
		if drv.Has(name) {
			if err := imagesOf(state, l, messages).Check(ctx, img); err != nil {
				return fmt.Errorf("%s: %w", tag, err)
			}
			say(messages, "%s: there already\n", tag)
			continue
		}
		begin := time.Now()
		if _, err := imagesOf(state, l, messages).Snapshot(ctx, drv, img, deskOf(drv).Unpack); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
		say(messages, "%s: unpacked in %s (driver %s)\n", tag, duration(time.Since(begin)), drv)
	}
	return nil
}

// tagged returns what some tags and digests name in a layout; where there are none, all of its tags, those that are no dated ones first.
func tagged(l *layout.Layout, names []string) ([]layout.Tag, error) {
	tags, err := l.Tags()
	if err != nil {
		return nil, err
	}
	var own, dated []layout.Tag
	for _, name := range names {
		desc, err := descriptorOf(l, tags, name)
		if err != nil {
			return nil, err
		}
		own = append(own, layout.Tag{Name: name, Descriptor: desc})
	}
	if len(names) > 0 {
		return own, nil
	}
	for _, t := range tags {
		if _, ok := layout.ParseDated(t.Name); ok {
			dated = append(dated, t)
		} else {
			own = append(own, t)
		}
	}
	return append(own, dated...), nil
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

// emptyFolder makes the folder dir, for the caller alone, or finds that it is empty; made says which.
func emptyFolder(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
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
		return beneath.RemovePath(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, beneath.RemovePath(filepath.Join(dir, e.Name())))
	}
	return err
}

// unpacker unpacks an image.
type unpacker struct {
	layout   *layout.Layout
	image    image.Image
	root     bool // the process may give files to anybody
	keepRoot bool // the folder keeps its owner and mode
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
	options := layer.UnpackOptions{KeepOwner: u.root, Placeholders: !u.root || sandbox.Rootless(), KeepRoot: u.keepRoot}
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
