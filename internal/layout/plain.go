package layout

import (
	"encoding/json"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// parsePlain parses an index.json that has exactly the form that Index.encode gives it, with
// entries as Index.Set makes them. It is the common one, and each build reads it, with all the tags
// of earlier builds. ok is false for any other form, right or wrong.
func parsePlain(text string) (x *Index, ok bool) {
	p := plainText(text) // all strings of the entries are parts of this one
	if !p.skip(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[`) {
		return nil, false
	}
	x = &Index{members: []image.Member{
		{Name: "schemaVersion", Value: json.RawMessage("2")},
		{Name: "mediaType", Value: json.RawMessage(`"` + v1.MediaTypeImageIndex + `"`)},
		{Name: "manifests"},
	}}
	list, ok := strings.CutSuffix(string(p), "]}")
	if !ok || list == "" {
		return x, ok
	}
	x.entries, ok = plainEntries(list)
	return x, ok
}

// plainEntries parses one entry or more, those of a long list on several processors.
func plainEntries(list string) ([]entry, bool) {
	const (
		joint    = `},{"mediaType":` // only between two entries: no string of the plain form holds a quotation mark
		minEntry = 100               // bytes
		minPart  = 256 << 10
	)
	n := 1 + strings.Count(list, joint)
	if n > 1+len(list)/minEntry {
		return nil, false
	}
	all := make([]entry, n)
	var failed atomic.Bool
	var wg sync.WaitGroup
	size := max(minPart, len(list)/runtime.GOMAXPROCS(0))
	for rest := all; list != ""; {
		part := list
		if len(list) > size {
			if at := strings.Index(list[size:], joint); at >= 0 {
				part = list[:size+at+1]
			}
		}
		list = strings.TrimPrefix(list[len(part):], ",")
		mine := rest[:1+strings.Count(part, joint)]
		rest = rest[len(mine):]
		wg.Go(func() {
			if !plainText(part).entries(mine) {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	return all, !failed.Load()
}

// entries takes as many entries as there is room for, and reports whether that is all.
func (p plainText) entries(all []entry) bool {
	for i := range all {
		start := p
		desc, ok := p.descriptor()
		if !ok {
			return false
		}
		all[i] = entry{string(start[:len(start)-len(p)]), desc}
		if i < len(all)-1 && !p.skip(",") {
			return false
		}
	}
	return p == ""
}

// plainManifest parses a manifest that has exactly the form that image.Marshal gives it. ok is
// false for any other form, right or wrong. Its strings are parts of data.
func plainManifest(data []byte) (m v1.Manifest, ok bool) {
	p := plain(data)
	if !p.skip(`{"schemaVersion":2,"mediaType":`) {
		return m, false
	}
	if m.MediaType, ok = p.quoted(); !ok || m.MediaType == "" || !p.skip(`,"config":`) {
		return m, false
	}
	if m.Config, ok = p.descriptor(); !ok || !p.skip(`,"layers":[`) {
		return m, false
	}
	m.SchemaVersion, m.Layers = 2, []v1.Descriptor{}
	ok = p.list(func() bool {
		desc, ok := p.descriptor()
		m.Layers = append(m.Layers, desc)
		return ok
	})
	if ok && p.skip(`,"annotations":{`) {
		m.Annotations, ok = p.pairs()
	}
	return m, ok && p == "}"
}

// plainCreated returns the time in the field "created" of a config, nil without one. ok is false
// where plainField's is, and for other values.
func plainCreated(data []byte) (created *time.Time, ok bool) {
	ok = plainField(data, "created", func(p *plainText) bool {
		if p.skip("null") {
			return true
		}
		text, ok := p.quoted()
		created = new(time.Time)
		return ok && created.UnmarshalJSON([]byte(`"`+text+`"`)) == nil
	})
	return created, ok
}

// plainDiffIDs returns those in the field "rootfs" of a config, as image.Marshal writes it. ok is
// false where plainField's is, and for other values.
func plainDiffIDs(data []byte) (diffIDs []digest.Digest, ok bool) {
	ok = plainField(data, "rootfs", func(p *plainText) bool {
		return p.skip(`{"type":"layers","diff_ids":[`) && p.list(func() bool {
			text, ok := p.quoted()
			diffIDs = append(diffIDs, digest.Digest(strings.Clone(text))) // the config is long
			return ok
		}) && p.skip("}")
	})
	return diffIDs, ok
}

// plainField has take take the value of a field of an object that is JSON without blanks, in which
// no other field could be taken for that one. ok is false for any other form, right or wrong, and
// where take says so.
func plainField(data []byte, field string, take func(*plainText) bool) (ok bool) {
	p := plain(data)
	seen := false
	ok = p.object(func(name string) bool {
		switch {
		case strings.Contains(name, `\`), strings.EqualFold(name, field) && (name != field || seen):
			return false
		case name != field:
			return p.value(0)
		}
		seen = true
		return take(&p)
	})
	return ok && p == ""
}

// plainText is JSON without blanks, of which the front is taken. What is not taken may be JSON all
// the same.
type plainText string

// plain returns the text of data, which nobody will change.
func plain(data []byte) plainText { return plainText(unsafe.String(unsafe.SliceData(data), len(data))) }

// skip takes text, and reports whether it is there.
func (p *plainText) skip(text string) bool {
	rest, ok := strings.CutPrefix(string(*p), text)
	*p = plainText(rest)
	return ok
}

// quoted takes a string that stands for itself.
func (p *plainText) quoted() (string, bool) {
	if !p.skip(`"`) {
		return "", false
	}
	for i := range len(*p) {
		switch c := (*p)[i]; {
		case c == '"':
			s := string((*p)[:i])
			*p = (*p)[i+1:]
			return s, true
		case c < ' ', c > '~', c == '\\':
			return "", false
		}
	}
	return "", false
}

// text takes a string as it is written, with its escapes.
func (p *plainText) text() (string, bool) {
	if !p.skip(`"`) {
		return "", false
	}
	s := string(*p)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			*p = plainText(s[i+1:])
			return s[:i], true
		case c < ' ':
			return "", false
		case c == '\\':
			if i++; i == len(s) || !strings.ContainsRune(`"\/bfnrt`, rune(s[i])) { // the long way reads those of numbers
				return "", false
			}
		}
	}
	return "", false
}

// maxPlainDepth bounds how deep values may lie in each other. Configs have three or four levels.
const maxPlainDepth = 20

// value takes a value of any kind, at a depth.
func (p *plainText) value(depth int) (ok bool) {
	switch {
	case *p == "" || depth > maxPlainDepth:
		return false
	case (*p)[0] == '"':
		_, ok = p.text()
		return ok
	case (*p)[0] == '{':
		return p.object(func(string) bool { return p.value(depth + 1) })
	case p.skip("["):
		return p.list(func() bool { return p.value(depth + 1) })
	case p.skip("null"), p.skip("true"), p.skip("false"):
		return true
	}
	_, ok = p.number()
	return ok
}

// object takes an object: member takes the value of each name, which is as it is written.
func (p *plainText) object(member func(name string) bool) bool {
	if !p.skip("{") {
		return false
	}
	if p.skip("}") {
		return true
	}
	for {
		name, ok := p.text()
		if !ok || !p.skip(":") || !member(name) {
			return false
		}
		if p.skip("}") {
			return true
		}
		if !p.skip(",") {
			return false
		}
	}
}

// list takes items up to the bracket that ends a list.
func (p *plainText) list(item func() bool) bool {
	if p.skip("]") {
		return true
	}
	for item() {
		if p.skip("]") {
			return true
		}
		if !p.skip(",") {
			return false
		}
	}
	return false
}

// number takes a number of a size.
func (p *plainText) number() (n int64, ok bool) {
	digits := 0
	for digits < len(*p) && (*p)[digits] >= '0' && (*p)[digits] <= '9' {
		if n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64((*p)[digits]-'0')
		digits++
	}
	ok = digits == 1 || digits > 1 && (*p)[0] != '0'
	*p = (*p)[digits:]
	return n, ok
}

// descriptor takes an entry.
func (p *plainText) descriptor() (desc v1.Descriptor, ok bool) {
	if !p.skip(`{"mediaType":`) {
		return desc, false
	}
	if desc.MediaType, ok = p.quoted(); !ok || desc.MediaType == "" || !p.skip(`,"digest":`) {
		return desc, false
	}
	sum, ok := p.quoted()
	desc.Digest = digest.Digest(sum)
	if !ok || image.CheckDigest(desc.Digest) != nil || !p.skip(`,"size":`) {
		return desc, false
	}
	if desc.Size, ok = p.number(); !ok {
		return desc, false
	}
	if p.skip(`,"annotations":{`) {
		if desc.Annotations, ok = p.pairs(); !ok {
			return desc, false
		}
	}
	return desc, p.skip("}")
}

// pairs takes the strings of a map up to its brace: one or more.
func (p *plainText) pairs() (map[string]string, bool) {
	m := map[string]string{}
	for {
		name, ok := p.quoted()
		if !ok || !p.skip(":") {
			return nil, false
		}
		if m[name], ok = p.quoted(); !ok {
			return nil, false
		}
		if p.skip("}") {
			return m, true
		}
		if !p.skip(",") {
			return nil, false
		}
	}
}
