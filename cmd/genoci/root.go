package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"genoci/internal/spec"
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
		Long: `Genoci builds OCI images in layers, from a YAML spec into an OCI image layout.
It needs no daemon, no root, and no other program.

` + exitHelp,
		Example: `  genoci build                      build all targets of genoci.yaml into ./oci
  genoci build -f web.yaml api      build api of web.yaml, and its bases
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
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "LocalFlags.FlagUsages", "LocalFlags.FlagUsagesWrapped 80"))
	root.SetVersionTemplate("genoci {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if wrong := (*pflag.InvalidValueError)(nil); errors.As(err, &wrong) && wrong.GetFlag().Name == argFlag {
			err = errors.New("--" + argFlag + " wants NAME=VALUE") // what is there may be a value that is secret
		}
		return withHint(usagef("%w", err), "%s --help lists the flags", cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupBuild, Title: "Build:"},
		&cobra.Group{ID: groupLayout, Title: "Look at and change the layout:"},
		&cobra.Group{ID: groupTrees, Title: "Work with trees by hand:"},
		&cobra.Group{ID: groupOther, Title: "Others:"},
	)
	root.SetHelpCommand(newHelp())
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
		{groupOther, newUnshare()},
		{groupOther, newVersion()},
	} {
		c.cmd.GroupID = c.group
		c.cmd.Long += "\n\n" + exitHelp
		root.AddCommand(c.cmd)
	}
	root.AddCommand(newProbe())
	onlyTypeable(root)
	return root
}

// otherWords are what other tools call things, with what genoci has in their place.
var otherWords = map[string]string{
	"images":   "genoci ls lists the images",
	"untag":    "genoci rm removes tags",
	"rmi":      "genoci rm removes tags, and genoci gc what no tag needs",
	"prune":    "genoci gc removes what no tag needs",
	"history":  "genoci log lists the builds of a name, and genoci inspect shows an image's history",
	"cp":       "genoci get copies files out of an image",
	"exec":     "genoci shell runs a command in an image",
	"mount":    "genoci checkout makes a tree of an image",
	"commit":   "genoci checkin makes an image of a checkout",
	"bud":      "genoci build builds the targets of a spec",
	"validate": "genoci check finds the mistakes of a spec",
	"lint":     "genoci check finds the mistakes of a spec",
	"push":     "skopeo pushes an image: skopeo copy oci:./oci:TAG docker://REGISTRY/NAME:TAG",
	"pull":     "skopeo pulls an image: skopeo copy docker://REGISTRY/NAME:TAG oci:images:TAG; its base is then oci:images:TAG",
	"login":    "genoci uses no registry; skopeo login logs in",
	"save":     "skopeo makes an archive: skopeo copy oci:./oci:TAG oci-archive:FILE",
	"export":   "skopeo makes an archive: skopeo copy oci:./oci:TAG oci-archive:FILE",
	"load":     "skopeo reads an archive: skopeo copy oci-archive:FILE oci:images:TAG",
	"import":   "skopeo reads an archive: skopeo copy oci-archive:FILE oci:images:TAG",
}

// unknownCommand is the error for a word that is not a command of parent, nor the name of a spec.
func unknownCommand(parent *cobra.Command, name string) error {
	err := usagef("unknown command %q", strings.TrimPrefix(parent.CommandPath()+" "+name, parent.Root().Name()+" "))
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(append(names, c.Name()), c.Aliases...)
		}
	}
	if near := spec.Nearest(name, names); near != "" {
		return withHint(err, "did you mean %q?", near)
	}
	if parent.HasParent() {
		return withHint(err, "%s --help lists the commands", parent.CommandPath())
	}
	if other, ok := otherWords[name]; ok {
		return withHint(err, "%s", other)
	}
	return withHint(err, "genoci --help lists the commands; a spec is named as in: genoci build -f FILE")
}

// newHelp is the command help. It is cobra's, but for words that are not commands: those are
// errors.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Long:  "Help prints what --help prints.",
		Example: `  genoci help build
  genoci help storage setup`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range about.Commands() {
				if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), prefix) {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag()
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

// originalForm turns the command line of the original, "genoci FILE.yaml [TARGET...]", into that of
// build. FILE is a first argument that is no command, and exists as a file or ends as YAML files
// do.
func originalForm(root *cobra.Command, args []string) []string {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") || isCommand(root, args[0]) {
		return args
	}
	if !isSpecName(args[0]) {
		return args
	}
	return append([]string{"build", "--file", args[0]}, args[1:]...)
}

// isSpecName reports whether a word can only name a spec: it exists as a file, or ends as YAML
// files do.
func isSpecName(word string) bool {
	info, err := os.Stat(word)
	ext := filepath.Ext(word)
	return err == nil && !info.IsDir() || ext == ".yaml" || ext == ".yml"
}

// lpack is the original's program for working with trees. A link of this name to genoci takes the
// same words.
const lpack = "lpack"

// lpackForm turns a command line of lpack into that of genoci. Most words are those of genoci too.
func lpackForm(args []string) []string {
	if len(args) == 0 {
		return args
	}
	switch word, rest := args[0], args[1:]; word {
	case "setup", "unsetup", "detach":
		return append([]string{"storage"}, args...)
	case "co":
		return append([]string{"checkout"}, rest...)
	case "ci":
		return append([]string{"checkin"}, rest...)
	case "abort": // genoci's does not ask
		return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-f" || a == "--force" })
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
