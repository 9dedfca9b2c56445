package spec

import (
	"bytes"
	"encoding/json"
	"maps"
)

// schema is a JSON schema, or a part of one, of draft 07.
type schema map[string]any

// textSchema is the schema of a scalar with further facets. Specs take every scalar as text, but what
// validates a schema has already made a number or a boolean of some.
func textSchema(facets schema) schema {
	s := schema{"type": []string{"string", "number", "boolean"}}
	maps.Copy(s, facets)
	return s
}

// Schema returns the draft-07 JSON schema of the language, made from the decoder's own tables. It
// accepts all that Load does, and some specs that are wrong in ways that a schema cannot say.
func Schema() []byte {
	s := schema{
		"type":                 "object",
		"properties":           schema{settingsName: settingsShape().schema()},
		"patternProperties":    schema{"^" + ignored: schema{}},
		"additionalProperties": targetShape().schema(),
		"propertyNames": schema{
			"anyOf": []schema{{"pattern": "^" + ignored}, {"pattern": namePattern}},
			"not":   schema{"enum": []string{emptyBase, scratchBase}},
		},
	}
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "genoci spec"
	s["description"] = "OCI images for genoci to build: names of targets, and what each is made of."
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic("spec: schema: " + err.Error()) // it is made of strings, numbers, lists and maps only
	}
	return b.Bytes()
}
