package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"genoci/internal/bundle"
	"genoci/internal/image"
	"genoci/internal/imagefs"
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
			options := layer.UnpackOptions{KeepOwner: os.Geteuid() == 0, Placeholders: os.Geteuid() != 0 || sandbox.Rootless(), KeepRoot: !f.bundle}
			err = imagefs.IntoEmpty(args[1], func() error {
				unpack := func(dir string) error {
					return layerError(imagefs.Store{Layout: l}.UnpackInto(cmd.Context(), dir, img, options))
				}
				if f.bundle {
					return bundle.Make(args[1], img.Config, unpack)
				}
				return unpack(args[1])
			})
			if errors.Is(err, imagefs.ErrNotEmpty) {
				return withHint(usagef("%w", err), "name a folder that does not exist yet")
			}
			if err != nil {
				return err
			}
			if f.bundle && inUserNamespace() {
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
		if _, err := imagesOf(state, l, messages).Snapshot(ctx, drv, img, checkoutsOf(drv).Unpack); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
		say(messages, "%s: unpacked in %s (driver %s)\n", tag, duration(time.Since(begin)), drv)
	}
	return nil
}

// tagged returns what some tags and digests name in a layout; where there are none, all of its
// tags, those that are no dated ones first.
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

// layerError returns the error of a layer that could not be unpacked as people are to see it.
func layerError(err error) error {
	var of *imagefs.LayerError
	var other *imagefs.ContentError
	switch {
	case errors.As(err, &other) && errors.As(err, &of):
		return fmt.Errorf("unpack layer %s: content does not have the diff ID %s of the config", short(of.Digest), other.DiffID)
	case errors.As(err, &of):
		return fmt.Errorf("unpack layer %s: %w", short(of.Digest), of.Err)
	}
	return err
}
