package build

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"genoci/internal/layout"
	"genoci/internal/plan"
)

// moveTags lets the tags of all images that were built name them, in one step: NAME, NAME-DATE_N and
// the target's further tags. The result's images learn their tags.
func (b *Builder) moveTags(ctx context.Context, p *plan.Plan, nodes nodes, res *Result) error {
	date := b.start.Format("2006-01-02")
	tags := map[string][]string{}
	err := b.Layout.Update(ctx, func(x *layout.Index) error {
		clear(tags)
		highest := highestDated(x.Tags(), date)
		for _, img := range p.Images {
			n := nodes[img]
			if n.result == nil || img.Target.BuildOnly {
				continue
			}
			names := append([]string{img.Target.Name, datedTag(highest, img.Target.Name, date)}, img.Target.Tags...)
			for _, name := range names {
				x.Set(name, n.img.Descriptor)
			}
			tags[img.Target.Name] = names
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("move tags: %w", err)
	}
	for i := range res.Images {
		res.Images[i].Tags = tags[res.Images[i].Target]
	}
	return nil
}

// datedTag returns NAME-DATE_N, N being one more than the highest that stands there.
func datedTag(highest map[string]int, name, date string) string {
	return name + "-" + date + "_" + strconv.Itoa(highest[name]+1)
}

// highestDated returns the highest N of the tags NAME-DATE_N, by name.
func highestDated(tags []layout.Tag, date string) map[string]int {
	highest := map[string]int{}
	for _, t := range tags {
		at := strings.LastIndexByte(t.Name, '_')
		if at < 0 {
			continue
		}
		name, ok := strings.CutSuffix(t.Name[:at], "-"+date)
		if n, err := strconv.Atoi(t.Name[at+1:]); ok && err == nil && strconv.Itoa(n) == t.Name[at+1:] {
			highest[name] = max(highest[name], n)
		}
	}
	return highest
}
