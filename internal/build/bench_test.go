package build

import (
	"fmt"
	"strings"
	"testing"
)

// A build that finds everything as it was: its cost for each target must not grow with their
// number.
func BenchmarkNothingToDo(b *testing.B) {
	for _, shape := range []string{"wide", "chain"} {
		for _, n := range []int{20, 200} {
			b.Run(fmt.Sprintf("%s of %d", shape, n), func(b *testing.B) {
				w := newWork(b, nil)
				var text strings.Builder
				base := "empty"
				for i := range n {
					fmt.Fprintf(&text, "t%d:\n  base: %s\n  copy: {content: '%d', dest: /f%d}\n", i, base, i, i)
					if shape == "chain" {
						base = fmt.Sprintf("t%d", i)
					}
				}
				w.build(text.String())
				for b.Loop() {
					builder, p := w.builder(text.String())
					if _, _, err := builder.Forecast(b.Context(), p); err != nil {
						b.Fatal(err)
					}
					check(builder.Build(b.Context(), p))(b)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/target")
			})
		}
	}
}
