package spec

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// blanks separate words. Other white space of Unicode may be part of a name.
const blanks = " \t\r\n"

// blank and nonBlank are these in the patterns of a schema, where engines do not agree on \s and
// \S.
const (
	blank    = `[ \t\r\n]`
	nonBlank = `[^ \t\r\n]`
)

// errEmpty is what is wrong with text that must not be empty.
var errEmpty = errors.New("the text is empty")

// notEmpty returns s, or errEmpty where there is nothing but blanks in it.
func notEmpty(s string) (string, error) {
	if strings.Trim(s, blanks) == "" {
		return "", errEmpty
	}
	return s, nil
}

// decoder turns one file into a Spec.
type decoder struct {
	spec   *Spec
	errs   Errors
	target string   // that is being decoded
	path   []string // of keys within it, for messages
	args   *arguments
}

// maxErrors is how many errors are recorded: more than anyone reads.
const maxErrors = 100

// errorf records an error at pos, and returns it so that a suggestion can be set.
func (d *decoder) errorf(pos Pos, format string, args ...any) *Error {
	if len(d.errs) == maxErrors {
		return &Error{}
	}
	prefix := ""
	if len(d.path) > 0 {
		prefix = strings.Join(d.path, ".") + ": "
	}
	e := d.spec.Errorf(d.clamp(pos), d.target, "%s%s", prefix, fmt.Sprintf(format, args...))
	d.errs = append(d.errs, e)
	return e
}

// textError is something wrong at a byte of a text.
type textError struct {
	offset  int
	msg     string
	suggest string // as in Error
}

// Error implements error.
func (e *textError) Error() string { return e.msg }

// textErrorf records err, which is about the value that the scalar n has (with arguments expanded):
// at the place in it that a *textError names, if it is written there as it is.
func (d *decoder) textErrorf(n *yaml.Node, value string, err error) {
	at, ok := errors.AsType[*textError](err)
	if !ok {
		at = &textError{}
	}
	d.errorf(d.posOfText(n, value, at.offset), "%s", d.withoutValues(n, err.Error())).Suggest = at.suggest
}

// posOfText returns where byte offset of value, which the scalar n has with arguments expanded, is.
func (d *decoder) posOfText(n *yaml.Node, value string, offset int) Pos {
	if offset == 0 || value != n.Value {
		return posOf(n)
	}
	return d.posIn(n, offset)
}

// require records an error for each of names that the map n does not have.
func (d *decoder) require(n *yaml.Node, keys keys, names ...string) {
	for _, name := range names {
		if _, ok := keys[name]; !ok {
			d.errorf(posOf(n), "%q is missing", name)
		}
	}
}

// push makes key part of the path in messages until the function that it returns is called.
func (d *decoder) push(key string) (pop func()) {
	d.path = append(d.path, key)
	return func() { d.path = d.path[:len(d.path)-1] }
}

// errors returns all recorded errors in order, or nil.
func (d *decoder) errors() error {
	if len(d.errs) == 0 {
		return nil
	}
	errs := d.errs.Sorted()
	if len(d.errs) == maxErrors {
		errs = append(errs, d.spec.Errorf(errs[len(errs)-1].Pos, "", "only the first %d errors are shown", maxErrors))
	}
	return errs
}

// text returns the scalar n as it is written, with arguments expanded.
func (d *decoder) text(n *yaml.Node) (string, bool) {
	if !d.checkTag(n) {
		return "", false
	}
	if strings.Contains(n.Value, "\x00") {
		d.errorf(posOf(n), "the text contains a NUL character")
		return "", false
	}
	s, err := d.args.expand(n.Value)
	if err != nil {
		d.textErrorf(n, n.Value, err)
		return "", false
	}
	return s, true
}
