package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"genoci/internal/spec"
)

// hookGrace is how long an interrupted hook has to end by itself.
const hookGrace = 5 * time.Second

// hooks runs shell text on the host, one after the other. Post hooks all run, whatever fails.
func (s *step) hooks(ctx context.Context, root string, hooks []*spec.Hook) error {
	var errs []error
	for _, h := range hooks {
		a := spec.Action{Op: h, Pos: h.Pos}
		s.opStarted(a)
		out := s.newOutput()
		err := s.hook(ctx, root, h, out)
		if err == nil {
			out.tail()
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, s.opError(s.n, s.Step, a, err, out.tail()))
		if !h.Post {
			break
		}
	}
	return errors.Join(errs...)
}

// cleanUp runs the post hooks of an image that failed with err after its pre hooks began, and where no tree was at hand in which post hooks could
// run. They have one as it was before the step that failed, or an empty one where that cannot be had; it goes afterwards.
func (b *Builder) cleanUp(ctx context.Context, nodes nodes, n *node, err error) error {
	last := n.Steps[len(n.Steps)-1]
	if !n.hooksOn || len(last.Post) == 0 {
		return err
	}
	n.hooksOn = false
	ctx = context.WithoutCancel(ctx)
	st := &step{Builder: b, nodes: nodes, n: n, Step: last}
	tree, treeErr := st.newTree(ctx)
	if treeErr != nil {
		tree, treeErr = b.opened.New(ctx, "")
	}
	if treeErr != nil {
		return errors.Join(err, b.stepError(n, last, fmt.Errorf("make a tree for post hooks: %w", treeErr)))
	}
	return errors.Join(err, st.hooks(ctx, tree.Dir(), last.Post), tree.Close())
}

// hook runs one. It is in genoci's mount namespace, so that its mounts are seen by the steps and end
// with the build.
func (s *step) hook(ctx context.Context, root string, h *spec.Hook, out *output) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", strings.ReplaceAll(h.Script, "%ROOT%", root))
	cmd.Dir = s.src.Dir
	cmd.Env = append(os.Environ(), "GENOCI_ROOT="+root, "GENOCI_TARGET="+s.n.String(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.n.epoch))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = hookGrace
	return cmd.Run()
}
