package spec

import "go.yaml.in/yaml/v4"

// Hook is shell text that runs on the host. %ROOT% is replaced by the path of the root filesystem.
type Hook struct {
	Pos    Pos
	Script string
	Post   bool
}

func (*Hook) isOp() {}

// Inputs implements Op. What a hook reads is not known.
func (*Hook) Inputs() []string { return nil }

// String implements Op.
func (h *Hook) String() string {
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
		return &Hook{Pos: posOf(n), Script: script, Post: post}, ok
	}}}
	return append(wrapped(hook), listForm("a list of strings", hook))
}
