package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// field is a field of a JSON object, and where its value is kept.
type field struct {
	name   string
	value  any  // a pointer
	always bool // written even when it is empty
}

// fields lists the fields of a config in the order in which they are written.
func (c *Config) fields() []field {
	return []field{
		{"created", &c.Created, false},
		{"author", &c.Author, false},
		{"architecture", &c.Architecture, true},
		{"os", &c.OS, true},
		{"os.version", &c.OSVersion, false},
		{"os.features", &c.OSFeatures, false},
		{"variant", &c.Variant, false},
		{"config", (*execution)(c), false},
		{"rootfs", &c.RootFS, true},
		{"history", &c.History, false},
	}
}

// execution is a Config seen as its own field "config".
type execution Config

func (x *execution) fields() []field {
	c := &x.Config
	return []field{
		{"User", &c.User, false},
		{"ExposedPorts", &c.ExposedPorts, false},
		{"Env", &c.Env, false},
		{"Entrypoint", &c.Entrypoint, false},
		{"Cmd", &c.Cmd, false},
		{"Volumes", &c.Volumes, false},
		{"WorkingDir", &c.WorkingDir, false},
		{"Labels", &c.Labels, false},
		{"StopSignal", &c.StopSignal, false},
		{"ArgsEscaped", &c.ArgsEscaped, false}, //nolint:staticcheck // deprecated, but Windows bases have it
		{"Healthcheck", &x.Healthcheck, false},
	}
}

// MarshalJSON implements json.Marshaler.
func (c Config) MarshalJSON() ([]byte, error) { return c.encode() }

func (c *Config) encode() ([]byte, error) { return encodeObject(c.fields(), c.Unknown) }

// UnmarshalJSON implements json.Unmarshaler. Errors name the field.
func (c *Config) UnmarshalJSON(data []byte) (err error) {
	*c = Config{}
	c.Unknown, err = decodeObject(data, c.fields())
	return err
}

// MarshalJSON implements json.Marshaler.
func (x *execution) MarshalJSON() ([]byte, error) { return encodeObject(x.fields(), x.UnknownConfig) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *execution) UnmarshalJSON(data []byte) (err error) {
	x.UnknownConfig, err = decodeObject(data, x.fields())
	return err
}

// decodeObject reads a JSON object into fields, and returns what is not among them.
func decodeObject(data []byte, fields []field) (unknown map[string]json.RawMessage, err error) {
	members, err := Members(data)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		at := slices.IndexFunc(fields, func(f field) bool { return strings.EqualFold(f.name, m.Name) })
		switch {
		case at < 0:
			if unknown == nil {
				unknown = map[string]json.RawMessage{}
			}
			unknown[m.Name] = m.Value
		case fields[at].name != m.Name: // other tools in Go would read it as that
			return nil, fmt.Errorf("some tools read the field %q as %q", m.Name, fields[at].name)
		default:
			if err := Unmarshal(m.Value, fields[at].value); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	return unknown, nil
}

// Member is a name of a JSON object with its value.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Members takes a JSON object to pieces, in its order; null has none. A name that stands there
// twice, be it in upper and lower case, can be read in two ways, and is an error.
func Members(data []byte) ([]Member, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	switch brace, err := dec.Token(); {
	case err != nil:
		return nil, err
	case brace == nil:
		return nil, nil
	case brace != json.Delim('{'):
		var object map[string]json.RawMessage
		return nil, Unmarshal(data, &object) // which says what it is instead
	}
	var members []Member
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := Member{Name: token.(string)}
		if err := dec.Decode(&m.Value); err != nil {
			return nil, err
		}
		if name := fold(m.Name); !seen[name] {
			seen[name] = true
		} else {
			return nil, fmt.Errorf("field %q twice", m.Name)
		}
		members = append(members, m)
	}
	return members, nil
}

// fold returns the same for all names that package json, and strings.EqualFold, take for the same.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r { // the least of all that are the same
				return next
			}
			r = next
		}
	}, name)
}

// encodeObject writes fields in their order, without the empty ones, then the unknown ones sorted
// by name.
func encodeObject(fields []field, unknown map[string]json.RawMessage) ([]byte, error) {
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		fields = append(fields, field{name, unknown[name], true})
	}
	b := []byte{'{'}
	for _, f := range fields {
		value, err := encode(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if !f.always && isEmpty(value) {
			continue
		}
		name, err := encode(f.name)
		if err != nil {
			return nil, err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// isEmpty reports whether a JSON value says no more than a missing field does.
func isEmpty(value []byte) bool {
	switch string(value) {
	case `null`, `""`, `[]`, `{}`, `false`:
		return true
	}
	return false
}

// encode is json.Marshal without the escapes that only HTML needs, so that commands in histories
// stay readable. What package json would do with a long way round, it does by itself: our own
// objects, which json would read again, and short and empty values.
func encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case *Config:
		return v.encode()
	case *execution:
		return v.MarshalJSON()
	case *string:
		return encode(*v)
	case string:
		if isPlain(v) {
			return slices.Concat([]byte{'"'}, []byte(v), []byte{'"'}), nil
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// isPlain reports whether a string consists of printable ASCII characters that JSON writes as they
// are.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Unmarshal is json.Unmarshal with errors that speak of the JSON and not of Go's types.
func Unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &wrong):
		return err
	case wrong.Field == "":
		return fmt.Errorf("unexpected %s", wrong.Value)
	}
	return fmt.Errorf("%s: unexpected %s", wrong.Field, wrong.Value)
}
