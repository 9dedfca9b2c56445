package layer

import (
	"context"
	"io"
)

// Pack writes changes as a layer's uncompressed tar to w, and returns its TOC. Changes must be in canonical order: by
// Compare, but a folder's whiteouts stand right behind it. Bytes depend on the changes alone: PAX
// format, whole seconds, no user names, no access times, numeric owners (image-spec, layer.md).
// Content that no longer has the size or the digest that its entry says is an error ("changed while it was read").
func Pack(ctx context.Context, w io.Writer, changes []Change) (*TOC, error) { panic("stub") }

// Sort brings changes into the order that Pack wants.
func Sort(changes []Change) { panic("stub") }

// KeepXattr reports whether a layer keeps the extended attribute: security.capability, POSIX ACLs and user.*,
// but not user.overlay.*, user.genoci.*, security.selinux, security.ima or trusted.*.
func KeepXattr(name string) bool { panic("stub") }
