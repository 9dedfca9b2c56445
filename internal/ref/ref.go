// Package ref parses the names of images, and prints them as they were understood. They are spelled
// as skopeo spells them (containers-transports(5)). It never looks whether an image is there: it
// opens no file and no connection.
package ref

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Transport says where an image is, by the word in front of the first colon of its name.
type Transport string

// The transports. None is that of a name without one: a tag of the layout that a command works on.
const (
	None              Transport = ""
	OCI               Transport = "oci"                // an OCI layout, in a folder
	OCIArchive        Transport = "oci-archive"        // an OCI layout, in a tar
	DockerArchive     Transport = "docker-archive"     // what "docker save" writes
	Dir               Transport = "dir"                // one image, each blob a file of the folder
	Docker            Transport = "docker"             // a registry
	DockerDaemon      Transport = "docker-daemon"      // the images of a Docker daemon
	ContainersStorage Transport = "containers-storage" // the images of podman and buildah
)

// transports are all with a word of their own, with the form that their names have.
var transports = []struct {
	word  Transport
	form  string
	parse func(r *Ref, rest string) error
}{
	{OCI, "oci:DIR[:TAG][@DIGEST]", (*Ref).parseLayout},
	{OCIArchive, "oci-archive:FILE[:TAG][@DIGEST]", (*Ref).parseLayout},
	{DockerArchive, "docker-archive:FILE[:NAME[:TAG]]", (*Ref).parseArchive},
	{Dir, "dir:DIR", (*Ref).parseDir},
	{Docker, "docker://HOST/REPOSITORY[:TAG][@DIGEST]", (*Ref).parseRegistry},
	{DockerDaemon, "docker-daemon:NAME[:TAG]", (*Ref).parseDaemon},
	{ContainersStorage, "containers-storage:NAME[:TAG][@DIGEST]", (*Ref).parseNamed},
}

// Transports returns all transports but None.
func Transports() []Transport {
	all := make([]Transport, len(transports))
	for i, t := range transports {
		all[i] = t.word
	}
	return all
}

// Ref is the name of an image.
type Ref struct {
	Transport Transport

	Path   string        // oci, oci-archive, docker-archive, dir: the folder or file, as written
	Name   string        // the repository with its registry, such as docker.io/library/debian
	Tag    string        // "" where none is named
	Digest digest.Digest // "" where none is named
}

// Error is returned for a text that is not the name of an image.
type Error struct {
	Text   string
	Form   string // what was expected; "" where no transport was understood
	Reason error  // nil where the form says it all
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("invalid image %q", e.Text)
	if e.Reason != nil {
		msg += ": " + e.Reason.Error()
	}
	if e.Form != "" {
		msg += ": expected " + e.Form
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Reason }

// Parse parses a name that has a transport. Other names give a Ref of transport None, whose Tag is
// the whole text. The error is an *Error.
func Parse(text string) (Ref, error) {
	if text == "" || strings.ContainsAny(text, "\n\x00") {
		return Ref{}, &Error{Text: text, Reason: errors.New("the name must be one line of text")}
	}
	word, rest, _ := strings.Cut(text, ":")
	for _, t := range transports {
		if string(t.word) != word || !strings.Contains(text, ":") {
			continue
		}
		r := Ref{Transport: t.word}
		if err := t.parse(&r, rest); err != nil {
			return Ref{}, &Error{Text: text, Form: t.form, Reason: err}
		}
		return r, nil
	}
	if word, _, ok := strings.Cut(text, "://"); ok {
		return Ref{}, &Error{Text: text, Reason: fmt.Errorf("unknown transport %q", word)}
	}
	return Ref{Tag: text}, nil
}

// String returns the name as it was understood: Parse gives the same Ref for it.
func (r Ref) String() string {
	switch r.Transport {
	case None:
		return r.Tag
	case Docker:
		return "docker://" + r.named()
	case DockerDaemon, ContainersStorage:
		return string(r.Transport) + ":" + r.named()
	}
	text := string(r.Transport) + ":" + r.Path
	if r.Name != "" {
		return text + ":" + r.named()
	}
	return text + r.suffix()
}

func (r Ref) named() string {
	if r.Name == "" {
		return r.Digest.String()
	}
	return r.Name + r.suffix()
}

func (r Ref) suffix() (text string) {
	if r.Tag != "" {
		text = ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest.String()
	}
	return text
}

// errMissing is the reason for a name of which a part is missing; the form says which.
var errMissing = errors.New("a part is missing")

// parseLayout parses PATH[:TAG][@DIGEST]. The first colon ends the path.
func (r *Ref) parseLayout(rest string) error {
	rest, err := r.cutDigest(rest)
	if err != nil {
		return err
	}
	path, tag, tagged := strings.Cut(rest, ":")
	if path == "" || tagged && tag == "" {
		return errMissing
	}
	if strings.HasPrefix(path, "//") {
		return errors.New(`the folder must not begin with "//"`)
	}
	r.Path, r.Tag = path, tag
	return nil
}

// cutDigest takes the digest at the end of a name into r, and returns what is in front of it.
func (r *Ref) cutDigest(rest string) (string, error) {
	i := strings.LastIndex(rest, "@"+string(digest.Canonical)+":")
	if i < 0 {
		return rest, nil
	}
	d := digest.Digest(rest[i+1:])
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %s: %w", d, err)
	}
	r.Digest = d
	return rest[:i], nil
}

// parseArchive parses PATH[:NAME[:TAG]].
func (r *Ref) parseArchive(rest string) error {
	path, name, named := strings.Cut(rest, ":")
	if path == "" {
		return errMissing
	}
	r.Path = path
	if !named {
		return nil
	}
	return r.parseNamed(name)
}

// parseDir parses PATH.
func (r *Ref) parseDir(rest string) error {
	if rest == "" {
		return errMissing
	}
	r.Path = rest
	return nil
}

// parseRegistry parses //HOST/REPOSITORY[:TAG][@DIGEST].
func (r *Ref) parseRegistry(rest string) error {
	name, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return errMissing
	}
	return r.parseNamed(name)
}

// parseDaemon parses NAME[:TAG]. The digest of an image's config stands for the image as well.
func (r *Ref) parseDaemon(rest string) error {
	if d := digest.Digest(rest); d.Validate() == nil {
		r.Digest = d
		return nil
	}
	return r.parseNamed(rest)
}

// repository is the form of NAME[:TAG][@DIGEST], after the grammar of distribution/reference. That
// package compiles its own expressions at each start of the program, which takes 2 ms.
var repository = sync.OnceValue(func() *regexp.Regexp {
	const (
		label = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`
		host  = `(?:` + label + `(?:\.` + label + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`
		part  = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
		tag   = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
	)
	return regexp.MustCompile(`^(?:(` + host + `)/)?(` + part + `(?:/` + part + `)*)(?::(` + tag + `))?(?:@(sha256:[0-9a-f]{64}))?$`)
})

// parseNamed parses NAME[:TAG][@DIGEST]. As with Docker, "debian" is docker.io/library/debian.
func (r *Ref) parseNamed(rest string) error {
	host, _, ok := strings.Cut(rest, "/")
	switch {
	case ok && (strings.ContainsAny(host, ".:") || host == "localhost" || strings.ToLower(host) != host):
	case ok:
		rest = "docker.io/" + rest
	default:
		rest = "docker.io/library/" + rest
	}
	m := repository().FindStringSubmatch(rest)
	switch {
	case m == nil && repository().MatchString(strings.ToLower(rest)):
		return errors.New("the name of a repository must be lowercase")
	case m == nil:
		return errors.New("invalid name of a repository")
	}
	r.Name, r.Tag, r.Digest = m[1]+"/"+m[2], m[3], digest.Digest(m[4])
	return nil
}
