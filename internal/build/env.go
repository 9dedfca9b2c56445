package build

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"genoci/internal/sandbox"
	"genoci/internal/spec"
)

// proxyNames are the variables by which programs find a proxy. They reach commands that may use the
// host's network, but no key and no image: they say how to reach things, not what to get.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}

// stepEnv is the environment of a command in a step: the image's, what is for the build only, and
// what the op adds. Later ones win.
func (b *Builder) stepEnv(n *node, op []spec.KV) []string {
	env := []string{"PATH=" + sandbox.DefaultPath}
	env = setEnv(env, n.env...)
	env = setEnv(env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", n.epoch))
	env = setEnv(env, pairs(n.Target.BuildEnv)...)
	return setEnv(env, pairs(op)...)
}

// proxyEnv adds the host's proxy settings to env where it has none of its own.
func proxyEnv(env []string) []string {
	for _, lower := range proxyNames {
		for _, name := range []string{lower, strings.ToUpper(lower)} {
			if v := os.Getenv(name); v != "" && !hasEnv(env, name) {
				env = append(env, name+"="+v)
			}
		}
	}
	return env
}

// setEnv returns env with the variables of kvs, each in the place of an earlier one of its name.
func setEnv(env []string, kvs ...string) []string {
	for _, kv := range kvs {
		name, _, _ := strings.Cut(kv, "=")
		if i := indexEnv(env, name); i >= 0 {
			env[i] = kv
		} else {
			env = append(env, kv)
		}
	}
	return env
}

func hasEnv(env []string, name string) bool { return indexEnv(env, name) >= 0 }

func indexEnv(env []string, name string) int {
	return slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

func pairs(kvs []spec.KV) []string {
	var s []string
	for _, kv := range kvs {
		s = append(s, kv.Key+"="+kv.Value)
	}
	return s
}
