package image

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is a layer that Extend adds.
type Layer struct {
	Descriptor v1.Descriptor // of the blob
	DiffID     digest.Digest
	CreatedBy  string // for the history
	Comment    string
}

// Extension is what a target adds to its base.
type Extension struct {
	Layers      []Layer
	Created     time.Time
	Platform    v1.Platform // used where the base has none
	Author      string
	Annotations map[string]string // of the manifest, in place of the base's of the same names
	BaseName    string            // org.opencontainers.image.base.name; "" for an empty base
	BaseDigest  digest.Digest     // org.opencontainers.image.base.digest
	Edit        ConfigEdit
	CreatedBy   string // history of a config change without a layer; "" for none
}

// ConfigEdit is how a target changes the config of its base. Nil and "" keep what the base has; a
// list that is empty but not nil clears it.
type ConfigEdit struct {
	Entrypoint  []string // setting it drops an inherited Cmd
	Cmd         []string
	Env         []string // K=V; replaces an inherited variable of the name, in its place
	User        string
	WorkingDir  string
	StopSignal  string
	Labels      map[string]string
	Volumes     []string
	Expose      []string // "80", "80/tcp"
	Healthcheck *Healthcheck
}

// Extend returns base (the zero Image for an empty one) with e on top. The descriptor is zero.
// Docker schema 2 media types become OCI ones; foreign and nondistributable layers stay as they
// are. What base holds is never changed, but may be shared by the result.
//
// Annotations of the base that speak of the base itself are not inherited (created, ref.name,
// base.name, base.digest), nor is its subject. A base without a history gets an entry for each
// layer where e adds to the history, since one that covers only some layers is wrong.
func Extend(base Image, e Extension) Image {
	return Image{Manifest: extendManifest(base.Manifest, e), Config: extendConfig(base.Config, e)}
}

func extendManifest(base v1.Manifest, e Extension) v1.Manifest {
	m := v1.Manifest{
		MediaType:   v1.MediaTypeImageManifest,
		Config:      v1.Descriptor{MediaType: v1.MediaTypeImageConfig},
		Layers:      slices.Clone(base.Layers),
		Annotations: extendAnnotations(base.Annotations, e),
	}
	m.SchemaVersion = 2
	for i := range m.Layers {
		m.Layers[i].MediaType = ociLayer(m.Layers[i].MediaType)
	}
	for _, l := range e.Layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	return m
}

// ofOneImage reports whether an annotation says how just this image came about.
func ofOneImage(key string) bool {
	switch key {
	case v1.AnnotationCreated, v1.AnnotationRefName, v1.AnnotationBaseImageName, v1.AnnotationBaseImageDigest:
		return true
	}
	return false
}

func extendAnnotations(base map[string]string, e Extension) map[string]string {
	a := maps.Clone(base)
	maps.DeleteFunc(a, func(key, _ string) bool { return ofOneImage(key) })
	a = merge(a, e.Annotations)
	if e.BaseName != "" {
		a = merge(a, map[string]string{v1.AnnotationBaseImageName: e.BaseName})
	}
	if e.BaseDigest != "" {
		a = merge(a, map[string]string{v1.AnnotationBaseImageDigest: e.BaseDigest.String()})
	}
	return a
}

func extendConfig(c Config, e Extension) Config {
	c.Created = timestamp(e.Created)
	if e.Author != "" {
		c.Author = e.Author
	}
	if c.Architecture == "" {
		c.Architecture, c.Variant = e.Platform.Architecture, e.Platform.Variant
	}
	if c.OS == "" {
		c.OS, c.OSVersion, c.OSFeatures = e.Platform.OS, e.Platform.OSVersion, e.Platform.OSFeatures
	}
	c.History = extendHistory(c.History, len(c.RootFS.DiffIDs), e)
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = slices.Clone(c.RootFS.DiffIDs)
	for _, l := range e.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
	}
	e.Edit.apply(&c)
	return c
}

func extendHistory(base []v1.History, layers int, e Extension) []v1.History {
	var added []v1.History
	for _, l := range e.Layers {
		added = append(added, v1.History{
			Created: timestamp(e.Created), CreatedBy: l.CreatedBy, Author: e.Author, Comment: l.Comment,
		})
	}
	if e.CreatedBy != "" {
		added = append(added, v1.History{
			Created: timestamp(e.Created), CreatedBy: e.CreatedBy, Author: e.Author, EmptyLayer: true,
		})
	}
	if len(base) == 0 && len(added) > 0 {
		base = slices.Repeat([]v1.History{{Comment: "layer of a base without history"}}, layers)
	}
	return slices.Concat(base, added)
}

// timestamp returns t as configs hold it; nil for the zero time.
func timestamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// apply changes c. Slices and maps that c shares with others are replaced, not written to.
func (edit ConfigEdit) apply(c *Config) {
	x := &c.Config
	if edit.Entrypoint != nil {
		x.Entrypoint, x.Cmd = edit.Entrypoint, nil
	}
	if edit.Cmd != nil {
		x.Cmd = edit.Cmd
	}
	x.Env = SetEnv(x.Env, edit.Env)
	replace(&x.User, edit.User)
	replace(&x.WorkingDir, edit.WorkingDir)
	replace(&x.StopSignal, edit.StopSignal)
	x.Labels = merge(x.Labels, edit.Labels)
	x.Volumes = merge(x.Volumes, set(edit.Volumes))
	x.ExposedPorts = merge(x.ExposedPorts, set(ports(edit.Expose)))
	if edit.Healthcheck != nil {
		c.Healthcheck = edit.Healthcheck
	}
}

func replace(old *string, text string) {
	if text != "" {
		*old = text
	}
}

// merge returns a with b's entries in it, and a itself where b has none.
func merge[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	merged := make(map[string]V, len(a)+len(b))
	maps.Copy(merged, a)
	maps.Copy(merged, b)
	return merged
}

func set(names []string) map[string]struct{} {
	s := make(map[string]struct{}, len(names))
	for _, name := range names {
		s[name] = struct{}{}
	}
	return s
}

// ports returns ports in the form "80/tcp", tcp being the default.
func ports(expose []string) []string {
	full := make([]string, len(expose))
	for i, p := range expose {
		number, protocol, ok := strings.Cut(p, "/")
		if !ok {
			protocol = "tcp"
		}
		full[i] = number + "/" + strings.ToLower(protocol)
	}
	return full
}
