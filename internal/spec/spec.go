// Package spec reads the YAML language of genoci (docs/spec.md): it turns a file into targets and
// their actions, checked, with positions. It is pure: the only file that it reads is the spec
// itself, and it never looks at the machine.
//
// All errors of a file are returned at once, as [Errors]; each points at a line and column.
//
// The language is a set of tables ([table]), one for each kind of map, whose entries say for each
// key which forms its value may take ([shape]). Decoding, "did you mean" and the JSON schema are
// all made from these tables; a new key is one new line in one of them.
package spec

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"genoci/internal/shown"
)

// maxSize is the largest spec that is read, in bytes, and also the largest size that its aliases,
// or its arguments, may expand it to. Specs are written by hand, or by programs for which this is
// plenty.
const maxSize = 4 << 20

// Pos is a place in the spec file. Lines and columns count from 1; a column is a character, not a
// byte. The zero Pos is no place.
type Pos struct{ Line, Col int }

// compare is negative where p comes before q in a file, positive where it comes after.
func (p Pos) compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}

// Spec is a checked spec file.
type Spec struct {
	File    string    // as it was named by the user, for messages
	Dir     string    // folder that relative paths are taken from
	Targets []*Target // in the order of the file

	// GitModes is "genoci: {modes: git}": files of the host have the modes that git keeps, whatever
	// the umask of who checked them out.
	GitModes bool

	lines []string // the file, for excerpts
}

// Target is one image to be built.
type Target struct {
	Name      string
	Pos       Pos    // of the name
	Base      string // as written; "empty" where the key is left out, and for scratch
	BasePos   Pos    // of the value, or of the name where the key is left out
	Pre, Post []*Hook
	Actions   []Action // in the order in which they run
	Config    Config
	BuildEnv  []KV // environment of run and install only; values are literal
	BuildOnly bool
	Tags      []string // further tags, beside NAME and NAME-DATE_N
}

// Action is one action of a target.
type Action struct {
	Op    Op
	Pos   Pos  // of the value, or of the list element or word of it, that gives the action
	Layer bool // steps with "layer: true": the action closes a layer
	Part  bool // some of its keys could not be read (see Parse)
}

// KV is a name with a value, in the order of the file.
type KV struct{ Key, Value string }

// Environ returns variables as environments have them, K=V.
func Environ(kvs []KV) []string {
	var env []string
	for _, kv := range kvs {
		env = append(env, kv.Key+"="+kv.Value)
	}
	return env
}

// Config is what a target sets in the image's config and manifest. Nil and "" mean not set.
type Config struct {
	Entrypoint, Cmd []string // non-nil but empty: cleared
	Environment     []KV     // values may hold $NAME, the base's own value (see ExpandEnv)
	User            string
	WorkingDir      string
	StopSignal      string
	Labels          []KV
	Annotations     []KV // of the manifest
	Volumes, Expose []string
	Healthcheck     *Healthcheck
	Author          string
	Created         string // "", RFC 3339, "git" or "now"
}

// Healthcheck is compose's, with durations parsed.
type Healthcheck struct {
	Test                                          []string // as docker stores it: ["NONE"], ["CMD", ...], ["CMD-SHELL", text]
	Interval, Timeout, StartPeriod, StartInterval int64    // nanoseconds; 0: not set
	Retries                                       int      // 0: not set
}

// Options of Load.
type Options struct {
	Args map[string]string // --arg NAME=VALUE; override the defaults of genoci.args
}

// Load reads and checks the spec in file. The error is an Errors where the content is wrong, else
// an *fs.PathError. With an Errors it also returns a Spec, as Parse does.
func Load(file string, o Options) (*Spec, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1)) // Parse refuses what has the byte too much
	if err != nil {
		return nil, err
	}
	return Parse(file, data, o)
}

// Parse is Load on the content of a file; name is used in messages, and its folder for relative
// paths. Where the content is wrong, the Spec holds what could be read of it. That is good for
// finding further mistakes, and for nothing else.
func Parse(name string, data []byte, o Options) (*Spec, error) {
	d := &decoder{
		spec: &Spec{File: name, Dir: filepath.Dir(name)},
		args: newArguments(o.Args),
	}
	d.file(data)
	return d.spec, d.errors()
}

// Target returns the target of the name, or nil.
func (s *Spec) Target(name string) *Target {
	for _, t := range s.Targets {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Errorf makes an Error at pos of target (either may be zero), with the source line as excerpt.
// What may be secret in URLs and commands of the message is left out.
func (s *Spec) Errorf(pos Pos, target, format string, args ...any) *Error {
	e := &Error{File: s.File, Pos: pos, Target: target, Msg: shown.Text(fmt.Sprintf(format, args...))}
	if pos.Line > 0 && pos.Line <= len(s.lines) {
		e.Excerpt = s.lines[pos.Line-1]
	}
	return e
}
