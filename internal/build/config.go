package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"genoci/internal/image"
	"genoci/internal/plan"
	"genoci/internal/spec"
)

// defaultEpoch is 1980-01-01T00:00:00Z, the earliest time that zip files can hold. A constant, so
// that neither a clock nor a commit changes any digest.
const defaultEpoch = 315532800

// epochOf returns the time of what the build of a target makes, in seconds since 1970.
func (b *Builder) epochOf(ctx context.Context, t *spec.Target) (int64, error) {
	if b.SourceEpoch != nil {
		return *b.SourceEpoch, nil
	}
	switch c := t.Config.Created; c {
	case "":
		return defaultEpoch, nil
	case "now":
		return b.start.Unix(), nil
	case "git":
		return b.commitTime(ctx)
	default:
		at, err := time.Parse(time.RFC3339, c)
		return at.Unix(), err
	}
}

// commitTime is the time of the newest commit of the folder that holds the spec.
func (b *Builder) commitTime(ctx context.Context) (int64, error) {
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
	cmd.Dir = b.src.Dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return 0, fmt.Errorf("created: git: %s", strings.TrimSpace(string(exit.Stderr)))
		}
		return 0, fmt.Errorf("created: git: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// imageEnv is the environment in the config of the image that n makes.
func imageEnv(n *node) []string {
	return image.SetFirstEnv(n.base.img.Config.Config.Env, environment(n))
}

// environment is what the target adds to it; $NAME stands for the base's own value.
func environment(n *node) []string {
	base := func(name string) string {
		value, _ := image.LookupEnv(n.base.img.Config.Config.Env, name)
		return value
	}
	var env []string
	for _, kv := range n.image.Target.Config.Environment {
		env = append(env, kv.Key+"="+spec.ExpandEnv(kv.Value, base))
	}
	return env
}

// extension is what a target adds to its base.
func extension(n *node) image.Extension {
	c := n.image.Target.Config
	e := image.Extension{
		Layers: n.added(), Created: time.Unix(n.base.epoch, 0).UTC(), Platform: image.BuiltHere(),
		Author: c.Author, Annotations: toMap(c.Annotations),
		Edit: image.ConfigEdit{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: environment(n), User: c.User, WorkingDir: c.WorkingDir,
			StopSignal: c.StopSignal, Labels: toMap(c.Labels), Volumes: c.Volumes, Expose: c.Expose,
		},
	}
	if h := c.Healthcheck; h != nil {
		e.Edit.Healthcheck = &image.Healthcheck{
			Test: h.Test, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
			StartPeriod: time.Duration(h.StartPeriod), StartInterval: time.Duration(h.StartInterval), Retries: h.Retries,
		}
	}
	if n.image.Base.Kind != plan.Empty {
		e.BaseName, e.BaseDigest = n.image.Base.String(), n.base.img.Descriptor.Digest
	}
	if configures(c) {
		e.CreatedBy = "genoci: config of " + n.String()
	}
	return e
}

// configures reports whether a target changes the config itself.
func configures(c spec.Config) bool {
	return c.Entrypoint != nil || c.Cmd != nil || len(c.Environment)+len(c.Labels)+len(c.Volumes)+len(c.Expose) > 0 ||
		c.User != "" || c.WorkingDir != "" || c.StopSignal != "" || c.Healthcheck != nil
}

func toMap(kvs []spec.KV) map[string]string {
	if len(kvs) == 0 {
		return nil
	}
	m := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		m[kv.Key] = kv.Value
	}
	return m
}
