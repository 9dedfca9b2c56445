package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"genoci/internal/durable"
	"genoci/internal/image"
)

// Problem is something that Verify found.
type Problem struct {
	Tag    string        // "" when no tag reaches it
	Digest digest.Digest // of the blob; "" for index.json itself
	Err    error
}

// Verify reads every blob and checks digest and size, every manifest and config, DiffIDs of layers
// against the config, and index.json itself; blobs that nothing reaches too. Foreign layers may be
// missing. It returns how many blobs and bytes it read; report is called for each problem, at most
// one for each blob and tag, from several goroutines but one at a time. The error is not nil only
// where the layout could not be read to its end.
//
// decompress returns the uncompressed content of a layer of the media type. Where its error wraps
// errors.ErrUnsupported, the DiffID is not checked (encrypted layers); nil checks none.
func (l *Layout) Verify(
	ctx context.Context,
	decompress func(mediaType string, r io.Reader) (io.ReadCloser, error),
	report func(Problem),
) (blobs int, bytes int64, err error) {
	f, err := l.shareBlobs(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer durable.Unlock(f)
	v := &verifier{
		l:          l,
		decompress: decompress,
		report:     report,
		tags:       map[digest.Digest]string{},
		bad:        map[digest.Digest]bool{},
		layers:     map[digest.Digest][]layerClaim{},
	}
	if err := v.verifyIndex(ctx); err != nil {
		return 0, 0, err
	}
	return v.verifyBlobs(ctx)
}

// verifier is one run of Verify: verifyIndex fills the maps, verifyBlobs reads them.
type verifier struct {
	l          *Layout
	decompress func(mediaType string, r io.Reader) (io.ReadCloser, error)
	report     func(Problem)

	tags   map[digest.Digest]string       // the first tag that reaches a blob
	bad    map[digest.Digest]bool         // blobs that were reported
	layers map[digest.Digest][]layerClaim // what manifests and configs say of layers
}

// layerClaim is what an image that holds a layer says of it. Images may contradict each other.
type layerClaim struct {
	mediaType string
	diffID    digest.Digest
	tag       string // the first tag that reaches an image that says so
}

// problem reports that a blob is not as it should be.
func (v *verifier) problem(d digest.Digest, tag string, err error) {
	if !v.bad[d] {
		v.bad[d] = true
		v.report(Problem{Tag: tag, Digest: d, Err: err})
	}
}

// verifyIndex follows index.json, and checks all that can be without reading layers.
func (v *verifier) verifyIndex(ctx context.Context) error {
	x, err := v.l.readIndex()
	if err != nil {
		v.report(Problem{Err: err})
		return nil
	}
	named := slices.SortedStableFunc(slices.Values(x.entries), func(a, b entry) int {
		return cmp.Compare(min(1, len(b.name())), min(1, len(a.name())))
	})
	var tag string
	w := walker{l: v.l, seen: map[claim]bool{}, visit: func(desc v1.Descriptor, data []byte, err error) {
		if _, ok := v.tags[desc.Digest]; !ok {
			v.tags[desc.Digest] = tag
		}
		if err = v.visit(desc, tag, data, err); err != nil {
			v.problem(desc.Digest, tag, err)
		}
	}}
	for _, e := range named {
		tag = e.name()
		if err := w.walk(ctx, e.desc); err != nil {
			return err
		}
	}
	return nil
}

// visit checks one descriptor, as a walker comes to it.
func (v *verifier) visit(desc v1.Descriptor, tag string, data []byte, err error) error {
	switch {
	case err != nil:
		return err
	case data == nil:
		return v.checkPresent(desc)
	case image.IsIndex(desc.MediaType):
		_, err := image.ParseIndex(data)
		return err
	case image.IsManifest(desc.MediaType):
		return v.checkManifest(tag, data)
	}
	return nil
}

// checkPresent checks that a blob is there with the size that desc says.
func (v *verifier) checkPresent(desc v1.Descriptor) error {
	if v.l.Has(desc) {
		return nil
	}
	f, err := v.l.Blob(desc.Digest)
	if errors.Is(err, ErrNotExist) && image.IsForeign(desc.MediaType) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return fmt.Errorf("blob %s: size is %d, but the blob that names it says %d", desc.Digest, st.Size(), desc.Size)
}

// checkManifest checks a manifest with its config, and notes what they say of layers. Artifacts
// hold no layers.
func (v *verifier) checkManifest(tag string, data []byte) error {
	var m v1.Manifest
	if err := image.Unmarshal(data, &m); err != nil {
		return err
	}
	if !image.IsConfig(m.Config.MediaType) {
		return nil
	}
	config, err := v.l.read(m.Config)
	if err != nil {
		return nil // reported as the problem of that blob
	}
	img, err := image.Parse(data, config)
	if err != nil {
		return err
	}
	for i, layer := range img.Manifest.Layers {
		c := layerClaim{layer.MediaType, img.Config.RootFS.DiffIDs[i], tag}
		if !slices.ContainsFunc(v.layers[layer.Digest], func(o layerClaim) bool { return o.mediaType == c.mediaType && o.diffID == c.diffID }) {
			v.layers[layer.Digest] = append(v.layers[layer.Digest], c)
		}
	}
	return nil
}

// verifyBlobs reads all blobs, in parallel.
func (v *verifier) verifyBlobs(ctx context.Context) (int, int64, error) {
	var blobs, bytes atomic.Int64
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for desc, err := range v.l.Blobs() {
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			tag, err := v.verifyBlob(ctx, desc)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			blobs.Add(1)
			bytes.Add(desc.Size)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				v.problem(desc.Digest, tag, err)
			}
			return nil
		})
	}
	err := g.Wait()
	return int(blobs.Load()), bytes.Load(), err
}

// verifyBlob reads one blob, and decompresses it where it is a layer. With an error comes the tag
// that it is about.
func (v *verifier) verifyBlob(ctx context.Context, desc v1.Descriptor) (tag string, err error) {
	f, err := v.l.Blob(desc.Digest)
	if err != nil {
		return v.tags[desc.Digest], err
	}
	defer f.Close()
	byType := map[string][]layerClaim{}
	types := []string{""} // of a blob that is no layer
	if claims := v.layers[desc.Digest]; len(claims) > 0 && v.decompress != nil {
		types = nil
		for _, c := range claims {
			if byType[c.mediaType] == nil {
				types = append(types, c.mediaType)
			}
			byType[c.mediaType] = append(byType[c.mediaType], c)
		}
	}
	for _, mediaType := range types { // one, but where images contradict each other
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return v.tags[desc.Digest], err
		}
		content := Verified(contextReader{ctx, f}, desc)
		var layerErr error
		if claims := byType[mediaType]; claims != nil {
			tag, layerErr = checkClaims(content, claims, v.decompress)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return v.tags[desc.Digest], err
		}
		if layerErr != nil {
			return tag, layerErr
		}
	}
	return "", nil
}

// checkClaims reads a layer and holds its uncompressed content against the DiffIDs of claims with
// one media type. With an error comes the tag of the claim that does not hold.
func checkClaims(
	r io.Reader,
	claims []layerClaim,
	decompress func(mediaType string, r io.Reader) (io.ReadCloser, error),
) (tag string, err error) {
	tar, err := decompress(claims[0].mediaType, r)
	if errors.Is(err, errors.ErrUnsupported) {
		return "", nil
	}
	if err != nil {
		return claims[0].tag, fmt.Errorf("decompress layer: %w", err)
	}
	defer tar.Close()
	hashes := map[digest.Algorithm]hash.Hash{}
	var all []io.Writer
	for _, c := range claims {
		if a := c.diffID.Algorithm(); hashes[a] == nil {
			hashes[a] = a.Hash()
			all = append(all, hashes[a])
		}
	}
	if _, err := io.Copy(io.MultiWriter(all...), tar); err != nil {
		return claims[0].tag, fmt.Errorf("decompress layer: %w", err)
	}
	for _, c := range claims {
		if got := digest.NewDigest(c.diffID.Algorithm(), hashes[c.diffID.Algorithm()]); got != c.diffID {
			return c.tag, fmt.Errorf("layer: DiffID is %s, but the config says %s", got, c.diffID)
		}
	}
	return "", nil
}

// contextReader is a reader that ends with ctx.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
