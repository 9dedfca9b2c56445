package main

import (
	"slices"

	"github.com/spf13/cobra"

	"genoci/internal/spec"
)

type completion = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective)

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

// completeTags completes the tags of a layout for the first n arguments (all of them if n is 0), and folders after them.
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
