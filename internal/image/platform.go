package image

import (
	"runtime"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Host returns the platform of images that run on this machine, without a variant: Match takes the
// best one for it.
func Host() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// BuiltHere returns the platform of images that are built on this machine: Host, with the variant
// that stands in the configs of such images and in the keys of steps.
func BuiltHere() v1.Platform {
	p := Host()
	switch p.Architecture {
	case "arm64":
		p.Variant = "v8"
	case "arm":
		p.Variant = "v7"
	}
	return p
}

// FormatPlatform returns p as users write it: linux/arm/v7.
func FormatPlatform(p v1.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Match returns the entry of manifests whose platform suits a machine of platform want best: the
// operating system and architecture are its own, the variant is the highest that it can run. An
// entry without a platform never matches. Of equals the first is taken, as image-index.md demands.
func Match(manifests []v1.Descriptor, want v1.Platform) (v1.Descriptor, bool) {
	var best v1.Descriptor
	bestRank := -1.0
	for _, d := range manifests {
		if d.Platform == nil {
			continue
		}
		if r := rank(*d.Platform, want); r > bestRank {
			best, bestRank = d, r
		}
	}
	return best, bestRank >= 0
}

// Runs reports whether an image for platform have runs on a machine of platform want.
func Runs(have, want v1.Platform) bool { return rank(have, want) >= 0 }

// rank says how well have suits want, from 0; less if it does not. An operating system version
// counts only where it is asked for.
func rank(have, want v1.Platform) float64 {
	haveArch, haveLevel := machine(have)
	wantArch, wantLevel := machine(want)
	switch {
	case have.OS != want.OS || haveArch != wantArch || haveLevel > wantLevel:
		return -1
	case want.OSVersion != "" && have.OSVersion != want.OSVersion:
		return -1
	}
	return haveLevel
}

// machine returns the architecture, under its Go name, and the level of the instruction set, which
// is what the variants of arm, arm64 and amd64 count: v6, v7, v8.2. Other variants are
// architectures of their own.
func machine(p v1.Platform) (architecture string, level float64) {
	arch, variant := strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch arch {
	case "x86_64", "x86-64":
		arch = "amd64"
	case "aarch64":
		arch = "arm64"
	case "armhf":
		arch, variant = "arm", "v7"
	case "armel":
		arch, variant = "arm", "v6"
	}
	if variant == "" {
		variant = map[string]string{"arm": "v7", "arm64": "v8", "amd64": "v1"}[arch]
	}
	number, ok := strings.CutPrefix(variant, "v")
	if level, err := strconv.ParseFloat(number, 64); ok && err == nil {
		return arch, level
	}
	if variant != "" {
		arch += "/" + variant
	}
	return arch, 0
}
