package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// driverReport is what a look at a storage driver gave. It is an element of what storage status --json prints.
type driverReport struct {
	Name     string `json:"name"`
	Works    bool   `json:"works"`
	Dir      string `json:"dir"`               // of its files
	Expected bool   `json:"expected"`          // auto takes it, unless an earlier one works
	Reflink  bool   `json:"reflink,omitempty"` // copies share their blocks
	Why      string `json:"why,omitempty"`     // it does not work

	Backing *backingState `json:"backing,omitempty"` // what setup makes for it
	Fix     string        `json:"fix,omitempty"`

	copier bool // its trees are copies of their parents
}

// probed is what the hidden command prints of a driver: the report, with what that does not say in JSON.
type probed struct {
	Report driverReport `json:"report"`
	Copier bool         `json:"copier"`
}

// probeCommand is the hidden command whose process looks at the storage drivers for others, since it has to be in a
// namespace, and they must not.
const probeCommand = "probe"

func newProbe() *cobra.Command {
	var s storageFlags
	cmd := &cobra.Command{
		Use:    probeCommand,
		Hidden: true,
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reports, err := s.reports(sandbox.Enter())
			if err != nil {
				return err
			}
			var all []probed
			for _, r := range reports {
				all = append(all, probed{Report: r, Copier: r.copier})
			}
			return printJSON(cmd.OutOrStdout(), all)
		},
	}
	s.addHidden(cmd.Flags())
	cacheDirVar(cmd.Flags(), &s.cacheDir)
	return cmd
}

// probe returns what reports does, by a process in a namespace.
func (s *storageFlags) probe(ctx context.Context) ([]driverReport, error) {
	args := append([]string{probeCommand, "--cache-dir", s.cacheDir}, s.placeArgs()...)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var all []probed
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil {
		text := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "error: ")
		return nil, errors.New(cmp.Or(text, err.Error()))
	}
	var reports []driverReport
	for _, p := range all {
		p.Report.copier = p.Copier
		reports = append(reports, p.Report)
	}
	return reports, nil
}

// reports opens all storage drivers. None works where no namespace could be entered, because of the error entered.
func (s *storageFlags) reports(entered error) ([]driverReport, error) {
	if _, err := cache.Open(s.cacheDir); err != nil {
		return nil, err
	}
	var all []driverReport
	for _, d := range s.drivers() {
		r := driverReport{Name: d.name}
		r.Dir, r.Expected = d.dir()
		if dir, err := filepath.Abs(r.Dir); err == nil {
			r.Dir = dir
		}
		if entered != nil {
			r.Why, r.Fix = entered.Error(), hintFor(entered)
			all = append(all, r)
			continue
		}
		opened, err := d.openIn(r.Dir)
		if err != nil {
			r.Why, r.Fix = err.Error(), d.fix
		} else {
			r.Works = true
		}
		if c, ok := opened.(snapshot.Copier); ok {
			r.copier, r.Reflink = true, !c.Copies()
		}
		if err := d.lookAtBacking(&r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (d driver) lookAtBacking(r *driverReport) error {
	if d.backing == nil {
		return nil
	}
	b, err := d.backing()
	if err != nil {
		return err
	}
	state, err := b.state()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, snapshot.ErrUnsupported) { // another's file, or the driver says it already
		return nil
	}
	r.Backing = &state
	return err
}
