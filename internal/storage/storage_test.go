package storage

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"genoci/internal/checkout"
	"genoci/internal/snapshot"
	"genoci/internal/snapshot/btrfs"
)

// keeper is a driver that keeps some trees.
type keeper struct {
	snapshot.Driver
	kept []snapshot.Kept
	busy bool
}

func (k keeper) Names(context.Context) ([]string, error)       { return []string{"sha256:a"}, nil }
func (k keeper) Kept(context.Context) ([]snapshot.Kept, error) { return k.kept, nil }
func (k keeper) Busy() (bool, error)                           { return k.busy, nil }

// fake is a backing that notes what is done with it.
type fake struct {
	state  State
	driver keeper
	done   []string
}

func (f *fake) Setup(context.Context) ([]string, error) {
	f.done = append(f.done, "setup")
	f.state.Mounted = true
	return nil, nil
}
func (f *fake) State() (State, error)          { return f.state, nil }
func (f *fake) Detach() error                  { f.done = append(f.done, "detach"); return nil }
func (f *fake) Destroy() error                 { f.done = append(f.done, "destroy"); return nil }
func (f *fake) Open() (snapshot.Driver, error) { return f.driver, nil }
func (f *fake) Flags() []string                { return nil }

// newFake returns a backing that was set up, and that a driver has used.
func newFake(t *testing.T) *fake {
	t.Helper()
	mount := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mount, dirName, "format"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &fake{state: State{Mount: mount, Made: true}}
}

// What somebody may still need is not removed, and a backing that was detached is detached again.
func TestUnsetup(t *testing.T) {
	note, err := json.Marshal(checkout.Note{Tag: "web"})
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	trees := []snapshot.Kept{{Name: "failed:web"}}
	yes := func(r Removal) error {
		if r.Snapshots != 1 || r.Failed != 1 {
			t.Errorf("asked about %+v", r)
		}
		return nil
	}
	tests := []struct {
		name    string
		change  func(*fake)
		confirm func(Removal) error
		want    error
		done    []string
	}{
		{"all", func(*fake) {}, yes, nil, []string{"setup", "destroy"}},
		{"attached", func(f *fake) { f.state.Mounted = true }, yes, nil, []string{"destroy"}},
		{"refused", func(*fake) {}, func(Removal) error { return refused }, refused, []string{"setup", "detach"}},
		{"busy", func(f *fake) { f.driver.busy = true }, nil, ErrBusy, []string{"setup", "detach"}},
		{"half made", func(f *fake) { f.state.Halfway = true }, nil, nil, []string{"destroy"}},
		{"of others", func(f *fake) { f.state.Foreign = true }, nil, nil, []string{"destroy"}},
		{"nothing", func(f *fake) { f.state = State{} }, nil, ErrNotSetUp, nil},
	}
	for _, tt := range tests {
		b := newFake(t)
		b.driver.kept = trees
		tt.change(b)
		if _, err := Unsetup(t.Context(), b, tt.confirm); !errors.Is(err, tt.want) || !slices.Equal(b.done, tt.done) {
			t.Errorf("%s: error %v, want %v; done %q, want %q", tt.name, err, tt.want, b.done, tt.done)
		}
	}

	b := newFake(t)
	b.driver.kept = append(trees, snapshot.Kept{Name: "checkout:A", Note: note})
	var used *CheckedOutError
	if _, err := Unsetup(t.Context(), b, nil); !errors.As(err, &used) || len(used.Checkouts) != 1 || used.Checkouts[0].Tag != "web" {
		t.Errorf("with a checkout: %v", err)
	}
}

func TestDetachBusy(t *testing.T) {
	b := newFake(t)
	b.state.Mounted, b.driver.busy = true, true
	if err := Detach(t.Context(), b); !errors.Is(err, ErrBusy) || b.done != nil {
		t.Errorf("%v, done %q", err, b.done)
	}
	b.driver.busy = false
	if err := Detach(t.Context(), b); err != nil || !slices.Equal(b.done, []string{"detach"}) {
		t.Errorf("%v, done %q", err, b.done)
	}
}

// Trees are found in the folder of a driver and in that in the cache, of the wanted driver only.
func TestHolding(t *testing.T) {
	t.Chdir(t.TempDir())
	cache, mount := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(mount, dirName), filepath.Join(cache, "btrfs"), filepath.Join(cache, "vfs")} {
		if err := os.MkdirAll(filepath.Join(dir, "kept", "failed:web"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for driver, want := range map[string][]string{
		"": {"btrfs", "btrfs", "vfs"}, Auto: {"btrfs", "btrfs", "vfs"}, "btrfs": {"btrfs", "btrfs"}, "overlay": nil,
	} {
		s := New(Config{Driver: driver, CacheDir: cache, BtrfsMount: mount})
		folders, err := s.Holding("failed:web")
		var got []string
		for _, f := range folders {
			got = append(got, f.Driver)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", driver, got, err, want)
		}
		if other, err := s.Holding("failed:other"); len(other) > 0 || err != nil {
			t.Errorf("%q: %v, %v", driver, other, err)
		}
	}
}

// Each driver says where its files are, and what helps where it does not work.
func TestDrivers(t *testing.T) {
	t.Chdir(t.TempDir())
	c := Config{CacheDir: "/cache"}
	for _, d := range c.drivers() {
		if f := d.folder(); d.remedy == "" || f.dir != "/cache/"+d.name || f.setUp != "" {
			t.Errorf("%s: %+v, %q", d.name, f, d.remedy)
		}
	}
	if last := Names()[len(Names())-1]; !c.drivers()[len(Names())-1].folder().expected {
		t.Errorf("the last driver, %s, does not work everywhere", last)
	}
	if got := New(Config{BtrfsMount: "/mnt"}).SetUpFolder("btrfs"); got != "/mnt" {
		t.Errorf("set up in %q", got)
	}
	if _, err := New(Config{Driver: "vfs"}).Backing(); !errors.As(err, new(*NoSetupError)) {
		t.Errorf("the backing of vfs: %v", err)
	}
}

func TestRemedyOf(t *testing.T) {
	own := &Error{Err: os.ErrExist, Remedy: GiveUp}
	for err, want := range map[error]Remedy{errors.Join(own): GiveUp, btrfs.ErrStopped: MakeSpace, os.ErrExist: ""} {
		if got := RemedyOf(err); got == nil && want != "" || got != nil && got.Remedy != want {
			t.Errorf("%v: %+v, want %q", err, got, want)
		}
	}
}
