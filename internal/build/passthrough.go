package build

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/layer"
	"genoci/internal/layout"
	"genoci/internal/source"
	"genoci/internal/stepkey"
)

// passThrough takes the archive of a step as its layer, byte for byte, where the step does nothing
// but expand it on nothing, and it is a sound layer (layer.Sound). The file is read once: in that
// pass it is stored, hashed, decompressed, hashed again, checked and indexed. It returns nil where
// the archive has to be put into the layer entry by entry.
func (s *step) passThrough(ctx context.Context, f *source.File) (*builtLayer, error) {
	in, err := s.intake(ctx, f)
	var file *fs.PathError
	switch {
	case err == nil:
		return s.takeOver(ctx, in)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &file): // reading the archive, or writing the layer
		return nil, s.opError(s.plan.Ops[0], err, nil)
	}
	// Whatever is wrong with what the archive holds, the other way takes it or says it better.
	s.archive = stepkey.Archive{Fate: stepkey.Rewritten, Unsound: err.Error()}
	s.report(Event{Kind: Rewritten, Text: err.Error()})
	return nil, nil
}

// takeOver makes an archive that was taken the layer of the step.
func (s *step) takeOver(ctx context.Context, in taken) (*builtLayer, error) {
	l := s.newLayer()
	if err := s.identify(ctx, l, in.diffID, in.toc); err != nil {
		return nil, errors.Join(err, in.drop())
	}
	s.archive = stepkey.Archive{Fate: stepkey.AsIs}
	if l.scratch = in.scratch != nil; l.scratch {
		s.finishLater(l, func() (v1.Descriptor, error) { return in.scratch.Commit(l.DiffID) })
	} else {
		s.finishLater(l, func() (v1.Descriptor, error) { return commit(in.blob, in.mediaType) })
	}
	if err := in.tree.commit(ctx, stack{l}); err != nil {
		return nil, s.opError(s.plan.Ops[0], err, nil)
	}
	return l, nil
}

// taken is an archive that was taken as a layer.
type taken struct {
	blob      *layout.BlobWriter // complete; nil:
	scratch   *layout.ScratchWriter
	mediaType string // of blob
	diffID    digest.Digest
	toc       *layer.TOC
	sum       [32]byte // SHA-256 of the archive's bytes
	tree      *sideTree
}

// intake makes a layer of an archive. Its compressed bytes are the blob where layers may be
// compressed so and the user did not ask for another compression, and all tools read it; else its
// tar is compressed anew.
func (s *step) intake(ctx context.Context, f *source.File) (t taken, err error) {
	file, err := s.b.src.Take(f)
	if err != nil {
		return t, err
	}
	defer file.Close()
	start := bufio.NewReader(io.NewSectionReader(file, 0, f.Size))
	c, err := layer.Sniff(start)
	if err != nil {
		return t, err
	}
	portable, err := c.Portable(start)
	if err != nil {
		return t, err
	}
	if portable && s.keeps(c) {
		t.mediaType = c.MediaType
		err = s.intakeAs(ctx, &t, c, file)
	} else {
		t.mediaType = s.b.Compression.MediaType
		err = s.intakeAnew(ctx, &t, c, s.reading(ctx, file, file))
	}
	if err == nil {
		err = file.Done(t.sum)
	}
	if err != nil {
		return taken{}, errors.Join(err, t.drop())
	}
	return t, nil
}

// reading reads r, the bytes of the archive, and tells how far it has come.
func (s *step) reading(ctx context.Context, r io.Reader, file *source.Taking) io.Reader {
	return s.b.progress(ctx, s.n.String(), s.plan.Name(), "expand", file.Size(), r)
}

// drop leaves nothing of what was taken.
func (t *taken) drop() error {
	err := t.tree.drop()
	if t.blob != nil {
		err = errors.Join(err, t.blob.Close())
	}
	if t.scratch != nil {
		err = errors.Join(err, t.scratch.Close())
	}
	return err
}

// keeps reports whether a layer may stay compressed as an archive is.
func (s *step) keeps(c layer.Compression) bool {
	if s.blob().Recompress {
		return c.Name == s.b.Compression.Name
	}
	return c.MediaType != "" && c.Name != "none"
}

// intakeAs stores the compressed bytes, and reads the tar in them. Where the layout's file system
// can share the archive's blocks, it does, and the blob is what is read: the bytes are not written,
// and nobody can change them meanwhile.
func (s *step) intakeAs(ctx context.Context, t *taken, c layer.Compression, file *source.Taking) (err error) {
	if t.blob, err = s.b.Layout.NewBlob(); err != nil {
		return err
	}
	clone, err := t.blob.Clone(file.File)
	if err != nil {
		return err
	}
	var stored io.ReadCloser
	if clone != nil {
		stored = layer.ReadAhead(s.reading(ctx, clone, file))
	} else {
		stored = layer.TeeAhead(s.reading(ctx, file, file), t.blob)
	}
	defer stored.Close()
	tar, err := c.NewReader(stored)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := s.readTar(ctx, t, tar, io.Discard); err != nil {
		return err
	}
	// The decompressor need not have read to the end of the file.
	if _, err := io.Copy(io.Discard, stored); err != nil {
		return err
	}
	t.sum, err = t.blob.Sum()
	return err
}

// intakeAnew stores the tar compressed as new layers are; as it is where no tag needs the layer.
func (s *step) intakeAnew(ctx context.Context, t *taken, c layer.Compression, in io.Reader) error {
	sum := sha256.New()
	read := layer.TeeAhead(in, sum)
	defer read.Close()
	tar, err := c.NewReader(read)
	if err != nil {
		return err
	}
	defer tar.Close()
	z, err := s.tarWriter(t)
	if err != nil {
		return err
	}
	err = s.readTar(ctx, t, tar, z)
	if err == nil {
		_, err = io.Copy(io.Discard, read)
		sum.Sum(t.sum[:0])
	}
	return firstError(err, z.Close())
}

func (s *step) tarWriter(t *taken) (z io.WriteCloser, err error) {
	if s.n.need.tag {
		if t.blob, err = s.b.Layout.NewBlob(); err != nil {
			return nil, err
		}
		return s.b.Compression.NewWriter(t.blob)
	}
	if t.scratch, err = s.b.Layout.NewScratch(); err != nil {
		return nil, err
	}
	return s.plain(t.scratch)
}

// readTar reads a tar to its end, and writes it to w. In that one pass it is checked and indexed,
// and unpacked where a later step needs a tree.
func (s *step) readTar(ctx context.Context, t *taken, tar io.Reader, w io.Writer) (err error) {
	sides := layer.Fork(tar, 2)
	defer sides[0].Close()
	t.tree = s.makeTreeBeside(ctx, func(ctx context.Context, dir string) error {
		defer sides[1].Close()
		return layer.Unpack(ctx, dir, sides[1], s.b.unpackOptions())
	})
	if t.tree == nil {
		sides[1].Close()
	}
	t.toc, t.diffID, err = layer.Sound(ctx, io.TeeReader(sides[0], struct{ io.Writer }{w}), s.b.SourceEpoch)
	if err != nil {
		sides[0].Close() // for which the other side may be waiting
		err = errors.Join(err, t.tree.drop())
		t.tree = nil
	}
	return err
}
