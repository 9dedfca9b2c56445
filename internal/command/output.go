package command

import "bytes"

// tailLines is how many lines of a failed command's output its error holds.
const tailLines = 20

// maxLine is the length in bytes after which an output line is passed on in parts.
const maxLine = 8 << 10

// Output passes what a command writes on as lines, and keeps the last ones. A command writes both
// its standard output and its standard error to it, so that lines keep their order.
type Output struct {
	emit   []func(line string)
	buf    []byte
	recent []string
}

// NewOutput returns an Output that passes each line to emit, without its end.
func NewOutput(emit func(line string)) *Output { return &Output{emit: []func(string){emit}} }

// Each passes each line to come to f too.
func (o *Output) Each(f func(line string)) { o.emit = append(o.emit, f) }

// Write cuts what is written into lines.
func (o *Output) Write(p []byte) (int, error) {
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

func (o *Output) line(l []byte) {
	if len(o.recent) == tailLines {
		o.recent = append(o.recent[:0], o.recent[1:]...)
	}
	o.recent = append(o.recent, string(l))
	for _, emit := range o.emit {
		emit(string(l))
	}
}

func (o *Output) flush() {
	if len(o.buf) > 0 {
		o.line(o.buf)
		o.buf = nil
	}
}

// Tail ends an unfinished line, and returns the last ones.
func (o *Output) Tail() []string {
	o.flush()
	return o.recent
}
