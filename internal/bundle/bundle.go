// Package bundle makes OCI runtime bundles of images (runtime-spec v1.3, bundle.md), which runc and
// crun run.
package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/user"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"genoci/internal/image"
	"genoci/internal/layer"
	"genoci/internal/sandbox"
)

// Make makes the empty folder dir a bundle of an image with the config c: rootfs, which unpack
// fills, and config.json. It fits the caller: one who is not root on the host gets a bundle that a
// runtime can start in a user namespace.
func Make(dir string, c image.Config, unpack func(dir string) error) error {
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return err
	}
	if err := unpack(rootfs); err != nil {
		return err
	}
	config, err := runtimeConfig(c, layer.Dir(rootfs))
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 || inUserNamespace() {
		if err := makeRootless(config); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), append(data, '\n'), 0o644)
}

// inUserNamespace reports whether an ordinary user has started the program, which has entered a
// namespace where it is root.
func inUserNamespace() bool { return sandbox.Inside() && sandbox.Rootless() }

// capabilities are those that containers have everywhere else too (moby, podman).
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// runtimeConfig converts the config of an image to that of a runtime, as image-spec v1.1,
// conversion.md, has it; root is the image's tree, for names of users. What that page leaves open
// is as containers are run everywhere: namespaces of their own, the default capabilities, masked
// kernel files, no terminal.
func runtimeConfig(c image.Config, root layer.View) (*specs.Spec, error) {
	who, home, err := processUser(c.Config.User, root)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(c.Config.Entrypoint, c.Config.Cmd)
	if len(args) == 0 {
		args = []string{"sh"} // runtimes refuse a process without arguments
	}
	env := slices.Clone(c.Config.Env)
	for _, v := range []struct{ name, value string }{{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, {"HOME", home}} {
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, v.name+"=") }) {
			env = append(env, v.name+"="+v.value)
		}
	}
	cwd := c.Config.WorkingDir
	if !strings.HasPrefix(cwd, "/") {
		cwd = "/" + cwd
	}
	return &specs.Spec{
		Version:  "1.0.2", // the newest that all runtimes in use accept; nothing newer is needed
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "genoci",
		Process: &specs.Process{
			User: who,
			Args: args,
			Env:  env,
			Cwd:  cwd,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			NoNewPrivileges: true,
		},
		Mounts:      append(systemMounts(), volumeMounts(c.Config.Volumes)...),
		Annotations: runtimeAnnotations(c),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}, nil
}

// processUser looks up the user of an image's config, and its home folder, in the image's own
// passwd and group.
func processUser(name string, root layer.View) (who specs.User, home string, err error) {
	passwd, err := readIfThere(root, "etc/passwd")
	if err != nil {
		return who, "", err
	}
	group, err := readIfThere(root, "etc/group")
	if err != nil {
		return who, "", err
	}
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return who, "", fmt.Errorf("user %q of the image: %w", name, err)
	}
	who = specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return who, u.Home, nil // conversion.md: no groups for numbers
	}
	for _, g := range u.Sgids {
		who.AdditionalGids = append(who.AdditionalGids, uint32(g))
	}
	return who, u.Home, nil
}

// readIfThere returns the content of a file of a tree, following symlinks inside it; nothing where
// there is no file.
func readIfThere(root layer.View, path string) ([]byte, error) {
	real, err := layer.Resolve(root, path, true)
	if err != nil {
		return nil, err
	}
	data, err := root.ReadFile(real)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// runtimeAnnotations returns the annotations that conversion.md derives from a config. Labels win.
func runtimeAnnotations(c image.Config) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.os":           c.OS,
		"org.opencontainers.image.architecture": c.Architecture,
		"org.opencontainers.image.variant":      c.Variant,
		"org.opencontainers.image.os.version":   c.OSVersion,
		"org.opencontainers.image.os.features":  strings.Join(c.OSFeatures, ","),
		"org.opencontainers.image.author":       c.Author,
		"org.opencontainers.image.stopSignal":   c.Config.StopSignal,
		"org.opencontainers.image.exposedPorts": strings.Join(slices.Sorted(maps.Keys(c.Config.ExposedPorts)), ","),
	}
	if c.Created != nil {
		all[v1.AnnotationCreated] = c.Created.Format(time.RFC3339Nano)
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	maps.Copy(all, c.Config.Labels)
	return all
}

// systemMounts are what a Linux process expects to find (runtime-spec, config-linux.md, "Default
// Filesystems").
func systemMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}

// volumeMounts keeps what is written to volumes out of the root filesystem: each is a tmpfs that
// begins with what the image has there (tmpcopyup, of runc and crun).
func volumeMounts(volumes map[string]struct{}) []specs.Mount {
	var mounts []specs.Mount
	for _, path := range slices.Sorted(maps.Keys(volumes)) {
		mounts = append(mounts, specs.Mount{
			Destination: path, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "tmpcopyup"},
		})
	}
	return mounts
}

// makeRootless changes a config so that an ordinary user's runtime can start it: in a user
// namespace where root is the caller and the caller's subordinate ids follow, on the host's
// network, and with the host's /sys.
func makeRootless(s *specs.Spec) (err error) {
	if s.Linux.UIDMappings, err = idMappings(os.Geteuid(), user.CurrentProcessUIDMap); err != nil {
		return err
	}
	if s.Linux.GIDMappings, err = idMappings(os.Getegid(), user.CurrentProcessGIDMap); err != nil {
		return err
	}
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch m.Destination {
		case "/sys":
			*m = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
		case "/dev/pts":
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "gid=") })
		}
	}
	return nil
}

// idMappings returns the ids of the user namespace that the process has entered, as the caller's
// namespace has them; where it has entered none, id alone, as root.
func idMappings(id int, entered func() ([]user.IDMap, error)) ([]specs.LinuxIDMapping, error) {
	if !inUserNamespace() {
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(id), Size: 1}}, nil
	}
	all, err := entered()
	var maps []specs.LinuxIDMapping
	for _, m := range all {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: uint32(m.ID), HostID: uint32(m.ParentID), Size: uint32(m.Count)})
	}
	return maps, err
}
