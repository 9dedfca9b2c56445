package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"genoci/internal/build"
)

// The control sequences that the live lines need (ECMA-48 and DEC private modes; every terminal
// since the VT220 has them).
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	wrapOff    = "\x1b[?7l" // a line that is too long is cut by the terminal, so that lines can be counted
	wrapOn     = "\x1b[?7h"
	eraseBelow = "\x1b[J"
)

// redrawEvery is how often live lines are drawn anew.
const redrawEvery = 100 * time.Millisecond

// ttyView shows what ended as lines that stay, and below them live lines for what runs:
//
//	debian  built in 4.1s, sha256:6c3c624b58db, 60.5 MB added
//	building: 1 of 3 images                                    7.9s
//	 api  expand api.tar.gz  expand [#####.....] 31.2/60.5 MB  2.0s
//	 web  run apt-get update                                    3.8s
//	      | Get:12 http://deb.debian.org/debian bookworm/main amd64
type ttyView struct {
	mu    sync.Mutex
	out   *os.File
	live  liveLines
	drawn []int // widths of the live lines on the screen
	stop  chan struct{}
	done  chan struct{}
}

// liveLines is what the live lines show.
type liveLines struct {
	colour  bool
	started time.Time
	total   int // images of the build
	ended   int // images that are done, failed or skipped
	running []*runningImage
}

// runningImage is what one image is doing.
type runningImage struct {
	target      string
	started     time.Time
	text        string // the op
	last        string // line of output
	what        string // of the progress
	bytes, size int64
}

func newTTYView(out *os.File) *ttyView {
	t := &ttyView{out: out, stop: make(chan struct{}), done: make(chan struct{})}
	t.live.colour = os.Getenv("NO_COLOR") == ""
	fmt.Fprint(out, hideCursor)
	go t.tick()
	return t
}

func (t *ttyView) tick() {
	defer close(t.done)
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			t.mu.Lock()
			t.draw(nil)
			t.mu.Unlock()
		case <-t.stop:
			return
		}
	}
}

// Report takes the event into the live lines, and prints at once what stays.
func (t *ttyView) Report(e build.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lines := t.live.take(e); len(lines) > 0 {
		t.draw(lines)
	}
}

// Close removes the live lines and gives the cursor back.
func (t *ttyView) Close() {
	close(t.stop)
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live.running, t.live.total = nil, 0
	t.draw(nil)
	fmt.Fprint(t.out, showCursor)
}

// draw prints lines that stay in place of the live lines, and the live lines below them. It is one
// write, so that no terminal shows half of it.
func (t *ttyView) draw(stay []string) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width < 1 {
		width, height = 80, 24
	}
	live := t.live.render(time.Now(), width, height)

	var b strings.Builder
	if up := rows(t.drawn, width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteString("\r" + eraseBelow)
	for _, line := range stay {
		b.WriteString(line + "\n")
	}
	t.drawn = t.drawn[:0]
	if len(live) > 0 {
		b.WriteString(wrapOff)
		for _, line := range live {
			b.WriteString(line + "\n")
			t.drawn = append(t.drawn, visible(line))
		}
		b.WriteString(wrapOn)
	}
	_, _ = t.out.WriteString(b.String())
}

// rows returns how many rows lines of the widths take on a terminal that has become width wide:
// most wrap them then.
func rows(widths []int, width int) int {
	n := 0
	for _, w := range widths {
		n += max(1, (w+width-1)/width)
	}
	return n
}

// take changes the live lines as e says, and returns the lines that stay.
func (l *liveLines) take(e build.Event) []string {
	switch e.Kind {
	case build.BuildStarted:
		l.started, l.total = e.Time, int(e.Total)
	case build.ImageStarted:
		l.image(e)
	case build.StepStarted:
		if len(e.Why) > 0 {
			return []string{l.name(e.Step) + whyLine(e)}
		}
	case build.OpStarted:
		r := l.image(e)
		r.text, r.last, r.what = e.Text, "", ""
	case build.Output:
		if text := strings.TrimSpace(printable(e.Text)); text != "" {
			l.image(e).last = text
		}
	case build.Progress:
		r := l.image(e)
		r.what, r.bytes, r.size = e.Text, e.Done, e.Total
	case build.Warning:
		return []string{l.paint("33", "warning: "+warning(e))}
	case build.Rewritten:
		return []string{l.name(e.Target) + rewrittenLine(e)}
	case build.ImageDone:
		l.end(e.Target)
		return []string{l.name(e.Target) + doneLine(e)}
	case build.ImageFailed:
		l.end(e.Target)
		lines := []string{l.name(e.Target) + l.paint("31", failedLine(e))}
		for _, line := range tail(e) {
			lines = append(lines, "  | "+printable(line))
		}
		return lines
	case build.ImageSkipped:
		l.end(e.Target)
		return []string{l.name(e.Target) + skippedLine(e)}
	}
	return nil
}

// image returns the running image of e.
func (l *liveLines) image(e build.Event) *runningImage {
	for _, r := range l.running {
		if r.target == e.Target {
			return r
		}
	}
	r := &runningImage{target: e.Target, started: e.Time}
	l.running = append(l.running, r)
	return r
}

func (l *liveLines) end(target string) {
	l.ended++
	for i, r := range l.running {
		if r.target == target {
			l.running = append(l.running[:i], l.running[i+1:]...)
			return
		}
	}
}

// render returns the live lines for a terminal of the size. Where there are too many, those that
// began first are shown.
func (l *liveLines) render(now time.Time, width, height int) []string {
	if l.total == 0 {
		return nil
	}
	head := fmt.Sprintf("building: %d of %s", l.ended, plural(l.total, "image"))
	lines := []string{l.paint("1", spread(head, duration(now.Sub(l.started)), width))}
	names := 0
	for _, r := range l.running {
		names = max(names, len(r.target))
	}
	for i, r := range l.running {
		more := l.renderImage(r, now, names, width)
		room := height - 1 - len(lines) // the cursor stands below the lines
		if left := len(l.running) - i; len(more) > room || left > 1 && len(more) == room {
			return append(lines, fmt.Sprintf(" and %d more", left))
		}
		lines = append(lines, more...)
	}
	return lines
}

// renderImage returns the one or two lines of a running image. names is the width of the column of
// names.
func (l *liveLines) renderImage(r *runningImage, now time.Time, names, width int) []string {
	left := fmt.Sprintf(" %-*s  %s", names, r.target, cmp.Or(r.text, "..."))
	right := duration(now.Sub(r.started))
	if r.what != "" && r.size > 0 {
		right = fmt.Sprintf("%s %s %s  %s", r.what, bar(r.bytes, r.size, width/8), amount(r.bytes, r.size), right)
	} else if r.what != "" && r.bytes > 0 {
		right = fmt.Sprintf("%s %s  %s", r.what, size(r.bytes), right)
	}
	lines := []string{spread(left, right, width)}
	if r.last != "" {
		lines = append(lines, l.paint("2", clip(fmt.Sprintf(" %*s  | %s", names, "", r.last), width-1)))
	}
	return lines
}

// spread puts left at the left and right at the right end of a line that fits into width; left
// gives way.
func spread(left, right string, width int) string {
	room := width - 1 - len([]rune(right)) - 2
	if room < 8 {
		return clip(left, width-1)
	}
	return fmt.Sprintf("%-*s  %s", room, clip(left, room), right)
}

// clip shortens s to at most width characters.
func clip(s string, width int) string {
	r := []rune(s)
	if len(r) <= width || width < 1 {
		return s
	}
	return string(r[:width-1]) + ">"
}

// bar draws how much of total is done.
func bar(done, total int64, width int) string {
	n := int(float64(width) * float64(min(max(done, 0), total)) / float64(total))
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}

// amount returns "31.2/60.5 MB".
func amount(done, total int64) string {
	d, t := strings.Fields(size(done)), strings.Fields(size(total))
	if d[1] == t[1] {
		return d[0] + "/" + size(total)
	}
	return size(done) + "/" + size(total)
}

// paint returns s in a colour or style (SGR parameter of ECMA-48).
func (l *liveLines) paint(sgr, s string) string {
	if !l.colour {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[m"
}

// name returns the name of a target as lines that stay begin with it.
func (l *liveLines) name(target string) string { return l.paint("1", target) + "  " }

// visible returns how many columns a line takes, escape sequences left out.
func visible(line string) int { return len([]rune(printable(line))) }
