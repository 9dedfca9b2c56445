package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The groups of commands in the help.
const (
	groupBuild  = "build"
	groupLayout = "layout"
	groupTrees  = "trees"
	groupOther  = "other"
)

// newRoot returns the whole tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "genoci FILE.yaml [TARGET...]",
		Short: "Build OCI images in layers from a YAML spec",
		Long: `Genoci builds OCI images, in layers, from a YAML spec, into an OCI image layout on disk.
It needs no daemon, no root, and no other program.

` + exitHelp,
		Example: `  genoci build                      build all targets of genoci.yaml into ./oci
  genoci build -f web.yaml api      build the target api of web.yaml, and what it stands on
  genoci web.yaml api               the same, as the original genoci was called
  genoci ls                         list the images
  genoci unpack api /tmp/root       look into one`,
		Args:                  cobra.ArbitraryArgs,
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		PersistentPreRunE:     func(cmd *cobra.Command, _ []string) error { return applySettings(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
		Version: buildVersion().Version,
	}
	root.SetVersionTemplate("genoci {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(usagef("%w", err), "%s --help lists the flags", cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupBuild, Title: "Build:"},
		&cobra.Group{ID: groupLayout, Title: "Look at and change the layout:"},
		&cobra.Group{ID: groupTrees, Title: "Work with trees by hand:"},
		&cobra.Group{ID: groupOther, Title: "Others:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{groupBuild, newBuild()},
		{groupBuild, newCheck()},
		{groupBuild, newPlan()},
		{groupBuild, newExplain()},
		{groupBuild, newShell()},
		{groupLayout, newLs()},
		{groupLayout, newInspect()},
		{groupLayout, newGet()},
		{groupLayout, newDiff()},
		{groupLayout, newLog()},
		{groupLayout, newRollback()},
		{groupLayout, newTag()},
		{groupLayout, newRm()},
		{groupLayout, newDu()},
		{groupLayout, newGC()},
		{groupLayout, newClean()},
		{groupLayout, newVerify()},
		{groupLayout, newUnpack()},
		{groupTrees, newCheckout()},
		{groupTrees, newCheckin()},
		{groupTrees, newAbort()},
		{groupTrees, newChroot()},
		{groupTrees, newStatus()},
		{groupTrees, newStorage()},
		{groupOther, newDoctor()},
		{groupOther, newSchema()},
		{groupOther, newVersion()},
	} {
		c.cmd.GroupID = c.group
		c.cmd.Long += "\n\n" + exitHelp
		root.AddCommand(c.cmd)
	}
	root.AddCommand(newProbe())
	return root
}

// unknownCommand is the error for a first argument that is neither a command nor a spec.
func unknownCommand(root *cobra.Command, name string) error {
	err := usagef("unknown command %q", name)
	if near := root.SuggestionsFor(name); len(near) > 0 {
		return withHint(err, "did you mean %q?", near[0])
	}
	return withHint(err, "genoci --help lists the commands; a spec is named as in: genoci build -f FILE")
}

// originalForm turns the command line of the original, "genoci FILE.yaml [TARGET...]", into that of build. FILE is
// a first argument that is no command, and exists as a file or ends as YAML files do.
func originalForm(root *cobra.Command, args []string) []string {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") || isCommand(root, args[0]) {
		return args
	}
	info, err := os.Stat(args[0])
	isFile := err == nil && !info.IsDir()
	if ext := filepath.Ext(args[0]); !isFile && ext != ".yaml" && ext != ".yml" {
		return args
	}
	return append([]string{"build", "--file", args[0]}, args[1:]...)
}

// lpack is the original's program for working with trees. A link of this name to genoci takes the same words.
const lpack = "lpack"

// lpackForm turns a command line of lpack into that of genoci. Most words are those of genoci too.
func lpackForm(args []string) []string {
	if len(args) > 0 && slices.Contains([]string{"setup", "unsetup", "detach"}, args[0]) {
		return append([]string{"storage"}, args...)
	}
	return args
}

// isCommand reports whether name is a command of root, those that cobra adds later included.
func isCommand(root *cobra.Command, name string) bool {
	return slices.Contains([]string{"help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, name) ||
		slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
}

// exactly makes the wrong number of arguments an error that names what is wanted.
func exactly(names ...string) cobra.PositionalArgs { return upTo(len(names), names...) }

// upTo is exactly for commands that can do without all but the first least arguments.
func upTo(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return missingArgument(cmd, names[len(args)])
		case len(args) > len(names):
			return withHint(usagef("%s: unexpected argument %q", cmd.Name(), args[len(names)]), "usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// atLeastOne is exactly for commands that take one argument or more.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return missingArgument(cmd, name)
		}
		return nil
	}
}

func missingArgument(cmd *cobra.Command, name string) error {
	return withHint(usagef("%s: %s is missing", cmd.Name(), name), "usage: %s", cmd.UseLine())
}
