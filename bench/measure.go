package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is what one run of a job took.
type sample struct {
	Wall   float64 `json:"wall"`   // seconds
	CPU    float64 `json:"cpu"`    // seconds, user and system, of all processes
	Memory int64   `json:"memory"` // bytes: the largest resident set of a single process
	Output int64   `json:"output"` // bytes that the place's layout or folder has afterwards; 0: not looked at
}

// add puts what a further command took to the sample.
func (s *sample) add(wall time.Duration, usage *syscall.Rusage) {
	s.Wall += wall.Seconds()
	s.CPU += cpuSeconds(usage)
	s.Memory = max(s.Memory, usage.Maxrss<<10)
}

func cpuSeconds(usage *syscall.Rusage) float64 {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// measure runs command lines in a place, one after the other, and returns what they and the place's
// daemon took. The usage of a process is that which the kernel has added up for wait4(2): its own,
// and that of all its descendants that were waited for.
func (p *place) measure(ctx context.Context, lines []string) (sample, error) {
	var s sample
	before, err := p.daemon.usage(true)
	if err != nil {
		return s, err
	}
	for _, line := range lines {
		if err := p.measureLine(ctx, line, &s); err != nil {
			return s, err
		}
	}
	after, err := p.daemon.usage(false)
	if err != nil {
		return s, err
	}
	s.CPU += after.CPU - before.CPU
	s.Memory = max(s.Memory, after.Memory)
	return s, nil
}

// patience is how long a command may take. Nothing here takes a quarter of it; one that hangs is
// not to keep all others waiting.
const patience = 15 * time.Minute

func (p *place) measureLine(ctx context.Context, line string, s *sample) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	log, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command(ctx, line)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that what a shell has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	start := time.Now()
	err = cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w%s", firstLine(p.expandVars(line)), errors.Join(err, ctx.Err()), lastLines(log.Name()))
	}
	s.add(wall, cmd.ProcessState.SysUsage().(*syscall.Rusage))
	return nil
}

// firstLine returns what is enough of a command line to tell it.
func firstLine(text string) string {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if more {
		line += " …"
	}
	return line
}

// lastLines returns the end of what a command wrote, in a form to be put to an error.
func lastLines(name string) string {
	data, err := os.ReadFile(name)
	data = bytes.TrimSpace(data)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(string(data), "\n")
	return ": " + strings.Join(lines[max(0, len(lines)-3):], " / ")
}

// daemon is a process that runs while a place is used. A nil one takes nothing.
type daemon struct {
	cmd *exec.Cmd
	log *os.File
}

// startDaemon starts the daemon of the place's tool, if it has one, and waits until it answers.
func (p *place) startDaemon(ctx context.Context) error {
	if p.tool.daemon == "" {
		return nil
	}
	log, err := os.Create(p.path("daemon.log"))
	if err != nil {
		return err
	}
	cmd := p.command(ctx, p.tool.daemon)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		log.Close()
		return err
	}
	p.daemon = &daemon{cmd, log}
	for range 200 {
		if err = p.command(ctx, p.tool.ready).Run(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer: %w%s", firstLine(p.tool.daemon), err, lastLines(log.Name()))
}

// stop ends the daemon and waits for its end.
func (d *daemon) stop() {
	if d == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	_ = d.cmd.Wait()
	d.log.Close()
}

// usage returns what the daemon and those of its children that have ended took so far, and its
// largest resident set since it was last reset.
func (d *daemon) usage(reset bool) (sample, error) {
	var s sample
	if d == nil {
		return s, nil
	}
	proc := filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return s, err
	}
	// proc_pid_stat(5): the name may hold blanks; after it come state (3), and utime to cstime as
	// 14 to 17, in ticks of 10 ms.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, ticks := range fields[14-3 : 18-3] {
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return s, fmt.Errorf("%s/stat: %w", proc, err)
		}
		s.CPU += float64(n) / 100
	}
	if s.Memory, err = highWater(proc); err != nil || !reset {
		return s, err
	}
	// proc_pid_clear_refs(5): 5 resets the high-water mark.
	return s, os.WriteFile(filepath.Join(proc, "clear_refs"), []byte("5"), 0)
}

// highWater returns the largest resident set of a process, in bytes.
func highWater(proc string) (int64, error) {
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		return 0, fmt.Errorf("%s/status: VmHWM: %w", proc, err)
	}
	return kilobytes << 10, nil
}
