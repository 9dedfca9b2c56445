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

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/image"
	"genoci/internal/layout"
)

// jsonInspect is what inspect --json prints: the blobs as they are in the layout. Names and
// meanings stay as they are; fields may come.
type jsonInspect struct {
	Kind         layout.Kind     `json:"kind"`                   // image, index or artifact
	ArtifactType string          `json:"artifactType,omitempty"` // of an artifact
	Digest       digest.Digest   `json:"digest"`                 // as ls shows it: of the index, where it is one
	Index        json.RawMessage `json:"index,omitempty"`
	Descriptor   *v1.Descriptor  `json:"descriptor,omitempty"` // of the manifest; none where an index has no image for this machine
	Manifest     json.RawMessage `json:"manifest,omitempty"`
	Config       json.RawMessage `json:"config,omitempty"` // none for an artifact
}

func newInspect() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect TAG",
		Short: "Show what an image is",
		Long: `Inspect shows the config, layers and history of an image. Name the image by a
tag or a digest; 6 digits are enough if they are unique. For an index, inspect
lists its entries and shows the image for this machine. For an artifact, such
as an SBOM or a signature, it lists the parts. --json prints the stored
manifest and config.`,
		Example: `  genoci inspect web
  genoci inspect sha256:6c3c62
  genoci inspect web --json | jq .config.config.Env`,
		Args:              exactly("TAG"),
		ValidArgsFunction: completeTags(&dir, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			return inspect(cmd.OutOrStdout(), l, args[0], asJSON)
		},
	}
	layoutVar(cmd.Flags(), &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print manifest and config as JSON")
	return cmd
}

// inspect shows what ref names.
func inspect(w io.Writer, l *layout.Layout, ref string, asJSON bool) error {
	desc, err := l.Describe(ref)
	if err != nil {
		return noImage(ref, err)
	}
	s, err := l.Summarize(desc, v1.Platform{})
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	var img image.Image
	if s.Image {
		if img, err = l.ImageAt(desc, v1.Platform{}); err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
	}
	if asJSON {
		return inspectJSON(w, l, desc, s, img)
	}
	rows := [][]string{{"Name:", ref}, {"Digest:", string(desc.Digest)}}
	if s.Kind == layout.KindImage {
		printImage(w, rows, img)
		return nil
	}
	rows = append(rows, []string{"Kind:", kindText(s.Kind, s.ArtifactType)})
	if s.Kind == layout.KindBlob {
		table(w, append(rows, []string{"Size:", size(s.Size)}))
		return nil
	}
	data, err := readBlob(l, desc)
	if err != nil {
		return err
	}
	if s.Kind == layout.KindArtifact {
		return printArtifact(w, rows, data, s)
	}
	x, err := image.ParseIndex(data)
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	table(w, rows)
	printEntries(w, "Entries:", x.Manifests)
	if s.Image {
		say(w, "For this machine:\n")
		printImage(w, [][]string{{"Digest:", string(img.Descriptor.Digest)}}, img)
	}
	return nil
}

// printArtifact shows the manifest of an artifact, after some rows about it.
func printArtifact(w io.Writer, rows [][]string, data []byte, s layout.Summary) error {
	var m struct {
		Subject       *v1.Descriptor
		Layers, Blobs []v1.Descriptor
		Annotations   map[string]string
	}
	if err := image.Unmarshal(data, &m); err != nil {
		return err
	}
	rows = append(rows, []string{"Created:", created(s.Created)}, []string{"Size:", size(s.Size)})
	if m.Subject != nil {
		rows = append(rows, []string{"Subject:", string(m.Subject.Digest)})
	}
	rows = addRows(rows, "Annotations:", pairs(m.Annotations)...)
	table(w, rows)
	printEntries(w, "Parts:", append(m.Layers, m.Blobs...))
	return nil
}

// printEntries shows descriptors under a title.
func printEntries(w io.Writer, title string, all []v1.Descriptor) {
	say(w, "%s\n", title)
	var rows [][]string
	for _, d := range all {
		what := d.ArtifactType
		if d.Platform != nil {
			what = image.FormatPlatform(*d.Platform)
		}
		rows = append(rows, []string{"  " + short(d.Digest), size(d.Size), d.MediaType, what})
	}
	table(w, rows)
}

func inspectJSON(w io.Writer, l *layout.Layout, desc v1.Descriptor, s layout.Summary, img image.Image) error {
	out := jsonInspect{Kind: s.Kind, ArtifactType: s.ArtifactType, Digest: desc.Digest}
	var err error
	switch s.Kind {
	case layout.KindIndex:
		out.Index, err = readBlob(l, desc)
	case layout.KindArtifact:
		out.Descriptor = &desc
		out.Manifest, err = readBlob(l, desc)
	case layout.KindBlob:
		out.Descriptor = &desc
	case layout.KindImage:
	}
	if err != nil {
		return err
	}
	if s.Image {
		out.Descriptor = &img.Descriptor
		if out.Manifest, err = readBlob(l, img.Descriptor); err != nil {
			return err
		}
		if out.Config, err = readBlob(l, img.Manifest.Config); err != nil {
			return err
		}
	}
	return printJSON(w, out)
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

// addRows adds a row for each value that is not empty, the first with the key.
func addRows(rows [][]string, key string, values ...string) [][]string {
	for _, v := range values {
		if v != "" {
			rows = append(rows, []string{key, untabbed(v)})
			key = ""
		}
	}
	return rows
}

// printImage shows an image, after some rows about it.
func printImage(w io.Writer, rows [][]string, img image.Image) {
	c := img.Config
	rows = append(rows,
		[]string{"Created:", created(c.Created)},
		[]string{"Platform:", platform(c.Platform)},
		[]string{"Size:", size(imageSize(img))},
	)
	add := func(key string, values ...string) { rows = addRows(rows, key, values...) }
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

	say(w, "Layers:\n")
	rows = nil
	for i, l := range img.Manifest.Layers {
		diffID := ""
		if i < len(c.RootFS.DiffIDs) {
			diffID = short(c.RootFS.DiffIDs[i])
		}
		rows = append(rows, []string{"  " + short(l.Digest), size(l.Size), compressionOf(l.MediaType), "diff " + diffID})
	}
	table(w, rows)
	say(w, "History:\n")
	for _, h := range c.History {
		text := untabbed(strings.ReplaceAll(h.CreatedBy, "\n", "; "))
		if h.EmptyLayer {
			text += "  (no layer)"
		}
		say(w, "  %s\n", text)
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
