package rootfs

import (
	"context"
	"path"
	"strings"

	"genoci/internal/image"
	"genoci/internal/layer"
)

// Diff is how two root filesystems and their configs differ.
type Diff struct {
	Files  []layer.Difference // in the order of paths
	Config []image.Change     // none where a config is not known
}

// Compare compares two root filesystems. If times is set, modification times count. Layers that are
// the lowest of both are the same, and not looked into.
func Compare(ctx context.Context, old, now Stack, times bool) (Diff, error) {
	shared := 0
	for shared < min(len(old.DiffIDs), len(now.DiffIDs)) && old.DiffIDs[shared] == now.DiffIDs[shared] {
		shared++
	}
	files, err := layer.Between(ctx, old.View, now.View, shared, times)
	d := Diff{Files: files}
	if old.Image != nil && now.Image != nil {
		d.Config = image.Compare(*old.Image, *now.Image)
	}
	return d, err
}

// IsEmpty reports whether nothing differs.
func (d Diff) IsEmpty() bool { return len(d.Files)+len(d.Config) == 0 }

// Tally is how much differs.
type Tally struct {
	Added, Deleted, Modified int
	BytesAdded, BytesDeleted int64
}

// add counts a difference. The content of a file with several names counts once.
func (t *Tally) add(d layer.Difference) {
	content := d.Old == nil || d.New == nil || d.Attributes&(layer.AttrContent|layer.AttrType) != 0
	if d.New != nil && content && OtherName(d.New) == "" {
		t.BytesAdded += d.New.Size
	}
	if d.Old != nil && content && OtherName(d.Old) == "" {
		t.BytesDeleted += d.Old.Size
	}
	switch {
	case d.Old == nil:
		t.Added++
	case d.New == nil:
		t.Deleted++
	default:
		t.Modified++
	}
}

// OtherName returns the first of all names of a file that has several, if it is not this one; ""
// otherwise.
func OtherName(e *layer.Entry) string {
	if e.Group == "" || e.Group == e.Path {
		return ""
	}
	return "/" + e.Group
}

// ByFolder counts the differences in each folder, of two levels at most, and all of them.
func (d Diff) ByFolder() (folders map[string]Tally, total Tally) {
	folders = map[string]Tally{}
	for _, f := range d.Files {
		elems := strings.SplitN(path.Dir(f.Path()), "/", 3)
		folder := path.Join("/", path.Join(elems[:min(2, len(elems))]...))
		t := folders[folder]
		t.add(f)
		folders[folder] = t
		total.add(f)
	}
	return folders, total
}

// ConfigTally counts the changes of the config.
func (d Diff) ConfigTally() (t Tally) {
	for _, change := range d.Config {
		switch {
		case change.Old == nil:
			t.Added++
		case change.New == nil:
			t.Deleted++
		default:
			t.Modified++
		}
	}
	return t
}
