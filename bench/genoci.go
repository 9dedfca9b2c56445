package main

import "fmt"

// genoci is the program that all this is about.
func genoci() *tool {
	return &tool{
		name:    "genoci",
		kind:    product,
		about:   "this project",
		needs:   []string{"genoci"},
		version: "genoci version",
		env:     []string{"GENOCI_LAYOUT=oci", "GENOCI_CACHE_DIR=cache"},
		files: map[string]string{
			"expand.yaml":      "$in:\n  expand: $corpus/$in.tar.gz\n",
			"expand-zstd.yaml": "$in:\n  expand: $corpus/$in.tar.zst\n",
			"expand-run.yaml":  "$in:\n  expand: $corpus/$in.tar.gz\napp:\n  base: $in\n  run: echo 0 > /file\n",
			"run.yaml":         "app:\n  base: $in\n  run: echo ${{n}} > /file\n",
			"chain.yaml":       chainSpec(20),
			"parallel.yaml":    parallelSpec(8),
			"copy.yaml":        "copied:\n  copy: $corpus/$in /$in\n",
		},
		jobs: map[job]work{
			expand:     {timed: []string{"genoci build -f expand.yaml"}, check: imageHolds("oci", "$in", "$corpus/$in.tar.gz")},
			expandZstd: {timed: []string{"genoci build -f expand-zstd.yaml"}, check: imageHolds("oci", "$in", "$corpus/$in.tar.gz")},
			expandRun:  {timed: []string{"genoci build -f expand-run.yaml"}, check: imageHas("oci", "app", "file")},
			run: {
				after: expand,
				setup: []string{"genoci build -f run.yaml --arg n=first"},
				timed: []string{"genoci build -f run.yaml --arg n=$n"},
				check: imageHas("oci", "app", "file"),
			},
			chain: {
				after: expand,
				setup: []string{"genoci build -f run.yaml --arg n=first"},
				timed: []string{"genoci build -f chain.yaml --arg n=$n"},
				check: imageHas("oci", "t20", "file_1", "file_20"),
			},
			parallel: {
				after: expand,
				setup: []string{"genoci build -f run.yaml --arg n=first"},
				timed: []string{"genoci build -f parallel.yaml --arg n=$n"},
				check: imageHas("oci", "p8", "data"),
			},
			expandRunAgain: {after: expandRun, timed: []string{"genoci build -f expand-run.yaml"}, check: imageHas("oci", "app", "file")},
			chainAgain: {
				after: chain, again: true,
				timed: []string{"genoci build -f chain.yaml --arg n=$n"},
				check: imageHas("oci", "t20", "file_1", "file_20"),
			},
			copyIn: {timed: []string{"genoci build -f copy.yaml"}, check: imageHas("oci", "copied", "$in")},
			unpack: {
				after: expand,
				timed: []string{"genoci unpack $in out"},
				check: folderHolds("out", "$corpus/$in.tar.gz"),
				clean: []string{"rm -rf out"},
			},
		},
	}
}

// chainSpec returns a spec of n targets, each standing on the one before and running one small
// command.
func chainSpec(n int) string {
	spec, base := "", "$in"
	for i := 1; i <= n; i++ {
		spec += fmt.Sprintf("t%d:\n  base: %s\n  run: echo ${{n}} %d > /file_%d\n", i, base, i, i)
		base = fmt.Sprintf("t%d", i)
	}
	return spec
}

// parallelSpec returns a spec of n targets with the same base. Each target waits for half a second,
// and then writes 10 MB of random data.
func parallelSpec(n int) string {
	spec := ""
	for i := 1; i <= n; i++ {
		spec += fmt.Sprintf("p%d:\n  base: $in\n  run: |\n    sleep 0.5\n    dd if=/dev/urandom of=/data bs=1M count=10\n    : ${{n}}\n", i)
	}
	return spec
}
