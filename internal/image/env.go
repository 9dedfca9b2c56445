package image

import (
	"slices"
	"strings"
)

// SetEnv returns env with each of vars ("K=V") in the place of the first variable of its name, or
// at the end. Further variables of the name, which no runtime agrees about, are dropped. So configs
// of images are changed.
func SetEnv(env, vars []string) []string {
	for _, kv := range vars {
		name, _, _ := strings.Cut(kv, "=")
		same := func(old string) bool {
			oldName, _, _ := strings.Cut(old, "=")
			return oldName == name
		}
		at := slices.IndexFunc(env, same)
		if at < 0 {
			at = len(env)
		}
		env = slices.Insert(slices.DeleteFunc(slices.Clone(env), same), at, kv)
	}
	return env
}

// SetFirstEnv is SetEnv that keeps further variables of a name. So the environments of commands are
// made. Keys of steps cover them, so that dropping a variable would change the keys of steps on
// bases that have one twice.
func SetFirstEnv(env, vars []string) []string {
	env = slices.Clone(env)
	for _, kv := range vars {
		name, _, _ := strings.Cut(kv, "=")
		if i := indexEnv(env, name); i >= 0 {
			env[i] = kv
		} else {
			env = append(env, kv)
		}
	}
	return env
}

// LookupEnv returns the value of the first variable of that name in env, and whether there is one.
func LookupEnv(env []string, name string) (value string, ok bool) {
	i := indexEnv(env, name)
	if i < 0 {
		return "", false
	}
	return env[i][len(name)+1:], true
}

func indexEnv(env []string, name string) int {
	return slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}
