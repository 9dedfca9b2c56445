package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/layout"
	"genoci/internal/spec"
)

func newRollback() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "rollback NAME [BUILD]",
		Short: "Move a tag back to an earlier build",
		Long: `Rollback moves the tag NAME back to the dated build before the present one, or
to BUILD. BUILD is a dated tag of NAME, in full or without the name. If several
builds in a row made the same image, rollback goes back to the next different
one. If the present image has several dated tags, the newest counts. Rollback
moves no other tag, removes nothing, and prints the command that undoes it.`,
		Example: `  genoci rollback web
  genoci rollback web 2026-11-25_1
  genoci log web                       the builds there are`,
		Args:              upTo(1, "NAME", "BUILD"),
		ValidArgsFunction: completeBuilds(&dir),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			return rollback(cmd.Context(), l, cmd.ErrOrStderr(), args[0], first(args[1:]))
		},
	}
	layoutVar(cmd.Flags(), &dir)
	return cmd
}

// rollback moves the tag name to a build, which "" leaves to be found, and says so on w.
func rollback(ctx context.Context, l *layout.Layout, w io.Writer, name, build string) error {
	var to layout.Build
	var was layout.Tag
	var builds []layout.Build
	err := l.Update(ctx, func(x *layout.Index) (err error) {
		tags := x.Tags()
		if builds, err = buildsOf(tags, name); err != nil {
			return err
		}
		was = layout.Tag{}
		if i := slices.IndexFunc(tags, func(t layout.Tag) bool { return t.Name == name }); i >= 0 {
			was = tags[i]
		}
		if to, err = chooseBuild(builds, was, name, build); err != nil {
			return err
		}
		if err := whole(l, to); err != nil {
			return fmt.Errorf("roll back to %s: %w", to, err)
		}
		if to.Descriptor.Digest != was.Descriptor.Digest {
			x.Set(name, to.Descriptor)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if to.Descriptor.Digest == was.Descriptor.Digest {
		say(w, "%s is %s already\n", name, to)
		return nil
	}
	say(w, "%s: %s (%s)", name, short(to.Descriptor.Digest), to)
	if was.Name == "" {
		say(w, "\n")
		return nil
	}
	say(w, ", was %s\n", short(was.Descriptor.Digest))
	if i := buildOf(builds, was); i >= 0 {
		say(w, "back again: genoci rollback %s %s_%d\n", name, builds[i].Date, builds[i].N)
	} else {
		say(w, "back again: genoci tag %s %s\n", was.Descriptor.Digest, name)
	}
	return nil
}

// buildOf returns which of builds a tag is: the newest of its image; -1 for none.
func buildOf(builds []layout.Build, t layout.Tag) int {
	return slices.IndexFunc(builds, func(b layout.Build) bool { return b.Descriptor.Digest == t.Descriptor.Digest })
}

// chooseBuild returns the build that the user means. now is the tag as it is.
func chooseBuild(builds []layout.Build, now layout.Tag, name, build string) (layout.Build, error) {
	if build != "" {
		return namedBuild(builds, name, build)
	}
	at := buildOf(builds, now)
	switch {
	case now.Name == "":
		return layout.Build{}, withHint(fmt.Errorf("tag %q %w", name, layout.ErrNotExist), "name a build: genoci rollback %s %s", name, builds[0])
	case at < 0:
		return layout.Build{}, withHint(fmt.Errorf("%s: none of its dated builds, so that none is the one before", name), "name one: genoci rollback %s %s", name, builds[0])
	}
	for _, b := range builds[at:] {
		if b.Descriptor.Digest != now.Descriptor.Digest {
			return b, nil
		}
	}
	return layout.Build{}, withHint(fmt.Errorf("%s: no build before %s that is another image", name, builds[at]), "genoci log %s lists the builds", name)
}

// namedBuild returns the build that is called so, with the name or without.
func namedBuild(builds []layout.Build, name, build string) (layout.Build, error) {
	var names []string
	for _, b := range builds {
		if b.String() == build || b.String() == name+"-"+build {
			return b, nil
		}
		names = append(names, b.String()[len(name)+1:], b.String())
	}
	err := usagef("%s: not a build of %s", build, name)
	if near := spec.Nearest(build, names); near != "" {
		return layout.Build{}, withHint(err, "did you mean %s? genoci log %s lists the builds", near, name)
	}
	return layout.Build{}, withHint(err, "genoci log %s lists the builds", name)
}

// whole returns an error where a blob of a build is missing.
func whole(l *layout.Layout, b layout.Build) error {
	img, err := l.ImageAt(b.Descriptor, v1.Platform{})
	if err != nil {
		return err
	}
	for _, d := range img.Manifest.Layers {
		if len(d.URLs) > 0 { // it is elsewhere
			continue
		}
		f, err := l.Blob(d.Digest)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}
