package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// TestSequenceIsACounter accepts pushes one by one, several in one journal record, and with records of other things between: the
// sequence counts what was accepted, and nothing else does.
func TestSequenceIsACounter(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir(), Options{BlockBits: 2})
	to := func(id string) *Push { return &Push{To: &Expr{Op: OpUsers, IDs: []string{id}}, Lifetime: 1000} }
	for _, id := range []string{"a", "b", "c"} { // three records, no push
		register(t, s, id)
	}
	if r := propose(t, s, to("a")).(PushResult); r.Seq != 1 {
		t.Fatalf("after three records the first push has sequence %d", r.Seq)
	}
	position := func() uint64 {
		st, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return st.Position
	}
	before := position()
	a := &answers{t: t}
	refused := to("b")
	refused.To = &Expr{Op: OpAttr, Name: "nothing has this name", Value: "x"}
	again := to("a")
	again.Key = "k"
	together(t, s, func() {
		for _, c := range []Command{to("a"), &Batch{Ops: []UserOp{registerOp("d")}}, refused, again, to("d"), again, to("b")} {
			a.propose(s, c)
		}
	})
	a.wait.Wait()
	if got := position(); got != before+1 {
		t.Fatalf("%d records, and it should be one", got-before)
	}
	var seqs []uint64
	for _, r := range a.got {
		if p, ok := r.(PushResult); ok {
			seqs = append(seqs, p.Seq)
		}
	}
	if want := []uint64{2, 3, 4, 3, 5}; !slices.Equal(seqs, want) || !errors.Is(a.got[2].(error), ErrUnnamedAttribute) {
		t.Fatalf("%v, not %v", seqs, want)
	}
	if got := s.LastSeq(); got != 5 {
		t.Fatal(got)
	}
	// Who registers in the record of a push, and after it, is not in its audience.
	if got := pendingOf(t, s, "d"); !slices.Equal(got, []uint64{4}) {
		t.Fatal(got)
	}
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestSequenceGoesOnInAnotherDirectory restores a backup: the sequence goes on where it was, after a fold and without one, and so
// do ordinals, whatever the position of the log is.
func TestSequenceGoesOnInAnotherDirectory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, folded := range []bool{false, true} {
		s := open(t, t.TempDir(), Options{BlockBits: 2})
		register(t, s, "a", "b")
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "b"}}})
		for range 5 {
			push(t, s, &Expr{Op: OpAll}, time.Hour)
		}
		if folded {
			if err := s.Check(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var archive bytes.Buffer
		if err := s.Backup(ctx, &archive); err != nil {
			t.Fatal(err)
		}
		push(t, s, &Expr{Op: OpAll}, time.Hour) // after the backup
		want, err := s.Digest(ctx)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := Restore(ctx, dir, &archive); err != nil {
			t.Fatal(err)
		}
		restored := open(t, dir, Options{})
		if got := restored.LastSeq(); got != 5 {
			t.Fatal(got)
		}
		if got := pendingOf(t, restored, "a"); !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
			t.Fatal(got)
		}
		if got, err := restored.Digest(ctx); err != nil || got == want {
			t.Fatal("the push after the backup is in it", err)
		}
		if r := push(t, restored, &Expr{Op: OpAll}, time.Hour); r.Seq != 6 {
			t.Fatal(r)
		}
		register(t, restored, "b")
		if ord, err := restored.Ordinal("b"); err != nil || ord != 2 {
			t.Fatal("an ordinal is never given again:", ord, err)
		}
	}
}
