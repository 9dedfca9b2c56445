package main

import (
	"fmt"
	"strings"
)

// plot draws how a time grows, on logarithmic axes, with the line that it should follow.
func plot(c curve, g growth) string {
	const width, height, left, right, top, bottom = 640, 360, 70, 44, 44, 46
	p := newPicture(width, height, c.title)
	p.text(10, 22, "head", "start", c.title)
	if len(g.Points) == 0 {
		return p.end()
	}
	var sizes, times []float64
	for _, at := range g.Points {
		sizes = append(sizes, float64(at.Size))
		times = append(times, at.Wall)
	}
	x := around(sizes, left, width-left-right)
	y := around(times, height-bottom, -(height - top - bottom))
	for _, power := range x.powers() {
		p.line(x.at(power), top, x.at(power), height-bottom, "grid")
		p.text(x.at(power), height-bottom+18, "small", "middle", grouped(int(power+0.5)))
	}
	for _, power := range y.powers() {
		p.line(left, y.at(power), width-right, y.at(power), "grid")
		p.text(left-8, y.at(power)+4, "small", "end", tick(power))
	}
	p.text((left+width-right)/2, height-8, "small", "middle", c.unit)
	p.ideal(c, g, x, y)
	var path strings.Builder
	for _, at := range g.Points {
		fmt.Fprintf(&path, " %.1f,%.1f", x.at(float64(at.Size)), y.at(at.Wall))
	}
	fmt.Fprintf(p, "<polyline points=\"%s\" class=\"line\"/>\n", strings.TrimSpace(path.String()))
	for _, at := range g.Points {
		cx, cy := x.at(float64(at.Size)), y.at(at.Wall)
		fmt.Fprintf(p, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" class=\"own\"/>\n", cx, cy)
		p.text(cx, cy-9, "small", "middle", seconds(at.Wall))
	}
	return p.end()
}

// ideal draws the straight line that the time should follow: through the first point where it is to
// stay, and where it is to grow, with a fixed part as at the smallest size and the rest as at the
// largest.
func (p *picture) ideal(c curve, g growth, x, y axis) {
	first, last := g.Points[0], g.Points[len(g.Points)-1]
	slope := 0.0
	if c.linear && last.Size > first.Size {
		slope = (last.Wall - first.Wall) / float64(last.Size-first.Size)
	}
	var path strings.Builder
	const steps = 60
	for i := range steps + 1 {
		at := axis{float64(first.Size), float64(last.Size), 0, steps}
		size := at.value(float64(i))
		fmt.Fprintf(&path, " %.1f,%.1f", x.at(size), y.at(first.Wall+slope*(size-float64(first.Size))))
	}
	fmt.Fprintf(p, "<polyline points=\"%s\" class=\"ideal\"/>\n", strings.TrimSpace(path.String()))
	text := "dashed: flat"
	if c.linear {
		text = "dashed: linear"
	}
	p.text(x.start+x.length, 22, "small", "end", text)
}

// grouped writes a number with commas between thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
