package spec

import (
	"fmt"
	"genoci/internal/ref"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// draft is a target with its keys as they were read, before they are put in their places.
type draft struct {
	Target
	actions     map[string][]Action // by directive
	steps       []Action
	environment []KV
	annotations annotations
	tagsPos     Pos
}

// targetShape is the value of a target.
var targetShape = sync.OnceValue(func() shape[*draft] {
	f := targetTable().form()
	return shape[*draft]{{f.kind, f.want, f.schema, func(d *decoder, n *yaml.Node) (*draft, bool) {
		t, ok := f.decode(d, n)
		t.place()
		return &t, ok
	}}}
})

// targetTable is the keys of a target.
func targetTable() table[draft] {
	add := func(t *draft, name string, actions []Action) {
		if t.actions == nil {
			t.actions = map[string][]Action{}
		}
		t.actions[name] = actions
	}
	config := func(t *draft) *Config { return &t.Config }
	return table[draft]{
		fields: slices.Concat([]field[draft]{
			baseField(),
		}, actionFields(add), []field[draft]{
			key("steps", "Actions in exactly this order, in place of the keys for actions.", stepsShape(),
				func(t *draft) *[]Action { return &t.steps }, "step", "actions"),
			key("pre", "Shell text that runs on the host before the actions; %ROOT% is the root filesystem.", hooksShape(false),
				func(t *draft) *[]*Hook { return &t.Pre }, "before"),
			key("post", "Shell text that runs on the host after the actions; %ROOT% is the root filesystem.", hooksShape(true),
				func(t *draft) *[]*Hook { return &t.Post }, "after"),
			key("entrypoint", "The program of a container, and its first arguments.", commandShape(),
				func(t *draft) *[]string { return &config(t).Entrypoint }),
			key("cmd", "Default arguments of the entrypoint, or the default command.", commandShape(),
				func(t *draft) *[]string { return &config(t).Cmd }, "command"),
			key("environment", "Environment of containers, and of run; $NAME is the base's own value.", environmentShape(),
				func(t *draft) *[]KV { return &t.environment }, "env", "envs"),
			key("user", "USER, USER:GROUP or numbers that containers run as.", ownerShape(),
				func(t *draft) *string { return &config(t).User }),
			key("working_dir", "Folder that containers start in.", absoluteShape(),
				func(t *draft) *string { return &config(t).WorkingDir }, "workdir", "cwd"),
			key("stop_signal", "Signal that stops a container.", signalShape(),
				func(t *draft) *string { return &config(t).StopSignal }, "stopsignal"),
			key("labels", "Labels of the image's config.", labelsShape(),
				func(t *draft) *[]KV { return &config(t).Labels }, "label"),
			key("annotations", "Annotations of the image's manifest.", annotationsShape(),
				func(t *draft) *annotations { return &t.annotations }, "annotation"),
			key("volumes", "Folders of the image that hold a container's data.", volumesShape(),
				func(t *draft) *[]string { return &config(t).Volumes }, "volume"),
			key("expose", "Ports that containers listen on: PORT or PORT/PROTOCOL.", exposeShape(),
				func(t *draft) *[]string { return &config(t).Expose }, "ports", "port"),
			key("healthcheck", "How to tell whether a container works, as compose has it.", healthcheckShape(),
				func(t *draft) **Healthcheck { return &config(t).Healthcheck }),
			key("author", "Who made the image.", stringShape(),
				func(t *draft) *string { return &config(t).Author }, "maintainer"),
			key("created", "Time of the image and of what the build makes: RFC 3339, git or now.", createdShape(),
				func(t *draft) *string { return &config(t).Created }, "date", "time"),
			key("build_env", "Environment of run and install only; it is not in the image.", literalEnvironmentShape(),
				func(t *draft) *[]KV { return &t.BuildEnv }, "build_environment"),
			key("build_only", "Build the image as a base or for from, but do not tag it.", boolShape(),
				func(t *draft) *bool { return &t.BuildOnly }, "internal", "abstract"),
			key("tags", "Further tags of the image, beside its name.", tagsShape(),
				func(t *draft) *[]string { return &t.Tags }, "tag"),
		}),
		later: laterKeys(),
		open:  true,
		facets: schema{
			"dependencies": stepsAlone(),
			"if":           isTrue("build_only"),
			"then":         schema{"properties": schema{"tags": schema{"maxItems": 0}}},
		},
		check: finishTarget,
	}
}

// baseField is the key base, which also keeps its place.
func baseField() field[draft] {
	f := key("base", "What the image stands on: empty, a target of this file, a tag of the layout, or oci:DIR:TAG.", baseShape(),
		func(t *draft) *string { return &t.Base }, "from", "image", "parent")
	decode := f.decode
	f.decode = func(d *decoder, value *yaml.Node, into *draft) bool {
		into.BasePos = posOf(value)
		ok := decode(d, value, into)
		if !ok {
			into.Base = "" // whatever it is, it is not to be looked for
		}
		return ok
	}
	return f
}

// stepsAlone is the schema for "steps" and directives excluding each other.
func stepsAlone() schema {
	var each []schema
	for _, name := range directiveNames() {
		each = append(each, schema{"required": []string{name}})
	}
	return schema{"steps": schema{"not": schema{"anyOf": each}}}
}

// place puts what was read into the fields of the Target.
func (t *draft) place() {
	t.Actions = t.steps
	for _, name := range directiveNames() {
		t.Actions = append(t.Actions, t.actions[name]...)
	}
	t.Config.Environment = append(t.environment, t.annotations.environment...)
	t.Config.Annotations = t.annotations.pairs
}

// finishTarget checks the keys of a target together.
func finishTarget(d *decoder, _ *yaml.Node, keys keys, t *draft) {
	if steps, ok := keys["steps"]; ok {
		for _, e := range keys.inOrder(directiveNames()...) {
			d.errorf(posOf(e.key), `%q does not go with "steps" (line %d); make it one of the steps`, e.key.Value, steps.key.Line)
		}
	}
	set := map[string]bool{}
	for _, v := range t.environment {
		set[v.Key] = true
	}
	for _, v := range t.annotations.environment {
		if set[v.Key] {
			d.errorf(posOf(keys["annotations"].key), `annotations: variable %q is also in "environment"`, v.Key)
		}
	}
	if tags, ok := keys["tags"]; ok {
		t.tagsPos = posOf(tags.key)
		if t.BuildOnly && len(t.Tags) > 0 {
			d.errorf(posOf(tags.key), `"tags" does not go with "build_only" (line %d): such an image gets no tag`, keys["build_only"].key.Line)
		}
	}
}

// baseShape is what an image can stand on. Whether a target or tag exists is not seen here.
func baseShape() shape[string] {
	facets := schema{"anyOf": []schema{
		{"pattern": `^oci:[^\n]+:[^:\n]+$`},
		{"pattern": "^" + nonBlank + "+$", "allOf": []schema{not(`://`), not(`^` + transports() + `:`)}},
	}}
	return shape[string]{textForm("a string", facets, func(s string) (string, error) {
		if s == scratchBase {
			return emptyBase, nil
		}
		return s, checkBase(s)
	})}
}

// transports returns the words that begin the names of images elsewhere, as a regular expression.
func transports() string {
	var words []string
	for _, t := range ref.Transports() {
		words = append(words, string(t))
	}
	return "(" + strings.Join(words, "|") + ")"
}

// checkBase refuses what cannot name a base.
func checkBase(s string) error {
	if _, err := notEmpty(s); err != nil {
		return err
	}
	r, err := ref.Parse(s)
	switch {
	case err != nil:
		return err
	case r.Transport == ref.None && strings.ContainsAny(s, blanks):
		return fmt.Errorf("%q cannot name a base", s)
	case r.Transport == ref.None:
		return nil
	case r.Transport != ref.OCI:
		return &textError{msg: fmt.Sprintf("not supported yet: %q", s),
			suggest: "copy the image into an OCI layout first (skopeo copy ... oci:DIR:TAG), and write oci:DIR:TAG here"}
	case r.Tag == "" && r.Digest == "":
		return fmt.Errorf("invalid image %q: expected oci:DIR:TAG", s)
	}
	return nil
}

// laterKeys are reserved in targets and settings, so that no file changes its meaning later.
func laterKeys() []string {
	return []string{"platforms", "matrix", "include", "test", "outputs", "artifacts", "users", "layer"}
}
