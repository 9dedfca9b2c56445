package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"genoci/internal/sandbox"
)

func newUnshare() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unshare [COMMAND [ARG...]]",
		Short: "Run a command in the user namespace of builds",
		Long: `Unshare runs a command of this machine in the namespaces that genoci works in.
Without a command, it runs your shell ($SHELL, otherwise sh).

For an ordinary user, that is a user namespace. You are root in it, and its
other users are your subordinate ids. So the command can read, change and
remove files that genoci gave to these ids, such as those of a bundle. It is no
more confined than you are: it sees the whole file system and the network. For
root, it is only a mount namespace: mounts end with the command.

The exit code is the command's. Flags of genoci stand before COMMAND.`,
		Example: `  genoci unshare rm -r bundle
  genoci unshare ls -ln bundle/rootfs/var
  genoci unshare`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := sandbox.Enter(); err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"sh"}
				if shell := os.Getenv("SHELL"); shell != "" {
					args[0] = shell
				}
			}
			return become(args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows is the command's
	return cmd
}

// become executes a command of this machine in the place of this process.
func become(args []string) error {
	file, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(file, args, os.Environ())
	}
	var failed *exec.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return usagef("run %s: %v", quoted(args[0]), err)
}
