package beneath

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"genoci/internal/treetest"
)

// Each set of flags leads as far as its name says.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	treetest.Make(t, dir, `
		outside file
		root/etc/real file
		root/link symlink etc
		root/absolute symlink /etc
		root/up symlink ../../outside
	`, treetest.NoOwners)
	root, err := openRoot(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for path, want := range map[string]struct{ anywhere, noSymlinks, inRoot, inRootNoLinks error }{
		"etc/real":       {nil, nil, nil, nil},
		"/etc/real":      {unix.ENOENT, unix.EXDEV, nil, nil},
		"../../etc/real": {unix.ENOENT, unix.EXDEV, nil, nil},
		"link/real":      {nil, unix.ELOOP, nil, unix.ELOOP},
		"absolute/real":  {unix.ENOENT, unix.ELOOP, nil, unix.ELOOP},
		"up":             {unix.ENOENT, unix.ELOOP, unix.ENOENT, unix.ELOOP},
		"../outside":     {nil, unix.EXDEV, unix.ENOENT, unix.ENOENT},
		"etc/real/file":  {unix.ENOTDIR, unix.ENOTDIR, unix.ENOTDIR, unix.ENOTDIR},
	} {
		for _, test := range []struct {
			name string
			lead uint64
			want error
		}{
			{"Anywhere", Anywhere, want.anywhere}, {"NoSymlinks", NoSymlinks, want.noSymlinks}, {"OnMount", OnMount, want.noSymlinks},
			{"InRoot", InRoot, want.inRoot}, {"InRootNoLinks", InRootNoLinks, want.inRootNoLinks},
		} {
			fd, err := Open(root, path, unix.O_PATH, test.lead)
			if err == nil {
				unix.Close(fd)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %s: %v, want %v", path, test.name, err, test.want)
			}
		}
	}
}

// A descriptor is closed when the process runs another program.
func TestOpenCloseOnExec(t *testing.T) {
	fd, err := Open(unix.AT_FDCWD, t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY, Anywhere)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}
