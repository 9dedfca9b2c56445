package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// output is the program's standard output. It remembers the first write that failed, so that no command has to check each
// line that it prints: a result that did not arrive must not look like one that did.
type output struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
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

// checked joins the error of the output to err, the error of a command, unless err includes it already.
func (o *output) checked(err error) error {
	if o.err == nil || errors.Is(err, o.err) {
		return err
	}
	return errors.Join(err, o.err)
}
