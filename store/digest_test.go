package store

import (
	"context"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// TestDigestOfFoldedStore: when a store has folded what it has is its own affair, also where a set that nobody is in any more is in one store's delta, and nowhere in the other, and where a set has one form in the
// file and another in a delta.
func TestDigestOfFoldedStore(t *testing.T) {
	t.Parallel()
	everybody := roaring.BitmapOf(0, 1, 2, 3)
	all := &Expr{Op: OpAll}
	now := int64(1_000_000_000)
	note := func(c Push) *Push {
		c.Lifetime, c.Note, c.Platforms = time.Hour.Milliseconds(), []byte("n"), []string{"fcm"}
		return &c
	}
	for name, commands := range map[string][]func(s *Store) Command{
		"who opened it is unregistered": {
			func(*Store) Command { return note(Push{To: all}) },
			func(*Store) Command { return &Opened{Seq: 1, Bits: everybody} },
			func(*Store) Command {
				b := &Batch{}
				for _, id := range []string{"a", "b", "c", "d"} {
					b.Ops = append(b.Ops, UserOp{Kind: OpUnregister, ID: id})
				}
				return b
			},
			func(s *Store) Command {
				due, err := s.DueAt(now+2*TaskRetention.Milliseconds(), 10)
				must(err)
				return &Forget{Due: due.Forget}
			},
		},
		"who slept is awake": {
			func(*Store) Command { return note(Push{To: all}) },
			func(*Store) Command {
				return &Checkpoint{Seq: 1, Platform: "fcm", Next: 4, At: now, Asleep: []BlockSet{{0, everybody}}}
			},
			func(*Store) Command {
				return &Checkpoint{Seq: 1, Platform: "fcm", Next: 4, At: now, Awake: []BlockSet{{0, everybody}}}
			},
			func(*Store) Command {
				return &Checkpoint{Seq: 1, Platform: "fcm", Next: 4, At: now, Awake: []BlockSet{{0, everybody}}}
			},
			func(*Store) Command { return &End{Seq: 1, Reason: Withdrawn} },
		},
		"a sample of all, kept": {
			func(*Store) Command { return note(Push{To: &Expr{Op: OpSample, PPM: 1_000_000}, Keep: true}) },
		},
		"a sample of all, frozen": {
			func(*Store) Command {
				return &PlanStep{Spec: []byte("p"), State: []byte("s"), Run: 1, Freeze: &Expr{Op: OpSample, PPM: 1_000_000}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, at := newMemoryLog(), now
			o := Options{BlockBits: 2, Log: l, digestEvery: 1, Now: func() time.Time { return time.UnixMilli(at) }}
			s, folds := open(t, t.TempDir(), o), open(t, t.TempDir(), o)
			same := func() {
				t.Helper()
				last, _ := l.Last(t.Context())
				must(s.WaitApplied(t.Context(), last))
				must(folds.WaitApplied(t.Context(), last))
				must(folds.Checkpoint(context.Background()))
				l.mu.Lock()
				defer l.mu.Unlock()
				if l.differ != nil || l.compared != int(last) {
					t.Fatal(l.compared, "compared:", l.differ)
				}
			}
			register(t, s, "a", "b", "c", "d")
			same()
			for i, command := range commands {
				if i == len(commands)-1 {
					at += 2 * TaskRetention.Milliseconds()
				}
				propose(t, s, command(s))
				same()
			}
		})
	}
}
