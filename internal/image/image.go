// Package image is the meaning of OCI images: manifests, configs, indexes, histories, as the
// image-spec v1.1 has them. It is pure: functions from data to data, no files, no network.
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

// Config is an image config (image-spec, config.md): the specified fields, docker's healthcheck,
// and whatever else a foreign config holds, kept as it is. Its JSON has the fields in the order of
// the specification, then the unknown ones sorted by name. Names that are those of fields but for
// upper and lower case are an error, since package json would take them for these.
type Config struct {
	v1.Image
	Healthcheck   *Healthcheck               // in "config"
	Unknown       map[string]json.RawMessage // other top-level fields
	UnknownConfig map[string]json.RawMessage // other fields of "config" (Shell, OnBuild, ...)
}

// Healthcheck is docker's (moby, image/spec/v1.2.md): durations are in nanoseconds in JSON.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// ChainIDs returns the chain ID of each prefix of diffIDs (image-spec, config.md, "Layer ChainID"):
// one for each layer.
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	ids := make([]digest.Digest, len(diffIDs))
	below := digest.Digest("")
	for i, d := range diffIDs {
		below = ChainID(below, d)
		ids[i] = below
	}
	return ids
}

// ChainID returns the chain ID of a layer on a tree with the chain ID below; "" for nothing.
func ChainID(below, diffID digest.Digest) digest.Digest {
	if below == "" {
		return diffID
	}
	return digest.FromString(below.String() + " " + diffID.String())
}
