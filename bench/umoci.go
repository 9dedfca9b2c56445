package main

// umoci does its work as its manual has it: unpack an image into a bundle, change the tree, repack.
// It runs nothing itself, so that chroot stands in for a sandbox, which is less than the others do.
func umoci() *tool {
	const (
		edit      = "chroot bundle/rootfs /bin/sh -c \"echo $n > /file\""
		noSandbox = "no sandbox: not compared"
	)
	return &tool{
		name:    "umoci",
		kind:    peer,
		about:   "unpack, change, repack; `chroot` in place of a sandbox",
		needs:   []string{"umoci", "tar", "gzip"},
		version: "umoci --version",
		jobs: map[job]work{
			expand: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:$in",
					"umoci unpack --image oci:$in bundle",
					"tar -xzpf $corpus/$in.tar.gz -C bundle/rootfs --numeric-owner",
					"umoci repack --image oci:$in --refresh-bundle bundle",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			expandZstd: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:$in",
					"umoci unpack --image oci:$in bundle",
					"tar --zstd -xpf $corpus/$in.tar.zst -C bundle/rootfs --numeric-owner",
					"umoci repack --image oci:$in --refresh-bundle bundle",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			expandRun: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:$in",
					"umoci unpack --image oci:$in bundle",
					"tar -xzpf $corpus/$in.tar.gz -C bundle/rootfs --numeric-owner",
					"umoci repack --image oci:$in --refresh-bundle bundle",
					edit,
					"umoci repack --image oci:app --refresh-bundle bundle",
				},
				check: imageHas("oci", "app", "file"),
				note:  noSandbox, part: true,
			},
			run: {
				after: expand,
				timed: []string{edit, "umoci repack --image oci:app --refresh-bundle bundle"},
				check: imageHas("oci", "app", "file"),
				note:  noSandbox, part: true,
			},
			chain: {
				after: expand,
				timed: []string{`for i in $(seq 20); do
	chroot bundle/rootfs /bin/sh -c "echo $n $i > /file_$i"
	umoci repack --image oci:t$i --refresh-bundle bundle
done`},
				check: imageHas("oci", "t20", "file_1", "file_20"),
				note:  noSandbox, part: true,
			},
			copyIn: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:copied",
					"umoci insert --image oci:copied $corpus/$in /$in",
				},
				check: imageHas("oci", "copied", "$in"),
				note:  "`umoci insert`",
			},
			unpack: {
				after: expand,
				timed: []string{"umoci unpack --image oci:$in out"},
				check: folderHolds("out/rootfs", "$corpus/$in.tar.gz"),
				clean: []string{"rm -rf out"},
			},
		},
	}
}

// umociRaw is umoci's plumbing: layers go in and out without a manifest of all files being made.
func umociRaw() *tool {
	return &tool{
		name:    "umoci raw",
		kind:    peer,
		about:   "`umoci raw add-layer` and `umoci raw unpack`; decompression by gzip or zstd, in a pipe",
		needs:   []string{"umoci", "gzip", "zstd"},
		version: "umoci --version",
		jobs: map[job]work{
			expand: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:$in",
					"gzip -dc $corpus/$in.tar.gz | umoci raw add-layer --image oci:$in /dev/stdin",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			expandZstd: {
				timed: []string{
					"umoci init --layout oci",
					"umoci new --image oci:$in",
					"zstd -dc $corpus/$in.tar.zst | umoci raw add-layer --image oci:$in /dev/stdin",
				},
				check: imageHolds("oci", "$in", "$corpus/$in.tar.gz"),
			},
			unpack: {
				after: expand,
				timed: []string{"umoci raw unpack --image oci:$in out"},
				check: folderHolds("out", "$corpus/$in.tar.gz"),
				clean: []string{"rm -rf out"},
			},
		},
	}
}
