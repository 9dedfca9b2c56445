package layer

import (
	"context"
	"io"
)

// UnpackOptions says what the process may do in the folder.
type UnpackOptions struct {
	// Placeholders: device nodes are made as empty files with the extended attribute
	// user.genoci.node ("c 1 3"), since mknod(2) is refused outside the initial user namespace.
	// Dir and Diff read them as the devices that they stand for.
	Placeholders bool
	// KeepOwner false leaves all files owned by the caller, for ordinary users without a user namespace;
	// extended attributes that need privileges are then dropped as well.
	KeepOwner bool
}

// Unpack applies a layer's uncompressed tar to the folder dir, whiteouts and opaque folders included.
// Every path is resolved as if dir were the root (openat2 RESOLVE_IN_ROOT); nothing outside dir is ever
// touched, mounts below dir are not crossed when something is removed. Times of folders are set last, deepest first.
func Unpack(ctx context.Context, dir string, tar io.Reader, o UnpackOptions) error { panic("stub") }

// Apply puts changes, sorted as Pack wants them, into the folder dir: the same as Unpack of Pack's tar.
func Apply(ctx context.Context, dir string, changes []Change, o UnpackOptions) error { panic("stub") }

// RemoveAll deletes what is at path and below, following no symlink and crossing no mount (EBUSY then).
// Unlike os.RemoveAll it copes with folders without write permission, as far as the process may.
func RemoveAll(path string) error { panic("stub") }
