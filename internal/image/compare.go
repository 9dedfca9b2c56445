package image

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Change is a place where what two images say of themselves is different.
type Change struct {
	Field string // as a spec calls it: entrypoint, environment, ...; else as the config does
	Key   string // of a variable, label, annotation, volume or port; "" for other fields
	Old   any    // a string, or the []string of a command; nil: not set
	New   any
}

// Compare returns how the configs and annotations of two images differ, sorted by field and key.
// Layers, histories and times are left out, and so are annotations that say how an image came
// about.
func Compare(a, b Image) []Change {
	c := &comparison{}
	x, y := a.Config, b.Config
	c.text("author", x.Author, y.Author)
	c.text("platform", FormatPlatform(x.Platform), FormatPlatform(y.Platform))
	c.list("entrypoint", x.Config.Entrypoint, y.Config.Entrypoint)
	c.list("cmd", x.Config.Cmd, y.Config.Cmd)
	c.text("user", x.Config.User, y.Config.User)
	c.text("working_dir", x.Config.WorkingDir, y.Config.WorkingDir)
	c.text("stop_signal", x.Config.StopSignal, y.Config.StopSignal)
	c.text("healthcheck", asJSON(x.Healthcheck), asJSON(y.Healthcheck))
	c.pairs("environment", variables(x.Config.Env), variables(y.Config.Env))
	c.pairs("labels", x.Config.Labels, y.Config.Labels)
	c.pairs("volumes", keys(x.Config.Volumes), keys(y.Config.Volumes))
	c.pairs("expose", keys(x.Config.ExposedPorts), keys(y.Config.ExposedPorts))
	c.pairs("annotations", ownAnnotations(a), ownAnnotations(b))
	c.unknown(x.Unknown, y.Unknown)
	c.unknown(x.UnknownConfig, y.UnknownConfig)
	slices.SortFunc(c.found, func(a, b Change) int { return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Key, b.Key)) })
	return c.found
}

// comparison gathers changes.
type comparison struct{ found []Change }

// text compares a field that is "" where it is not set.
func (c *comparison) text(field, old, now string) {
	if old == now {
		return
	}
	change := Change{Field: field}
	if old != "" {
		change.Old = old
	}
	if now != "" {
		change.New = now
	}
	c.found = append(c.found, change)
}

// list compares a command.
func (c *comparison) list(field string, old, now []string) {
	if slices.Equal(old, now) {
		return
	}
	change := Change{Field: field}
	if len(old) > 0 {
		change.Old = old
	}
	if len(now) > 0 {
		change.New = now
	}
	c.found = append(c.found, change)
}

// pairs compares a field of keys and values.
func (c *comparison) pairs(field string, old, now map[string]string) {
	for key, was := range old {
		if is, ok := now[key]; !ok {
			c.found = append(c.found, Change{Field: field, Key: key, Old: was})
		} else if is != was {
			c.found = append(c.found, Change{Field: field, Key: key, Old: was, New: is})
		}
	}
	for key, is := range now {
		if _, ok := old[key]; !ok {
			c.found = append(c.found, Change{Field: field, Key: key, New: is})
		}
	}
}

// unknown compares fields that only others know.
func (c *comparison) unknown(old, now map[string]json.RawMessage) {
	both := maps.Clone(old)
	if both == nil {
		both = map[string]json.RawMessage{}
	}
	maps.Copy(both, now)
	for field := range both {
		c.text(field, string(old[field]), string(now[field]))
	}
}

// asJSON returns a value as it is in a config; "" for nil.
func asJSON(h *Healthcheck) string {
	if h == nil {
		return ""
	}
	text, err := encode(h)
	if err != nil {
		panic(err) // it holds nothing that has no JSON form
	}
	return string(text)
}

// variables returns the values of an environment by their names. Of several of one name the first
// counts, as it does for getenv(3).
func variables(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if _, ok := m[name]; !ok {
			m[name] = value
		}
	}
	return m
}

// keys returns the members of a set with empty values.
func keys(set map[string]struct{}) map[string]string {
	m := make(map[string]string, len(set))
	for key := range set {
		m[key] = ""
	}
	return m
}

// ownAnnotations returns the annotations of an image that say something of itself.
func ownAnnotations(img Image) map[string]string {
	own := maps.Clone(img.Manifest.Annotations)
	maps.DeleteFunc(own, func(key, _ string) bool { return ofOneImage(key) })
	return own
}
