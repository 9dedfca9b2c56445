package spec

import (
	"bytes"
	"encoding/json"
)

// schema is a JSON schema, or a part of one, of draft 07.
type schema map[string]any

// textSchema is the schema of a scalar with further facets. Specs take every scalar as text, but
// what validates a schema has already made a number or a boolean of some. Facets say nothing of
// text that has arguments in it.
func textSchema(facets schema) schema {
	return scalarSchema([]string{"string", "number", "boolean"}, facets)
}

// scalarSchema is the schema of a scalar of one of types, or with arguments.
func scalarSchema(types []string, facets schema) schema {
	s := schema{"type": types}
	if facets != nil {
		s["anyOf"] = []schema{facets, {"type": "string", "pattern": `\$\{\{`}}
	}
	return s
}

// isTrue is the schema of a map in which key is true.
func isTrue(key string) schema {
	return schema{"properties": schema{key: schema{"enum": []any{true, "true"}}}, "required": []string{key}}
}

// not is the schema of text that does not match, and of what is no text.
func not(pattern string) schema { return schema{"not": schema{"type": "string", "pattern": pattern}} }

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
