package main

import (
	"fmt"
	"math"
	"strings"
)

// style is what all pictures have in common: no background, and colours of middling lightness,
// which can be read on white and on black. A media query would go by the reader's system, which
// need not be as the page is.
const style = `<style>
text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #717a85 }
.small { font-size: 11px }
.head { font-size: 14px; font-weight: 600 }
.own { fill: #2da44e }
.peer { fill: #8c959f }
.limit { stroke: #e5534b; stroke-width: 2 }
.grid { stroke: #8c959f; stroke-opacity: 0.3 }
.ideal { stroke: #8c959f; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none }
.line { stroke: #2da44e; stroke-width: 2; fill: none }
</style>
`

// picture is an SVG in the making.
type picture struct{ strings.Builder }

func newPicture(width, height int, title string) *picture {
	p := &picture{}
	fmt.Fprintf(p, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>%s</title>\n",
		width, height, width, height, title)
	p.WriteString(style)
	return p
}

func (p *picture) text(x, y float64, class, anchor, text string) {
	fmt.Fprintf(p, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, class, anchor, escape(text))
}

func (p *picture) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(p, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2, class)
}

func (p *picture) bar(x, y, width, height float64, class string) {
	fmt.Fprintf(p, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\" class=\"%s\"/>\n", x, y, width, height, class)
}

func (p *picture) end() string { return p.String() + "</svg>\n" }

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// axis maps values to a length, by their logarithms.
type axis struct{ from, to, start, length float64 }

func (a axis) at(value float64) float64 {
	value = min(max(value, a.from), a.to)
	return a.start + a.length*math.Log(value/a.from)/math.Log(a.to/a.from)
}

// value returns what is mapped to a place on the axis.
func (a axis) value(at float64) float64 {
	return a.from * math.Pow(a.to/a.from, (at-a.start)/a.length)
}

// powers returns the powers of ten on the axis.
func (a axis) powers() []float64 {
	var all []float64
	for exponent := math.Ceil(math.Log10(a.from) - 1e-9); exponent <= math.Log10(a.to)+1e-9; exponent++ {
		all = append(all, math.Pow(10, exponent))
	}
	return all
}

// around returns an axis from the power of ten below the values to that above them.
func around(values []float64, start, length float64) axis {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	return axis{math.Pow(10, from), math.Pow(10, max(to, from+1)), start, length}
}

// chart draws genoci, the fastest peer and the limit in each scenario.
func chart(verdicts []verdict) string {
	const width, left, right, top, row = 800, 270, 150, 58, 42
	var shown []verdict
	var times []float64
	for _, v := range verdicts {
		if v.chart != "" && v.Own > 0 {
			shown = append(shown, v)
			for _, t := range []float64{v.Own, v.Best, v.Limit} {
				if t > 0 {
					times = append(times, t)
				}
			}
		}
	}
	if len(shown) == 0 {
		return newPicture(width, top, "no results").end()
	}
	height := top + row*len(shown) + 30
	x := around(times, left, width-left-right)
	p := newPicture(width, height, "Time of genoci and of the fastest peer in each scenario")
	p.bar(left, 12, 12, 12, "own")
	p.text(left+18, 22, "", "start", "genoci")
	p.bar(left+80, 12, 12, 12, "peer")
	p.text(left+98, 22, "", "start", "fastest peer")
	p.line(left+190, 11, left+190, 25, "limit")
	p.text(left+198, 22, "", "start", "limit of the machine")
	p.text(10, 22, "head", "start", "Time, less is better")
	for _, power := range x.powers() {
		p.line(x.at(power), top-10, x.at(power), float64(height-24), "grid")
		p.text(x.at(power), float64(height-8), "small", "middle", tick(power))
	}
	for i, v := range shown {
		y := float64(top + row*i)
		p.text(10, y+12, "", "start", v.id)
		p.text(80, y+12, "small", "start", v.chart)
		p.bar(left, y, max(x.at(v.Own)-left, 2), 14, "own")
		p.text(max(x.at(v.Own), x.at(v.Limit))+6, y+11, "", "start", seconds(v.Own))
		if v.Best > 0 {
			p.bar(left, y+16, max(x.at(v.Best)-left, 2), 14, "peer")
			p.text(x.at(v.Best)+6, y+27, "small", "start", fmt.Sprintf("%s (%s), %.1f ×", seconds(v.Best), v.BestName, v.Ahead))
		}
		if v.Limit > 0 {
			p.line(x.at(v.Limit), y-3, x.at(v.Limit), y+17, "limit")
		}
	}
	return p.end()
}

// tick writes a power of ten seconds.
func tick(power float64) string {
	if power < 0.9 {
		return fmt.Sprintf("%.4g ms", power*1000)
	}
	return fmt.Sprintf("%.4g s", power)
}
