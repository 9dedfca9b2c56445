package main

import (
	"fmt"
	"strings"
)

// buildah builds with its own commands where a step is asked for, and by its Dockerfile builder,
// with layers, where results are to be found again.
func buildah() *tool {
	const (
		build = "buildah bud -q --layers --pull-never -f "
		// The container that the base was made in is as large as the base.
		base = "buildah inspect --type image base >base.json || { buildah commit -q $in base; buildah rm $in; }"
	)
	return &tool{
		name:    "buildah",
		kind:    peer,
		about:   "as root, storage driver overlay, chroot isolation",
		needs:   []string{"buildah"},
		version: "buildah --version",
		env:     []string{"BUILDAH_ISOLATION=chroot", "CONTAINERS_STORAGE_CONF=$dir/storage.conf"},
		files: map[string]string{
			"storage.conf":          "[storage]\ndriver = \"overlay\"\ngraphroot = \"$dir/storage\"\nrunroot = \"$dir/run\"\n",
			"expand-run.dockerfile": "FROM scratch\nADD $in.tar.gz /\nRUN echo 0 > /file\n",
			"chain.dockerfile":      chainDockerfile("FROM localhost/base", 20),
		},
		jobs: map[job]work{
			expand: {
				timed: []string{
					"buildah from --name $in scratch",
					"buildah add -q $in $corpus/$in.tar.gz /",
					"buildah commit -q -D=false $in oci:oci:$in",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			expandZstd: {
				timed: []string{
					"buildah from --name $in scratch",
					"buildah add -q $in $corpus/$in.tar.zst /",
					"buildah commit -q -D=false $in oci:oci:$in",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			expandRun: {
				timed: []string{
					build + "expand-run.dockerfile -t app $corpus",
					"buildah push -q app oci:oci:app",
				},
				check: imageHas("oci", "app", "file"),
				note:  "writes only the last image",
			},
			run: {
				after: expand,
				setup: []string{base},
				timed: []string{
					"buildah from --name run-$n --pull-never localhost/base",
					`buildah run run-$n -- /bin/sh -c "echo $n > /file"`,
					"buildah commit -q -D=false run-$n oci:oci:app",
				},
				check: imageHas("oci", "app", "file"),
				clean: []string{"buildah rm run-$n"},
			},
			chain: {
				after: expand,
				setup: []string{base, "mkdir -p context"},
				timed: []string{
					build + "chain.dockerfile --build-arg n=$n -t chain context",
					"buildah push -q chain oci:oci:chain",
				},
				check: imageHas("oci", "chain", "file_1", "file_20"),
				note:  "writes only the last image",
			},
			parallel: {
				after: expand,
				setup: []string{base},
				timed: []string{`for i in $(seq 8); do (
	buildah from --name p$n-$i --pull-never localhost/base
	buildah run p$n-$i -- /bin/sh -c "sleep 0.5; dd if=/dev/urandom of=/data bs=1M count=10"
	buildah commit -q -D=false p$n-$i oci:oci$i:p
) & done; wait`},
				check: imageHas("oci8", "p", "data"),
				clean: []string{"buildah rm -a"},
				note:  "eight commands side by side, a layout for each",
			},
			expandRunAgain: {
				after: expandRun,
				timed: []string{
					build + "expand-run.dockerfile -t app $corpus",
					"buildah push -q app oci:oci:app",
				},
				check: imageHas("oci", "app", "file"),
			},
			chainAgain: {
				after: chain, again: true,
				timed: []string{
					build + "chain.dockerfile --build-arg n=$n -t chain context",
					"buildah push -q chain oci:oci:chain",
				},
				check: imageHas("oci", "chain", "file_1", "file_20"),
			},
			copyIn: {
				timed: []string{
					"buildah from --name copied scratch",
					"buildah copy -q copied $corpus/$in /$in",
					"buildah commit -q -D=false copied oci:oci:copied",
				},
				check: imageHas("oci", "copied", "$in"),
			},
			unpack: {
				after: expand,
				timed: []string{
					"buildah --root out --runroot out-run from --name unpacked oci:oci:$in",
					"buildah --root out --runroot out-run mount unpacked > mounted",
				},
				check: func(p *place) error { return folderHolds(p.read("mounted"), "$corpus/$in.tar.gz")(p) },
				clean: []string{"buildah --root out --runroot out-run rm -a", "rm -rf out out-run"},
				note:  "`from` and `mount`, in a storage of its own",
			},
		},
	}
}

// chainDockerfile returns a Dockerfile of n small commands, with an argument that sets a run apart
// from others.
func chainDockerfile(from string, n int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\nARG n\n", from)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&text, "RUN echo ${n} %d > /file_%d\n", i, i)
	}
	return text.String()
}
