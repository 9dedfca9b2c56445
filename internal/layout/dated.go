package layout

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Dated is a dated tag, NAME-YYYY-MM-DD_N: the Nth build of NAME on that day.
type Dated struct {
	Name string
	Date string // YYYY-MM-DD
	N    int    // from 1
}

// String returns the tag.
func (d Dated) String() string { return d.Name + "-" + d.Date + "_" + strconv.Itoa(d.N) }

// ParseDated reports whether a tag is a dated one, and of what.
func ParseDated(tag string) (d Dated, ok bool) {
	at := strings.LastIndexByte(tag, '_')
	if at <= len(time.DateOnly) {
		return Dated{}, false
	}
	n, err := strconv.Atoi(tag[at+1:])
	d = Dated{Name: tag[:at-len(time.DateOnly)-1], Date: tag[at-len(time.DateOnly) : at], N: n}
	if _, dateErr := time.Parse(time.DateOnly, d.Date); err != nil || dateErr != nil || n < 1 || d.Name == "" || d.String() != tag {
		return Dated{}, false
	}
	return d, true
}

// Build is a dated tag with what it names.
type Build struct {
	Dated
	Descriptor v1.Descriptor
}

// Builds returns the dated tags of a name, the newest first.
func Builds(tags []Tag, name string) []Build {
	var all []Build
	seen := map[Dated]bool{}
	for _, t := range tags {
		if d, ok := ParseDated(t.Name); ok && d.Name == name && !seen[d] { // the first of a name counts
			seen[d] = true
			all = append(all, Build{d, t.Descriptor})
		}
	}
	slices.SortFunc(all, func(a, b Build) int { return cmp.Or(cmp.Compare(b.Date, a.Date), cmp.Compare(b.N, a.N)) })
	return all
}

// NextDated returns for each name its dated tag of the day that is to come: N is one more than the
// highest that stands in tags.
func NextDated(tags []Tag, day time.Time) func(name string) Dated {
	date := day.Format(time.DateOnly)
	highest := map[string]int{}
	for _, t := range tags {
		if d, ok := ParseDated(t.Name); ok && d.Date == date {
			highest[d.Name] = max(highest[d.Name], d.N)
		}
	}
	return func(name string) Dated { return Dated{name, date, highest[name] + 1} }
}
