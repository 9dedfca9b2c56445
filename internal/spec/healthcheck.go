package spec

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// healthcheck is compose's map as it is written.
type healthcheck struct {
	Healthcheck
	disable bool
}

// healthcheckTable is the keys of a healthcheck (compose-spec, 05-services.md, "healthcheck").
func healthcheckTable() table[healthcheck] {
	return table[healthcheck]{
		fields: []field[healthcheck]{
			key("test", "The command: a string for the shell, or a list that begins with CMD, CMD-SHELL or NONE.", testShape(),
				func(h *healthcheck) *[]string { return &h.Test }, "command", "cmd"),
			key("interval", "Time between two checks, as in 1m30s.", durationShape(), func(h *healthcheck) *int64 { return &h.Interval }),
			key("timeout", "Time after which a check has failed.", durationShape(), func(h *healthcheck) *int64 { return &h.Timeout }),
			key("start_period", "Time after the start in which failures do not count.", durationShape(), func(h *healthcheck) *int64 { return &h.StartPeriod }),
			key("start_interval", "Time between two checks in that time.", durationShape(), func(h *healthcheck) *int64 { return &h.StartInterval }),
			key("retries", "Failures in a row after which the container is unhealthy.", countShape(), func(h *healthcheck) *int { return &h.Retries }),
			key("disable", "Drop the check of the base.", boolShape(), func(h *healthcheck) *bool { return &h.disable }, "disabled"),
		},
		facets: schema{"minProperties": 1, "if": isTrue("disable"), "then": schema{"maxProperties": 1}},
		check:  checkHealthcheck,
	}
}

// healthcheckShape is compose's map.
func healthcheckShape() shape[*Healthcheck] {
	return shape[*Healthcheck]{convert(healthcheckTable().form(), func(h healthcheck) *Healthcheck {
		if h.disable {
			h.Test = []string{"NONE"}
		}
		return &h.Healthcheck
	})}
}

// checkHealthcheck checks the keys of a healthcheck together.
func checkHealthcheck(d *decoder, n *yaml.Node, keys keys, h *healthcheck) {
	if len(keys) == 0 {
		d.errorf(posOf(n), "the map is empty")
	}
	if disable, ok := keys["disable"]; ok && h.disable && len(keys) > 1 {
		d.errorf(posOf(disable.key), `"disable" must be the only key`)
	}
}

// testShape is the command of a healthcheck as docker stores it.
func testShape() shape[[]string] {
	command := textForm("a string", schema{"pattern": nonBlank}, func(s string) ([]string, error) {
		_, err := notEmpty(s)
		return []string{"CMD-SHELL", s}, err
	})
	words := shape[[]string]{listForm("a list of strings", anyStringShape())}
	words[0].schema["anyOf"] = []schema{testSchema("NONE", 1, 1), testSchema("CMD-SHELL", 2, 2), testSchema("CMD", 2, 1<<16)}
	return append(shape[[]string]{command}, checked(words, checkTest)...)
}

// testSchema is lists that begin with kind.
func testSchema(kind string, minItems, maxItems int) schema {
	first := textSchema(schema{"enum": []string{kind}})
	return schema{"items": []schema{first}, "minItems": minItems, "maxItems": maxItems}
}

// checkTest refuses lists that are no command of a healthcheck.
func checkTest(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("the list is empty")
	}
	switch kind, rest := words[0], len(words)-1; {
	case kind != "NONE" && kind != "CMD" && kind != "CMD-SHELL":
		return fmt.Errorf("the list begins with %q; expected CMD, CMD-SHELL or NONE", kind)
	case kind == "NONE" && rest != 0:
		return fmt.Errorf("NONE must be the only word")
	case kind == "CMD" && rest == 0:
		return fmt.Errorf("CMD needs a command")
	case kind == "CMD-SHELL" && rest != 1:
		return fmt.Errorf("CMD-SHELL takes one string, found %d", rest)
	}
	return nil
}

// durationShape is compose's form of a duration (compose-spec, 11-extension.md, "Specifying
// durations"), in nanoseconds.
func durationShape() shape[int64] {
	return shape[int64]{textForm("a string", schema{"pattern": "^([0-9]+(us|ms|s|m|h))+$"}, func(s string) (int64, error) {
		v, err := time.ParseDuration(s)
		if err != nil || strings.Trim(s, "0123456789umsh") != "" || s == "0" {
			return 0, fmt.Errorf("invalid duration %q: expected a form like 30s, 1m30s or 500ms", s)
		}
		if v != 0 && v < time.Millisecond {
			return 0, fmt.Errorf("%q is less than 1ms, the shortest time of a health check", s)
		}
		return int64(v), nil
	})}
}
