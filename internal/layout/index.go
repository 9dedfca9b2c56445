package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/durable"
	"genoci/internal/image"
)

// Tag is a named entry of index.json.
type Tag struct {
	Name       string // org.opencontainers.image.ref.name
	Descriptor v1.Descriptor
}

// Tags returns all named entries in the order of index.json. A name may stand there more than once;
// the first counts.
func (l *Layout) Tags() ([]Tag, error) {
	x, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	return x.Tags(), nil
}

// Update changes index.json in one atomic step: under the lock it reads it again, calls edit, and
// replaces it (synced, and the blobs' names before it). edit works on the merged state; when it
// returns an error, that is returned and nothing is changed. edit must not call Update.
func (l *Layout) Update(ctx context.Context, edit func(*Index) error) error {
	f, err := durable.LockPath(ctx, l.dir, durable.Exclusive)
	if err != nil {
		return err
	}
	defer durable.Unlock(f)
	return l.update(edit)
}

// update is Update for whoever has the lock.
func (l *Layout) update(edit func(*Index) error) error {
	x, err := l.readIndex()
	if err != nil {
		return err
	}
	before := map[digest.Digest]bool{}
	for _, e := range x.entries {
		before[e.desc.Digest] = true
	}
	if err := edit(x); err != nil || !x.changed {
		return err
	}
	data, err := x.encode()
	if err != nil {
		return err
	}
	// The names of blobs that the index reached before were made durable then, unless they had to
	// be made again.
	if l.wrote.Load() || slices.ContainsFunc(x.entries, func(e entry) bool { return !before[e.desc.Digest] }) {
		if err := l.syncBlobs(); err != nil {
			return err
		}
	}
	return durable.WriteFile(l.path(v1.ImageIndexFile), data, 0o644, durable.SyncName)
}

// syncBlobs makes the names of all blobs durable.
func (l *Layout) syncBlobs() error {
	for _, algorithm := range algorithms() {
		if err := durable.SyncDir(l.path(v1.ImageBlobsDir, algorithm.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readIndex reads index.json.
func (l *Layout) readIndex() (*Index, error) {
	text, err := readOwn(l.path(v1.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(v1.ImageIndexFile), err)
	}
	return x, nil
}

// Index is the content of index.json while Update edits it. What is not edited keeps its bytes.
type Index struct {
	members []image.Member // of the object, in the order of the file; the value of "manifests" is made of entries
	entries []entry
	changed bool

	places map[string]int  // of the first entry of each name; nil: to be made
	twice  map[string]bool // names that have several entries
}

func isManifests(m image.Member) bool { return strings.EqualFold(m.Name, "manifests") }

// entry is an element of "manifests".
type entry struct {
	raw  string
	desc v1.Descriptor
}

func (e entry) name() string { return e.desc.Annotations[v1.AnnotationRefName] }

// Tags returns the named entries, in their order.
func (x *Index) Tags() []Tag {
	tags := make([]Tag, 0, len(x.entries))
	for _, e := range x.entries {
		if e.name() != "" {
			tags = append(tags, Tag{e.name(), e.desc})
		}
	}
	return tags
}

// Set lets name (an org.opencontainers.image.ref.name) stand for desc: it takes the place of the
// first entry of the name, others of the name go, or it is added at the end.
func (x *Index) Set(name string, desc v1.Descriptor) {
	annotations := map[string]string{}
	maps.Copy(annotations, desc.Annotations)
	annotations[v1.AnnotationRefName] = name
	desc.Annotations = annotations
	raw, err := json.Marshal(desc)
	if err != nil {
		panic(err) // a descriptor holds nothing that has no JSON form
	}
	x.changed = true
	x.place()
	at, ok := x.places[name]
	switch {
	case !ok:
		x.places[name] = len(x.entries)
		x.entries = append(x.entries, entry{string(raw), desc})
	case x.twice[name]:
		x.Remove(name)
		x.entries = slices.Insert(x.entries, at, entry{string(raw), desc})
	default:
		x.entries[at] = entry{string(raw), desc}
	}
}

// place finds the entries of all names, unless their places are known.
func (x *Index) place() {
	if x.places != nil {
		return
	}
	x.places, x.twice = make(map[string]int, len(x.entries)), map[string]bool{}
	for i, e := range x.entries {
		if _, ok := x.places[e.name()]; !ok {
			x.places[e.name()] = i
		} else if e.name() != "" {
			x.twice[e.name()] = true
		}
	}
}

// Remove removes the entries of some names and reports whether there were any.
func (x *Index) Remove(names ...string) bool {
	before, gone := len(x.entries), set(names)
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return gone[e.name()] })
	removed := len(x.entries) < before
	x.places = nil
	x.changed = x.changed || removed
	return removed
}

// set returns the names that are not empty, for looking them up: an entry without a name is not one
// called "".
func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		if name != "" {
			m[name] = true
		}
	}
	return m
}

func parseIndex(text string) (*Index, error) {
	if x, ok := parsePlain(text); ok {
		return x, nil
	}
	return parseAny([]byte(text))
}

// parseAny parses an index.json of any form.
func parseAny(data []byte) (*Index, error) {
	if _, err := image.ParseIndex(data); err != nil {
		return nil, err
	}
	x := &Index{}
	var err error
	if x.members, err = image.Members(data); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(x.members, isManifests)
	if at < 0 {
		x.members = append(x.members, image.Member{Name: "manifests"})
		return x, nil
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(x.members[at].Value, &raws); err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	for i, raw := range raws {
		e := entry{raw: string(raw)}
		if err := image.Unmarshal(raw, &e.desc); err != nil {
			return nil, fmt.Errorf("manifests[%d]: %w", i, err)
		}
		x.entries = append(x.entries, e)
	}
	return x, nil
}

// encode returns the content of index.json.
func (x *Index) encode() ([]byte, error) {
	raws := make([]string, len(x.entries))
	for i, e := range x.entries {
		raws[i] = e.raw
	}
	manifests := []byte("[" + strings.Join(raws, ",") + "]")
	var members [][]byte
	for _, m := range x.members {
		name, err := json.Marshal(m.Name)
		if err != nil {
			return nil, err
		}
		value := []byte(m.Value)
		if isManifests(m) {
			value = manifests
		}
		members = append(members, slices.Concat(name, []byte(":"), value))
	}
	return slices.Concat([]byte("{"), bytes.Join(members, []byte(",")), []byte("}")), nil
}
