package space

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"genoci/internal/layout"
)

// Keep says which dated tags stay: those that any rule keeps. The zero value keeps all.
type Keep struct {
	Count int // images of each name that differ, the newest; 0: no rule
	Days  int // and those of so many days, today included; 0: no rule
}

// Expired returns the dated tags that no rule keeps. Of the tags NAME-DATE_N, the newest one of the
// image that NAME stands for always stays.
func (k Keep) Expired(tags []layout.Tag, now time.Time) []string {
	if k == (Keep{}) {
		return nil
	}
	names := map[string]layout.Tag{}
	dated := map[string][]datedTag{}
	for _, t := range tags {
		if _, twice := names[t.Name]; twice {
			continue // the first counts
		}
		names[t.Name] = t
		if d, ok := layout.ParseDated(t.Name); ok {
			dated[d.Name] = append(dated[d.Name], datedTag{d, t})
		}
	}
	first := now.AddDate(0, 0, 1-k.Days).Format(time.DateOnly) // that is kept
	var expired []string
	for name, list := range dated {
		slices.SortFunc(list, func(a, b datedTag) int {
			return cmp.Or(-cmp.Compare(a.Date, b.Date), -cmp.Compare(a.N, b.N))
		})
		current, found := names[name]
		images := map[digest.Digest]bool{} // that this tag and the newer ones name
		for _, t := range list {
			images[t.tag.Descriptor.Digest] = true
			stands := found && t.tag.Descriptor.Digest == current.Descriptor.Digest
			found = found && !stands
			if !stands && (k.Count == 0 || len(images) > k.Count) && (k.Days == 0 || t.Date < first) {
				expired = append(expired, t.tag.Name)
			}
		}
	}
	slices.Sort(expired)
	return expired
}

// datedTag is a tag that is dated.
type datedTag struct {
	layout.Dated
	tag layout.Tag
}
