// Package image is the meaning of OCI images: manifests, configs, indexes, histories, as the image-spec v1.1 has them. It is
// pure: functions from data to data, no files, no network.
package image

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a manifest with its config, as read from a layout or about to be written.
type Image struct {
	Descriptor v1.Descriptor // of the manifest; zero while it is not written
	Manifest   v1.Manifest
	Config     Config
}

// Config is an image config: the image-spec's fields and docker's (healthcheck, shell, on-build), and
// whatever else a foreign config holds, kept as it is.
type Config struct {
	v1.Image
	Healthcheck   *Healthcheck               // in "config"
	Unknown       map[string]json.RawMessage // other top-level fields
	UnknownConfig map[string]json.RawMessage // other fields of "config" (Shell, OnBuild, ...)
}

// Healthcheck is docker's: durations are in nanoseconds in JSON.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

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

// ConfigEdit is how a target changes the config of its base. Nil and "" keep what the base has.
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

// Extend returns base (the zero Image for an empty one) with e on top. The descriptor is zero. Docker schema 2 media types
// become OCI ones; foreign and nondistributable layers stay as they are.
func Extend(base Image, e Extension) Image { panic("stub") }

// Marshal returns the bytes of the config blob and of the manifest blob that names it, with the manifest's
// descriptor. They depend on img alone: fields in fixed order, maps sorted, no added space.
func Marshal(img Image) (config, manifest []byte, desc v1.Descriptor, err error) { panic("stub") }

// Parse reads a manifest (OCI or docker schema 2) and its config. Errors say what is wrong with which field; counts
// of layers, diff IDs and history are held against each other.
func Parse(manifest, config []byte) (Image, error) { panic("stub") }

// ChainIDs returns the chain ID of each prefix of diffIDs (image-spec, config.md, "Layer ChainID"): one for each layer.
func ChainIDs(diffIDs []digest.Digest) []digest.Digest { panic("stub") }
