package layer

import (
	"encoding/binary"
	"maps"
	"slices"
)

// maxKept is the size up to which the content of a file in Kept is held in a TOC.
const maxKept = 1 << 20

// tocBuilder collects the entries of a layer. Its zero value is ready for use.
type tocBuilder struct {
	top   tocNode // its only child is the root, "."
	count int     // of all entries so far, implied ones and those since replaced too
	text  int64   // bytes of their paths, links and extended attributes
}

// tocNode is one entry, with what is in it.
type tocNode struct {
	Entry
	offset   int64
	body     []byte // kept content
	kept     bool
	children map[string]*tocNode
}

// add puts an entry into the TOC, with the place of its content in the tar. Entries may come in any
// order; folders that are missing on the way are added as implied ones.
//
// A later entry of the same path replaces the earlier, as when the layer is unpacked entry by
// entry: what is no folder replaces a folder with all that is in it, and a folder that replaces
// something else hides what lower layers have there. A whiteout concerns lower layers only
// (image-spec, layer.md), whether it stands before or behind the entry of the same path: with a
// folder there it makes the folder opaque, and a new one.
func (b *tocBuilder) add(e Entry, offset int64) {
	dir := &b.top
	parent, name := split(e.Path)
	if e.Path != "." {
		dir = b.folder(parent)
	}
	b.put(dir, name, &tocNode{Entry: e, offset: offset})
}

// keep sets the content of the file at path, which add was told of before. It is ignored where
// the TOC does not hold content (see Kept); body must not change afterwards.
func (b *tocBuilder) keep(path string, body []byte) {
	n := b.lookup(path)
	if n != nil && n.Type == TypeFile && len(body) <= maxKept && slices.Contains(Kept, path) {
		n.body, n.kept = body, true
	}
}

// lookup returns what has been added at path, or nil.
func (b *tocBuilder) lookup(path string) *tocNode {
	dir := &b.top
	parent, name := split(path)
	if path != "." {
		dir = b.lookup(parent)
	}
	if dir == nil {
		return nil
	}
	return dir.children[name]
}

// folder returns the folder at path; what is missing of it is made, what is no folder replaced.
func (b *tocBuilder) folder(path string) *tocNode {
	if n := b.lookup(path); n != nil && n.Type == TypeDir {
		return n
	}
	b.add(Entry{Path: path, Type: TypeDir, Mode: 0o755, Implied: true}, 0)
	return b.lookup(path)
}

// put makes n the child of dir called name, or merges it with the one that is there.
func (b *tocBuilder) put(dir *tocNode, name string, n *tocNode) {
	b.count++
	b.text += textOf(&n.Entry)
	if old := dir.children[name]; old != nil {
		switch isDir := n.Type == TypeDir; {
		case n.Type == TypeWhiteout:
			if old.Type == TypeDir {
				old.Opaque, old.Implied = true, false
			}
			return
		case isDir && old.Type == TypeDir:
			n.Opaque = n.Opaque || old.Opaque
			n.children = old.children
		case isDir:
			n.Opaque, n.Implied = true, false
		}
	}
	if dir.children == nil {
		dir.children = make(map[string]*tocNode)
	}
	dir.children[name] = n
}

// textOf returns the length of an entry's path, link and extended attributes.
func textOf(e *Entry) int64 {
	n := len(e.Path) + len(e.Link)
	for name, value := range e.Xattrs {
		n += len(name) + len(value)
	}
	return int64(n)
}

// finish makes the TOC of what was added. The names of hard link groups are set to what Entry.Group
// says.
func (b *tocBuilder) finish() *TOC {
	var enc tocEncoder
	enc.flatten(&b.top, 0)
	enc.nameGroups()
	t, err := parseTOC(enc.encode())
	if err != nil {
		panic("layer: encoded TOC: " + err.Error())
	}
	return t
}

// tocEncoder writes the format of a TOC; see toc.go.
type tocEncoder struct {
	nodes   []*tocNode // in the order of Compare
	parents []int      // of nodes, as record numbers
	ends    []int      // of nodes
}

// flatten appends all that is in dir, which is record number parent.
func (enc *tocEncoder) flatten(dir *tocNode, parent int) {
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n, i := dir.children[name], len(enc.nodes)
		enc.nodes = append(enc.nodes, n)
		enc.parents = append(enc.parents, parent)
		enc.ends = append(enc.ends, 0)
		enc.flatten(n, i)
		enc.ends[i] = len(enc.nodes)
	}
}

// nameGroups names each hard link group for its first member, and forgets groups of one.
func (enc *tocEncoder) nameGroups() {
	members := make(map[string][]*tocNode)
	for _, n := range enc.nodes {
		if n.Group != "" {
			members[n.Group] = append(members[n.Group], n)
		}
	}
	for _, group := range members {
		for _, n := range group {
			n.Group = group[0].Path
		}
		if len(group) == 1 {
			group[0].Group = ""
		}
	}
}

func (enc *tocEncoder) encode() []byte {
	le := binary.LittleEndian
	records := tocHeaderSize + len(enc.nodes)*tocRecordSize
	size := records
	for _, n := range enc.nodes {
		size += n.textSize()
	}
	data := make([]byte, records, size) // at once: it may be tens of megabytes
	for i, n := range enc.nodes {
		at := len(data)
		r := data[tocHeaderSize+i*tocRecordSize:][:tocRecordSize]
		le.PutUint64(r[recStrings:], uint64(at-records))
		end := func(length int) {
			le.PutUint32(r[length:], uint32(len(data)-at))
			at = len(data)
		}
		data = append(data, n.Path...)
		end(recPathLen)
		data = append(data, n.Link...)
		end(recLinkLen)
		data = append(data, n.Group...)
		end(recGroupLen)
		data = appendXattrs(data, n.Xattrs)
		end(recXattrLen)
		data = append(data, n.body...)
		end(recBodyLen)
		le.PutUint32(r[recParent:], uint32(enc.parents[i]))
		le.PutUint32(r[recEnd:], uint32(enc.ends[i]))
		le.PutUint16(r[recMode:], uint16(n.Mode))
		r[recType] = byte(n.Type)
		r[recFlags] = n.flags()
		le.PutUint32(r[recUID:], uint32(n.UID))
		le.PutUint32(r[recGID:], uint32(n.GID))
		le.PutUint32(r[recMajor:], n.Major)
		le.PutUint32(r[recMinor:], n.Minor)
		le.PutUint64(r[recSize:], uint64(n.Size))
		le.PutUint64(r[recMTime:], uint64(n.MTime))
		le.PutUint64(r[recOffset:], uint64(n.offset))
		copy(r[recDigest:], n.Digest[:])
	}
	copy(data[hdrMagic:], tocMagic)
	le.PutUint32(data[hdrVersion:], tocVersion)
	le.PutUint32(data[hdrCount:], uint32(len(enc.nodes)))
	le.PutUint64(data[hdrTotal:], uint64(len(data)))
	le.PutUint32(data[hdrChecksum:], headerChecksum(data))
	return data
}

// textSize returns how many bytes of strings the entry's record refers to.
func (n *tocNode) textSize() int {
	size := len(n.Path) + len(n.Link) + len(n.Group) + len(n.body)
	for name, value := range n.Xattrs {
		for _, s := range [...]string{name, value} {
			size += len(binary.AppendUvarint(nil, uint64(len(s)))) + len(s)
		}
	}
	return size
}

func (n *tocNode) flags() (flags byte) {
	if n.Opaque {
		flags |= flagOpaque
	}
	if n.Implied {
		flags |= flagImplied
	}
	if n.kept {
		flags |= flagBody
	}
	return flags
}

// appendXattrs appends the pairs of name and value, sorted by name.
func appendXattrs(b []byte, xattrs map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		for _, s := range [...]string{name, xattrs[name]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return b
}
