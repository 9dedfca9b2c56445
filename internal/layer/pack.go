package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Pack writes changes as a layer's uncompressed tar to w, and returns its TOC and its DiffID.
// Changes must be in canonical order: by Compare, but a folder's whiteouts stand right behind it.
// Bytes depend on the changes alone: PAX format, whole seconds, no user names, no access times,
// numeric owners (image-spec, layer.md). Content that no longer has the size or the digest that its
// entry says is an error ("changed while it was read").
//
// Small files are opened, read and digested by several goroutines, some files before it is their
// turn; they have ended when Pack returns.
func Pack(ctx context.Context, w io.Writer, changes []Change) (*TOC, digest.Digest, error) {
	p := newPacker(w)
	if err := p.all(ctx, changes); err != nil {
		return nil, "", err
	}
	if err := p.write(make([]byte, 2*tarBlock)); err != nil {
		return nil, "", err
	}
	return p.toc.finish(), digest.NewDigest(digest.SHA256, p.sum), nil
}

// Sort brings changes into the order that Pack wants.
func Sort(changes []Change) { slices.SortFunc(changes, compareChanges) }

// compareChanges orders by Compare, but the whiteouts in a folder come before all else in it.
func compareChanges(a, b Change) int {
	aFirst, bFirst := whiteoutBeside(a, b.Path), whiteoutBeside(b, a.Path)
	switch {
	case aFirst && !bFirst:
		return -1
	case bFirst && !aFirst:
		return 1
	}
	return Compare(a.Path, b.Path)
}

// whiteoutBeside reports whether ch is a whiteout in a folder that path lies below.
func whiteoutBeside(ch Change, path string) bool {
	if ch.Type != TypeWhiteout {
		return false
	}
	dir, _ := split(ch.Path)
	return path != dir && Below(path, dir)
}

// packer is the state of one Pack.
type packer struct {
	w      io.Writer
	room   func() []byte // for content on its way to w
	size   int64         // of what was written
	sum    hash.Hash     // of it
	toc    tocBuilder
	packed map[string]packedFile // what the further names of hard link groups refer to
}

// packedFile is where the content of a hard link group is, and its digest.
type packedFile struct {
	digest [32]byte
	offset int64
}

func newPacker(w io.Writer) *packer {
	p := &packer{w: w, sum: sha256.New(), packed: make(map[string]packedFile)}
	if direct, ok := w.(*blockWriter); ok {
		p.room = direct.room
	} else {
		buf := make([]byte, 0, bufferSize)
		p.room = func() []byte { return buf }
	}
	return p
}

// all writes all entries.
func (p *packer) all(ctx context.Context, changes []Change) error {
	ahead := newBatchReader(ctx, changes)
	defer ahead.close()
	for b := ahead.next(); b != nil; b = ahead.next() {
		if err := p.batch(ctx, b); err != nil {
			return err
		}
		ahead.release(b)
	}
	return nil
}

// batch writes the entries of a batch, and the large file behind it.
func (p *packer) batch(ctx context.Context, b *batch) error {
	start := p.size
	for i := range b.entries {
		e := &b.entries[i]
		if err := p.add(&e.Entry, start+e.offset); err != nil {
			return packError(e.Path, err)
		}
		if e.body != nil {
			p.toc.keep(e.Path, e.body)
		}
	}
	if b.err != nil {
		return b.err
	}
	if err := p.write(b.data); err != nil || !b.large {
		return err
	}
	if err := p.stream(ctx, b.list[b.end]); err != nil {
		return packError(b.list[b.end].Path, err)
	}
	return nil
}

// packError is an error that concerns one entry.
func packError(path string, err error) error {
	return &fs.PathError{Op: "pack", Path: path, Err: err}
}

// add puts an entry whose header and content are written, or about to be, into the TOC. Its content
// is at offset.
func (p *packer) add(e *Entry, offset int64) error {
	if e.Type != TypeFile {
		offset = 0
	}
	if isLink(e) {
		first, ok := p.packed[e.Group]
		if !ok {
			return fmt.Errorf("hard link to %s, which is not in the layer", e.Group)
		}
		e.Digest, offset = first.digest, first.offset
	} else if e.Group != "" {
		p.packed[e.Path] = packedFile{e.Digest, offset}
	}
	p.toc.add(*e, offset)
	return nil
}

// stream writes a large file. What is read goes through no other memory than the writer's, where
// that offers it.
func (p *packer) stream(ctx context.Context, ch Change) error {
	e, err := checkedEntry(ch)
	if err != nil {
		return err
	}
	header, err := appendHeader(nil, e)
	if err != nil {
		return err
	}
	if err := p.write(header); err != nil {
		return err
	}
	offset := p.size
	if e.Digest, err = p.content(ctx, ch); err != nil {
		return err
	}
	if err := p.write(make([]byte, padding(e.Size))); err != nil {
		return err
	}
	return p.add(&e, offset)
}

// content writes the content of a file, and returns its digest.
func (p *packer) content(ctx context.Context, ch Change) (got [32]byte, err error) {
	if ch.Open == nil {
		return got, errNoContent
	}
	r, err := ch.Open()
	if err != nil {
		return got, err
	}
	defer r.Close()
	sum := sha256.New()
	for left := ch.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return got, err
		}
		buf := p.room()
		buf = buf[:min(int64(cap(buf)), left+1, bufferSize)] // one byte more: a file that gives less than it is asked for is at its end, and knows it
		n, rerr := r.Read(buf)
		if left -= int64(n); left < 0 {
			return got, errChanged
		}
		writeBoth(p.sum, sum, buf[:n])
		if err := p.pass(buf[:n]); err != nil {
			return got, err
		}
		if err := short(rerr, left); err != nil {
			return got, err
		}
	}
	if err := atEnd(r); err != nil {
		return got, err
	}
	sum.Sum(got[:0])
	return got, sameDigest(ch.Digest, got)
}

// write writes bytes of the tar.
func (p *packer) write(b []byte) error {
	p.sum.Write(b)
	return p.pass(b)
}

// pass is write for what is in the sum.
func (p *packer) pass(b []byte) error {
	n, err := p.w.Write(b)
	p.size += int64(n)
	return err
}

// checkedEntry returns the entry of a change as it stands in the layer.
func checkedEntry(ch Change) (Entry, error) {
	if ch.Opaque {
		return Entry{}, errors.New("opaque folders are written as whiteouts")
	}
	if hasWhiteout(ch.Path) {
		return Entry{}, ErrReserved
	}
	e := canonical(ch.Entry)
	e.Group = ch.Group
	return e, nil
}

// errChanged means that content is no longer what it was when it was looked at.
var errChanged = errors.New("changed while it was read")

// sameDigest makes sure that content has the digest that it should have, if that is known.
func sameDigest(want, got [32]byte) error {
	if want != ([32]byte{}) && want != got {
		return errChanged
	}
	return nil
}

// short judges the error of a read after which left bytes of a file are still to come.
func short(err error, left int64) error {
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case left > 0:
		return errChanged
	default:
		return nil
	}
}

// atEnd makes sure that nothing of a file is left.
func atEnd(r io.Reader) error {
	var more [1]byte
	switch _, err := io.ReadFull(r, more[:]); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return errChanged
	}
}

// padding is how many zero bytes follow size bytes of content.
func padding(size int64) int { return int(-size & (tarBlock - 1)) }

// copyContent copies the content of a file, which must have size bytes, through buf to w.
func copyContent(ctx context.Context, w io.Writer, size int64, open Opener, buf []byte) error {
	if open == nil {
		if size != 0 {
			return errNoContent
		}
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.CopyBuffer(w, contextReader{ctx, io.LimitReader(r, size)}, buf)
	if err != nil {
		return err
	}
	if n == size {
		switch _, err = io.ReadFull(r, buf[:1]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return errChanged
}

// split cuts a canonical path into its folder and its name; "." has the folder "." itself.
func split(path string) (dir, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return ".", path
}

// join is the reverse of split.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
