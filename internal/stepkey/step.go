// Package stepkey is the key of a step: what it covers, what is kept under it, and how one key
// differs from another one. What an action adds to a key is for package action to say.
package stepkey

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/cache"
)

// Semantics is part of every key. It grows when the same inputs would give another layer.
const Semantics = 3

// Step is what the key of a step covers. Its strings are UTF-8; whatever may not be, such as the
// names of copied files, stands in it as a digest.
type Step struct {
	Semantics int           `json:"semantics"`
	Parent    digest.Digest `json:"parent"` // chain ID of the tree below
	Epoch     int64         `json:"epoch"`
	Clamp     *int64        `json:"clamp,omitempty"`
	RealTimes bool          `json:"realTimes,omitempty"`
	Platform  *v1.Platform  `json:"platform,omitempty"` // steps that run something only
	Env       []string      `json:"env,omitempty"`      // as HideValues returns it
	Ops       []any         `json:"ops"`                // of each action, what action.Action.Node returns

	About *About `json:"-"` // kept beside the key; nil where no argument stands in the step
}

// About is what is kept beside the key of a step in whose actions arguments stand. It says which of
// them changed, and what else, without their values.
type About struct {
	Ops  []any               // as in Step, with ${{NAME}} in place of the values; null where no argument stands in an action
	Args []map[string]string // values by name, of each action
}

// Key returns the key that covers s.
func (s *Step) Key() (cache.Key, error) {
	key, err := cache.NewKey(s)
	if err == nil && s.About != nil {
		key, err = key.With(s.About)
	}
	return key, err
}

// HideValues returns the variables of env, K=V, with digests in place of their values: a key is
// kept, and a value may be a secret.
func HideValues(env []string) []string {
	out := make([]string, len(env))
	for i, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		sum := sha256.Sum256([]byte(value))
		out[i] = name + "=" + base64.RawStdEncoding.EncodeToString(sum[:])
	}
	return out
}
