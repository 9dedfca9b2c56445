package spec

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// settings are the settings of a file, under "genoci".
type settings struct{ args []argument }

// settings decodes what stands under "genoci", and makes its arguments known.
func (d *decoder) settings(value *yaml.Node) {
	defer d.push(settingsName)()
	d.args.closed = true
	s, _ := settingsShape().decode(d, value)
	d.args.closed = false
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
		},
		later: laterKeys(),
		open:  true,
	}
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
