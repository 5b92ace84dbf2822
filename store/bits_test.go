package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// randomSet returns a set of a block in one of the shapes that containers have, or empty.
func randomSet(r *rand.Rand) *roaring.Bitmap {
	b := roaring.New()
	scatter := func(n int) {
		for range n {
			b.Add(r.Uint32N(1 << 16))
		}
	}
	switch r.IntN(7) {
	case 0: // empty
	case 1:
		scatter(50)
	case 2:
		scatter(1 + r.IntN(60_000))
	case 3:
		b.AddRange(0, uint64(1+r.IntN(1<<16)))
	case 4:
		for range r.IntN(300) {
			first := uint64(r.IntN(65_000))
			b.AddRange(first, first+uint64(r.IntN(500)))
		}
	case 5: // about the border of array and bitmap
		n, step := 4090+r.IntN(12), 1+r.IntN(15)
		for i := range n {
			b.Add(uint32(i * step))
		}
	case 6: // all but a few
		b.AddRange(0, 1<<16)
		for range r.IntN(100) {
			b.Remove(r.Uint32N(1 << 16))
		}
	}
	if r.IntN(2) == 0 {
		b.RunOptimize()
	}
	return b
}

// filePage is a set as it lies in the file, which nobody may write to, and which is gone when its view is.
type filePage struct {
	raw, was []byte
	set      *roaring.Bitmap // nil for the empty one
}

func newFilePage(t *testing.T, b *roaring.Bitmap) *filePage {
	t.Helper()
	if b == nil || b.IsEmpty() {
		return new(filePage)
	}
	p := &filePage{raw: bitmapBytes(b), was: bitmapBytes(b), set: roaring.New()}
	if _, err := p.set.FromUnsafeBytes(p.raw); err != nil {
		t.Fatal(err)
	}
	return p
}

// gone ends the view: what still refers to the page has other content from here on.
func (p *filePage) gone(t *testing.T) {
	t.Helper()
	if !bytes.Equal(p.raw, p.was) {
		t.Fatal("the file was written to")
	}
	for i := range p.raw {
		p.raw[i] ^= 0x55
	}
}

// TestBits changes an entry of a delta as commands do and lays it over containers of every form. A plain
// set of numbers says what must come out.
func TestBits(t *testing.T) {
	t.Parallel()
	first := rand.Uint64()
	t.Logf("seed %d", first)
	for i := range uint64(150) {
		t.Run(fmt.Sprint(i), func(t *testing.T) { bitsAgainstModel(t, rand.New(rand.NewPCG(first, i))) })
	}
}

// naiveSet says of each number of a block whether it is in a set.
type naiveSet [1 << 16]bool

func newNaiveSet(b *roaring.Bitmap) *naiveSet {
	n := new(naiveSet)
	for _, x := range b.ToArray() {
		n[x] = true
	}
	return n
}

func (n *naiveSet) equals(b *roaring.Bitmap) bool {
	for x, is := range n {
		if is != (b != nil && b.Contains(uint32(x))) {
			return false
		}
	}
	return true
}

func bitsAgainstModel(t *testing.T, r *rand.Rand) {
	base := randomSet(r)
	want := newNaiveSet(base)
	var e bits
	if r.IntN(3) == 0 { // as a push has it
		set := randomSet(r)
		e.gone, want = true, newNaiveSet(set)
		if r.IntN(4) > 0 && !set.IsEmpty() {
			e.raw = bitmapBytes(set)
		} else { // as a segment has it
			e.set = set.Clone()
		}
	}
	for range r.IntN(6) {
		switch r.IntN(3) {
		case 0:
			wide := randomSet(r).ToArray()
			if r.IntN(2) == 0 { // so few that they stand in a list, for a while
				r.Shuffle(len(wide), func(i, j int) { wide[i], wide[j] = wide[j], wide[i] })
				wide = wide[:min(len(wide), r.IntN(fewBits))]
				slices.Sort(wide)
			}
			if half := len(wide) / 2; r.IntN(2) == 0 {
				e.addMany(wide[:half])
				e.removeMany(wide[half:])
				for i, x := range wide {
					want[x] = i < half
				}
			} else {
				e.addMany(wide)
				for _, x := range wide {
					want[x] = true
				}
			}
		case 1:
			for range r.IntN(200) {
				x := uint16(r.IntN(1 << 16))
				e.remove(x)
				want[x] = false
			}
		case 2: // an acknowledgement: what is pending of it is cleared
			file, ack := newFilePage(t, base), newFilePage(t, randomSet(r))
			now := e.over(file.set)
			if now == nil || ack.set == nil {
				continue
			}
			before := now.Clone()
			cleared := roaring.And(now, ack.set)
			e.removeAll(cleared)
			if !now.Equals(before) {
				t.Fatal("what was laid over changes with the entry")
			}
			ack.gone(t)
			file.gone(t)
			for _, x := range cleared.ToArray() {
				want[x] = false
			}
		}
	}
	var laid bits // what a segment has of it
	laid.gone = e.gone
	for i, raw := range [2][]byte{first(e.serialized()), second(e.serialized())} {
		if raw == nil {
			continue
		}
		set := roaring.New()
		if err := readBitmap(set, raw); err != nil || set.IsEmpty() {
			t.Fatal(err)
		}
		if i == 0 {
			laid.set = set
		} else {
			laid.clear = set
		}
	}
	if got := laid.over(base); !want.equals(got) {
		t.Fatal("another set by way of a segment")
	}
	if set, clear := e.bitmaps(); set != nil && clear != nil && set.Intersects(clear) {
		t.Fatal("set and clear meet")
	}
	for _, low := range append(randomSet(r).ToArray(), e.few...) {
		low &= 0xFFFF
		if is, decided := e.has(uint16(low)); decided && is != want[low] || !decided && want[low] != base.Contains(low) {
			t.Fatalf("it says of %d: %v, %v", low, is, decided)
		}
	}
	file := newFilePage(t, base)
	raw := containerBytes(e.over(file.set), file.set)
	file.gone(t)
	got := roaring.New()
	if raw != nil {
		if err := readBitmap(got, raw); err != nil {
			t.Fatal(err)
		}
		if got.IsEmpty() {
			t.Fatal("an empty set has a container")
		}
	}
	if !want.equals(got) {
		t.Fatal("the wrong set")
	}
	folded := newFilePage(t, got)
	if again := containerBytes(e.over(folded.set), folded.set); !bytes.Equal(again, raw) {
		t.Fatal("laid over twice it is another set, or in another form")
	}
	folded.gone(t)
}

func first(x, _ []byte) []byte  { return x }
func second(_, x []byte) []byte { return x }

// TestReadBitmap reads sets, whole and damaged, and takes what roaring's own Validate takes.
func TestReadBitmap(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	taken := 0
	for range 300 {
		want := randomSet(r)
		raw := bitmapBytes(want)
		got := roaring.New()
		if err := readBitmap(got, raw); err != nil || !got.Equals(want) {
			t.Fatalf("%v: %v", want, err)
		}
		for range 20 {
			bad := bytes.Clone(raw)
			switch r.IntN(4) {
			case 0:
				bad = bad[:r.IntN(len(bad))]
			case 1:
				bad = append(bad, byte(r.Uint32()))
			default: // mostly near the beginning, where the form is
				bad[min(r.IntN(len(bad)), r.IntN(40))%len(bad)] ^= byte(1 << r.IntN(8))
			}
			is, sure := validSet(bad)
			err := readBitmap(roaring.New(), bad)
			if sure && is != (err == nil) || err == nil && !is {
				t.Fatalf("%x is valid: %v; %v", bad[:min(len(bad), 60)], is, err)
			}
			if err == nil {
				taken++
			}
		}
	}
	if taken == 0 {
		t.Error("whatever is changed is refused: too little was tried")
	}
	for _, beyond := range []*roaring.Bitmap{roaring.BitmapOf(1 << 16), roaring.BitmapOf(1, 1<<16), roaring.BitmapOf(1, 2, 3, 1<<16, 1<<20)} {
		for range 2 {
			if readBitmap(roaring.New(), bitmapBytes(beyond)) == nil {
				t.Error("more than a block is taken:", beyond)
			}
			beyond.AddRange(10, 1000)
			beyond.RunOptimize()
		}
	}
}

// validSet asks roaring, which does not look at the cardinality that stands before runs: of such it is not sure.
func validSet(raw []byte) (is, sure bool) {
	defer func() {
		if recover() != nil {
			is, sure = false, true
		}
	}()
	b := roaring.New()
	n, err := b.ReadFrom(bytes.NewReader(raw))
	if err != nil || n != int64(len(raw)) || b.Validate() != nil || !b.IsEmpty() && b.Maximum() > 0xFFFF {
		return false, true
	}
	return true, !b.HasRunCompression() || bytes.Equal(bitmapBytes(b), raw)
}

// BenchmarkReadRuns reads the container with the most runs, of which roaring's Validate compares each with each.
func BenchmarkReadRuns(b *testing.B) {
	set := roaring.New()
	for i := range uint64(2040) {
		set.AddRange(32*i, 32*i+20)
	}
	set.RunOptimize()
	raw := bitmapBytes(set)
	b.ReportAllocs()
	for b.Loop() {
		if err := readBitmap(roaring.New(), raw); err != nil {
			b.Fatal(err)
		}
	}
}
