package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"genoci/internal/layout"
)

// jsonTag is an element of what ls --json prints. Names and meanings stay as they are; fields may
// come.
type jsonTag struct {
	Name    string        `json:"name"`
	Digest  digest.Digest `json:"digest"`            // of the manifest, or of the index of a multi-platform image
	Created *time.Time    `json:"created,omitempty"` // RFC 3339
	Size    int64         `json:"size"`              // of manifest, config and layers, in bytes
	Layers  int           `json:"layers"`
	Kind    layout.Kind   `json:"kind,omitempty"` // image, index, artifact or blob; none where it cannot be read

	ArtifactType string `json:"artifactType,omitempty"` // of an artifact; of a blob, its media type

	created string
	image   bool // size and layers are those of an image
}

func newLs() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the tags of the layout",
		Long: `Ls lists the tags of the layout, in the order in which they were added. SIZE is
the stored size of the image, with layers that it shares with other images. If
a tag names an index for several platforms, ls shows the image for this
machine. If not every tag is an image, KIND tells what it is: an image, an
index, an artifact (such as an SBOM or a signature), or another blob.`,
		Example: `  genoci ls
  genoci ls --layout /srv/images --json | jq -r '.[].name'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLayout(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer l.Close()
			list, err := listTags(l)
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), list))
			}
			printTags(cmd.OutOrStdout(), list)
			return err
		},
	}
	layoutVar(cmd.Flags(), &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listTags describes all tags of l. Those whose image cannot be read are described by what the
// index says, and an error.
func listTags(l *layout.Layout) ([]jsonTag, error) {
	tags, err := l.Tags()
	if err != nil {
		return nil, err
	}
	list, failed := make([]jsonTag, len(tags)), make([]error, len(tags))
	same := make([]int, len(tags)) // the first tag of the same image, which is read once
	first := make(map[digest.Digest]int, len(tags))
	for i, t := range tags {
		at, ok := first[t.Descriptor.Digest]
		if !ok {
			at = i
			first[t.Descriptor.Digest] = i
		}
		same[i] = at
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(tags)); i = next.Add(1) - 1 {
				if same[i] == int(i) {
					list[i], failed[i] = describeTag(l, tags[i].Descriptor)
				}
			}
		})
	}
	wg.Wait()
	var all []error
	for i, t := range tags {
		list[i] = list[same[i]]
		list[i].Name = t.Name
		if err := failed[same[i]]; err != nil {
			all = append(all, fmt.Errorf("tag %s: %w", t.Name, err))
		}
	}
	return list, errors.Join(all...)
}

// describeTag describes what a tag names.
func describeTag(l *layout.Layout, desc v1.Descriptor) (jsonTag, error) {
	item := jsonTag{Digest: desc.Digest, created: "?"}
	s, err := l.Summarize(desc, v1.Platform{})
	if err != nil {
		return item, err
	}
	item.Created, item.created = s.Created, created(s.Created)
	item.Size, item.Layers, item.image = s.Size, s.Layers, s.Image
	item.Kind, item.ArtifactType = s.Kind, s.ArtifactType
	return item, nil
}

// printTags prints a table, with the kinds where not all are images.
func printTags(w io.Writer, list []jsonTag) {
	kinds := slices.ContainsFunc(list, func(t jsonTag) bool { return t.Kind != layout.KindImage && t.Kind != "" })
	rows := make([][]string, 1, 1+len(list))
	rows[0] = []string{"TAG", "DIGEST", "CREATED", "SIZE", "LAYERS"}
	if kinds {
		rows[0] = append(rows[0], "KIND")
	}
	for _, t := range list {
		layers := strconv.Itoa(t.Layers)
		if t.Kind != "" && !t.image {
			layers = "-"
		}
		row := []string{t.Name, short(t.Digest), t.created, size(t.Size), layers}
		if kinds {
			row = append(row, kindText(t.Kind, t.ArtifactType))
		}
		rows = append(rows, row)
	}
	table(w, rows)
}

// kindText says what an entry is, with the type of an artifact.
func kindText(kind layout.Kind, artifactType string) string {
	if artifactType == "" || kind == layout.KindImage {
		return string(kind)
	}
	return fmt.Sprintf("%s (%s)", kind, artifactType)
}
