package build

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// passThrough takes the archive of a step as its layer, byte for byte, where the step does nothing but
// expand it on nothing, and it is a sound layer (layer.Sound). The file is read once: in that pass it is
// stored, hashed, decompressed, hashed again, checked and indexed. ok is false where the archive has to be put
// into the layer entry by entry.
func (s *step) passThrough(ctx context.Context) (l *builtLayer, ok bool, err error) {
	if len(s.Ops) != 1 || len(s.n.stack()) > 0 {
		return l, false, nil
	}
	op, isExpand := s.Ops[0].Op.(*spec.Expand)
	if !isExpand || !wholeArchive(op) {
		return l, false, nil
	}
	s.opStarted(s.Ops[0])
	in, err := s.intake(ctx, s.ins[0].archive)
	var file *fs.PathError
	switch {
	case err == nil:
		s.taken = true
		l = s.newLayer()
		s.identify(l, in.diffID, in.toc)
		s.settle(l, func() (*layout.BlobWriter, string, error) { return in.blob, in.mediaType, nil })
		return l, true, nil
	case ctx.Err() != nil:
		return l, false, ctx.Err()
	case errors.As(err, &file): // reading the archive, or writing the layer
		return l, false, s.opError(s.n, s.Step, s.Ops[0], err, nil)
	}
	// Whatever is wrong with what the archive holds, the other way takes it or says it better.
	s.report(Event{Kind: Rewritten, Target: s.n.String(), Step: s.Name(), Text: err.Error()})
	return nil, false, nil
}

// wholeArchive reports whether the op wants all of the archive as it is.
func wholeArchive(op *spec.Expand) bool {
	return clean(op.Dest) == "." && op.StripComponents == 0 && len(op.Include)+len(op.Exclude) == 0 && op.Chown == ""
}

// taken is an archive that was taken as a layer.
type taken struct {
	blob      *layout.BlobWriter // complete
	mediaType string
	diffID    digest.Digest
	toc       *layer.TOC
}

// intake makes a layer of an archive. Its compressed bytes are the blob where layers may be compressed so and
// the user did not ask for another compression; else its tar is compressed anew.
func (s *step) intake(ctx context.Context, f source.File) (t taken, err error) {
	file, err := f.Open()
	if err != nil {
		return t, err
	}
	defer file.Close()
	in := bufio.NewReaderSize(s.progress(ctx, s.n.String(), s.Name(), "expand", f.Size, file), 1<<20)
	c, err := layer.Sniff(in)
	if err != nil {
		return t, err
	}
	if t.blob, err = s.Layout.NewBlob(); err != nil {
		return t, err
	}
	if s.keeps(c) {
		t.mediaType = c.MediaType
		t.toc, t.diffID, err = s.intakeAs(ctx, t.blob, c, in)
	} else {
		t.mediaType = s.Compression.MediaType
		t.toc, t.diffID, err = s.intakeAnew(ctx, t.blob, c, in)
	}
	if err != nil {
		t.blob.Close()
	}
	return t, err
}

// keeps reports whether a layer may stay compressed as an archive is.
func (s *step) keeps(c layer.Compression) bool {
	if s.Recompress {
		return c.Name == s.Compression.Name
	}
	return c.MediaType != "" && c.Name != "none"
}

// intakeAs stores the compressed bytes, and reads the tar in them.
func (s *step) intakeAs(ctx context.Context, blob io.Writer, c layer.Compression, in io.Reader) (*layer.TOC, digest.Digest, error) {
	stored := io.TeeReader(in, blob)
	tar, err := c.NewReader(stored)
	if err != nil {
		return nil, "", err
	}
	defer tar.Close()
	ahead := layer.ReadAhead(tar)
	defer ahead.Close()
	toc, diffID, err := layer.Sound(ctx, ahead, s.SourceEpoch)
	if err == nil {
		// The decompressor need not have read to the end of the file, where its digest is checked.
		_, err = io.Copy(io.Discard, stored)
	}
	return toc, diffID, err
}

// intakeAnew stores the tar compressed as new layers are.
func (s *step) intakeAnew(ctx context.Context, blob io.Writer, c layer.Compression, in io.Reader) (*layer.TOC, digest.Digest, error) {
	tar, err := c.NewReader(in)
	if err != nil {
		return nil, "", err
	}
	defer tar.Close()
	z, err := s.Compression.NewWriter(blob)
	if err != nil {
		return nil, "", err
	}
	ahead := layer.ReadAhead(tar)
	defer ahead.Close()
	toc, diffID, err := layer.Sound(ctx, io.TeeReader(ahead, struct{ io.Writer }{z}), s.SourceEpoch)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	return toc, diffID, firstError(err, z.Close())
}
