package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// TestOpenedCountsOnce has users open messages, wherever what they opened before stands: each counts once for a message, whether the
// user waits for it or has it, was in its audience or not, and whether its task is live, has ended, or had lifetime 0.
func TestOpenedCountsOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	layered(t, o, func(t *testing.T, s *Store) {
		register(t, s, "a", "b", "c", "d", "e", "f", "g")
		push(t, s, &Expr{Op: OpUsers, IDs: []string{"a", "b", "f"}}, time.Hour)
		push(t, s, &Expr{Op: OpAll}, 0)
		push(t, s, &Expr{Op: OpAll}, time.Hour)
		propose(t, s, &End{Seq: 3, Reason: Withdrawn})
		propose(t, s, &Opened{Seq: 1, Block: 0, Bits: roaring.BitmapOf(0)})
		propose(t, s, &Opened{Seq: 3, Block: 1, Bits: roaring.BitmapOf(0, 1)})
	}, func(t *testing.T, s *Store) {
		ctx := context.Background()
		for i, c := range []struct {
			ord  uint32
			seq  uint64
			want bool
		}{{0, 1, false}, {1, 1, true}, {1, 1, false}, {6, 1, true}, {0, 2, true}, {0, 2, false}, {4, 3, false}, {6, 3, true}, {99, 1, false}} {
			if is, err := s.Opened(ctx, c.ord, c.seq); is != c.want || err != nil {
				t.Fatalf("%d: %v, %v", i, is, err)
			}
		}
		if _, err := s.Opened(ctx, 0, 4); !errors.Is(err, ErrUnknownTask) {
			t.Fatal(err)
		}
		many := propose(t, s, &Opened{Seq: 1, Block: 1, Bits: roaring.BitmapOf(0, 1, 2, 3)}).(*roaring.Bitmap) // h, who is nobody, among them
		if want := roaring.BitmapOf(0, 1); !slices.Contains([]uint64{2, 3}, many.GetCardinality()) || !roaring.And(many, want).Equals(want) {
			t.Fatal(many)
		}
		known := int64(5)
		if many.GetCardinality() == 3 { // "half folded" has one user more
			known++
		}
		for seq, want := range map[uint64]Progress{
			1: {Total: 3, Pending: 3, Opened: known}, 2: {Total: 7, Opened: 1},
			3: {Total: 7, Withdrawn: 7, Opened: 3, Ended: now.UnixMilli(), Reason: Withdrawn},
		} {
			if got := progressOf(t, s, seq); got != want {
				t.Errorf("task %d: %+v, not %+v", seq, got, want)
			}
		}
	})
}

// openedSets folds everything and returns how many sets of who has opened a message are in the file.
func openedSets(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.blocksDB().View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketName[bucketBlocks]).ForEach(func(k, _ []byte) error {
			if k[2] == kindOpener {
				n++
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOpenedIsForgotten: what is known of who has opened a message goes with its task, of a user who is unregistered at once, and the
// count stays as long as the task.
func TestOpenedIsForgotten(t *testing.T) {
	t.Parallel()
	for where, between := range map[string]func(*testing.T, *Store, Options) *Store{
		"in the delta": func(_ *testing.T, s *Store, _ Options) *Store { return s },
		"folded":       func(t *testing.T, s *Store, _ Options) *Store { openedSets(t, s); return s },
		"replayed":     crash,
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1000, 0)
			o := Options{BlockBits: 1, Now: func() time.Time { return now }}
			s := open(t, t.TempDir(), o)
			register(t, s, "a", "b", "c", "d", "e")
			for seq := uint64(1); seq <= 2; seq++ {
				push(t, s, &Expr{Op: OpAll}, time.Hour)
				for block := range uint16(3) {
					propose(t, s, &Opened{Seq: seq, Block: block, Bits: roaring.BitmapOf(0, 1)})
				}
			}
			propose(t, s, &End{Seq: 1, Reason: Withdrawn})
			s = between(t, s, o)
			propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "e"}}})
			if got := progressOf(t, s, 2); got.Opened != 5 {
				t.Fatalf("%+v", got)
			}
			if n := openedSets(t, s); n != 4 { // the last block's were of e alone
				t.Fatalf("%d sets", n)
			}
			s = between(t, s, o)
			now = now.Add(TaskRetention)
			due, err := s.DueAt(now.UnixMilli(), 10)
			if err != nil {
				t.Fatal(err)
			}
			propose(t, s, &Forget{Due: due.Forget})
			s = between(t, s, o)
			if n := openedSets(t, s); n != 2 {
				t.Fatalf("%d sets of the task that is left", n)
			}
			if _, err := s.Opened(context.Background(), 0, 1); !errors.Is(err, ErrUnknownTask) {
				t.Fatal(err)
			}
		})
	}
}

// TestOpenedTogetherIsOneCommand: what opened says of one message and one block joins, and not with acknowledgements.
func TestOpenedTogetherIsOneCommand(t *testing.T) {
	t.Parallel()
	j := new(groups)
	s := open(t, t.TempDir(), Options{BlockBits: 2, WrapJournal: j.wrap})
	register(t, s, "a", "b", "c", "d", "e", "f")
	one := push(t, s, &Expr{Op: OpAll}, time.Hour)
	before, _ := j.since(0)
	a := &answers{t: t}
	together(t, s, func() {
		for _, ack := range []ackOf{
			{0, one.Seq, true}, {0, one.Seq, false}, {3, one.Seq, true}, {4, one.Seq, true}, {1, one.Seq, false}, {2, 99, true},
		} {
			if err := s.queue.push(&proposal{ack: &ack, done: a.next()}); err != nil {
				t.Error(err)
			}
		}
	})
	a.wait.Wait()
	if want := []any{true, true, true, true, true, error(ErrUnknownTask)}; !slices.Equal(a.got[:5], want[:5]) || !errors.Is(a.got[5].(error), ErrUnknownTask) {
		t.Fatalf("%v, not %v", a.got, want)
	}
	records, _ := j.since(len(before))
	if len(records) != 1 || len(records[0]) != 4 {
		t.Fatalf("%d groups: %+v", len(records), records)
	}
	if c := records[0][0].(*Opened); c.Seq != one.Seq || c.Block != 0 || !c.Bits.Equals(roaring.BitmapOf(0, 3)) {
		t.Errorf("%+v", c)
	}
	if got := progressOf(t, s, one.Seq); got != (Progress{Total: 6, Delivered: 2, Pending: 4, Opened: 3}) {
		t.Fatalf("%+v", got)
	}
}

// TestOpenedByMany has a third of a block open a message, more than a list of the delta holds, and asks again of the packed set in the file.
func TestOpenedByMany(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	const users = 12_000
	for from := 0; from < users; from += 2000 {
		b := new(Batch)
		for i := range 2000 {
			b.Ops = append(b.Ops, registerOp(fmt.Sprint(from+i)))
		}
		propose(t, s, b)
	}
	r := push(t, s, &Expr{Op: OpAll}, time.Hour)
	third := roaring.New()
	for ord := uint32(0); ord < users; ord += 3 {
		third.Add(ord)
	}
	for range 3 {
		fresh := propose(t, s, &Opened{Seq: r.Seq, Bits: third}).(*roaring.Bitmap)
		if got := progressOf(t, s, r.Seq); got.Opened != int64(third.GetCardinality()) || !fresh.IsEmpty() && !fresh.Equals(third) {
			t.Fatalf("%+v, of them %d now", got, fresh.GetCardinality())
		}
		if n := openedSets(t, s); n != 1 {
			t.Fatalf("%d sets", n)
		}
	}
	third.Add(1)
	third.Add(users) // nobody
	if fresh := propose(t, s, &Opened{Seq: r.Seq, Bits: third}).(*roaring.Bitmap); !fresh.Equals(roaring.BitmapOf(1)) {
		t.Fatal(fresh)
	}
}
