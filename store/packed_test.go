package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// anySet draws a set of a block: spread, in clusters, at the edges of stretches.
func anySet(t *rapid.T) *roaring.Bitmap {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	set := roaring.New()
	for range rapid.IntRange(0, 4).Draw(t, "parts") {
		from := rapid.IntRange(0, 1<<16-1).Draw(t, "from")
		to := rapid.IntRange(from, 1<<16-1).Draw(t, "to")
		for range rapid.SampledFrom([]int{1, 10, 300, 4096, 6554, packedMax}).Draw(t, "n") {
			set.Add(uint32(from + r.IntN(to-from+1)))
		}
	}
	for _, edge := range rapid.SliceOfN(rapid.SampledFrom([]uint32{0, 2047, 2048, 65535, 63488}), 0, 3).Draw(t, "edges") {
		set.Add(edge)
	}
	return set
}

// TestDeliveredHasOneForm: what is taken for a delivery is what is written for it, so that a record that is decoded and encoded is the same.
func TestDeliveredHasOneForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := &Delivered{Seq: 7, Block: 3, Bits: anySet(t)}
		raw := encodeCommand(c)
		plain := bitmapBytes(c.Bits)
		if packed := pack(c.Bits, packedMost(plain)); (packed != nil) != (len(raw) < len(plain)) {
			t.Fatalf("%d bytes of %d, and packed it is %d", len(raw), len(plain), len(packed))
		} else if packed != nil {
			w := writer{b: []byte{byte(kindDelivered)}}
			w.uvarint(c.Seq)
			w.uvarint(uint64(c.Block))
			w.bytes(plain)
			if _, err := decodeCommand(w.b); !errors.Is(err, ErrDamaged) {
				t.Fatal("taken as it is not written:", err)
			}
		}
		got, err := decodeCommand(raw)
		if err != nil {
			t.Fatal(err)
		}
		if d := got.(*Delivered); d.Seq != c.Seq || d.Block != c.Block || !d.Bits.Equals(c.Bits) {
			t.Fatalf("%v became %v", c, d)
		}
	})
}

// TestPacked: a packed set is the set, whether one asks it or reads it.
func TestPacked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := anySet(t)
		raw := pack(set, 1<<20)
		if n := set.GetCardinality(); n == 0 || n > packedMax {
			if raw != nil {
				t.Fatalf("%d users are packed", n)
			}
			return
		}
		for low := range 1 << 16 {
			if packedHas(raw, uint16(low)) != set.Contains(uint32(low)) {
				t.Fatalf("%d: %v", low, !set.Contains(uint32(low)))
			}
		}
		got := roaring.New()
		if err := readPending(got, raw); err != nil || !got.Equals(set) {
			t.Fatal("read back:", err)
		}
		if pack(set, len(raw)) == nil || pack(set, len(raw)-1) != nil {
			t.Fatal("the bound of the length is another")
		}
		if n := rapid.IntRange(0, len(raw)-1).Draw(t, "cut"); readPending(got, raw[:n]) == nil {
			t.Fatalf("%d of %d bytes are taken", n, len(raw))
		}
		if readPending(got, append(bytes.Clone(raw), 0)) == nil {
			t.Fatal("a byte too many is taken")
		}
		bad := bytes.Clone(raw)
		at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if readPending(got, bad) == nil && got.Equals(set) {
			t.Fatalf("byte %d says nothing: %x", at, bad[at])
		}
	})
}

// TestPackedSize: the size is what the code promises, two bits and the logarithm for each user, rounded up, beside the counts.
func TestPackedSize(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{100, 655, 6554} {
		set := roaring.New()
		for set.GetCardinality() < uint64(n) {
			set.Add(uint32(r.IntN(1 << 16)))
		}
		most := packedHead + packedTail + n*(2+int(math.Ceil(math.Log2(float64(1<<16)/float64(n)))))/8
		if got := len(pack(set, 1<<20)); got > most {
			t.Errorf("%d users take %d bytes, not %d", n, got, most)
		}
	}
}

// FuzzPacked reads rubbish as a packed set: it is refused, or is a set.
func FuzzPacked(f *testing.F) {
	f.Add(pack(roaring.BitmapOf(1, 2, 3, 2047, 2048, 65535), 1<<20), uint16(3))
	f.Add(pack(roaring.BitmapOf(7), 1<<20), uint16(7))
	f.Fuzz(func(t *testing.T, raw []byte, low uint16) {
		if !isPacked(raw) {
			return
		}
		is, refused := false, false
		func() {
			defer func() {
				if x := recover(); x != nil {
					_, refused = x.(*FormatError)
					if !refused {
						panic(x)
					}
				}
			}()
			is = containerHas(raw, low)
		}()
		set := roaring.New()
		if readPending(set, raw) == nil && (refused || is != set.Contains(uint32(low))) {
			t.Fatalf("%d: %v, %v of %v", low, is, refused, set)
		}
	})
}

// TestPackedPendingSets follows pushes to a third of a block's users through folds and acknowledgements: the sets are
// packed in the file, and whoever asks sees the same as before.
func TestPackedPendingSets(t *testing.T) {
	t.Parallel()
	const users = 20_000
	s := open(t, t.TempDir(), Options{})
	ctx := context.Background()
	r := rand.New(rand.NewPCG(2, 2))
	batch := &Batch{}
	want := map[uint32]bool{}
	for i := range users {
		op := UserOp{Kind: OpPut, ID: fmt.Sprintf("user-%d", i)}
		if r.IntN(3) == 0 {
			op.Tags = []string{"third"}
			want[uint32(i)] = true
		}
		if batch.Ops = append(batch.Ops, op); len(batch.Ops) == 1000 {
			propose(t, s, batch)
			batch = &Batch{}
		}
	}
	seq := push(t, s, &Expr{Op: OpTag, Value: "third"}, time.Hour).Seq
	check := func(packed bool) {
		t.Helper()
		if err := s.Check(ctx); err != nil {
			t.Fatal(err)
		}
		err := s.blocksDB().View(func(tx *bbolt.Tx) error {
			raw := tx.Bucket(bucketName[bucketBlocks]).Get(pendingKey(0, seq))
			if isPacked(raw) != packed {
				t.Fatalf("packed: %v, in %d bytes", !packed, len(raw))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for ord := range uint32(users) {
			seqs, err := s.PendingOf(ord, 0, 10)
			if err != nil || (len(seqs) == 1) != want[ord] {
				t.Fatalf("user %d: %v, %v", ord, seqs, err)
			}
		}
		if p := progressOf(t, s, seq).Pending; p != int64(len(want)) {
			t.Fatalf("%d are pending, not %d", p, len(want))
		}
	}
	check(true)
	for ord := range want { // one by one, of the file's set
		if is, err := s.Ack(ctx, ord, seq); !is || err != nil {
			t.Fatal(ord, err)
		}
		if is, err := s.Ack(ctx, ord, seq); is || err != nil {
			t.Fatal("twice:", ord, err)
		}
		delete(want, ord)
		if ord%100 == 0 {
			break
		}
	}
	some := roaring.New()
	for ord := range uint32(5000) {
		some.Add(ord)
	}
	cleared := propose(t, s, &Received{Seq: seq, Block: 0, Bits: some}).(*roaring.Bitmap)
	some.Iterate(func(ord uint32) bool {
		if cleared.Contains(ord) != want[ord] {
			t.Fatalf("user %d: cleared %v", ord, !want[ord])
		}
		delete(want, ord)
		return true
	})
	check(true)
	for ord := range want { // all but a few
		if len(want) > 20 {
			propose(t, s, &CaughtUp{Ordinal: ord, Seqs: []uint64{seq}})
			delete(want, ord)
		}
	}
	check(false)
}

// BenchmarkContainerHas asks a set of a tenth of a block for one user, in each form that it may have.
func BenchmarkContainerHas(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 3))
	set := roaring.New()
	for set.GetCardinality() < 6554 {
		set.Add(uint32(r.IntN(1 << 16)))
	}
	for name, raw := range map[string][]byte{"bitmap": bitmapBytes(set), "packed": pack(set, 1<<20)} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(len(raw)), "bytes")
			x, found := uint16(0), 0
			for b.Loop() {
				if x += 7919; containerHas(raw, x) {
					found++
				}
			}
		})
	}
	b.Run("read packed", func(b *testing.B) {
		raw := pack(set, 1<<20)
		for b.Loop() {
			if le.Uint32(portable(raw)) != cookieNoRun {
				b.Fatal("form")
			}
		}
	})
}
