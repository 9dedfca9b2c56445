// Package spec reads the YAML language of genoci (docs/spec.md): it turns a file into targets and their actions, checked, with positions. It is
// pure: the only file that it reads is the spec itself, and it never looks at the machine.
//
// All errors of a file are returned at once, as [Errors]; each points at a line and column.
package spec

// Pos is a place in the spec file; both count from 1. The zero Pos is no place.
type Pos struct{ Line, Col int }

// Spec is a checked spec file.
type Spec struct {
	File    string    // as it was named by the user, for messages
	Dir     string    // folder that relative paths are taken from
	Targets []*Target // in the order of the file

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
	BuildEnv  []KV // environment of run and install only
	BuildOnly bool
	Tags      []string // further tags, beside NAME and NAME-DATE_N
}

// Action is one action of a target.
type Action struct {
	Op    Op
	Pos   Pos
	Layer bool // steps with "layer: true": the action closes a layer
}

// KV is a name with a value, in the order of the file.
type KV struct{ Key, Value string }

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
	Retries                                       int
}

// Op is an action. The set is closed: Expand, Copy, Install, Run, Remove, Hook.
//
//sumtype:decl
type Op interface {
	// Inputs returns what the op reads from outside, as written: paths relative to the spec's folder, globs, URLs.
	Inputs() []string
	// String returns the op in a short line, for progress and history.
	String() string
	isOp()
}

// Expand unpacks one archive.
type Expand struct {
	Src             string // path or URL
	Dest            string // folder in the image; "" is the root
	StripComponents int
	Checksum        string   // "" or sha256:HEX
	Include         []string // globs; none: everything
	Exclude         []string
	Chown           string // "" keeps the archive's owners
}

// Copy puts files from the host, another image, or the spec itself into the image.
type Copy struct {
	Src     string // path, folder or glob; "" when Content is set
	Dest    string
	Chown   string  // "" is 0:0
	Chmod   *uint32 // nil keeps the mode
	Exclude []string
	From    string  // a target of the file, or a tag of the layout; "" is the host
	Content *string // a literal file
}

// Install installs packages with the image's own package manager.
type Install struct {
	Files    []string // .deb and .rpm files or URLs
	Packages []string // names, for apt-get, dnf, microdnf, yum, zypper or apk
	Clean    bool     // remove the package manager's lists and caches afterwards
}

// Run is one script in the sandbox.
type Run struct {
	// Script is shell text, or, where it is one word, may name a file of the host beside the spec, which is then run by its own interpreter line.
	// IsFile says that "script:" was written, so that it must be a file.
	Script  string
	IsFile  bool
	Shell   []string // interpreter of shell text; nil is /bin/sh -e
	Args    []string
	Workdir string
	User    string
	Env     []KV
	Network string // "", "host" or "none"
}

// Remove deletes paths of the image.
type Remove struct{ Paths []string } // paths or globs

// Hook is shell text that runs on the host. %ROOT% is replaced by the path of the root filesystem.
type Hook struct {
	Pos    Pos
	Script string
	Post   bool
}

// Options of Load.
type Options struct {
	Args map[string]string // --arg NAME=VALUE; override the defaults of genoci.args
}

// Load reads and checks the spec in file. The error is an Errors where the content is wrong, else an *fs.PathError.
func Load(file string, o Options) (*Spec, error) { panic("stub") }

// Parse is Load on the content of a file; name is used in messages, and its folder for relative paths.
func Parse(name string, data []byte, o Options) (*Spec, error) { panic("stub") }

// Target returns the target of the name, or nil.
func (s *Spec) Target(name string) *Target { panic("stub") }

// Errorf makes an Error at pos of target (either may be zero), with the source line as excerpt.
func (s *Spec) Errorf(pos Pos, target, format string, args ...any) *Error { panic("stub") }

// Error is one thing wrong in a spec. Error() is
//
//	FILE:LINE:COL: target "NAME": message
//	    source line
//	    ^ did you mean "copy"?
type Error struct {
	File    string
	Pos     Pos
	Target  string
	Msg     string
	Excerpt string // the source line; "" when there is none
	Suggest string // "did you mean" text; "" when there is none
}

// Errors are all errors of a file, in the order of their positions.
type Errors []*Error

// Nearest returns the candidate that was probably meant by name, or "".
func Nearest(name string, candidates []string) string { panic("stub") }

// ExpandEnv replaces $NAME and ${NAME} in value by the base's own values; $$ is a dollar sign. Unset names become "".
func ExpandEnv(value string, base func(name string) string) string { panic("stub") }

// Schema returns the draft-07 JSON schema of the language, made from the decoder's own tables.
func Schema() []byte { panic("stub") }

func (e *Error) Error() string { panic("stub") }
func (e Errors) Error() string { panic("stub") }

func (*Expand) isOp()  {}
func (*Copy) isOp()    {}
func (*Install) isOp() {}
func (*Run) isOp()     {}
func (*Remove) isOp()  {}
func (*Hook) isOp()    {}

func (*Expand) Inputs() []string  { panic("stub") }
func (*Copy) Inputs() []string    { panic("stub") }
func (*Install) Inputs() []string { panic("stub") }
func (*Run) Inputs() []string     { panic("stub") }
func (*Remove) Inputs() []string  { panic("stub") }
func (*Hook) Inputs() []string    { panic("stub") }

func (*Expand) String() string  { panic("stub") }
func (*Copy) String() string    { panic("stub") }
func (*Install) String() string { panic("stub") }
func (*Run) String() string     { panic("stub") }
func (*Remove) String() string  { panic("stub") }
func (*Hook) String() string    { panic("stub") }
