package layer

import (
	"bufio"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"genoci/test/strict"
)

// sample returns bytes that can be compressed, but not to nothing.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(8) * r.IntN(8))
	}
	return b
}

func compressWith(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	c, err := CompressionByName(name)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w, err := c.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func compressXz(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Every compression that can write gives back what was written, through its own reader and through
// Decompress.
func TestCompressionsRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 511, smallDeflate, smallDeflate + 1, gzipBlock, 3*gzipBlock + 17} {
		data := sample(size)
		for _, c := range Compressions {
			if c.NewWriter == nil {
				continue
			}
			packed := compressWith(t, c.Name, data)
			if !bytes.HasPrefix(packed, c.Magic) {
				t.Errorf("%s: magic is %x", c.Name, packed[:min(8, len(packed))])
			}
			r, err := c.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %d bytes: NewReader gives %d bytes, %v", c.Name, size, len(got), err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: close: %v", c.Name, err)
			}
			checkDecompress(t, iotest.OneByteReader(bytes.NewReader(packed)), c.Name, data)
		}
	}
}

func checkDecompress(t *testing.T, r io.Reader, name string, want []byte) {
	t.Helper()
	rc, c, err := Decompress(r)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil || c.Name != name || !bytes.Equal(got, want) {
		t.Errorf("Decompress says %s, gives %d bytes, %v; want %s, %d bytes", c.Name, len(got), err, name, len(want))
	}
}

// Trap Z1: neither the sizes of writes, nor a source's sizes of reads, nor the number of cores show
// in the bytes.
func TestWritersAreDeterministic(t *testing.T) {
	data := mixed(5*gzipBlock + 12345)
	feeds := map[string]func(w io.Writer) error{
		"one write": func(w io.Writer) error { _, err := w.Write(data); return err },
		"odd writes": func(w io.Writer) error {
			for rest := range slices.Chunk(data, 4099) {
				if _, err := w.Write(rest); err != nil {
					return err
				}
			}
			return nil
		},
		"io.Copy": func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(data)); return err },
		"io.Copy of small reads": func(w io.Writer) error {
			_, err := io.Copy(w, iotest.HalfReader(struct{ io.Reader }{bytes.NewReader(data)}))
			return err
		},
		"bufio.ReadFrom": func(w io.Writer) error {
			b := bufio.NewWriterSize(w, 1000)
			if _, err := b.ReadFrom(struct{ io.Reader }{bytes.NewReader(data)}); err != nil {
				return err
			}
			return b.Flush()
		},
	}
	for _, c := range Compressions {
		if c.NewWriter == nil {
			continue
		}
		want := compressWith(t, c.Name, data)
		for _, procs := range []int{1, 2, 5} {
			for name, feed := range feeds {
				before := runtime.GOMAXPROCS(procs)
				var buf bytes.Buffer
				w, err := c.NewWriter(&buf)
				if err == nil {
					err = errors.Join(feed(w), w.Close())
				}
				runtime.GOMAXPROCS(before)
				if err != nil || !bytes.Equal(buf.Bytes(), want) {
					t.Errorf("%s, %s, GOMAXPROCS=%d: %d other bytes, %v", c.Name, name, procs, buf.Len(), err)
				}
			}
		}
	}
}

func TestGzipHeader(t *testing.T) {
	// RFC 1952: deflate, no flags (no name), no time, no extra flags, unknown system.
	if got, want := hex.EncodeToString(compressWith(t, "gzip", nil)[:10]), "1f8b08000000000000ff"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWriterErrors(t *testing.T) {
	full := errors.New("disk full")
	for _, c := range Compressions {
		if c.NewWriter == nil {
			continue
		}
		w, err := c.NewWriter(writerFunc(func([]byte) (int, error) { return 0, full }))
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(sample(3 * gzipBlock))
		if err = errors.Join(err, w.Close()); !errors.Is(err, full) {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Trap Z2: the IDs name the versions that go.mod has, so that a cache never mixes the bytes of two.
func TestCompressionIDs(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for path, version := range map[string]string{"github.com/klauspost/compress": compressVersion} {
		if !regexp.MustCompile(regexp.QuoteMeta(path+" "+version) + `\b`).Match(mod) {
			t.Errorf("go.mod does not have %s %s: the constant has to follow", path, version)
		}
	}
	seen := map[string]bool{}
	for _, c := range Compressions {
		if (c.ID == "") != (c.NewWriter == nil) || c.ID != "" && seen[c.ID] {
			t.Errorf("%s: ID %q", c.Name, c.ID)
		}
		seen[c.ID] = true
	}
	if !strings.Contains(Compressions[0].ID, "level 5 block 1MiB history 16KiB small 16KiB") || gzipHistory != 16<<10 || gzipLevel != 5 || gzipBlock != 1<<20 || smallDeflate != 16<<10 {
		t.Errorf("%q is not what the gzip writer does", Compressions[0].ID)
	}
	if !strings.Contains(Compressions[1].ID, "block 4MiB") || zstdBlock != 4<<20 {
		t.Errorf("%q is not what the zstd writer does", Compressions[1].ID)
	}
}

func TestCompressionByName(t *testing.T) {
	for _, name := range []string{"gzip", "zstd", "none"} {
		if c, err := CompressionByName(name); err != nil || c.Name != name {
			t.Errorf("%s: %s, %v", name, c.Name, err)
		}
	}
	for _, name := range []string{"xz", "bzip2", "", "Gzip"} {
		_, err := CompressionByName(name)
		if want := `unknown compression "` + name + `": expected one of gzip, zstd, none`; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestCompressionByMediaType(t *testing.T) {
	for mediaType, want := range map[string]string{
		"application/vnd.oci.image.layer.v1.tar":                       "none",
		"application/vnd.oci.image.layer.v1.tar+gzip":                  "gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd":                  "zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar":      "none",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
		"application/vnd.docker.image.rootfs.diff.tar":                 "none",
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            "gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            "zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    "gzip",
		"application/vnd.oci.image.layer.v1.tar+xz":                    "",
		"application/vnd.oci.image.layer.v1.tar+":                      "",
		"application/vnd.oci.image.layer.v1.tar+none":                  "",
		"application/vnd.oci.image.layer.v1.tar.gzip":                  "",
		"application/vnd.docker.image.rootfs.diff.tar+gzip":            "",
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted":        "",
		"application/vnd.oci.image.config.v1+json":                     "",
		"": "",
	} {
		c, err := CompressionByMediaType(mediaType)
		if c.Name != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", mediaType, c.Name, err, want)
		}
	}
}

// bz2 is "hello\n", compressed by bzip2(1).
const bz2 = "425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2"

func TestDecompress(t *testing.T) {
	hello := []byte("hello\n")
	gz, zst := compressWith(t, "gzip", hello), compressWith(t, "zstd", hello)
	bz, err := hex.DecodeString(bz2)
	if err != nil {
		t.Fatal(err)
	}
	skippable := append([]byte{0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	tarOf := func(name string) []byte { return makeTar(t, fileMember(name, "")) }
	tests := []struct {
		name, compression string
		data, want        []byte
	}{
		{"empty", "none", nil, nil},
		{"one byte", "none", []byte{0x1f}, []byte{0x1f}},
		{"gzip", "gzip", gz, hello},
		{"gzip members", "gzip", slices.Concat(gz, gz, compressWith(t, "gzip", nil), gz), []byte("hello\nhello\nhello\n")},
		{"gzip, zero padding", "gzip", slices.Concat(gz, make([]byte, 100000)), hello},
		{"zstd", "zstd", zst, hello},
		{"zstd frames", "zstd", slices.Concat(zst, zst), []byte("hello\nhello\n")},
		{"zstd after a skippable frame", "zstd", slices.Concat(skippable, zst, skippable), hello},
		{"xz", "xz", compressXz(t, hello), hello},
		{"xz streams", "xz", slices.Concat(compressXz(t, hello), compressXz(t, hello), make([]byte, 8)), []byte("hello\nhello\n")},
		{"bzip2", "bzip2", bz, hello},
		{"bzip2 streams", "bzip2", slices.Concat(bz, bz), []byte("hello\nhello\n")},
		{"bzip2 of nothing", "bzip2", []byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"), nil},
		{"tar", "none", tarOf("a"), tarOf("a")},
		{"tar with a name like bzip2's magic", "none", tarOf("BZh9-file"), tarOf("BZh9-file")},
		{"tar with a name like gzip's magic", "none", tarOf("\x1f\x8b-file"), tarOf("\x1f\x8b-file")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkDecompress(t, bytes.NewReader(tt.data), tt.compression, tt.want)
		})
	}
}

func TestDecompressErrors(t *testing.T) {
	data := sample(100000)
	gz, zst, x := compressWith(t, "gzip", data), compressWith(t, "zstd", data), compressXz(t, data)
	bz, err := hex.DecodeString(bz2)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	flipped := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0xff
		return b
	}
	tests := []struct {
		name string
		r    io.Reader
		want string // "" where the text is the library's
	}{
		{"gzip, cut off", bytes.NewReader(gz[:len(gz)-9]), "unexpected EOF"},
		{"gzip, cut off in the checksum", bytes.NewReader(gz[:len(gz)-1]), "unexpected EOF"},
		{"gzip, cut off in the header", bytes.NewReader(gz[:5]), "gzip: unexpected EOF"},
		{"gzip, second member cut off", bytes.NewReader(slices.Concat(gz, gz[:5])), "after the end of the gzip stream: unexpected EOF"},
		{"gzip, garbage", bytes.NewReader(append(bytes.Clone(gz), "garbage"...)), "garbage after the end of the gzip stream"},
		{"gzip, garbage after padding", bytes.NewReader(append(bytes.Clone(gz), "\x00\x00garbage"...)), "garbage after the end of the gzip stream"},
		{"gzip, damaged", bytes.NewReader(flipped(gz)), ""},
		{"zstd, cut off", bytes.NewReader(zst[:len(zst)-1]), "unexpected EOF"},
		{"zstd, garbage", bytes.NewReader(append(bytes.Clone(zst), "garbage"...)), ""},
		{"zstd, damaged", bytes.NewReader(flipped(zst)), ""},
		{"xz, cut off", bytes.NewReader(x[:len(x)-1]), "unexpected EOF"},
		{"xz, cut off at once", bytes.NewReader(x[:8]), "xz: unexpected EOF"},
		{"xz, garbage", bytes.NewReader(append(bytes.Clone(x), "garbage"...)), ""},
		{"xz, damaged", bytes.NewReader(flipped(x)), ""},
		{"bzip2, cut off", bytes.NewReader(bz[:len(bz)-1]), "unexpected EOF"},
		{"bzip2, garbage", bytes.NewReader(append(bytes.Clone(bz), "garbage"...)), ""},
		{"broken source", iotest.ErrReader(broken), "broken"},
		{"broken later", io.MultiReader(bytes.NewReader(gz[:1000]), iotest.ErrReader(broken)), "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _, err := Decompress(tt.r)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if err == nil || tt.want != "" && err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// Layers are read as all other tools read them: with nothing behind the end (trap Z5).
func TestLayersHaveNoPadding(t *testing.T) {
	c, err := CompressionByName("gzip")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.NewReader(bytes.NewReader(append(compressWith(t, "gzip", []byte("x")), 0, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("padding is accepted")
	}
}

// A few bytes may not make a decoder allocate what they like.
func TestDecompressWindow(t *testing.T) {
	x := compressXz(t, sample(1000))
	// Block header: size, flags (one filter), LZMA2, one byte of properties, the dictionary's size.
	if x[12+2] != 0x21 || x[12+3] != 1 {
		t.Fatalf("block header % x", x[12:24])
	}
	x[12+4] = 40 // 4 GiB - 1
	size := (int(x[12]) + 1) * 4
	binary.LittleEndian.PutUint32(x[12+size-4:], crc32.ChecksumIEEE(x[12:12+size-4]))
	if _, _, err := Decompress(bytes.NewReader(x)); err == nil || err.Error() != "xz: a window of 4096 MiB is more than the limit of 512 MiB" {
		t.Errorf("xz: got %v", err)
	}
	// Frame header: no content size, window descriptor of 1 GiB; one raw block.
	zst := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x09, 0, 0, 'x'}
	r, _, err := Decompress(bytes.NewReader(zst))
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("zstd: got %v", err)
	}
}

// Where the usual programs are installed, what they compress is read, at their highest levels too.
func TestDecompressOthers(t *testing.T) {
	data := sample(300 << 10)
	for _, argv := range [][]string{
		{"gzip", "-9", "-n"}, {"bzip2", "-1"}, {"bzip2", "-9"}, {"xz", "-0"}, {"xz", "-9e", "-T2", "--block-size=100KiB"},
		{"xz", "--check=sha256"}, {"xz", "--check=none"}, {"zstd", "-19"}, {"zstd", "--long=27"},
	} {
		t.Run(strings.Join(argv, " "), func(t *testing.T) {
			strict.Need(t, argv[0])
			cmd := exec.Command(argv[0], append(argv[1:], "-c")...)
			cmd.Stdin = bytes.NewReader(data)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			checkDecompress(t, bytes.NewReader(packed), argv[0], data)
		})
	}
}

// What Decompress takes for gzip is what the standard library reads as gzip, and gives the same
// bytes.
func FuzzDecompress(f *testing.F) {
	data := sample(500)
	gz := compressWith(f, "gzip", data)
	f.Add(gz)
	f.Add(slices.Concat(gz, gz))
	f.Add(gz[:len(gz)/2])
	f.Add(slices.Concat(gz, []byte{0, 0, 0}))
	f.Add(slices.Concat(gz, []byte{0, 0, 1}))
	f.Add(compressWith(f, "zstd", data))
	f.Add(compressXz(f, data))
	f.Add(makeTar(f, fileMember("BZh9", "x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 1 << 22
		r, c, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		got, err := io.ReadAll(io.LimitReader(r, most))
		if c.Name == "none" && (err != nil || !bytes.Equal(got, data)) {
			t.Fatalf("uncompressed data is changed: %d bytes of %d, %v", len(got), len(data), err)
		}
		std, stdErr := stdgzip.NewReader(bytes.NewReader(data))
		if (stdErr == nil) != (c.Name == "gzip") {
			t.Fatalf("it is %s; compress/gzip says %v", c.Name, stdErr)
		}
		if stdErr != nil {
			return
		}
		want, stdErr := io.ReadAll(io.LimitReader(std, most))
		same := min(len(got), len(want)) // up to an error they may get differently far
		if err == nil && len(got) != len(want) || !bytes.Equal(got[:same], want[:same]) {
			t.Fatalf("%d bytes, %v; compress/gzip gives %d, %v", len(got), err, len(want), stdErr)
		}
		padded := bytes.HasSuffix(data, []byte{0})
		if err == nil && stdErr != nil && !padded || err != nil && stdErr == nil {
			t.Fatalf("%v; compress/gzip says %v", err, stdErr)
		}
	})
}
