package spec

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// Hook is shell text that runs on the host, in which %ROOT% is replaced by the path of the root
// filesystem; or the name of a file beside the spec, where it is a single word and there is such a
// file.
type Hook struct {
	Pos    Pos
	Script string
	Post   bool

	Written *Written
}

// IsWord reports whether Script may name a file.
func (h *Hook) IsWord() bool { return !strings.ContainsAny(h.Script, blanks) }

func (h *Hook) written() **Written { return &h.Written }

func (*Hook) whole(text string) Op { return &Hook{Script: text} }

// Runs implements Op.
func (*Hook) Runs() bool { return true }

// Images implements Op.
func (*Hook) Images() []string { return nil }

// Inputs implements Op. What a hook reads is not known.
func (*Hook) Inputs() []string { return nil }

// String implements Op.
func (h *Hook) String() string {
	h = shownAs(h)
	if h.Post {
		return summary("post", h.Script)
	}
	return summary("pre", h.Script)
}

// hooksShape is one script or a list of scripts.
func hooksShape(post bool) shape[[]*Hook] {
	f := textForm("a string", schema{"pattern": nonBlank}, notEmpty)
	hook := shape[*Hook]{{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) (*Hook, bool) {
		script, ok := f.decode(d, n)
		h := &Hook{Pos: posOf(n), Script: script, Post: post}
		if ok && d.args.mayStandIn(n) {
			w := d.asWritten()
			if script, _ = f.decode(w, n); len(w.args.values) > 0 {
				h.Written = &Written{&Hook{Pos: h.Pos, Script: script, Post: post}, w.args.values}
			}
		}
		return h, ok
	}}}
	return append(wrapped(hook), listForm("a list of strings", hook))
}
