package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"genoci/internal/storage"
)

// jsonStorage is what storage status --json prints.
type jsonStorage struct {
	Driver  string       `json:"driver"`          // the setting
	Takes   string       `json:"takes,omitempty"` // the driver that a build takes
	Drivers []jsonDriver `json:"drivers"`
}

// jsonDriver is what a look at a storage driver gave.
type jsonDriver struct {
	Name     string `json:"name"`
	Works    bool   `json:"works"`
	Dir      string `json:"dir"`               // of its files
	Expected bool   `json:"expected"`          // auto takes it, unless an earlier one works
	Reflink  bool   `json:"reflink,omitempty"` // copies share their blocks
	Why      string `json:"why,omitempty"`     // it does not work

	Backing *storage.State `json:"backing,omitempty"` // what setup makes for it
	Fix     string         `json:"fix,omitempty"`
}

func newJSONDriver(r storage.Report) jsonDriver {
	return jsonDriver{r.Name, r.Works, r.Dir, r.Expected, r.Reflink, r.Why, r.Backing, remedyText(r.Remedy, r.Name)}
}

func newStorageStatus() *cobra.Command {
	var f storageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which storage drivers work, and what is set up",
		Long: `Status tests the storage drivers as the caller. For each it says where it keeps
its trees, what is set up for it, and, if it does not work, why and what would
help. It also says which driver a build takes.`,
		Example: `  genoci storage status
  genoci storage status --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.resolve(); err != nil {
				return err
			}
			if _, err := openCache(f.config.CacheDir); err != nil {
				return err
			}
			reports, err := f.drivers.Probe(cmd.Context())
			if err != nil {
				return err
			}
			s := jsonStorage{Driver: f.config.Driver, Takes: f.drivers.Takes(reports)}
			for _, r := range reports {
				s.Drivers = append(s.Drivers, newJSONDriver(r))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			printStorage(cmd.OutOrStdout(), s, reports)
			return nil
		},
	}
	addStorageFlags(cmd, &f)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// newProbe is the hidden command that looks at the storage drivers for others.
func newProbe() *cobra.Command {
	return &cobra.Command{
		Use:    storage.ProbeCommand,
		Hidden: true,
		Args:   exactly("QUESTION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := storage.AnswerProbe(args[0])
			if err != nil {
				return usagef("%s: %w", storage.ProbeCommand, err)
			}
			return printJSON(cmd.OutOrStdout(), answer)
		},
	}
}

func printStorage(w io.Writer, s jsonStorage, reports []storage.Report) {
	for _, r := range reports {
		mark := "works"
		if !r.Works {
			mark = "does not work"
		}
		say(w, "%s %s in %s\n", r.Name, mark, r.Dir)
		for _, line := range driverLines(r) {
			say(w, "  %s\n", line)
		}
	}
	switch {
	case s.Takes == "":
		say(w, "a build with --driver %s fails\n", s.Driver)
	case s.Driver == storage.Auto:
		say(w, "--driver auto takes %s\n", s.Takes)
	default:
		say(w, "a build takes %s\n", s.Takes)
	}
}

// driverLines says what else is known of a driver.
func driverLines(r storage.Report) []string {
	var lines []string
	if r.Backing != nil {
		lines = stateLines(*r.Backing)
	}
	switch {
	case r.Why != "":
		lines = append(lines, "why: "+r.Why)
		if r.Remedy != "" {
			lines = append(lines, "hint: "+remedyText(r.Remedy, r.Name))
		}
	case r.Copies && r.Reflink:
		lines = append(lines, "copies share their blocks (reflink)")
	case r.Copies:
		lines = append(lines, "no reflink: copies take all bytes")
	}
	return lines
}

// printState prints what there is of a backing.
func printState(w io.Writer, b storage.Backing) error {
	s, err := b.State()
	if err != nil {
		return err
	}
	for _, line := range stateLines(s) {
		say(w, "%s\n", line)
	}
	return nil
}

// stateLines says in words what there is of a backing.
func stateLines(s storage.State) []string {
	lines := []string{stateLine(s)}
	if s.Ready() {
		lines = append(lines, fmt.Sprintf("%s, %s used, %s free", size(s.Size), size(s.Used), size(s.Free)))
	}
	if s.Made && !s.Removed {
		lines = append(lines, fmt.Sprintf("the file takes %s, and %s are left beside it", size(s.Taken), size(s.HostFree)))
	}
	if s.ReadOnly {
		lines = append(lines,
			"the kernel writes nothing to it any more, after an error (dmesg says which); genoci storage detach and then setup bring it back")
	}
	return lines
}

// stateLine says in a line where a backing is.
func stateLine(s storage.State) string {
	switch {
	case s.Foreign && s.Pool != "":
		return fmt.Sprintf("%s or the volume group of %s is there, and was not made by genoci storage setup", s.File, s.Pool)
	case s.Foreign:
		return s.File + " was not made by genoci storage setup"
	case s.Given && s.Pool != "":
		return "the thin pool " + s.Pool + " serves as it is: nothing to set up"
	case s.Given:
		return s.Mount + " is on a file system that serves as it is: nothing to set up"
	case s.Halfway:
		return s.File + " is half made, or half removed; genoci storage setup makes it anew, unsetup removes what is left"
	case !s.Made:
		return "not set up; it would be in " + s.File + ", at " + s.Mount
	case s.Removed:
		return fmt.Sprintf("at %s (%s), but %s was removed: all in it is lost when that ends; genoci storage unsetup does it",
			s.Mount, s.Device, s.File)
	case s.Mounted && s.Pool != "":
		return fmt.Sprintf("in %s (%s), as the thin pool %s", s.File, s.Device, s.Pool)
	case s.Mounted:
		return fmt.Sprintf("in %s, at %s (%s)", s.File, s.Mount, s.Device)
	case s.Device != "" && s.Pool != "":
		return fmt.Sprintf("in %s, attached as %s, but the thin pool %s is not active; genoci storage setup does that", s.File, s.Device, s.Pool)
	case s.Device != "":
		return fmt.Sprintf("in %s, attached as %s, but not mounted at %s; genoci storage setup does that", s.File, s.Device, s.Mount)
	}
	return fmt.Sprintf("in %s, detached; genoci storage setup attaches it", s.File)
}
