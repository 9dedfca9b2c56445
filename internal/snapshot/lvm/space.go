package lvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"genoci/internal/beneath"
	"genoci/internal/durable"
	"genoci/internal/snapshot"
)

// taken is how much was in use on the volume of a part when it was last at rest, what it had from
// its parent's included.
type taken struct {
	id   string // of the part
	used int64  // bytes
}

// takenFile says what was taken by the volumes that a part's volume descends from, the oldest
// first, and by itself, a line for each. The device mapper does not know it while a volume is not
// active, nor does it know at any time what volumes have in common. It is written as soon as the
// volume is there, and stays when those of its ancestors have gone.
func takenFile(part string) string { return filepath.Join(part, "taken") }

func readTaken(part string) ([]taken, error) {
	data, err := os.ReadFile(takenFile(part))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []taken
	for line := range strings.Lines(string(data)) {
		var t taken
		if _, err := fmt.Sscan(line, &t.id, &t.used); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", takenFile(part), line, err)
		}
		all = append(all, t)
	}
	return all, nil
}

func writeTaken(part string, all []taken) error {
	var b strings.Builder
	for _, t := range all {
		fmt.Fprintf(&b, "%s %d\n", t.id, t.used)
	}
	return durable.Replace(takenFile(part), []byte(b.String()))
}

// inheritTaken gives a part, whose volume is a snapshot of that of another one, what is known of
// that.
func inheritTaken(parent, part string) error {
	all, err := readTaken(parent)
	if err != nil {
		return err
	}
	return writeTaken(part, all)
}

// noteTaken notes what the tree takes now.
func (t *tree) noteTaken() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(t.witness.Fd()), &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: t.Dir(), Err: err}
	}
	all, err := readTaken(t.part.Dir())
	if err != nil {
		return err
	}
	now := taken{filepath.Base(t.part.Dir()), int64(st.Blocks-st.Bfree) * st.Bsize}
	if last := len(all) - 1; last >= 0 && all[last].id == now.id {
		all = all[:last]
	}
	err = writeTaken(t.part.Dir(), append(all, now))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) { // what is known is older then
		return nil
	}
	return err
}

// Space implements snapshot.Driver. A tree is made of its part's folder, and of what each volume
// that it descends from had more than the one before: blocks that were written over since are
// counted with both.
func (d *Driver) Space(ctx context.Context) (snapshot.Space, error) {
	var mu sync.Mutex
	known := map[string][]taken{}
	space, err := d.store.SpaceBy(ctx, func(ctx context.Context, part string) (int64, error) {
		all, err := readTaken(part)
		if err != nil {
			return 0, err
		}
		mu.Lock()
		known[filepath.Base(part)] = all
		mu.Unlock()
		return beneath.DiskUsage(ctx, part, nil)
	})
	if err != nil {
		return space, err
	}
	for i := range space.Trees {
		t := &space.Trees[i]
		var before int64
		for _, v := range known[t.Parts[0]] {
			id := prefix + v.id
			space.Parts[id] = max(0, v.used-before)
			t.Parts = append(t.Parts, id)
			before = v.used
		}
	}
	return space, nil
}
