package spec

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// compileSchema returns Schema ready for use.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("genoci.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("genoci.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validator returns a function that validates the text of a spec by Schema, as an editor does: with
// numbers, booleans and times made of the scalars that look like such.
func validator(t testing.TB) func(text string) error {
	t.Helper()
	s := compileSchema(t)
	return func(text string) error {
		var v any
		if err := yaml.Load([]byte(text), &v); err != nil {
			return err
		}
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return s.Validate(instance)
	}
}

// TestSchemaRefuses holds the schema against the decoder on wrong specs. What only the decoder sees
// is listed, so that the list says exactly where a schema cannot help.
func TestSchemaRefuses(t *testing.T) {
	const (
		text     = "a schema sees values, not how they are written"
		patterns = "a pattern that said it would be beyond what all engines read"
		together = "a schema cannot compare values with each other"
		args     = "arguments are not known to a schema"
	)
	onlyDecoder := map[string]string{
		"tag-of-yaml":                    text,
		"tag-on-a-map":                   text,
		"nul-in-a-string":                text,
		"nul-in-a-key":                   text,
		"expand-word-with-a-wrong-url":   patterns,
		"glob-not-closed":                patterns,
		"exception-first":                together,
		"remove-everything":              patterns,
		"entrypoint-quote":               patterns,
		"entrypoint-backslash":           patterns,
		"environment-shell-default":      patterns,
		"environment-twice":              together,
		"annotations-env-in-both":        together,
		"tags-of-another-target":         together,
		"expose-twice":                   together,
		"no-target":                      together,
		"argument-undefined":             args,
		"argument-undefined-in-a-string": args,
		"argument-without-default":       args,
		"argument-in-argument":           args,
		"argument-not-closed":            args,
	}
	validate := validator(t)
	for _, w := range wrongSpecs(t) {
		err := validate(w.yaml)
		why, expected := onlyDecoder[w.name]
		switch {
		case err == nil && !expected:
			t.Errorf("%s: the schema accepts it", w.name)
		case err != nil && expected:
			t.Errorf("%s: the schema refuses it too, though %s: %v", w.name, why, err)
		}
	}
}

// TestSchemaKeys walks the schema and the tables in parallel.
func TestSchemaKeys(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	target := s["additionalProperties"]
	at := func(v any, path ...string) any {
		for _, p := range path {
			v = v.(map[string]any)[p]
		}
		return v
	}
	// object finds the form of a value that is an object.
	object := func(v any) any {
		forms, ok := at(v, "anyOf").([]any)
		if !ok {
			return v
		}
		for _, f := range forms {
			if at(f, "type") == "object" {
				return f
			}
		}
		return nil
	}
	property := func(name string) any { return at(target, "properties", name) }
	for _, test := range []struct {
		what   string
		schema any
		keys   []string
	}{
		{"genoci", at(s, "properties", "genoci"), names(settingsTable())},
		{"target", target, names(targetTable())},
		{"expand", object(property("expand")), names(expandTable())},
		{"copy", object(property("copy")), names(copyTable())},
		{"install", object(property("install")), names(installTable())},
		{"run", object(property("run")), names(runTable())},
		{"steps", at(property("steps"), "items"), names(stepTable())},
		{"healthcheck", property("healthcheck"), names(healthcheckTable())},
	} {
		got := slices.Sorted(maps.Keys(at(test.schema, "properties").(map[string]any)))
		slices.Sort(test.keys)
		if diff := cmp.Diff(test.keys, got); diff != "" {
			t.Errorf("%s: keys of the decoder and the schema differ (-decoder +schema):\n%s", test.what, diff)
		}
		if at(test.schema, "additionalProperties") != false {
			t.Errorf("%s: the schema accepts unknown keys", test.what)
		}
		for _, key := range test.keys {
			if at(test.schema, "properties", key, "description") == "" {
				t.Errorf("%s: %s has no description", test.what, key)
			}
		}
	}
}

func TestSchemaIsStable(t *testing.T) {
	if !bytes.Equal(Schema(), Schema()) {
		t.Error("two schemas differ")
	}
}
