package spec

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// settings are the settings of a file, under "genoci".
type settings struct {
	args  []argument
	modes string
}

// settings decodes what stands under "genoci", and makes its arguments known.
func (d *decoder) settings(value *yaml.Node) {
	defer d.push(settingsName)()
	d.args.closed = true
	s, _ := settingsShape().decode(d, value)
	d.args.closed = false
	d.spec.GitModes = s.modes == "git"
	d.args.declare(s.args)
}

// settingsShape is the value of "genoci".
func settingsShape() shape[settings] { return shape[settings]{settingsTable().form()} }

// settingsTable is the keys of the settings.
func settingsTable() table[settings] {
	return table[settings]{
		fields: []field[settings]{
			key(argsName, "Arguments with their defaults, for ${{NAME}}; --arg NAME=VALUE overrides.", argsShape(),
				func(s *settings) *[]argument { return &s.args }, "arguments", "arg", "vars", "variables"),
			key("modes", "Modes of what copy takes from the host: host, as they are there; git, as git keeps them (0644 and 0755).", modesShape(),
				func(s *settings) *string { return &s.modes }, "chmod", "mode", "umask", "permissions"),
		},
		later: laterKeys(),
		open:  true,
	}
}

// modesShape says where the modes of files of the host come from.
func modesShape() shape[string] {
	words := []string{"host", "git"}
	return shape[string]{stringForm("a string", schema{"enum": words}, func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		return &textError{msg: fmt.Sprintf("expected host or git, found %q", s), suggest: didYouMean(s, words)}
	})}
}

// argsShape is a map of names to defaults; a name without a value has none.
func argsShape() shape[[]argument] {
	value := shape[*string]{
		convert(anyStringShape()[0], func(s string) *string { return &s }),
		{nothing, "nothing", schema{"type": "null"}, func(*decoder, *yaml.Node) (*string, bool) { return nil, true }},
	}
	newArgument := func(name string, v *string) argument { return argument{name, v} }
	return shape[[]argument]{mapForm("argument", "^[A-Za-z_][A-Za-z0-9_]*$", checkArgumentName, value, newArgument)}
}

// checkArgumentName refuses what cannot name an argument.
func checkArgumentName(name string) error {
	if !isVariable(name) {
		return fmt.Errorf("%q cannot name an argument: letters, digits and _ can, not beginning with a digit", name)
	}
	return nil
}
