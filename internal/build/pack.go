package build

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/imagefs"
	"genoci/internal/layer"
	"genoci/internal/layout"
)

// pack makes a layer of changes; nil where there are none. Where something stands on the layer, it
// returns as soon as the tar of the layer was made, and with that its DiffID and index; the tar is
// then compressed beside what comes next.
func (s *step) pack(ctx context.Context, changes []layer.Change) (*builtLayer, error) {
	switch {
	case len(changes) == 0:
		return nil, nil
	case !s.n.need.tag:
		return s.packScratch(ctx, changes)
	case s.awaited():
		return s.packAhead(ctx, changes)
	}
	l := s.newLayer()
	blob, err := s.compress(ctx, contentSize(changes), func(z io.Writer) error {
		return s.makeTar(ctx, l, z, changes)
	})
	if err != nil {
		_ = s.n.base.layers.wait(ctx) // what goes wrong with a layer below too, as on a full disk, is told of that
		return nil, err
	}
	s.finishLater(l, func() (v1.Descriptor, error) { return commit(blob, s.b.Compression.MediaType) })
	return l, nil
}

// commit completes a blob.
func commit(blob *layout.BlobWriter, mediaType string) (v1.Descriptor, error) {
	desc, err := blob.Commit(mediaType)
	return desc, errors.Join(err, blob.Close())
}

// packScratch keeps the tar as it is: no tag needs the layer.
func (s *step) packScratch(ctx context.Context, changes []layer.Change) (*builtLayer, error) {
	l := s.newLayer()
	w, err := s.b.Layout.NewScratch()
	if err != nil {
		return nil, err
	}
	z, err := s.plain(w, s.counting("write", contentSize(changes), io.Discard))
	if err == nil {
		err = firstError(s.makeTar(ctx, l, z, changes), z.Close())
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	l.scratch = true
	s.finishLater(l, func() (v1.Descriptor, error) { return w.Commit(l.DiffID) })
	return l, nil
}

// plain writes to w without compressing.
func (s *step) plain(w io.Writer, taps ...io.Writer) (io.WriteCloser, error) {
	none, err := layer.CompressionByName("none")
	if err != nil {
		return nil, err
	}
	return none.NewWriter(w, taps...)
}

// packAhead does not wait for the compression.
func (s *step) packAhead(ctx context.Context, changes []layer.Change) (*builtLayer, error) {
	tar, l := newSpool(s.b.Cache.Temp), s.newLayer()
	s.finishLater(l, func() (v1.Descriptor, error) {
		blob, err := s.compress(ctx, contentSize(changes), func(z io.Writer) error {
			_, err := io.Copy(z, tar) // into the blocks of the compressor
			return err
		})
		if err := errors.Join(err, tar.CloseRead(err)); err != nil {
			return v1.Descriptor{}, err
		}
		return commit(blob, s.b.Compression.MediaType)
	})
	err := s.makeTar(ctx, l, tar, changes)
	tar.CloseWrite(err)
	if err != nil {
		<-l.ready
		return nil, err
	}
	return l, nil
}

// makeTar writes the tar of a layer, and notes what it holds.
func (s *step) makeTar(ctx context.Context, l *builtLayer, w io.Writer, changes []layer.Change) error {
	toc, diffID, err := layer.Pack(ctx, w, changes)
	if err != nil {
		return err
	}
	s.learn(changes, toc)
	return s.identify(ctx, l, diffID, toc)
}

// packAndMakeTree is pack for a step that made no tree; the tree is made beside, if a later step needs
// it.
func (s *step) packAndMakeTree(ctx context.Context, changes []layer.Change) (*builtLayer, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	tree := s.makeTreeBeside(ctx, func(ctx context.Context, dir string) error {
		return layer.Apply(ctx, dir, changes, s.b.unpackOptions())
	})
	l, err := s.pack(ctx, changes)
	if err != nil {
		return nil, errors.Join(err, tree.drop())
	}
	return l, tree.commit(ctx, s.n.stack().on(l))
}

func contentSize(changes []layer.Change) int64 {
	var n int64
	for _, c := range changes {
		n += c.Size
	}
	return n
}

// compress makes a blob of the tar that write writes, about total bytes of it. It waits until few
// others do so.
func (s *step) compress(ctx context.Context, total int64, write func(io.Writer) error) (*layout.BlobWriter, error) {
	select {
	case s.b.packing <- struct{}{}:
		defer func() { <-s.b.packing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	blob, err := s.b.Layout.NewBlob()
	if err != nil {
		return nil, err
	}
	z, err := s.b.Compression.NewWriter(blob, s.counting("compress", total, io.Discard))
	if err == nil {
		err = firstError(write(z), z.Close())
	}
	if err != nil {
		blob.Close()
		return nil, err
	}
	return blob, nil
}

// newLayer returns a layer of the step that is still to be made.
func (s *step) newLayer() *builtLayer {
	return &builtLayer{ready: make(chan struct{})}
}

// identify notes what the layer holds, and completes the key of the step. It has to be called
// before the blob is complete.
func (s *step) identify(ctx context.Context, l *builtLayer, diffID digest.Digest, toc *layer.TOC) error {
	l.DiffID, l.toc = diffID, toc
	_, _ = s.b.tocs.get(string(diffID), func() (*layer.TOC, error) { return toc, nil })
	if !s.unread {
		return nil
	}
	return s.learnKey(ctx)
}

// finishLater completes a layer beside what comes next: put puts it into the layout, its index and the
// entry of the cache are stored, and l is ready.
func (s *step) finishLater(l *builtLayer, put func() (v1.Descriptor, error)) {
	s.n.made.blobs.Go(func() {
		defer close(l.ready)
		if err := s.store(l, put); err != nil {
			l.err = s.error(err)
		}
	})
}

func (s *step) store(l *builtLayer, put func() (v1.Descriptor, error)) (err error) {
	if l.Descriptor, err = put(); err != nil {
		return err
	}
	s.b.images().Vouch(imagefs.Layer{Descriptor: l.Descriptor, DiffID: l.DiffID})
	if err = s.b.images().SaveTOC(l.DiffID, l.toc); err == nil {
		err = s.remember(l)
	}
	if err == nil {
		s.done(false, l.Descriptor.Size)
	}
	return err
}

// withBlob returns the layer with a blob that a tag can name. Where it has none, since no tag needed
// it, it is compressed beside what comes next.
func (s *step) withBlob(ctx context.Context, l *builtLayer) *builtLayer {
	if l == nil || !l.scratch || !s.n.need.tag {
		return l
	}
	compressed := &builtLayer{DiffID: l.DiffID, ready: make(chan struct{})}
	s.n.made.own = s.n.made.own.on(compressed)
	s.n.made.blobs.Go(func() {
		defer close(compressed.ready)
		var err error
		compressed.Descriptor, err = s.b.compressed.get(string(l.DiffID), func() (v1.Descriptor, error) { return s.makeBlob(ctx, l) })
		if err == nil {
			s.b.images().Vouch(imagefs.Layer{Descriptor: compressed.Descriptor, DiffID: l.DiffID})
			err = s.rememberBlob(compressed)
		}
		if err != nil {
			compressed.err = s.error(err)
		}
	})
	return compressed
}

// makeBlob makes the blob of a scratch layer.
func (s *step) makeBlob(ctx context.Context, l *builtLayer) (v1.Descriptor, error) {
	desc, err := l.wait(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	tar, err := s.b.images().OpenLayer(desc, nil)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer tar.Close()
	blob, err := s.compress(ctx, desc.Size, func(z io.Writer) error {
		_, err := io.Copy(z, tar) // to the end, where the digest is checked
		return err
	})
	if err != nil {
		return v1.Descriptor{}, err
	}
	return commit(blob, s.b.Compression.MediaType)
}

// awaited reports whether something stands on the step's layer.
func (s *step) awaited() bool { return s.n.need.stoodOn || s.plan.Index < len(s.n.image.Steps)-1 }
