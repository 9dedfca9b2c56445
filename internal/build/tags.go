package build

import (
	"context"
	"fmt"

	"genoci/internal/layout"
	"genoci/internal/plan"
)

// moveTags lets the tags of all images that were built name them, in one step: NAME, NAME-DATE_N
// and the target's further tags. The result's images learn their tags.
func (b *Builder) moveTags(ctx context.Context, p *plan.Plan, nodes nodes, res *Result) error {
	tags := map[string][]string{}
	err := b.Layout.Update(ctx, func(x *layout.Index) error {
		clear(tags)
		dated := layout.NextDated(x.Tags(), b.start)
		for _, img := range p.Images {
			n := nodes[img]
			if n.result == nil || img.Target.BuildOnly {
				continue
			}
			names := append([]string{img.Target.Name, dated(img.Target.Name).String()}, img.Target.Tags...)
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
