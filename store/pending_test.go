package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// layered runs a test with what it has set up in the active delta, in the blocks, and in a journal that was replayed: what is
// pending must not depend on where it stands.
func layered(t *testing.T, o Options, setup func(t *testing.T, s *Store), test func(t *testing.T, s *Store)) {
	t.Helper()
	for where, to := range map[string]func(*testing.T, *Store) *Store{
		"in the delta": func(_ *testing.T, s *Store) *Store { return s },
		"folded": func(t *testing.T, s *Store) *Store {
			if err := s.Check(context.Background()); err != nil {
				t.Fatal(err)
			}
			return s
		},
		"replayed": func(t *testing.T, s *Store) *Store { return crash(t, s, o) },
		"half folded": func(t *testing.T, s *Store) *Store {
			if err := s.Check(context.Background()); err != nil {
				t.Fatal(err)
			}
			register(t, s, "zoe") // of the same block as others
			return s
		},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir(), o)
			setup(t, s)
			test(t, to(t, s))
		})
	}
}

func pendingOf(t *testing.T, s *Store, id string) []uint64 {
	t.Helper()
	ord, err := s.Ordinal(id)
	if err != nil {
		t.Fatal(err)
	}
	seqs, err := s.PendingOf(ord, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

func progressOf(t *testing.T, s *Store, seq uint64) Progress {
	t.Helper()
	st, err := s.Task(seq)
	if err != nil {
		t.Fatal(err)
	}
	return st.Progress
}

// TestAckIsForOneMessage acknowledges 11 when the frame of 10 was lost: 10 stays pending. Through 11 it is gone, with all
// before it, and nothing behind. Whatever says so, only bits that were still set count.
func TestAckIsForOneMessage(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	setup := func(t *testing.T, s *Store) {
		register(t, s, "a", "b", "c", "d", "e")
		for i := 1; i <= 12; i++ {
			to := &Expr{Op: OpAll}
			if i == 5 { // not for b
				to = &Expr{Op: OpUsers, IDs: []string{"a", "c"}}
			}
			if r := push(t, s, to, time.Hour); r.Seq != uint64(i) {
				t.Fatal(r)
			}
		}
	}
	layered(t, o, setup, func(t *testing.T, s *Store) {
		ctx := context.Background()
		ack := func(ord uint32, seq uint64, want bool) {
			t.Helper()
			if is, err := s.Ack(ctx, ord, seq); is != want || err != nil {
				t.Fatalf("ack of %d by %d: %v, %v", seq, ord, is, err)
			}
		}
		clear := func(c *CaughtUp, want int) {
			t.Helper()
			if n := propose(t, s, c); n != want {
				t.Fatalf("%+v: %v, not %d", c, n, want)
			}
		}
		through := func(ord uint32, seq uint64, want int) {
			t.Helper()
			if n, err := s.AckThrough(ctx, ord, seq); n != want || err != nil {
				t.Fatalf("through %d: %d, not %d: %v", seq, n, want, err)
			}
		}
		ack(1, 11, true)
		if got := pendingOf(t, s, "b"); !slices.Equal(got, []uint64{1, 2, 3, 4, 6, 7, 8, 9, 10, 12}) {
			t.Fatal("an ack of 11 is one of 11:", got)
		}
		ack(1, 11, false)
		ack(1, 5, false) // who is not in the audience has nothing to acknowledge
		clear(&CaughtUp{Ordinal: 1, Seqs: []uint64{2, 5, 11, 12, 99}}, 2)
		through(1, 11, 8)
		through(1, 12, 0)
		if got := pendingOf(t, s, "b"); len(got) != 0 {
			t.Fatal(got)
		}
		if got := pendingOf(t, s, "a"); len(got) != 12 {
			t.Fatal("somebody else's:", got)
		}
		clear(&CaughtUp{Ordinal: 0, Seqs: []uint64{12}}, 1)
		through(0, 3, 3)
		if got := pendingOf(t, s, "a"); !slices.Equal(got, []uint64{4, 5, 6, 7, 8, 9, 10, 11}) {
			t.Fatal(got)
		}
		ack(2, 6, true)
		through(2, 6, 5) // which is not pending any more, and what is behind it is
		if got := pendingOf(t, s, "c"); !slices.Equal(got, []uint64{7, 8, 9, 10, 11, 12}) {
			t.Fatal(got)
		}
		// A lane says of all of a block that they have it: those who acknowledged count once.
		got := propose(t, s, &Received{Seq: 11, Block: 0, Bits: roaring.BitmapOf(0, 1, 2, 3)}).(*roaring.Bitmap)
		if !got.Equals(roaring.BitmapOf(0, 2, 3)) {
			t.Fatal(got)
		}
		got = propose(t, s, &Received{Seq: 11, Block: 7, Bits: roaring.BitmapOf(0)}).(*roaring.Bitmap)
		if !got.IsEmpty() {
			t.Fatal("of a block that does not exist:", got)
		}
		propose(t, s, &OnlineDone{Seq: 10, Delivered: 4}) // a message that is kept has no such outcome
		for seq, want := range map[uint64]Progress{
			1:  {Total: 5, Delivered: 3, Pending: 2},
			5:  {Total: 2, Delivered: 1, Pending: 1},
			10: {Total: 5, Delivered: 1, Pending: 4},
			11: {Total: 5, Delivered: 4, Pending: 1},
			12: {Total: 5, Delivered: 2, Pending: 3},
		} {
			if got := progressOf(t, s, seq); got != want {
				t.Errorf("task %d: %+v, not %+v", seq, got, want)
			}
		}
		ack(4, 11, true) // the last one
		if got := progressOf(t, s, 11); got != (Progress{Total: 5, Delivered: 5, Ended: now.UnixMilli(), Reason: Completed}) {
			t.Errorf("%+v", got)
		}
		ack(4, 11, false)
		if m, err := s.Message(11); m != nil || err != nil {
			t.Error("a message that everybody has:", m, err)
		}
	})
}

// TestThroughManyMessages acknowledges through more messages than are looked at at a time.
func TestThroughManyMessages(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a", "b")
	const all, through = ackStep + 300, ackStep + 150
	a := &answers{t: t}
	together(t, s, func() {
		for range all {
			a.propose(s, &Push{To: &Expr{Op: OpUsers, IDs: []string{"a"}}, Lifetime: 1000})
		}
	})
	a.wait.Wait()
	if n, err := s.AckThrough(context.Background(), 0, through); n != through || err != nil {
		t.Fatal(n, err)
	}
	got := pendingOf(t, s, "a")
	if len(got) != all-through || got[0] != through+1 {
		t.Fatal(len(got), got[0])
	}
	if some, err := s.PendingOf(0, through+7, 3); err != nil || !slices.Equal(some, []uint64{through + 8, through + 9, through + 10}) {
		t.Fatal(some, err)
	}
}

// TestLifetimeZeroIsNeverPending pushes to those online now: the audience goes to the observer, and nothing of it is kept but
// that an outcome is still to come.
func TestLifetimeZeroIsNeverPending(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 1, Now: func() time.Time { return now }}
	layered(t, o, func(t *testing.T, s *Store) {
		register(t, s, "a", "b", "c")
		push(t, s, &Expr{Op: OpAll}, 0)
		push(t, s, &Expr{Op: OpTag, Value: "nobody has it"}, 0)
		push(t, s, &Expr{Op: OpAll}, 0)
	}, func(t *testing.T, s *Store) {
		if got := pendingOf(t, s, "b"); len(got) != 0 {
			t.Fatal(got)
		}
		if m, err := s.Message(1); m != nil || err != nil {
			t.Fatal(m, err)
		}
		online, _, err := s.Unfinished()
		if err != nil || !slices.Equal(online, []uint64{1, 3}) {
			t.Fatal(online, err)
		}
		if is, err := s.Ack(context.Background(), 1, 1); is || err != nil {
			t.Fatal(is, err)
		}
		if got := progressOf(t, s, 1); got != (Progress{Total: 3}) {
			t.Fatalf("%+v", got)
		}
		if done := propose(t, s, &End{Seq: 1, Reason: Expired}); done != false {
			t.Fatal("it has no lifetime that could be over")
		}
		propose(t, s, &OnlineDone{Seq: 1, Delivered: 1, Failed: 1})
		if got := progressOf(t, s, 1); got != (Progress{Total: 3, Delivered: 1, Failed: 1, Expired: 1, Ended: now.UnixMilli(), Reason: Completed}) {
			t.Fatalf("%+v", got)
		}
		propose(t, s, &OnlineDone{Seq: 1, Delivered: 3}) // an outcome is told once
		if got := progressOf(t, s, 1); got.Delivered != 1 {
			t.Fatalf("%+v", got)
		}
		propose(t, s, &OnlineDone{Seq: 3, Delivered: 9, Failed: 9}) // never more than there were
		if got := progressOf(t, s, 3); got.Delivered != 3 || got.Failed != 0 {
			t.Fatalf("%+v", got)
		}
		if got := progressOf(t, s, 2); got.Total != 0 || got.Reason != Completed {
			t.Fatalf("%+v", got)
		}
	})
}

// accepted notes what the committer tells of pushes; what it is told of together is one instant.
type accepted struct {
	tasks     []*Task
	audiences [][]BlockSet
	ended     []string
}

func (o *accepted) Accepted(t *Task, _ *Message, audience []BlockSet) {
	o.tasks, o.audiences = append(o.tasks, t), append(o.audiences, audience)
}
func (o *accepted) Began(uint64, bool)                             {}
func (o *accepted) Received(uint64, uint16, *roaring.Bitmap, bool) {}
func (o *accepted) CaughtUp(uint32, []uint64, bool)                {}
func (o *accepted) OnlinePart(uint64)                              {}
func (o *accepted) Planned()                                       {}
func (o *accepted) Recalled(*Message, []string)                    {}
func (o *accepted) Ended(seq uint64, r Reason)                     { o.ended = append(o.ended, fmt.Sprint(seq, r)) }
func (o *accepted) Finished(uint64, Progress)                      {}
func (o *accepted) Opened(uint64, uint16, *roaring.Bitmap)         {}
func (o *accepted) Unregistered(uint32, []uint64)                  {}

// TestAudienceIsFrozen pushes, and changes who would be in the audience: who was in it waits, and nobody else. What the observer
// got of the push without retention stays as it was.
func TestAudienceIsFrozen(t *testing.T) {
	t.Parallel()
	o := new(accepted)
	s, err := Open(t.TempDir(), Options{BlockBits: 1}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Check(context.Background()); err != nil {
			t.Error(err)
		}
		closeStore(t, s)
	}()
	register(t, s, "a", "b", "c", "d")
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "a", Tags: []string{"x"}}, {Kind: OpAddTags, ID: "d", Tags: []string{"x"}}}})
	r := push(t, s, &Expr{Op: OpTag, Value: "x"}, time.Hour)
	push(t, s, &Expr{Op: OpTag, Value: "x"}, 0)
	propose(t, s, &Batch{Ops: []UserOp{
		{Kind: OpClearTags, ID: "a"}, {Kind: OpAddTags, ID: "b", Tags: []string{"x"}}, {Kind: OpPut, ID: "e", Tags: []string{"x"}},
		{Kind: OpUnregister, ID: "d"}, {Kind: OpPut, ID: "d", Tags: []string{"x"}},
	}})
	for id, want := range map[string]int{"a": 1, "b": 0, "c": 0, "d": 0, "e": 0} {
		if got := pendingOf(t, s, id); len(got) != want {
			t.Errorf("%s: %v", id, got)
		}
	}
	if is, err := s.Ack(context.Background(), 0, r.Seq); !is || err != nil {
		t.Fatal(is, err)
	}
	if len(o.tasks) != 2 || !reflect.DeepEqual(o.audiences[0], []BlockSet{{Block: 0}, {Block: 1}}) {
		t.Fatalf("%+v", o.audiences)
	}
	if now := o.audiences[1]; len(now) != 2 || !now[0].Low.Equals(roaring.BitmapOf(0)) || !now[1].Low.Equals(roaring.BitmapOf(1)) {
		t.Fatalf("%+v", now)
	}
	if want := []string{fmt.Sprint(r.Seq, Completed)}; !slices.Equal(o.ended, want) {
		t.Fatal(o.ended)
	}
}
