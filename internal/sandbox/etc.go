package sandbox

import (
	"os"
	"slices"
	"strings"
)

// The files of /etc that a command sees in place of the image's.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	nameFile   = "/etc/hostname"
)

// etcFile is a file made for a command.
type etcFile struct{ name, text string }

// etcFiles returns the files with the text that they get on this host.
func etcFiles(hostname string) []etcFile {
	return []etcFile{
		{resolvConf, resolvers(os.ReadFile)},
		{hostsFile, hosts(hostname, readText(os.ReadFile, hostsFile))},
		{nameFile, hostname + "\n"},
	}
}

// resolvedConf is where systemd-resolved lists the servers that it asks itself
// (systemd-resolved.service(8)).
const resolvedConf = "/run/systemd/resolve/resolv.conf"

// resolvers returns the host's resolv.conf(5). Where that names only the stub of systemd-resolved,
// it is the list of the servers behind it.
func resolvers(read func(name string) ([]byte, error)) string {
	text := readText(read, resolvConf)
	if slices.Equal(nameservers(text), []string{"127.0.0.53"}) {
		if real := readText(read, resolvedConf); len(nameservers(real)) > 0 {
			return real
		}
	}
	return text
}

// readText returns what a file of the host holds; a host without it has nothing to say.
func readText(read func(name string) ([]byte, error), name string) string {
	b, err := read(name)
	if err != nil {
		return ""
	}
	return string(b)
}

// nameservers returns the addresses of the nameserver lines of a resolv.conf(5).
func nameservers(text string) []string {
	var addrs []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			addrs = append(addrs, f[1])
		}
	}
	return addrs
}

// hosts returns a hosts(5) file: localhost and the command's own hostname, then the host's entries
// but those of localhost.
func hosts(hostname, host string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost " + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for line := range strings.Lines(host) {
		entry, _, _ := strings.Cut(line, "#")
		f := strings.Fields(entry)
		if len(f) > 1 && !slices.Contains(f[1:], "localhost") {
			b.WriteString(f[0] + "\t" + strings.Join(f[1:], " ") + "\n")
		}
	}
	return b.String()
}
