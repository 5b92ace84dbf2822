package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// TestPartOfAGroupIsNeverFolded has a command fail in the middle, on a record that cannot be read for a
// moment. What it has done by then must not reach the blocks.
func TestPartOfAGroupIsNeverFolded(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir, Options{})
	register(t, s, "a", "b")
	first := push(t, s, &Expr{Op: OpAll}, time.Hour)
	second := push(t, s, &Expr{Op: OpAll}, time.Hour)
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	register(t, s, "c") // something to fold
	progress := func(f func(b *bbolt.Bucket) error) {
		t.Helper()
		if err := s.blocksDB().Update(func(tx *bbolt.Tx) error { return f(tx.Bucket(bucketName[bucketProgress])) }); err != nil {
			t.Fatal(err)
		}
	}
	var good []byte
	progress(func(b *bbolt.Bucket) error {
		good = bytes.Clone(b.Get(key64(second.Seq)))
		return b.Put(key64(second.Seq), []byte{0xFF})
	})
	if _, err := s.Propose(ctx, &CaughtUp{Seqs: []uint64{first.Seq, second.Seq}}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	progress(func(b *bbolt.Bucket) error { return b.Put(key64(second.Seq), good) })
	if err := s.Check(ctx); !errors.Is(err, ErrOutcomeUnknown) {
		t.Error("Check:", err)
	}
	closeStore(t, s)
	s = open(t, dir, Options{}) // and is checked in the end
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 3 {
		t.Error(got)
	}
}

// TestCallerReusesItsMemory changes a body after Propose has returned and before it is applied.
func TestCallerReusesItsMemory(t *testing.T) {
	t.Parallel()
	j := new(failingJournal)
	s := open(t, t.TempDir(), Options{WrapJournal: wrapInto(j)})
	register(t, s, "a")
	held, release := j.stall()
	ctx, cancel := context.WithCancel(context.Background())
	const first = "the first message"
	body := []byte(first)
	proposed := make(chan error)
	go func() {
		_, err := s.Propose(ctx, &Push{Random: 1, Body: body, To: &Expr{Op: OpAll}, Lifetime: 1_000_000})
		proposed <- err
	}()
	<-held
	cancel()
	if err := <-proposed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	copy(body, "SOMETHING ELSE...")
	release()
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	m, err := s.Message(1)
	if err != nil || string(m.Body) != first {
		t.Fatalf("%q, %v", m.Body, err)
	}
}

// TestCommandThatCannotBeReplayed proposes what replay, or a key of blocks.db, would not take.
func TestCommandThatCannotBeReplayed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}}})
	deep := &Expr{Op: OpAll}
	for range MaxExprDepth + 1 {
		deep = &Expr{Op: OpNot, Args: []*Expr{deep}}
	}
	long := strings.Repeat("x", MaxText+1)
	for name, c := range map[string]Command{
		"audience":         &Push{Random: 1, Body: []byte("m"), To: deep, Lifetime: 1},
		"platform of push": &Push{Random: 1, Note: []byte("n"), To: &Expr{Op: OpAll}, Lifetime: 1, Platforms: []string{long[:256]}},
		"ID":               &Batch{Ops: []UserOp{{Kind: OpRegister, ID: long}}},
		"tag":              &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "a", Tags: []string{long}}}},
		"value":            &Batch{Ops: []UserOp{{Kind: OpSetAttrs, ID: "a", Attrs: []AttrValue{{"tier", long}}}}},
		"platform":         &Batch{Ops: []UserOp{{Kind: OpPutDevices, ID: "a", Devices: []Device{{Platform: long, Token: "1"}}}}},
	} {
		if _, err := s.Propose(context.Background(), c); err == nil {
			t.Error(name, "is taken")
		}
	}
	if n, err := s.Stats(); err != nil || n.Position != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	propose(t, s, &Batch{Ops: []UserOp{{
		Kind: OpPut, ID: long[1:], Tags: []string{long[1:]}, Attrs: []AttrValue{{"tier", long[1:]}}, Devices: []Device{{Platform: long[1:], Token: "1"}},
	}}})
	replayed := crash(t, s, Options{})
	if u, err := replayed.User(long[1:]); err != nil || len(u.Tags)+len(u.Attrs)+len(u.Devices) != 3 {
		t.Error(u, err)
	}
}

// TestFactNumbersRunOut takes the last numbers: then what needs a new one is refused, and the rest goes on.
func TestFactNumbersRunOut(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a", "b", "c")
	if err := s.control(ctx, func() { s.st.nextFact = math.MaxUint32 - 2 }); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 4 {
		_, err := s.Propose(ctx, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "a", Tags: []string{fmt.Sprint(i)}}}})
		var limit *LimitError
		switch {
		case errors.As(err, &limit):
			refused++
		case err != nil || refused > 0:
			t.Fatalf("tag %d: %v", i, err)
		}
	}
	if refused != 2 {
		t.Errorf("%d of 4 tags were refused", refused)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "b", Tags: []string{"0"}}, {Kind: OpClearTags, ID: "a"}, {Kind: OpRegister, ID: "d"}}})
	if got := members(t, s, &Expr{Op: OpTag, Value: "0"}); len(got) != 1 {
		t.Error(got)
	}
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 4 {
		t.Error(got)
	}
}
