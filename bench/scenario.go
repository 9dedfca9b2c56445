package main

// scenario is a job on an input, with what genoci is to reach in it.
type scenario struct {
	id    string // of the docs
	job   job
	input string
	text  string
	// atMost is the most time that genoci may take.
	atMost bound
	// near bounds it by its own time in another scenario.
	near bound
	// ahead is how many times faster than the fastest peer it is to be; 0: no matter.
	ahead float64
	chart string // what it is, in a few words, for the chart; empty: it is not in there
}

// bound is a time, as seconds or as that of a tool or scenario, times a factor.
type bound struct {
	seconds  float64
	factor   float64
	tool     string // that does the scenario's job
	scenario string // that genoci did before
	text     string // what tool does, for the table
}

// maxMemory is what no process of genoci may use in any scenario, in bytes (S9).
const maxMemory = 120e6

// scenarios are in an order in which no scenario comes before one that its job goes on from.
func scenarios() []scenario {
	gunzip := bound{factor: 1.2, tool: "limit", text: "one pass of gunzip and both hashes"}
	unzstd := bound{factor: 1.3, tool: "limit", text: "one pass of zstd decoding and both hashes"}
	extract := func(factor float64) bound { return bound{factor: factor, tool: "GNU tar", text: "`tar -xzf`"} }
	starts := bound{factor: 2.5, tool: "limit", text: "20 sandbox starts"}
	pack := bound{factor: 1.3, tool: "limit", text: "reading, hashing and compressing on all cores"}
	return []scenario{
		{id: "S1 deb", job: expand, input: "deb", text: "`expand` of a Debian root filesystem, 60 MB of gzip, on nothing", atMost: gunzip, ahead: 5, chart: "expand a tar.gz of 60 MB"},
		{id: "S1 big", job: expand, input: "big", text: "the same of a large one, 660 MB of gzip, 2.2 GB unpacked", atMost: gunzip, ahead: 5, chart: "expand a tar.gz of 660 MB"},
		{id: "S1z deb", job: expandZstd, input: "deb", text: "S1 from zstd", atMost: unzstd, ahead: 10, chart: "expand a tar.zst of 51 MB"},
		{id: "S2 deb", job: expandRun, input: "deb", text: "S1, and an image on it that runs one small command", atMost: extract(1.0), ahead: 3, chart: "expand 60 MB, and a run on it"},
		{id: "S3 bb", job: run, input: "bb", text: "one small `run` on a base that is there: busybox", atMost: bound{seconds: 0.030}, chart: "a run on busybox"},
		{id: "S3 deb", job: run, input: "deb", text: "on Debian", atMost: bound{seconds: 0.030}, ahead: 6, chart: "a run on Debian"},
		{
			id: "S3 big", job: run, input: "big", text: "on the large one",
			atMost: bound{seconds: 0.030}, near: bound{factor: 1.2, scenario: "S3 deb"}, ahead: 6, chart: "a run on 100,000 files",
		},
		{id: "S4 bb", job: chain, input: "bb", text: "a chain of 20 images, each with one small `run`, on busybox", atMost: starts, ahead: 5, chart: "20 runs in a row on busybox"},
		{
			id: "S4 deb", job: chain, input: "deb", text: "on Debian",
			atMost: starts, near: bound{factor: 1.2, scenario: "S4 bb"}, ahead: 5, chart: "20 runs in a row on Debian",
		},
		{
			id: "S5 deb", job: parallel, input: "deb", text: "8 images on Debian, each sleeping 0.5 s and writing 10 MB of random data",
			atMost: bound{factor: 1.4, tool: "limit", text: "the slowest of sleeping, and compressing and hashing 80 MB on all cores"}, ahead: 6, chart: "8 runs at once, 10 MB each",
		},
		{id: "S6 S2", job: expandRunAgain, input: "deb", text: "S2 again, nothing changed", atMost: bound{seconds: 0.015}, ahead: 6, chart: "S2 again, nothing changed"},
		{id: "S6 S4 bb", job: chainAgain, input: "bb", text: "S4 on busybox again, nothing changed", atMost: bound{seconds: 0.015}, ahead: 6},
		{id: "S6 S4 deb", job: chainAgain, input: "deb", text: "S4 on Debian again, nothing changed", atMost: bound{seconds: 0.015}, ahead: 6, chart: "S4 again, nothing changed"},
		{id: "S7 many", job: copyIn, input: "many", text: "`copy` of 20,000 small files, 85 MB", atMost: pack, ahead: 3.5, chart: "copy 20,000 files"},
		{id: "S7 1g", job: copyIn, input: "rand1g.bin", text: "`copy` of one random file of 1 GB", atMost: pack, ahead: 2.5, chart: "copy a file of 1 GB"},
		{id: "S8 deb", job: unpack, input: "deb", text: "`unpack` of the image of S1 to a folder", atMost: extract(0.8), ahead: 1.7, chart: "unpack 60 MB to a folder"},
		{id: "S8 big", job: unpack, input: "big", text: "the same of the large one", atMost: extract(0.8), ahead: 1.7, chart: "unpack 660 MB to a folder"},
	}
}

// tools are all that are compared. A new one needs a line here, and the file that it stands in.
func tools() []*tool {
	return []*tool{genoci(), umoci(), umociRaw(), buildah(), buildKit(), gnuTar(), limits(), igzip(), libdeflate(), pigz()}
}
