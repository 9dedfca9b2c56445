package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	if err := Unmarshal(data, &unknown); err != nil {
		return nil, err
	}
	for _, f := range fields {
		raw, ok := unknown[f.name]
		if !ok {
			continue
		}
		if err := Unmarshal(raw, f.value); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		delete(unknown, f.name)
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	return unknown, nil
}

// encodeObject writes fields in their order, without the empty ones, then the unknown ones sorted by name.
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

// encode is json.Marshal without the escapes that only HTML needs, so that commands in histories stay readable. What package json
// would do with a long way round, it does by itself: our own objects, which json would read again, and short and empty values.
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

// isPlain reports whether a string consists of printable ASCII characters that JSON writes as they are.
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
