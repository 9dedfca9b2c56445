package spec

import "strings"

// ExpandEnv replaces $NAME and ${NAME} in value by the base's own values; $$ is a dollar sign.
// Unset names become "". A $ before anything else is kept.
func ExpandEnv(value string, base func(name string) string) string {
	var out strings.Builder
	for i := 0; i < len(value); {
		if value[i] != '$' {
			out.WriteByte(value[i])
			i++
			continue
		}
		name, n := reference(value[i:])
		switch {
		case name == "$":
			out.WriteByte('$')
		case name != "":
			out.WriteString(base(name))
		default:
			out.WriteString(value[i : i+n])
		}
		i += n
	}
	return out.String()
}

// reference reads what follows the $ at the start of s: $NAME, ${NAME}, or $$, whose name is "$".
// It returns the length of all; the name is "" where s only begins with a dollar sign.
func reference(s string) (name string, n int) {
	rest := s[1:]
	if strings.HasPrefix(rest, "$") {
		return "$", 2
	}
	if body, ok := strings.CutPrefix(rest, "{"); ok {
		if name, _, ok := strings.Cut(body, "}"); ok && isVariable(name) {
			return name, len("${") + len(name) + len("}")
		}
		return "", 1
	}
	end := 0
	for end < len(rest) && isVariableByte(rest[end], end == 0) {
		end++
	}
	return rest[:end], 1 + end
}

// checkReferences refuses ${...} that ExpandEnv would not understand, so that what shells know
// beyond it (${NAME:-default}) is not taken as text by mistake.
func checkReferences(value string) error {
	for i := 0; i < len(value); {
		if value[i] != '$' {
			i++
			continue
		}
		name, n := reference(value[i:])
		if name == "" && strings.HasPrefix(value[i:], "${") {
			return &textError{offset: i, msg: `only $NAME and ${NAME} are replaced; write $$ for a dollar sign`}
		}
		i += n
	}
	return nil
}
