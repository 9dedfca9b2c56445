package build

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"
)

// tailLines is how many lines of a failed command's output its error holds.
const tailLines = 20

// maxLine is the length in bytes after which an output line is passed on in parts.
const maxLine = 8 << 10

// output passes what a command writes on as lines, and keeps the last ones. A command writes both its
// standard output and its standard error to it, so that lines keep their order.
type output struct {
	emit   func(line string)
	buf    []byte
	recent []string
	moved  []string // config files that rpm says it has moved away, by the names that they have now
}

// newOutput returns where a command of the step writes.
func (s *step) newOutput() *output {
	return &output{emit: func(line string) {
		s.report(Event{Kind: Output, Target: s.n.String(), Step: s.Name(), Text: line})
	}}
}

// Write cuts what is written into lines.
func (o *output) Write(p []byte) (int, error) {
	o.buf = append(o.buf, p...)
	for {
		i := bytes.IndexByte(o.buf, '\n')
		if i < 0 {
			break
		}
		o.line(bytes.TrimSuffix(o.buf[:i], []byte{'\r'}))
		o.buf = o.buf[i+1:]
	}
	if len(o.buf) > maxLine {
		o.flush()
	}
	return len(p), nil
}

func (o *output) line(l []byte) {
	if len(o.recent) == tailLines {
		o.recent = append(o.recent[:0], o.recent[1:]...)
	}
	o.recent = append(o.recent, string(l))
	if name := movedConfig(string(l)); name != "" {
		o.moved = append(o.moved, name)
	}
	o.emit(string(l))
}

func (o *output) flush() {
	if len(o.buf) > 0 {
		o.line(o.buf)
		o.buf = nil
	}
}

// tail ends an unfinished line, and returns the last ones.
func (o *output) tail() []string {
	o.flush()
	return o.recent
}

// movedConfig returns the last path of a line of rpm's: "warning: FILE saved as FILE.rpmsave", in the language of the image; "" where it
// tells of something else.
func movedConfig(line string) string {
	for _, suffix := range []string{".rpmsave", ".rpmorig"} {
		file, ok := strings.CutSuffix(strings.TrimSpace(line), suffix)
		// The file is named before: whatever blanks its name has, it is what comes twice.
		for i := strings.LastIndex(file, " /"); ok && i >= 0; i = strings.LastIndex(file[:i], " /") {
			if name := file[i+1:]; strings.Contains(file[:i]+" ", " "+name+" ") {
				return name + suffix
			}
		}
	}
	return ""
}

// progressEvery is how often progress of one activity is told.
const progressEvery = 100 * time.Millisecond

// meter reports how many bytes went through it.
type meter struct {
	b     *Builder
	event Event
	last  time.Time
}

func (m *meter) add(n int) {
	m.event.Done += int64(n)
	if now := time.Now(); now.Sub(m.last) >= progressEvery {
		m.last = now
		m.b.report(m.event)
	}
}

// progress tells how much of r, total bytes long, was read, and ends the reading with ctx.
func (b *Builder) progress(ctx context.Context, target, step, what string, total int64, r io.Reader) io.Reader {
	return &meteredReader{
		meter: meter{b: b, last: time.Now(), event: Event{Kind: Progress, Target: target, Step: step, Text: what, Total: total}},
		ctx:   ctx, r: r,
	}
}

type meteredReader struct {
	meter
	ctx context.Context
	r   io.Reader
}

func (r *meteredReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.add(n)
	return n, err
}

// counting tells how much was written to w of about total bytes.
func (s *step) counting(what string, total int64, w io.Writer) io.Writer {
	return &meteredWriter{
		meter: meter{b: s.Builder, last: time.Now(), event: Event{Kind: Progress, Target: s.n.String(), Step: s.Name(), Text: what, Total: total}},
		w:     w,
	}
}

type meteredWriter struct {
	meter
	w io.Writer
}

func (w *meteredWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.add(n)
	return n, err
}

// copyBuffer is io.Copy with a large buffer, and without the shortcuts that some writers' ReadFrom take.
func copyBuffer(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}
