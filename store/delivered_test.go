package store

import (
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// TestDeliveredIsPacked reads back what it writes, of few users, of many and of all; of users who are spread over the block it is shorter than a list of them.
func TestDeliveredIsPacked(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 64, 500, 2184, 6553, 20000, 65536} {
		c := &Delivered{Seq: 1 << 40, Block: 152, Bits: roaring.New()}
		for _, low := range r.Perm(1 << 16)[:n] {
			c.Bits.Add(uint32(low))
		}
		b := encodeCommand(c)
		got, err := decodeCommand(b)
		if err != nil {
			t.Fatal(n, err)
		}
		if d := got.(*Delivered); d.Seq != c.Seq || d.Block != c.Block || !d.Bits.Equals(c.Bits) {
			t.Errorf("%d users come back as %d", n, d.Bits.GetCardinality())
		}
		if n == 2184 && len(b) > n { // a byte for each, where roaring takes two
			t.Errorf("%d users take %d bytes", n, len(b))
		}
		for cut := range min(len(b)-1, 300) { // whatever is left of it, or makes no sense
			decodeCommand(b[:cut])
			bad := append([]byte(nil), b...)
			bad[len(bad)-1-cut] ^= 0x55
			decodeCommand(bad)
		}
	}
}
