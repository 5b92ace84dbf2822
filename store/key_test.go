package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestKeyIsOfItsSender pushes with one key from several senders, and with senders and keys that are the same when
// written one after the other.
func TestKeyIsOfItsSender(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	seen := make(map[uint64]string)
	for _, k := range [][2]string{{"", "k"}, {"operator", "k"}, {"somebody", "k"}, {"operatork", "x"}, {"operator", "kx"}, {"operato", "rkx"}, {"k", ""}, {"k", ""}} {
		r := propose(t, s, &Push{From: k[0], Key: k[1], To: &Expr{Op: OpAll}, Lifetime: 1000}).(PushResult)
		if other, twice := seen[r.Seq]; twice || r.Duplicate {
			t.Errorf("%q is the same as %q", k, other)
		}
		seen[r.Seq] = fmt.Sprintf("%q", k)
	}
}

// TestKeyWithOtherContent uses a key again: with the same content it is the earlier task, whatever has become of that, with other
// content an error that changes nothing, and after its time it is free.
func TestKeyWithOtherContent(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Unix(1_000_000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	dir := t.TempDir()
	s := open(t, dir, o)
	register(t, s, "a", "b")
	with := func(hash byte) *Push {
		return &Push{Random: 7, From: "operator", Key: "k", Hash: [16]byte{hash}, To: &Expr{Op: OpAll}, Lifetime: 1000}
	}
	// A push that is refused takes no key.
	wrong := with(9)
	wrong.To = &Expr{Op: OpAttr, Name: "no such name", Value: "1"}
	if _, err := s.Propose(ctx, wrong); !errors.Is(err, ErrUnnamedAttribute) {
		t.Fatal(err)
	}
	first := propose(t, s, with(1)).(PushResult)
	if first.Seq != 1 || first.Total != 2 || first.Duplicate {
		t.Fatalf("%+v", first)
	}
	same := first
	same.Duplicate = true
	again := func(when string) {
		t.Helper()
		retry := with(1)
		retry.Random = 8 // each try draws its own
		if r := propose(t, s, retry); r != same {
			t.Fatalf("%s: %+v, not %+v", when, r, same)
		}
		if _, err := s.Propose(ctx, with(2)); !errors.Is(err, ErrKeyReused) {
			t.Fatalf("%s: %v", when, err)
		}
		if got := s.LastSeq(); got != 1 {
			t.Fatalf("%s: the last sequence is %d", when, got)
		}
	}
	again("at once")
	register(t, s, "c")
	now = now.Add(time.Hour)
	again("when it has expired")
	propose(t, s, &End{Seq: 1, Reason: Expired})
	again("when it has ended")
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
	again("when it is folded")
	closeStore(t, s)
	s = open(t, dir, o)
	again("when it was opened again")
	now = time.Unix(1_000_000, 0).Add(KeyRetention - time.Millisecond)
	again("a moment before its time")
	now = now.Add(time.Millisecond)
	if _, err := s.Task(1); err != nil {
		t.Fatal("a task outlives its key:", err)
	}
	second := propose(t, s, with(2)).(PushResult)
	if second.Seq != 2 || second.Total != 3 || second.Duplicate {
		t.Fatalf("%+v", second)
	}
	// The old end of the key is not the new one's.
	if due, err := s.DueAt(now.UnixMilli(), 10); err != nil || len(due.Forget) != 0 {
		t.Fatalf("%+v, %v", due, err)
	}
	now = now.Add(KeyRetention)
	due, err := s.DueAt(now.UnixMilli(), 10)
	if err != nil || len(due.Forget) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	propose(t, s, &Forget{Due: due.Forget})
	if r := propose(t, s, with(3)).(PushResult); r.Seq != 3 || r.Duplicate {
		t.Fatalf("%+v", r)
	}
}

// TestKeyTwiceInAGroup has two callers push with one key at once.
func TestKeyTwiceInAGroup(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	a := &answers{t: t}
	together(t, s, func() {
		for i := range 3 {
			a.propose(s, &Push{Random: uint64(i), Key: "k", Hash: [16]byte{byte(i / 2)}, To: &Expr{Op: OpAll}, Lifetime: 1000})
		}
	})
	a.wait.Wait()
	first, second := a.got[0].(PushResult), a.got[1].(PushResult)
	if first.Duplicate || !second.Duplicate || first.Seq != second.Seq || second.Random != 0 {
		t.Fatalf("%+v, %+v", first, second)
	}
	if err := a.got[2].(error); !errors.Is(err, ErrKeyReused) {
		t.Fatal(err)
	}
}
