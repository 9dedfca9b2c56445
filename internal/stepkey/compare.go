package stepkey

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"genoci/internal/cache"
)

// Then is what is kept of a step as it was built last.
type Then struct {
	Ops   []json.RawMessage // of each action, what stood in the key
	About json.RawMessage   // an About, or nothing

	env    []string
	parent string
	all    fields
}

// ReadThen returns a step as it was, from what cache.Cache.Inputs returns of its key. What cannot
// be read is as if it had not been there.
func ReadThen(node, about json.RawMessage) Then {
	t := Then{About: about, all: fields{}}
	_ = json.Unmarshal(node, &t.all)
	_ = json.Unmarshal(t.all["ops"], &t.Ops)
	_ = json.Unmarshal(t.all["env"], &t.env)
	_ = json.Unmarshal(t.all["parent"], &t.parent)
	return t
}

// Below is what a step stands on.
type Below struct {
	Name     string // of the base; "" where it stands on the step before it
	Uncached bool   // it is not cached itself
}

// Differences says what is different about a step beside its actions, which are for package action
// to compare: the environment, what is the same for all of a build, and what the step stands on.
func (t Then) Differences(now *Step, below Below) []Reason {
	all := EnvironmentChanges(t.env, now.Env)
	all = append(all, t.settings(now)...)
	switch {
	case below.Uncached:
		all = append(all, Reason{Code: BaseUncached, Name: below.Name})
	case t.parent != string(now.Parent):
		all = append(all, Reason{Code: BaseChanged, Name: below.Name, Changes: []Change{{"base", t.parent, string(now.Parent)}}})
	}
	return all
}

// settings compares what is the same for all of a build.
func (t Then) settings(now *Step) []Reason {
	is := fields{}
	if text, err := json.Marshal(now); err == nil {
		_ = json.Unmarshal(text, &is) // an object
	}
	var all []Reason
	for _, s := range []struct{ name, shown string }{
		{"clamp", "SOURCE_DATE_EPOCH"}, {"epoch", "epoch"}, {"platform", "platform"}, {"realTimes", "--reproducible"}, {"semantics", "version of genoci"},
	} {
		if string(t.all[s.name]) != string(is[s.name]) {
			all = append(all, Reason{Code: SettingChanged, Changes: []Change{{s.shown, t.all.value(s.name), is.value(s.name)}}})
		}
	}
	return all
}

// EnvironmentChanges names the variables that differ between two lists that HideValues returned.
func EnvironmentChanges(old, now []string) []Reason {
	was, is := byName(old), byName(now)
	var all []Reason
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if v, ok := was[name]; !ok {
			all = append(all, Reason{Code: VariableAdded, Name: name})
		} else if v != is[name] {
			all = append(all, Reason{Code: VariableChanged, Name: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[name]; !ok {
			all = append(all, Reason{Code: VariableRemoved, Name: name})
		}
	}
	if len(all) == 0 && !slices.Equal(old, now) {
		all = append(all, Reason{Code: VariablesMoved})
	}
	return all
}

func byName(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		name, digest, _ := strings.Cut(kv, "=")
		m[name] = digest
	}
	return m
}

// Unusable says why an entry that the cache has does not serve. want is the blob that this build
// needs, and busybox the digest of the one that would be lent now.
func Unusable(e cache.Entry, want Blob, busybox string) Reason {
	if e.Lent != "" && e.Lent != busybox {
		return Reason{Code: BusyboxChanged, Changes: []Change{{"busybox", e.Lent, busybox}}}
	}
	if len(e.Blobs) > 0 && want.In(e).Digest == "" {
		return Reason{Code: CompressionChanged, Changes: []Change{{"compression", compressions(e), want.Name()}}}
	}
	return Reason{Code: BlobLost}
}

// fields are a JSON object.
type fields map[string]json.RawMessage

// value returns a field as people write it; "" where there is none.
func (f fields) value(name string) string {
	v, ok := f[name]
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}
