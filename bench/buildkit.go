package main

// buildKit is buildctl, with a buildkitd that runs its own worker (runc, overlayfs). The daemon starts
// before the measurement. The build context is the folder of inputs; BuildKit transfers only the
// files that the Dockerfile names.
func buildKit() *tool {
	const (
		build  = "buildctl build --progress plain --frontend dockerfile.v0 --local context=$corpus --local dockerfile=files --opt filename="
		output = " --output type=oci,tar=false,dest="
		from   = "FROM scratch AS base\nADD $in.tar.gz /\nFROM base\nARG n\n"
	)
	return &tool{
		name:    "BuildKit",
		kind:    peer,
		about:   "its Dockerfile frontend on a warm daemon with runc and overlayfs; client and daemon together",
		needs:   []string{"buildkitd", "buildctl", "runc"},
		version: "buildkitd --version",
		env:     []string{"BUILDKIT_HOST=unix://$dir/socket"},
		daemon: "buildkitd --root buildkit --addr unix://$dir/socket --containerd-worker=false" +
			" --oci-worker-snapshotter=overlayfs --oci-worker-net=host --oci-worker-gc=false",
		ready: "buildctl debug workers",
		files: map[string]string{
			"files/expand":      "FROM scratch\nADD $in.tar.gz /\n",
			"files/expand-zstd": "FROM scratch\nADD $in.tar.zst /\n",
			"files/expand-run":  from + "RUN echo 0 > /file\n",
			"files/run":         from + "RUN echo ${n} > /file\n",
			"files/chain":       chainDockerfile("FROM scratch AS base\nADD $in.tar.gz /\nFROM base", 20),
			"files/parallel":    from + "ARG i\nRUN sleep 0.5; dd if=/dev/urandom of=/data bs=1M count=10; : ${n} ${i}\n",
			"files/copy":        "FROM scratch\nCOPY $in /$in\n",
			"files/unpack":      "FROM unpacked\n",
		},
		jobs: map[job]work{
			expand:     {timed: []string{build + "expand" + output + "oci"}, check: imageHolds("oci", "", "$corpus/$in.tar.gz")},
			expandZstd: {timed: []string{build + "expand-zstd" + output + "oci"}, check: imageHolds("oci", "", "$corpus/$in.tar.gz")},
			expandRun: {
				timed: []string{build + "expand-run" + output + "oci"},
				check: imageHas("oci", "", "file"),
				note:  "writes only the last image",
			},
			run: {
				after: expand,
				setup: []string{build + "run" + output + "app --opt build-arg:n=first"},
				timed: []string{build + "run" + output + "app --opt build-arg:n=$n"},
				check: imageHas("app", "", "file"),
			},
			chain: {
				after: expand,
				setup: []string{build + "run" + output + "app --opt build-arg:n=first"},
				timed: []string{build + "chain" + output + "app --opt build-arg:n=$n"},
				check: imageHas("app", "", "file_1", "file_20"),
				note:  "writes only the last image",
			},
			parallel: {
				after: expand,
				setup: []string{build + "run" + output + "app --opt build-arg:n=first"},
				timed: []string{"for i in $(seq 8); do " + build + "parallel" + output + "oci$i --opt build-arg:n=$n --opt build-arg:i=$i & done; wait"},
				check: imageHas("oci8", "", "data"),
				note:  "eight commands side by side, a layout for each",
			},
			expandRunAgain: {after: expandRun, timed: []string{build + "expand-run" + output + "oci"}, check: imageHas("oci", "", "file")},
			chainAgain: {
				after: chain, again: true,
				timed: []string{build + "chain" + output + "app --opt build-arg:n=$n"},
				check: imageHas("app", "", "file_1", "file_20"),
			},
			copyIn: {timed: []string{build + "copy" + output + "oci"}, check: imageHas("oci", "", "$in")},
			unpack: {
				after: expand,
				// What it keeps of the image is dropped, or there would be nothing to unpack.
				timed: []string{build + "unpack --no-cache --oci-layout store=oci --opt context:unpacked=oci-layout://store@$(cat digest) --output type=local,dest=out"},
				setup: []string{
					`sed -n 's/.*"digest":"\(sha256:[0-9a-f]*\)".*/\1/p' oci/index.json > digest`,
					"buildctl prune --all",
				},
				check: folderHolds("out", "$corpus/$in.tar.gz"),
				clean: []string{"rm -rf out", "buildctl prune --all"},
				note:  "exported to a folder, without owners",
			},
		},
	}
}
