package main

import (
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/spec"
)

type completion = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective)

// onlyTypeable leaves out of what completes the arguments of cmd, and of the commands below it,
// names of others that nobody can type: a shell would take the rest of a line, or of what follows a
// tab, for something else, and a terminal would obey it.
func onlyTypeable(cmd *cobra.Command) {
	if complete := cmd.ValidArgsFunction; complete != nil {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			names, directive := complete(cmd, args, prefix)
			return slices.DeleteFunc(names, func(name string) bool {
				return strings.ContainsAny(name, "\n\t") || beginning(inLine(name)) != name
			}), directive
		}
	}
	for _, c := range cmd.Commands() {
		onlyTypeable(c)
	}
}

// isTypeable reports whether all words of a command line are such as a terminal shows as they are.
func isTypeable(args []string) bool {
	return !slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "\n") || writtenLines(arg) != arg })
}

// completeTargets completes the names of a spec's targets.
func completeTargets(s *specFlags) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		sp, err := spec.Load(s.file, spec.Options{Args: s.args})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, t := range sp.Targets {
			if !slices.Contains(args, t.Name) {
				names = append(names, t.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTags completes the tags of a layout for the first n arguments (all of them if n is 0),
// and folders after them.
func completeTags(dir *string, n int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		if err := applySettings(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		tags, err := tagsOf(*dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(tags, func(t string) bool { return slices.Contains(args, t) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// completePaths completes TAG:/PATH from images and what failed steps left, and files after it.
func completePaths(f *storageFlags) completion {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		ref, at, ok := strings.Cut(prefix, ":/")
		if !ok {
			names := rootNames(cmd, f)
			for i := range names {
				names[i] += ":/"
			}
			return names, more
		}
		if err := applySettings(cmd); err != nil {
			return nil, more
		}
		root, release, err := f.openRoot(cmd.Context(), io.Discard, ref)
		if err != nil {
			return nil, more
		}
		defer release()
		return pathsIn(root.View, ref, at), more
	}
}

// pathsIn returns the operands that a beginning of a path can become: what is in its folder.
func pathsIn(root layer.View, ref, at string) []cobra.Completion {
	folder := at[:strings.LastIndexByte(at, '/')+1]
	dir, err := layer.Resolve(root, folder, true)
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for e, err := range root.Children(dir) {
		if err != nil {
			return all
		}
		name := ref + ":/" + folder + path.Base(e.Path)
		if e.Type == layer.TypeDir {
			name += "/"
		}
		all = append(all, name)
	}
	return all
}

// completeBuilds completes a name that has dated builds, and after it those.
func completeBuilds(dir *string) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if err := applySettings(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := layout.Open(*dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer l.Close()
		tags, err := l.Tags()
		switch {
		case err != nil || len(args) > 1 || len(args) == 1 && cmd.Name() != "rollback":
			return nil, cobra.ShellCompDirectiveNoFileComp
		case len(args) == 0:
			return builtNames(tags), cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, b := range layout.Builds(tags, args[0]) {
			names = append(names, b.String()[len(args[0])+1:], b.String())
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeShell completes what a shell can be opened in.
func completeShell(f *shellFlags) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return rootNames(cmd, &f.storage), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRoots completes what can be compared: tags, what failed steps left, and folders where
// these do not fit.
func completeRoots(f *storageFlags, n int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return rootNames(cmd, f), cobra.ShellCompDirectiveDefault
	}
}

// rootNames returns the tags of a layout, and what users call what failed steps left. What cannot
// be read is not offered.
func rootNames(cmd *cobra.Command, f *storageFlags) []cobra.Completion {
	if applySettings(cmd) != nil || f.resolve() != nil {
		return nil
	}
	refs, _ := f.failedRefs()
	tags, _ := tagsOf(f.layout)
	return append(refs, tags...)
}
