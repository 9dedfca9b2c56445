package command

import (
	"os"
	"strings"

	"genoci/internal/image"
)

// proxyNames are the variables by which programs find a proxy. They reach commands that may use the
// host's network, but no key and no image: they say how to reach things, not what to get.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}

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

func hasEnv(env []string, name string) bool {
	_, ok := image.LookupEnv(env, name)
	return ok
}
