package build

import (
	"context"
	"io"
	"time"
)

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
	meter meter
	ctx   context.Context
	r     io.Reader
}

func (r *meteredReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.meter.add(n)
	return n, err
}

// counting tells how much was written to w of about total bytes.
func (s *step) counting(what string, total int64, w io.Writer) io.Writer {
	return &meteredWriter{
		meter: meter{b: s.b, last: time.Now(), event: Event{Kind: Progress, Target: s.n.String(), Step: s.plan.Name(), Text: what, Total: total}},
		w:     w,
	}
}

type meteredWriter struct {
	meter meter
	w     io.Writer
}

func (w *meteredWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.meter.add(n)
	return n, err
}

// copyBuffer is io.Copy with a large buffer, and without the shortcuts that some writers' ReadFrom
// take.
func copyBuffer(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}
