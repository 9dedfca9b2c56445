package build

import (
	"fmt"

	"genoci/internal/image"
	"genoci/internal/sandbox"
	"genoci/internal/spec"
)

// stepEnv is the environment of the commands of a step: the image's, and what is for the build
// only. Later ones win.
func stepEnv(n *node) []string {
	env := []string{"PATH=" + sandbox.DefaultPath}
	env = image.SetFirstEnv(env, n.base.env)
	env = image.SetFirstEnv(env, []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", n.base.epoch)})
	return image.SetFirstEnv(env, spec.Environ(n.image.Target.BuildEnv))
}
