package layer

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"genoci/test/strict"
)

// Both sums are those that crypto/sha256 alone makes, whatever was written before and in whatever
// pieces.
func TestWriteBoth(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	data := noise(1, 1<<20)
	for range 300 {
		before := data[:[]int{0, 512, 64, 1000, 1 << 16}[r.IntN(5)]]
		a, b := sha256.New(), sha256.New()
		a.Write(before)
		wantA, wantB := sha256.New(), sha256.New()
		wantA.Write(before)
		for range 1 + r.IntN(4) {
			p := data[r.IntN(1000):][:[]int{0, 1, 64, 1023, 1024, 5000, 1 << 16, 1<<18 + 7}[r.IntN(8)]]
			writeBoth(a, b, p)
			wantA.Write(p)
			wantB.Write(p)
		}
		if !bytes.Equal(a.Sum(nil), wantA.Sum(nil)) || !bytes.Equal(b.Sum(nil), wantB.Sum(nil)) {
			t.Fatal("a sum differs")
		}
	}
}

// The fast way is taken where the processor has it: crypto/sha256 marshals itself as expected.
func TestSumTwice(t *testing.T) {
	if !canSumTwice() {
		strict.Lack(t, "sha", "the processor has no instructions for SHA-256")
	}
	a, b := sha256.New(), sha256.New()
	a.Write(make([]byte, 512))
	if n := sumTwice(a, b, make([]byte, 1000)); n != 960 {
		t.Errorf("%d bytes were taken", n)
	}
	a.Write([]byte{1})
	if n := sumTwice(a, b, make([]byte, 1000)); n != 0 {
		t.Errorf("%d bytes were taken in the middle of a block", n)
	}
}

func BenchmarkWriteBoth(b *testing.B) {
	p := noise(1, bufferSize)
	whole, part := sha256.New(), sha256.New()
	b.SetBytes(int64(len(p)))
	b.Run("both", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			writeBoth(whole, part, p)
		}
	})
	b.Run("apart", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			whole.Write(p)
			part.Write(p)
		}
	})
	b.Run("one", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			whole.Write(p)
		}
	})
}
