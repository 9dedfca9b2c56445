package main

// gnuTar is what GNU's programs take for parts of the work.
func gnuTar() *tool {
	extract := work{
		setup: []string{"mkdir -p out"},
		timed: []string{"tar -xzf $corpus/$in.tar.gz -C out --numeric-owner"},
		check: folderHolds("out", "$corpus/$in.tar.gz"),
	}
	return &tool{
		name:    "GNU tar",
		kind:    yardstick,
		about:   "`tar -xzf`; for S1 `gzip -dc | sha256sum`, and `sha256sum` and `cp` of the archive",
		needs:   []string{"tar", "gzip", "zstd", "sha256sum"},
		version: "tar --version",
		jobs: map[job]work{
			expand:     {timed: []string{"gzip -dc $corpus/$in.tar.gz | sha256sum", "sha256sum $corpus/$in.tar.gz", "cp $corpus/$in.tar.gz blob"}},
			expandZstd: {timed: []string{"zstd -dc $corpus/$in.tar.zst | sha256sum", "sha256sum $corpus/$in.tar.zst", "cp $corpus/$in.tar.zst blob"}},
			expandRun:  extract,
			unpack:     extract,
		},
	}
}

// limits is what a program has to do at least, as this very machine does it in the same run.
func limits() *tool {
	// The time of a sandbox's start, without that of a build: 21 commands in one step less one.
	starts := work{
		setup: []string{"genoci build -f expand.yaml", "genoci build -f one.yaml --arg n=first"},
		timed: []string{"genoci build -f many.yaml --arg n=$n"},
		less:  []string{"genoci build -f one.yaml --arg n=$n"},
		note:  "20 sandbox starts",
	}
	return &tool{
		name:  "limit",
		kind:  yardstick,
		about: "Go's fastest known code for the part of the work that nobody can do without (`bench/limit.go`); for S4 the start of genoci's sandboxes alone",
		needs: []string{"genoci"},
		env:   []string{"GENOCI_LAYOUT=oci", "GENOCI_CACHE_DIR=cache"},
		files: map[string]string{
			"expand.yaml": "$in:\n  expand: $corpus/$in.tar.gz\n",
			"one.yaml":    startsSpec(1),
			"many.yaml":   startsSpec(21),
		},
		jobs: map[job]work{
			expand:     {timed: []string{"$bench limit gunzip $corpus/$in.tar.gz"}},
			expandZstd: {timed: []string{"$bench limit unzstd $corpus/$in.tar.zst"}},
			chain:      starts,
			parallel:   {timed: []string{"$bench limit parallel"}},
			copyIn:     {timed: []string{"$bench limit pack $corpus/$in"}},
		},
	}
}

// startsSpec returns a spec of one step with n commands that do nothing.
func startsSpec(n int) string {
	spec := "started:\n  base: $in\n  run:\n"
	for range n {
		spec += "  - ': ${{n}}'\n"
	}
	return spec
}

// igzip is the limit with the fastest program known for each part, for those who wonder what else
// there is.
func igzip() *tool {
	return pipes("igzip", "ISA-L's decoder, in a pipe to `sha256sum`", "igzip", "igzip -dc")
}

// libdeflate decodes whole files in memory.
func libdeflate() *tool {
	return pipes("libdeflate", "libdeflate's decoder, in a pipe to `sha256sum`", "libdeflate-gzip", "libdeflate-gzip -dc")
}

func pipes(name, about, program, decode string) *tool {
	return &tool{
		name:  name,
		kind:  yardstick,
		about: about,
		needs: []string{program},
		jobs: map[job]work{
			expand: {timed: []string{"sha256sum $corpus/$in.tar.gz & " + decode + " $corpus/$in.tar.gz | sha256sum; wait"}},
		},
	}
}

// pigz compresses on all cores.
func pigz() *tool {
	return &tool{
		name:    "pigz",
		kind:    yardstick,
		about:   "`tar -c | pigz -6`, with `sha256sum` of what goes in and of what comes out",
		needs:   []string{"pigz", "tar", "sha256sum"},
		version: "pigz --version",
		jobs: map[job]work{
			copyIn: {timed: []string{"mkfifo plain; sha256sum plain & tar -c -C $corpus $in | tee plain | pigz -6 | tee blob | sha256sum; wait"}, clean: []string{"rm plain"}},
		},
	}
}
