package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"genoci/internal/layer"
)

// owner is a user and a group as numbers.
type owner struct{ uid, gid int }

// lookupOwner reads USER[:GROUP]: names of the image's own passwd(5) and group(5), or numbers. The
// group of a user without GROUP is that of passwd, or for a number that is not there the number.
func lookupOwner(view layer.View, s string) (*owner, error) {
	user, group, hasGroup := strings.Cut(s, ":")
	uid, primary, err := lookupName(view, "etc/passwd", user, "user")
	if err != nil {
		return nil, err
	}
	o := &owner{uid: uid, gid: primary}
	if hasGroup {
		if o.gid, _, err = lookupName(view, "etc/group", group, "group"); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// lookupName finds a name or number in a file of passwd's form, and returns the numbers in its third and
// fourth field; a number that is not there stands for itself.
func lookupName(view layer.View, file, name, what string) (id, primary int, err error) {
	number, numErr := strconv.ParseUint(name, 10, 31)
	content, err := view.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	for line := range bytes.Lines(content) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 4 {
			continue
		}
		third, err := strconv.Atoi(f[2])
		if err != nil || f[0] != name && (numErr != nil || third != int(number)) {
			continue
		}
		fourth, _ := strconv.Atoi(f[3]) // in group(5) the list of members
		return third, fourth, nil
	}
	if numErr == nil {
		return int(number), int(number), nil
	}
	return 0, 0, fmt.Errorf("chown: the image has no %s %q in /%s", what, name, file)
}
