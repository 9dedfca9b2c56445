package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"genoci/internal/checkout"
	"genoci/internal/image"
	"genoci/internal/imagefs"
	"genoci/internal/layer"
)

// checkinFlags are the flags of checkin.
type checkinFlags struct {
	storage     storageFlags
	dir         string
	compression string
	keep        bool
	asSpec      bool
	files       string
}

func newCheckin() *cobra.Command {
	var f checkinFlags
	cmd := &cobra.Command{
		Use:   "checkin [NEWTAG]",
		Short: "Make an image of the changes in a checkout",
		Long: `Checkin adds one layer with the changes of a checkout to the image that was
checked out, and tags the result: NEWTAG or, by default, TAG-YYYY-MM-DD_N. The
config does not change. Then the checkout ends, unless you give --keep. If
nothing changed, checkin tags nothing, unless you give NEWTAG. If checkin
fails, the checkout stays as it was.

With --as-spec, checkin makes no image. It prints a spec that makes the same
changes with remove, copy and run steps. Large or binary content goes into a
folder that the spec names.

The tag goes to stdout.`,
		Example: `  genoci checkin web-fixed
  genoci checkin --dir /tmp/w
  genoci checkin --as-spec > fix.yaml`,
		Args:              upTo(0, "NEWTAG"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), first(args), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.dir, "dir", "", "the checkout in `DIR`, where there are several")
	fs.BoolVar(&f.keep, "keep", false, "go on with a checkout of the new image in the same folder")
	fs.BoolVar(&f.asSpec, "as-spec", false, "only print a spec that makes the changes")
	fs.StringVar(&f.files, "files", "", "with --as-spec: `DIR` for what files contain (default: NAME.files)")
	choiceVar(fs, &f.compression, "compression", "of the new layer; auto is gzip", "auto", "gzip", "zstd", "none")
	f.storage.addState(fs)
	return cmd
}

func (f *checkinFlags) run(ctx context.Context, tag string, out, messages io.Writer) error {
	if f.files != "" && !f.asSpec {
		return usagef("checkin: --files says where --as-spec puts files, and goes with that only")
	}
	if tag != "" {
		if err := checkTagName(tag); err != nil {
			return err
		}
	}
	state, err := f.storage.enter()
	if err != nil {
		return err
	}
	all, err := f.storage.checkouts(ctx, messages)
	if err != nil {
		return err
	}
	c, err := f.storage.pick(all, f.dir)
	if err != nil {
		return err
	}
	images, err := imagesBelow(state, c, messages)
	if err != nil {
		return err
	}
	defer images.Layout.Close()
	warn := func(path, what string) { say(messages, "warning: %s: %s\n", path, what) }
	if f.asSpec {
		return f.spec(ctx, c, images, tag, out, warn)
	}
	release, err := use(ctx, images.Layout, state)
	if err != nil {
		return err
	}
	defer release()
	o := checkout.CheckinOptions{Tag: tag, Warn: warn}
	if o.Now, err = now(); err != nil {
		return err
	}
	name := f.compression
	if name == "auto" {
		name = "gzip"
	}
	if o.Compression, err = layer.CompressionByName(name); err != nil {
		return err
	}
	res, err := c.Checkin(ctx, images, o)
	if err != nil {
		return inUse(err, c)
	}
	f.tell(c, res, out, messages)
	if f.keep {
		return again(ctx, c, images, res, messages)
	}
	return nil
}

// tell says what became of a checkin.
func (f *checkinFlags) tell(c *checkout.Checkout, res checkout.Checkin, out, messages io.Writer) {
	if res.Changed == 0 {
		say(messages, "nothing was changed in %s\n", quoted(c.Dir))
	}
	if res.Tag == "" {
		return
	}
	say(messages, "%s: %s, %s, %s\n", res.Tag, short(res.Image), plural(res.Changed, "change"), size(res.Size))
	say(out, "%s\n", res.Tag)
}

// again checks the new image out in the same folder.
func again(ctx context.Context, c *checkout.Checkout, images imagefs.Store, res checkout.Checkin, messages io.Writer) error {
	img, err := images.Layout.Image(res.Image.String(), image.Host())
	if err != nil {
		return err
	}
	next, _, err := c.Store.Open(ctx, images, img, cmp.Or(res.Tag, c.Tag), c.Dir)
	if err != nil {
		return err
	}
	say(messages, "%s checked out in %s (driver %s)\n", next.Tag, next.Dir, next.Store.Driver)
	return nil
}

// spec prints the changes as a spec.
func (f *checkinFlags) spec(ctx context.Context, c *checkout.Checkout, images imagefs.Store, name string, out io.Writer, warn func(path, what string)) (err error) {
	if name == "" {
		name = "changed"
	}
	files := f.files
	if files == "" {
		files = name + ".files"
	}
	if _, err := os.Lstat(files); err == nil {
		return withHint(usagef("%s exists already", files), "name another folder: --files DIR")
	}
	base, err := c.TagNow(images.Layout)
	if err != nil {
		return err
	}
	if base == "" {
		return withHint(usagef("no tag names the image that %s was checked out from, and the base of a spec needs one", quoted(c.Dir)),
			"genoci tag %s NAME gives it one", short(c.Image))
	}
	changes, err := c.Changes(ctx, images, warn)
	if err != nil {
		return inUse(err, c)
	}
	defer func() { err = errors.Join(err, changes.Close()) }()
	return changes.WriteSpec(out, checkout.SpecOptions{Name: name, Base: base, Files: filepath.Clean(files)})
}
