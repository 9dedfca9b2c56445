package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// commandShape is a string, split as a shell splits words, or a list of words; both may be empty.
func commandShape() shape[[]string] {
	return shape[[]string]{
		textForm("a string", nil, splitWords),
		listForm("a list of strings", anyStringShape()),
	}
}

// environmentShape is the variables of an image, whose values may hold $NAME.
func environmentShape() shape[[]KV] { return variablesShape(checkReferences) }

// literalEnvironmentShape is variables with values that are taken as they are.
func literalEnvironmentShape() shape[[]KV] { return variablesShape(func(string) error { return nil }) }

// variablesShape is a map, or a list of K=V, of variables whose values checkValue accepts.
func variablesShape(checkValue func(string) error) shape[[]KV] {
	value := shape[string]{stringForm(`a string ("" for an empty one)`, nil, checkValue)}
	return shape[[]KV]{
		mapForm("variable", `^[^= \t\r\n]+$`, checkVariable, value, newKV),
		unique("variable", listForm("a list of K=V", shape[KV]{variableForm(checkValue)}), func(v KV) string { return v.Key }),
	}
}

// variableForm is a string K=V.
func variableForm(checkValue func(string) error) form[KV] {
	return textForm("a string", schema{"pattern": `^[^= \t\r\n]+=`}, func(s string) (KV, error) {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return KV{}, fmt.Errorf("expected K=V, found %q", s)
		}
		if err := checkVariable(name); err != nil {
			return KV{}, err
		}
		err := checkValue(value)
		if at, ok := errors.AsType[*textError](err); ok {
			at.offset += len(name) + len("=")
		}
		return KV{name, value}, err
	})
}

// checkVariable refuses names that no variable can have, or that are a slip.
func checkVariable(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a variable has an empty name")
	case strings.ContainsAny(name, "="+blanks):
		return fmt.Errorf("%q cannot name a variable", name)
	}
	return nil
}

// annotations are the manifest's, or the original's way to write the environment.
type annotations struct {
	pairs       []KV
	environment []KV
}

// annotationsShape is a map of annotations, or a list of {env: K=V}.
func annotationsShape() shape[annotations] {
	env := table[KV]{
		fields: []field[KV]{
			key("env", "K=V, a variable of the image.", shape[KV]{variableForm(checkReferences)},
				func(v *KV) *KV { return v }, "environment"),
		},
		facets: schema{"required": []string{"env"}},
		check:  func(d *decoder, n *yaml.Node, keys keys, _ *KV) { d.require(n, keys, "env") },
	}
	original := unique("variable", listForm("a list of {env: K=V}", shape[KV]{env.form()}), func(v KV) string { return v.Key })
	return shape[annotations]{
		convert(labelsShape()[0], func(pairs []KV) annotations { return annotations{pairs: pairs} }),
		convert(original, func(env []KV) annotations { return annotations{environment: env} }),
	}
}

// labelsShape is a map of strings.
func labelsShape() shape[[]KV] {
	notEmptyName := func(name string) error {
		_, err := notEmpty(name)
		return err
	}
	return shape[[]KV]{mapForm("key", nonBlank, notEmptyName, anyStringShape(), newKV)}
}

// ownerShape is USER or USER:GROUP, each a name or a number.
func ownerShape() shape[string] {
	return shape[string]{stringForm("a string", schema{"pattern": `^[^ \t\r\n:]+(:[^ \t\r\n:]+)?$`}, func(s string) error {
		user, group, hasGroup := strings.Cut(s, ":")
		if user == "" || hasGroup && group == "" || strings.ContainsAny(s, blanks) || strings.Contains(group, ":") {
			return fmt.Errorf("invalid owner %q: expected USER or USER:GROUP", s)
		}
		return nil
	})}
}

// absoluteShape is a path in the image that begins with "/".
func absoluteShape() shape[string] {
	return shape[string]{stringForm("a string", schema{"pattern": "^/"}, checkAbsolute)}
}

// checkAbsolute refuses what is no absolute path.
func checkAbsolute(s string) error {
	if !path.IsAbs(s) {
		return fmt.Errorf(`%q is not absolute: a path in the image begins with "/"`, s)
	}
	return nil
}

// volumesShape is a list of absolute paths.
func volumesShape() shape[[]string] {
	volume := stringForm("a string", schema{"pattern": "^/[^:]*$"}, func(s string) error {
		if strings.Contains(s, ":") {
			return fmt.Errorf("%q: a volume is only a path in the image; whoever starts a container decides what is mounted there", s)
		}
		return checkAbsolute(s)
	})
	return shape[[]string]{unique("volume", listForm("a list of strings", shape[string]{volume}), path.Clean)}
}

// exposeShape is a list of PORT or PORT/PROTOCOL.
func exposeShape() shape[[]string] {
	port := stringForm("a string", schema{"minimum": 1, "maximum": 65535, "pattern": "^[0-9]{1,5}(/(tcp|udp|sctp))?$"}, func(s string) error {
		number, protocol, ok := strings.Cut(s, "/")
		if ok && protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return fmt.Errorf("invalid port %q: the protocol must be tcp, udp or sctp", s)
		}
		if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || len(number) > 5 {
			return fmt.Errorf("invalid port %q: expected 1 to 65535, as in 80 or 53/udp", s)
		}
		return nil
	})
	return shape[[]string]{unique("port", listForm("a list of strings", shape[string]{port}), func(s string) string {
		return strings.TrimSuffix(s, "/tcp")
	})}
}

// signalShape is the name or the number of a signal.
func signalShape() shape[string] {
	pattern := `^(` + strings.Join(signals(), "|") + `|SIGRTMIN\+[0-9]+|SIGRTMAX-[0-9]+|[0-9]{1,2})$`
	return shape[string]{stringForm("a string", schema{"minimum": 1, "maximum": 64, "pattern": pattern}, func(s string) error {
		if n, err := strconv.ParseUint(s, 10, 8); err == nil && n >= 1 && n <= 64 && len(s) <= 2 {
			return nil
		}
		if isSignal(s) {
			return nil
		}
		return &textError{msg: fmt.Sprintf("invalid signal %q: expected a name like SIGTERM, or a number", s),
			suggest: didYouMean(s, signals())}
	})}
}

// signals are the names of signals on Linux (signal(7)).
func signals() []string {
	return strings.Fields(`SIGABRT SIGALRM SIGBUS SIGCHLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL
		SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN
		SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN SIGRTMAX`)
}

// isSignal reports whether s names a signal; real-time ones are SIGRTMIN+N and SIGRTMAX-N too.
func isSignal(s string) bool {
	for _, realtime := range []string{"SIGRTMIN+", "SIGRTMAX-"} {
		if n, ok := strings.CutPrefix(s, realtime); ok {
			i, err := strconv.ParseUint(n, 10, 8)
			return err == nil && i <= 30
		}
	}
	return slices.Contains(signals(), s)
}

// createdShape is a time, or where to take it from.
func createdShape() shape[string] {
	words := []string{"git", "now"}
	return shape[string]{stringForm("a string", schema{"anyOf": []schema{{"enum": words}, {"pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}`}}}, func(s string) error {
		if s == "git" || s == "now" {
			return nil
		}
		t, err := time.Parse(time.RFC3339, s)
		switch {
		case err != nil:
			return &textError{msg: fmt.Sprintf("invalid time %q: expected git, now, or RFC 3339 as in 2026-01-31T12:00:00Z", s),
				suggest: didYouMean(s, words)}
		case t.Unix() < 0:
			return fmt.Errorf("%q is before 1970", s)
		}
		return nil
	})}
}

// tagsShape is a list of tags.
func tagsShape() shape[[]string] {
	tag := stringForm("a string", schema{"pattern": namePattern}, func(s string) error { return checkName("tag", s) })
	return shape[[]string]{unique("tag", listForm("a list of strings", shape[string]{tag}), func(s string) string { return s })}
}

// namePattern is what a tag may look like (distribution-spec, "Pulling manifests"), and so the name
// of a target, which becomes one.
const namePattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"

// checkName refuses what no tag may be called; what says what s is to name.
func checkName(what, s string) error {
	bad := strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	})
	switch {
	case s == "":
		return fmt.Errorf("the name of a %s cannot be empty", what)
	case bad >= 0:
		return fmt.Errorf(`%q cannot name a %s: letters, digits, ".", "_" and "-" can`, s, what)
	case s[0] == '.' || s[0] == '-':
		return fmt.Errorf(`%q cannot name a %s: it begins with %q`, s, what, s[:1])
	case len(s) > 128:
		return fmt.Errorf("the name of a %s has at most 128 characters, not %d", what, len(s))
	}
	return nil
}
