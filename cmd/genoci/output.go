package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// output is the program's standard output, behind a screen. It remembers the first write that
// failed, so that no command has to check each line that it prints: a result that did not arrive
// must not look like one that did.
type output struct {
	screen screen
	err    error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	return o.remember(o.screen.Write(p))
}

// raw returns the writer for content that somebody asked for as it is: it gets past the screen, but
// not to a terminal.
func raw(w io.Writer) io.Writer {
	o, ok := w.(*output)
	if !ok {
		return w
	}
	if f, ok := o.screen.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return o
	}
	return rawOutput{o}
}

// sayPath writes a path that the caller named, for a script that takes it as it is; on a terminal
// as say does.
func sayPath(w io.Writer, path string) {
	if out, ok := raw(w).(rawOutput); ok {
		_, _ = out.Write([]byte(path + "\n")) // it is remembered
		return
	}
	say(w, "%s\n", path)
}

// rawOutput is an output without its screen.
type rawOutput struct{ *output }

// Write implements io.Writer.
func (o rawOutput) Write(p []byte) (int, error) { return o.remember(o.screen.w.Write(p)) }

// remember takes what a write returned.
func (o *output) remember(n int, err error) (int, error) {
	if err != nil && o.err == nil {
		var path *os.PathError // its path is "/dev/stdout", wherever that leads
		if errors.As(err, &path) {
			err = path.Err
		}
		o.err = fmt.Errorf("write standard output: %w", err)
	}
	if err != nil {
		err = o.err
	}
	return n, err
}

// checked joins the error of the output to err, the error of a command, unless err includes it
// already.
func (o *output) checked(err error) error {
	_, _ = o.remember(0, o.screen.flush())
	if o.err == nil || errors.Is(err, o.err) {
		return err
	}
	return errors.Join(err, o.err)
}
