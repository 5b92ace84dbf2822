package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPushToAllAsTheyAre registers and unregisters users between pushes to all, while deltas are folded: each push is for those who are there then, and no others wait for it.
func TestPushToAllAsTheyAre(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := open(t, t.TempDir(), Options{BlockBits: 3, DeltaEntries: rapid.SampledFrom([]int{4, 32, 1000}).Draw(r, "entries")})
		defer closeStore(t, s)
		there := map[string]bool{}
		want := map[string][]uint64{} // of those who are there
		anyone := rapid.Map(rapid.IntRange(0, 39), func(i int) string { return fmt.Sprint("u", i) })
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0:
				id := anyone.Draw(r, "leaves")
				if !there[id] {
					continue
				}
				propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: id}}})
				delete(there, id)
				delete(want, id)
			case 1:
				b := &Batch{}
				for _, id := range rapid.SliceOfN(anyone, 1, 10).Draw(r, "come") {
					b.Ops = append(b.Ops, registerOp(id))
					there[id] = true
				}
				propose(t, s, b)
			case 2:
				if err := s.Checkpoint(context.Background()); err != nil {
					r.Fatal(err)
				}
			default:
				p := push(t, s, &Expr{Op: OpAll}, time.Hour)
				if p.Total != int64(len(there)) {
					r.Fatalf("to %d, of %d", p.Total, len(there))
				}
				for id := range there {
					want[id] = append(want[id], p.Seq)
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(there)) {
			if got := pendingOf(t, s, id); !slices.Equal(got, want[id]) {
				r.Fatalf("%s waits for %v, not %v", id, got, want[id])
			}
		}
	})
}
