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
		before := x.Tags()
		for _, img := range p.Images {
			n := nodes[img]
			if n.result == nil || img.Target.BuildOnly {
				continue
			}
			names := append([]string{img.Target.Name, datedTag(before, img.Target.Name, date)}, img.Target.Tags...)
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
func datedTag(tags []layout.Tag, name, date string) string {
	prefix := name + "-" + date + "_"
	highest := 0
	for _, t := range tags {
		if rest, ok := strings.CutPrefix(t.Name, prefix); ok {
			if n, err := strconv.Atoi(rest); err == nil && strconv.Itoa(n) == rest {
				highest = max(highest, n)
			}
		}
	}
	return prefix + strconv.Itoa(highest+1)
}
