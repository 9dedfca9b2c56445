package build

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// treeChange compares two manifests.
type treeChange struct {
	old, now []listed
	name     func(listed) string // the path of a line as it is shown
}

// reasons returns what differs, sorted by path: what changed, came, went, or has another name. Of what is in a folder that
// came or went as a whole, only the number is told.
func (t *treeChange) reasons() []Reason {
	was, is := t.byName(t.old), t.byName(t.now)
	gone := map[string]listed{}
	for name, l := range was {
		if _, ok := is[name]; !ok {
			gone[name] = l
		}
	}
	came := map[string]listed{}
	var all []Reason
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
	all = append(all, whole("+ ", came)...)
	all = append(all, whole("- ", gone)...)
	slices.SortFunc(all, func(a, b Reason) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text)) })
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
func fileChange(name string, old, now listed) Reason {
	r := Reason{Path: name}
	add := func(field, was, is string) {
		if was != is {
			r.Changes = append(r.Changes, Change{field, was, is})
		}
	}
	if old.kind != now.kind {
		add("type", old.kind, now.kind)
	} else {
		add("size", old.size, now.size)
		add("content", old.sum, now.sum)
		add("mode", old.mode, now.mode)
		add("link", old.link, now.link)
		add("mtime", old.mtime, now.mtime)
		add("extended attributes", old.xattr, now.xattr)
	}
	var shown []string
	for _, c := range r.Changes {
		switch {
		case c.Field == "extended attributes":
			shown = append(shown, c.Field)
		case c.Field != "content":
			shown = append(shown, fmt.Sprintf("%s %s -> %s", c.Field, c.Old, c.New))
		case old.size == now.size:
			shown = append(shown, c.Field)
		}
	}
	r.Text = fmt.Sprintf("%s changed (%s)", name, strings.Join(shown, ", "))
	return r
}

// renames takes out of gone and came the files of which there is one of the same content, size and mode in each.
func renames(gone, came map[string]listed) []Reason {
	type content struct{ sum, mode string }
	from := map[content][]string{}
	for name, l := range gone {
		from[content{l.sum, l.mode}] = append(from[content{l.sum, l.mode}], name)
	}
	to := map[content][]string{}
	for name, l := range came {
		to[content{l.sum, l.mode}] = append(to[content{l.sum, l.mode}], name)
	}
	var all []Reason
	for c, names := range to {
		if c.sum == "" || len(names) != 1 || len(from[c]) != 1 || came[names[0]].size == "0" {
			continue
		}
		old, now := from[c][0], names[0]
		all = append(all, Reason{Path: now, Text: "renamed: " + old + " -> " + now, Changes: []Change{{"path", old, now}}})
		delete(gone, old)
		delete(came, now)
	}
	return all
}

// whole tells of paths that came or went, of each folder with all that is in it as one.
func whole(sign string, paths map[string]listed) []Reason {
	var all []Reason
	var folder string // that all names are below until one is not
	below := 0
	end := func() {
		if below > 0 {
			all[len(all)-1].Text += fmt.Sprintf(" and %d more in it", below)
		}
		folder, below = "", 0
	}
	for _, name := range slices.SortedFunc(maps.Keys(paths), comparePaths) {
		if folder != "" && strings.HasPrefix(name, folder) {
			below++
			continue
		}
		end()
		text := sign + name
		change := Change{Field: "type", New: paths[name].kind}
		if sign == "- " {
			change.Old, change.New = change.New, ""
		}
		if paths[name].kind == "folder" {
			folder = name + "/"
			text = sign + folder
		}
		all = append(all, Reason{Path: name, Text: text, Changes: []Change{change}})
	}
	end()
	return all
}

// comparePaths orders a folder before its content, and that before what follows the folder.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}
