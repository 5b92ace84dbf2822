package store

import (
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// TestContainerHas compares with roaring, for containers of each form.
func TestContainerHas(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	sets := []*roaring.Bitmap{roaring.BitmapOf(0), roaring.BitmapOf(0xFFFF)}
	for _, n := range []int{1, 2, 100, 4095, 4096, 4097, 30_000, 65_536} {
		random, run := roaring.New(), roaring.New()
		for range n {
			random.Add(uint32(r.IntN(1 << 16)))
		}
		first := r.IntN(1<<16 - n + 1)
		run.AddRange(uint64(first), uint64(first+n))
		runs := run.Clone()
		runs.Remove(uint32(first + n/2))
		runs.Add(0)
		runs.Add(0xFFFF)
		sets = append(sets, random, run, runs)
	}
	for _, set := range sets {
		for range 2 { // as it is, and optimised
			raw := bitmapBytes(set)
			for low := range 1 << 16 {
				if containerHas(raw, uint16(low)) != set.Contains(uint32(low)) {
					t.Fatalf("%d of %v: %v", low, set, !set.Contains(uint32(low)))
				}
			}
			for n := range min(len(raw), 40) {
				if !damagedContainer(raw[:n]) {
					t.Fatalf("%d of %d bytes are a container of %v", n, len(raw), set)
				}
			}
			set.RunOptimize()
		}
	}
	if !damagedContainer(bitmapBytes(roaring.BitmapOf(1, 1<<16))) || !damagedContainer(bitmapBytes(roaring.BitmapOf(1<<16))) {
		t.Fatal("a container of another block is taken")
	}
}

// damagedContainer says whether containerHas refuses raw.
func damagedContainer(raw []byte) (refused bool) {
	defer func() {
		if x := recover(); x != nil {
			_, refused = x.(*FormatError)
		}
	}()
	containerHas(raw, 0)
	return false
}
