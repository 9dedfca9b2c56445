package btrfs

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// touched gathers, from the commands that make a tree of its parent, which paths they touch. Files
// change their names on the way: what is new is first called oINODE-GENERATION-N, and so is for a
// while what stands in the way of something else.
type touched struct {
	// names are paths as they are at this moment: they move with what they are names of.
	names node
	// lost are paths of the parent from which something was removed or moved away. They stay.
	lost node
}

// node is a name in a tree of names.
type node struct {
	below   map[string]*node
	touched bool
	all     bool // and so is everything below it
	placed  bool // it was made or moved here by the stream: what the parent had at this path, if anything, is among the lost
	fresh   bool // it was made by the stream
}

// find returns the node of a path, made where it is missing, and whether it or a folder on the way
// was placed.
func (n *node) find(path string) (found *node, placed bool) {
	if path == "" {
		return n, false
	}
	for name := range strings.SplitSeq(path, "/") {
		next := n.below[name]
		if next == nil {
			if n.below == nil {
				n.below = make(map[string]*node)
			}
			next = &node{}
			n.below[name] = next
		}
		n = next
		placed = placed || n.placed
	}
	return n, placed
}

// put puts the node at a path.
func (n *node) put(name string, at *node) {
	parent, _ := n.find(strings.TrimPrefix(path.Dir(name), "."))
	if at == nil {
		delete(parent.below, path.Base(name))
		return
	}
	if parent.below == nil {
		parent.below = make(map[string]*node)
	}
	parent.below[path.Base(name)] = at
}

// do notes what a command touches.
func (t *touched) do(c command) {
	switch c.number {
	case cmdSubvol, cmdSnapshot:
	case cmdMkdir:
		t.names.put(c.path, &node{touched: true, all: true, placed: true, fresh: true})
	case cmdMkfile, cmdMknod, cmdMkfifo, cmdMksock, cmdSymlink:
		t.names.put(c.path, &node{touched: true, placed: true, fresh: true})
	case cmdLink:
		t.names.put(c.path, &node{touched: true, placed: true, fresh: true})
		t.touch(c.link)
	case cmdRename:
		n := t.take(c.path, true)
		n.touched, n.all, n.placed = true, n.all || !n.placed, true // whether it is a folder is not said
		t.names.put(c.to, n)
	case cmdUnlink:
		t.take(c.path, false)
	case cmdRmdir:
		t.take(c.path, true)
	default:
		t.touch(c.path)
	}
}

func (t *touched) touch(path string) {
	n, _ := t.names.find(path)
	n.touched = true
}

// take takes a name away, with all that may be below it, and returns its node.
func (t *touched) take(path string, all bool) *node {
	n, placed := t.names.find(path)
	t.names.put(path, nil)
	if !placed {
		lost, _ := t.lost.find(path)
		lost.touched, lost.all = true, lost.all || all
	}
	return n
}

// old returns the paths of what was there before, and is touched by itself.
func (t *touched) old() []string {
	var paths []string
	var add func(dir string, n *node)
	add = func(dir string, n *node) {
		if n.touched && !n.fresh {
			paths = append(paths, dir)
		}
		for name, below := range n.below {
			add(path.Join(dir, name), below)
		}
	}
	add(".", &t.names)
	return paths
}

// list returns the paths, parents first, as snapshot.Toucher has them.
func (t *touched) list() []string {
	var paths []string
	var add func(dir string, nodes ...*node)
	add = func(dir string, nodes ...*node) {
		names := make(map[string][]*node)
		var one, all bool
		for _, n := range nodes {
			one, all = one || n.touched, all || n.all
			for name, below := range n.below {
				names[name] = append(names[name], below)
			}
		}
		switch {
		case all:
			paths = append(paths, dir+"/")
			return
		case one:
			paths = append(paths, dir)
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			add(path.Join(dir, name), names[name]...)
		}
	}
	add(".", &t.names, &t.lost)
	return paths
}
