package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// growth is how the time of a scenario grows with the size of something.
type growth struct {
	Name   string    `json:"name"` // of the picture's file
	Time   time.Time `json:"time"`
	Points []point   `json:"points"`
}

// point is the median of some runs at one size.
type point struct {
	Size   int     `json:"size"`
	Wall   float64 `json:"wall"` // seconds
	CPU    float64 `json:"cpu"`
	Memory int64   `json:"memory"` // bytes
}

// curve is what is measured for a growth.
type curve struct {
	name, title, unit string
	about             string // how the time should grow, and why
	linear            bool   // the time is to grow with the size; else it is to stay the same
	sizes             []int
	runs              int
	// files are written into the place of a size: names and contents.
	files func(size int) map[string]string
	// fill makes inputs in the place of a size.
	fill func(p *place, size int) error
	work work
}

// curves are those that docs/benchmarks.md shows.
func curves() []curve {
	return []curve{
		{
			name: "base", title: "S3: one small run, by files in the base", unit: "files",
			about: "It should be flat: a small run mounts the base's snapshot and looks at what it wrote.",
			sizes: []int{10_000, 30_000, 100_000, 300_000, 1_000_000}, runs: 7,
			files: func(int) map[string]string {
				return map[string]string{
					"base.yaml": "base:\n  expand: base.tar.gz\nbox:\n  base: base\n  expand: $corpus/bb.tar.gz\n",
					"run.yaml":  "app:\n  base: box\n  run: echo ${{n}} > /file\n",
				}
			},
			fill: func(p *place, size int) error { return writeArchive(p.path("base.tar.gz"), size) },
			work: work{
				setup: []string{"genoci build -f base.yaml", "genoci build -f run.yaml --arg n=first"},
				timed: []string{"genoci build -f run.yaml --arg n=$n"},
			},
		},
		{
			name: "chain", title: "S4: a chain of small runs, by its length", unit: "images", linear: true,
			about: "It should be linear: each image starts one sandbox and packs one small layer.",
			sizes: []int{1, 2, 5, 10, 20, 50, 100, 200}, runs: 3,
			files: func(size int) map[string]string {
				return map[string]string{
					"base.yaml":  "$in:\n  expand: $corpus/$in.tar.gz\nfirst:\n  base: $in\n  run: ':'\n",
					"chain.yaml": chainSpec(size),
				}
			},
			work: work{setup: []string{"genoci build -f base.yaml"}, timed: []string{"genoci build -f chain.yaml --arg n=$n"}},
		},
		{
			name: "targets", title: "S6: nothing changed, by targets of the spec", unit: "targets", linear: true,
			about: "It should be linear: each target is looked up once, after a start that does not depend on them.",
			sizes: []int{1, 10, 50, 100, 200, 500, 1000, 2000}, runs: 5,
			files: func(size int) map[string]string { return map[string]string{"many.yaml": targetsSpec(size)} },
			work:  work{setup: []string{"genoci build -f many.yaml"}, timed: []string{"genoci build -f many.yaml"}},
		},
		{
			name: "files", title: "S7: copy of small files, by their number", unit: "files", linear: true,
			about: "It should be linear: each file is read, hashed and packed once.",
			sizes: []int{100, 1000, 3000, 10_000, 30_000, 100_000}, runs: 3,
			files: func(int) map[string]string { return map[string]string{"copy.yaml": "copied:\n  copy: files /files\n"} },
			fill:  func(p *place, size int) error { return writeFiles(p.path("files"), size) },
			work:  work{timed: []string{"genoci build -f copy.yaml --layout oci-$n --cache-dir cache-$n"}},
		},
	}
}

// growthInput is what curves that take no input of their own work on.
const growthInput = "bb"

// grow measures all curves, with genoci alone.
func (s *suite) grow(ctx context.Context) ([]growth, error) {
	var all []growth
	for _, c := range curves() {
		g := growth{Name: c.name, Time: time.Now().UTC().Truncate(time.Second)}
		for _, size := range c.sizes {
			at, err := s.growTo(ctx, c, size)
			if err != nil {
				return nil, fmt.Errorf("%s, %d %s: %w", c.title, size, c.unit, err)
			}
			s.say("%s: %d: %.4f s", c.title, size, at.Wall)
			g.Points = append(g.Points, at)
		}
		all = append(all, g)
	}
	return all, nil
}

// growTo measures one point, in a place of its own.
func (s *suite) growTo(ctx context.Context, c curve, size int) (point, error) {
	product := *s.tools[0]
	product.files = c.files(size)
	product.jobs = map[job]work{job(c.name): c.work}
	s.places = map[placeKey]*place{}
	key := placeKey{product.name, growthInput, job(c.name)}
	p, err := s.newPlace(ctx, key, &product)
	if err != nil {
		return point{}, err
	}
	defer s.drop(key)
	if c.fill != nil {
		if err := c.fill(p, size); err != nil {
			return point{}, err
		}
	}
	if err := s.prepare(ctx, p, key.job); err != nil {
		return point{}, err
	}
	var r result
	for range c.runs {
		got, err := p.do(ctx, key.job)
		if err != nil {
			return point{}, err
		}
		r.Samples = append(r.Samples, got)
	}
	memory := slices.MaxFunc(r.Samples, func(a, b sample) int { return cmp.Compare(a.Memory, b.Memory) }).Memory
	return point{size, r.median(wall), r.median(cpu), memory}, nil
}

// targetsSpec returns a spec of n targets that each put a small file.
func targetsSpec(n int) string {
	var spec strings.Builder
	for i := range n {
		fmt.Fprintf(&spec, "t%d:\n  copy: {content: \"%d\\n\", dest: /file}\n", i, i)
	}
	return spec.String()
}

// perFolder is how many files there are in each folder of the inputs made here.
const perFolder = 1000

// writeArchive writes a tar.gz of n files of a few bytes.
func writeArchive(name string, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	zw, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	for i := range n {
		if i%perFolder == 0 {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%04d/", i/perFolder), Mode: 0o755}); err != nil {
				return err
			}
		}
		text := fmt.Sprintln(i)
		hdr := tar.Header{Name: fmt.Sprintf("d%04d/f%03d", i/perFolder, i%perFolder), Mode: 0o644, Size: int64(len(text))}
		if err := tw.WriteHeader(&hdr); err != nil {
			return err
		}
		if _, err := io.WriteString(tw, text); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return zw.Close()
}

// writeFiles makes a folder of n files of 3 KB.
func writeFiles(top string, n int) error {
	line := "a line of some text, as there are many of in files\n"
	for i := range n {
		dir := filepath.Join(top, fmt.Sprintf("d%04d", i/perFolder))
		if i%perFolder == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		text := strings.Repeat(fmt.Sprint(i, " ", line), 3000/len(line))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%03d", i%perFolder)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
