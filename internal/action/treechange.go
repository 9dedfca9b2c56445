package action

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"genoci/internal/stepkey"
)

// treeChange compares two manifests.
type treeChange struct {
	old, now []listed
	name     func(listed) string // the path of a line as it is shown
}

// reasons returns what differs, sorted by path: what changed, came, went, or has another name. Of
// what is in a folder that came or went as a whole, only the number is told.
func (t *treeChange) reasons() []stepkey.Reason {
	was, is := t.byName(t.old), t.byName(t.now)
	gone := map[string]listed{}
	for name, l := range was {
		if _, ok := is[name]; !ok {
			gone[name] = l
		}
	}
	came := map[string]listed{}
	var all []stepkey.Reason
	for name, l := range is {
		before, ok := was[name]
		switch {
		case !ok:
			came[name] = l
		case before != l:
			all = append(all, fileChange(name, before, l))
		}
	}
	all = append(all, renames(gone, came)...)
	all = append(all, whole(stepkey.FileAdded, came)...)
	all = append(all, whole(stepkey.FileRemoved, gone)...)
	slices.SortFunc(all, func(a, b stepkey.Reason) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.String(), b.String()))
	})
	return all
}

func (t *treeChange) byName(lines []listed) map[string]listed {
	m := make(map[string]listed, len(lines))
	for _, l := range lines {
		name := t.name(l)
		l.match = ""
		m[name] = l
	}
	return m
}

// fileChange tells what is different about a path that was there and is.
func fileChange(name string, old, now listed) stepkey.Reason {
	r := stepkey.Reason{Code: stepkey.FileChanged, Path: name}
	add := func(field, was, is string) {
		if was != is {
			r.Changes = append(r.Changes, stepkey.Change{Field: field, Old: was, New: is})
		}
	}
	if old.kind != now.kind {
		add("type", old.kind, now.kind)
	} else {
		add(stepkey.SizeField, old.size, now.size)
		add(stepkey.ContentField, old.sum, now.sum)
		add("mode", old.mode, now.mode)
		add("link", old.link, now.link)
		add("mtime", old.mtime, now.mtime)
		add(stepkey.XattrsField, old.xattr, now.xattr)
	}
	return r
}

// renames takes out of gone and came the files of which there is one of the same content, size and
// mode in each.
func renames(gone, came map[string]listed) []stepkey.Reason {
	type content struct{ sum, mode string }
	from := map[content][]string{}
	for name, l := range gone {
		from[content{l.sum, l.mode}] = append(from[content{l.sum, l.mode}], name)
	}
	to := map[content][]string{}
	for name, l := range came {
		to[content{l.sum, l.mode}] = append(to[content{l.sum, l.mode}], name)
	}
	var all []stepkey.Reason
	for c, names := range to {
		if c.sum == "" || len(names) != 1 || len(from[c]) != 1 || came[names[0]].size == "0" {
			continue
		}
		old, now := from[c][0], names[0]
		all = append(all, stepkey.Reason{Code: stepkey.FileRenamed, Path: now, Changes: []stepkey.Change{{Field: "path", Old: old, New: now}}})
		delete(gone, old)
		delete(came, now)
	}
	return all
}

// whole tells of paths that came or went, of each folder with all that is in it as one.
func whole(code stepkey.Code, paths map[string]listed) []stepkey.Reason {
	var all []stepkey.Reason
	folder := "" // that all names are below until one is not
	for _, name := range slices.SortedFunc(maps.Keys(paths), comparePaths) {
		if folder != "" && strings.HasPrefix(name, folder) {
			all[len(all)-1].Below++
			continue
		}
		r := stepkey.Reason{Code: code, Path: name, Folder: paths[name].kind == "folder"}
		if folder = ""; r.Folder {
			folder = name + "/"
		}
		change := stepkey.Change{Field: "type", New: paths[name].kind}
		if code == stepkey.FileRemoved {
			change.Old, change.New = change.New, ""
		}
		r.Changes = []stepkey.Change{change}
		all = append(all, r)
	}
	return all
}

// comparePaths orders a folder before its content, and that before what follows the folder.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}
