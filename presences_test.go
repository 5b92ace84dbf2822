package fanfare

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPresences compares the table with a map.
func TestPresences(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var table presences
		want := map[uint16]*presence{}
		lows := rapid.SampledFrom([]uint16{0, 1, 63, 64, 127, 128, 255, 256, 257, 300, 65279, 65280, 65535})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			low := lows.Draw(t, "low")
			switch p := want[low]; {
			case p != table.get(low):
				t.Fatalf("%d: %v, not %v", low, table.get(low), p)
			case p == nil:
				want[low] = &presence{low: low}
				table.put(want[low])
			default:
				delete(want, low)
				table.remove(low)
			}
		}
		var got []uint16
		for p := range table.all() {
			if p != want[p.low] {
				t.Fatalf("%d is another", p.low)
			}
			got = append(got, p.low)
		}
		if !slices.Equal(got, slices.Sorted(maps.Keys(want))) || table.n != len(want) {
			t.Fatalf("%v (%d), not %v", got, table.n, want)
		}
	})
}
