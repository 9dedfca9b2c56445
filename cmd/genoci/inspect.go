package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/image"
	"genoci/internal/layout"
)

// jsonInspect is what inspect --json prints: the blobs as they are in the layout.
type jsonInspect struct {
	Descriptor v1.Descriptor   `json:"descriptor"`
	Manifest   json.RawMessage `json:"manifest"`
	Config     json.RawMessage `json:"config"`
}

func newInspect() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect TAG",
		Short: "Show what an image is",
		Long: `Inspect shows config, layers and history of an image, named by a tag, or by a digest of which 6 digits are enough
where they are unique. --json prints manifest and config as they are stored.`,
		Example: `  genoci inspect web
  genoci inspect sha256:6c3c62
  genoci inspect web --json | jq .config.config.Env`,
		Args:              exactly("TAG"),
		ValidArgsFunction: completeTags(&dir, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, img, err := openImage(cmd.Context(), dir, args[0])
			if err != nil {
				return err
			}
			defer l.Close()
			if asJSON {
				return inspectJSON(cmd.OutOrStdout(), l, img)
			}
			inspect(cmd.OutOrStdout(), args[0], img)
			return nil
		},
	}
	layoutVar(cmd.Flags(), &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print manifest and config as JSON")
	return cmd
}

func inspectJSON(w io.Writer, l *layout.Layout, img image.Image) error {
	manifest, err := readBlob(l, img.Descriptor)
	if err != nil {
		return err
	}
	config, err := readBlob(l, img.Manifest.Config)
	if err != nil {
		return err
	}
	return printJSON(w, jsonInspect{img.Descriptor, manifest, config})
}

// readBlob returns the content of a small blob.
func readBlob(l *layout.Layout, desc v1.Descriptor) ([]byte, error) {
	f, err := l.Blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(layout.Verified(f, desc))
}

func inspect(w io.Writer, name string, img image.Image) {
	c := img.Config
	rows := [][]string{
		{"Name:", name},
		{"Digest:", string(img.Descriptor.Digest)},
		{"Created:", created(img)},
		{"Platform:", platform(c.Platform)},
		{"Size:", size(imageSize(img))},
	}
	add := func(key string, values ...string) {
		for _, v := range values {
			if v != "" {
				rows = append(rows, []string{key, printable(v)})
				key = ""
			}
		}
	}
	add("Author:", c.Author)
	add("Entrypoint:", words(c.Config.Entrypoint))
	add("Cmd:", words(c.Config.Cmd))
	add("User:", c.Config.User)
	add("Workdir:", c.Config.WorkingDir)
	add("Env:", c.Config.Env...)
	add("Stop signal:", c.Config.StopSignal)
	add("Volumes:", slices.Sorted(maps.Keys(c.Config.Volumes))...)
	add("Ports:", slices.Sorted(maps.Keys(c.Config.ExposedPorts))...)
	add("Healthcheck:", healthcheck(c.Healthcheck)...)
	add("Labels:", pairs(c.Config.Labels)...)
	add("Annotations:", pairs(img.Manifest.Annotations)...)
	table(w, rows)

	fmt.Fprintln(w, "Layers:")
	rows = nil
	for i, l := range img.Manifest.Layers {
		diffID := ""
		if i < len(c.RootFS.DiffIDs) {
			diffID = short(c.RootFS.DiffIDs[i])
		}
		rows = append(rows, []string{"  " + short(l.Digest), size(l.Size), compressionOf(l.MediaType), "diff " + diffID})
	}
	table(w, rows)
	fmt.Fprintln(w, "History:")
	for _, h := range c.History {
		text := printable(strings.ReplaceAll(h.CreatedBy, "\n", "; "))
		if h.EmptyLayer {
			text += "  (no layer)"
		}
		fmt.Fprintln(w, "  "+text)
	}
}

// healthcheck returns the command of a health check, and its settings that are set.
func healthcheck(h *image.Healthcheck) []string {
	if h == nil {
		return nil
	}
	lines := []string{words(h.Test)}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start_period", h.StartPeriod}, {"start_interval", h.StartInterval}} {
		if d.value != 0 {
			lines = append(lines, d.name+": "+d.value.String())
		}
	}
	if h.Retries != 0 {
		lines = append(lines, "retries: "+strconv.Itoa(h.Retries))
	}
	return lines
}

// platform returns os/architecture/variant.
func platform(p v1.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// words returns a command line as a shell would read it.
func words(argv []string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = shellQuote(a)
	}
	return strings.Join(quoted, " ")
}

// pairs returns "key=value" for each element, sorted.
func pairs(m map[string]string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return list
}

// compressionOf says how a layer of the media type is stored, as people say it.
func compressionOf(mediaType string) string {
	if i := strings.LastIndexAny(mediaType, ".+"); i >= 0 {
		return mediaType[i+1:]
	}
	return mediaType
}
