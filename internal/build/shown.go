package build

import (
	"path"

	"genoci/internal/plan"
	"genoci/internal/source"
	"genoci/internal/spec"
)

// shownStep is what is kept beside the key of a step in whose ops arguments stand, so that Explain can say which of them changed, and
// what else, without their values.
type shownStep struct {
	Ops  []any               // as in stepNode, with ${{NAME}} in place of the values; null where no argument stands in an op
	Args []map[string]string // values by name, of each op
}

// shownNode returns what is kept of a step whose key has the ops; nil where no argument stands in it.
func shownNode(s *plan.Step, ops []any, ins []*input) *shownStep {
	out := &shownStep{Ops: make([]any, len(ops)), Args: make([]map[string]string, len(ops))}
	some := false
	for i, a := range s.Ops {
		if out.Args[i] = spec.Arguments(a.Op); out.Args[i] != nil {
			out.Ops[i] = shownOp(ops[i], a.Op, ins[i])
			some = true
		}
	}
	if !some {
		return nil
	}
	return out
}

// shownOp returns the node of an op with the texts that are shown of it.
func shownOp(node any, op spec.Op, in *input) any {
	switch written := spec.Shown(op).(type) {
	case *spec.Expand:
		node := node.(expandNode)
		node.Dest, node.Strip, node.Include, node.Exclude, node.Chown = written.Dest, written.StripComponents, written.Include, written.Exclude, written.Chown
		return node
	case *spec.Copy:
		node := node.(copyNode)
		node.Content, node.Dest, node.Chown, node.Chmod = written.Content, written.Dest, written.Chown, written.Chmod
		if node.Src != "" {
			node.Src = written.Src
		}
		if node.Exclude != nil {
			node.Exclude = written.Exclude
		}
		return node
	case *spec.Install:
		node := node.(installNode)
		node.Packages = written.Packages
		if files := op.(*spec.Install).Files; len(files) == len(in.files) {
			node.Install = nil
			for i, name := range spec.ShownInputs(op) {
				f := in.files[i]
				if source.IsURL(files[i]) {
					f.Name = path.Base(name)
				}
				node.Install = append(node.Install, f.String()+" "+f.Name)
			}
		}
		return node
	case *spec.Run:
		node := node.(runNode)
		node.Run, node.Shell, node.Args, node.Workdir, node.User, node.Network = written.Script, written.Shell, written.Args, written.Workdir, written.User, written.Network
		return node
	case *spec.Remove:
		return removeNode{written.Paths}
	case *spec.Hook:
	}
	return node
}

// shownURLs returns the texts that are shown in place of URLs in which arguments stand.
func shownURLs(p *plan.Plan) map[string]string {
	all := map[string]string{}
	for _, img := range p.Images {
		for _, a := range img.Target.Actions {
			if spec.Arguments(a.Op) == nil {
				continue
			}
			written := spec.ShownInputs(a.Op)
			for i, name := range a.Op.Inputs() {
				if source.IsURL(name) {
					all[name] = written[i]
				}
			}
		}
	}
	return all
}
