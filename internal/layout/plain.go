package layout

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"genoci/internal/image"
)

// parsePlain parses an index.json that has exactly the form that Index.encode gives it, with entries as Index.Set makes them. It is
// the common one, and each build reads it, with all the tags of earlier builds. ok is false for any other form, right or wrong.
func parsePlain(data []byte) (x *Index, ok bool) {
	p := plainText(data) // all strings of the entries are parts of this one
	if !p.skip(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[`) {
		return nil, false
	}
	x = &Index{members: []image.Member{
		{Name: "schemaVersion", Value: json.RawMessage("2")},
		{Name: "mediaType", Value: json.RawMessage(`"` + v1.MediaTypeImageIndex + `"`)},
		{Name: "manifests"},
	}}
	for more := !p.skip("]}"); more; {
		start := p
		desc, ok := p.descriptor()
		if !ok {
			return nil, false
		}
		at := len(data) - len(start)
		x.entries = append(x.entries, entry{data[at : len(data)-len(p)], desc})
		if more = p.skip(","); !more && !p.skip("]}") {
			return nil, false
		}
	}
	return x, len(p) == 0
}

// plainText is JSON without blanks, of which the front is taken.
type plainText string

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
