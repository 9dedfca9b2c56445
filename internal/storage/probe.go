package storage

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

	"genoci/internal/cache"
	"genoci/internal/sandbox"
	"genoci/internal/snapshot"
)

// Report is what a look at a storage driver gave.
type Report struct {
	Name     string
	Works    bool
	Dir      string // of its files
	Expected bool   // Auto takes it, unless an earlier one works
	Copies   bool   // its trees are copies of their parents
	Reflink  bool   // these share blocks with their parents
	Why      string // it does not work
	Remedy   Remedy // what the user can do about that
	Backing  *State // what Setup makes for it
}

// ProbeCommand is the command of the program whose process looks at the storage drivers for others:
// it has to be in a namespace, and they must not.
const ProbeCommand = "probe"

// Answer is what a process of ProbeCommand prints, as JSON.
type Answer struct {
	Reports []Report
	Error   string
}

// Probe returns a report of each driver. It starts the program again, with ProbeCommand and a
// question. That process prints what AnswerProbe returns.
func (s *Storage) Probe(ctx context.Context) ([]Report, error) {
	question, err := json.Marshal(s.config)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ProbeCommand, string(question))
	cmd.Args[0] = os.Args[0]
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var answer Answer
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	switch {
	case err != nil:
		return nil, errors.New(cmp.Or(strings.TrimSpace(stderr.String()), err.Error()))
	case answer.Error != "":
		return nil, errors.New(answer.Error)
	}
	return answer.Reports, nil
}

// AnswerProbe answers the question of Probe. It enters a namespace; the program may begin anew for
// that.
func AnswerProbe(question string) (Answer, error) {
	var config Config
	if err := json.Unmarshal([]byte(question), &config); err != nil {
		return Answer{}, err
	}
	reports, err := New(config).reports(sandbox.Enter())
	if err != nil {
		return Answer{Error: err.Error()}, nil
	}
	return Answer{Reports: reports}, nil
}

// reports opens all storage drivers. None works where no namespace could be entered, because of the
// error entered.
func (s *Storage) reports(entered error) ([]Report, error) {
	if _, err := cache.Open(s.config.CacheDir); err != nil {
		return nil, err
	}
	var all []Report
	for _, d := range s.config.drivers() {
		f := d.folder()
		r := Report{Name: d.name, Dir: f.dir, Expected: f.expected}
		if dir, err := filepath.Abs(r.Dir); err == nil {
			r.Dir = dir
		}
		if entered != nil {
			r.Why = entered.Error()
			if errors.Is(entered, sandbox.ErrUnsupported) {
				r.Remedy = SeeDoctor
			}
			all = append(all, r)
			continue
		}
		opened, err := d.openIn(r.Dir)
		if err != nil {
			r.Why, r.Remedy = err.Error(), d.remedy
		} else {
			r.Works = true
		}
		if c, ok := opened.(snapshot.Copier); ok {
			r.Copies, r.Reflink = true, !c.Copies()
		}
		if r.Backing, err = d.lookAtBacking(); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// lookAtBacking returns what there is of the driver's backing; nil for nothing that the caller may
// look at.
func (d driver) lookAtBacking() (*State, error) {
	if d.backing == nil {
		return nil, nil
	}
	b, err := d.backing()
	if err != nil {
		return nil, err
	}
	state, err := b.State()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, snapshot.ErrUnsupported) { // another's file, or the driver says it already
		return nil, nil
	}
	return &state, err
}

// Takes returns the name of the driver that a build takes; "" if none works.
func (s *Storage) Takes(reports []Report) string {
	for _, r := range reports {
		if r.Works && (r.Name == s.config.Driver || s.config.isAuto() && r.Expected) {
			return r.Name
		}
	}
	return ""
}
