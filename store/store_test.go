package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.uber.org/goleak"
)

// children are what this test binary does instead of testing, chosen by the environment.
var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("FANFARE_CHILD")]; child != nil {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// open opens a store in a directory of the test, and at the end of the test
// checks every invariant and closes it.
func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.stopped.Err() != nil {
			return
		}
		if s.Refused() == nil {
			if err := s.Check(context.Background()); err != nil {
				t.Error(err)
			}
		}
		closeStore(t, s)
	})
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func propose(t testing.TB, s *Store, c Command) any {
	t.Helper()
	r, err := s.Propose(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func register(t testing.TB, s *Store, ids ...string) {
	t.Helper()
	b := new(Batch)
	for _, id := range ids {
		b.Ops = append(b.Ops, UserOp{Kind: OpRegister, ID: id})
	}
	propose(t, s, b)
}

func members(t testing.TB, s *Store, e *Expr) []string {
	t.Helper()
	ids := []string{}
	for id, err := range s.Members(e) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	n, err := s.Count(context.Background(), e)
	if err != nil || n != int64(len(ids)) {
		t.Fatalf("Count is %d, %v; there are %d members", n, err, len(ids))
	}
	slices.Sort(ids)
	return ids
}

func push(t testing.TB, s *Store, to *Expr, lifetime time.Duration) PushResult {
	t.Helper()
	return propose(t, s, &Push{Random: 7, Body: []byte("hello"), To: to, Lifetime: lifetime.Milliseconds()}).(PushResult)
}

// TestFactsSurviveEverything walks one user's facts through delta, fold, and reopening.
func TestFactsSurviveEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{BlockBits: 2})
	ctx := context.Background()
	register(t, s, "a", "b", "c", "d", "e", "f")
	propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}, {1, "city"}}})
	propose(t, s, &Batch{Ops: []UserOp{
		{Kind: OpAddTags, ID: "a", Tags: []string{"x", "y"}},
		{Kind: OpAddTags, ID: "f", Tags: []string{"x"}},
		{Kind: OpSetAttrs, ID: "a", Attrs: []AttrValue{{"tier", "gold"}, {"city", "Bern"}}},
		{Kind: OpSetAttrs, ID: "b", Attrs: []AttrValue{{"tier", "gold"}}},
		{Kind: OpPutDevices, ID: "b", Devices: []Device{{Platform: "apns", Token: "t1"}}},
	}})
	tag := func(v string) *Expr { return &Expr{Op: OpTag, Value: v} }
	attr := func(n, v string) *Expr { return &Expr{Op: OpAttr, Name: n, Value: v} }
	check := func(s *Store, e *Expr, want ...string) {
		t.Helper()
		if got := members(t, s, e); !slices.Equal(got, want) {
			t.Fatalf("%v: %v, not %v", e.Op, got, want)
		}
	}
	all := func(s *Store) {
		t.Helper()
		check(s, tag("x"), "a", "f")
		check(s, attr("tier", "gold"), "a", "b")
		check(s, &Expr{Op: OpAnd, Args: []*Expr{attr("tier", "gold"), {Op: OpNot, Args: []*Expr{tag("x")}}}}, "b")
		check(s, &Expr{Op: OpOr, Args: []*Expr{tag("y"), {Op: OpPlatform, Value: "apns"}}}, "a", "b")
		check(s, &Expr{Op: OpNot, Args: []*Expr{tag("x")}}, "b", "c", "d", "e")
		check(s, &Expr{Op: OpUsers, IDs: []string{"f", "nobody", "c"}}, "c", "f")
	}
	all(s)
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
	all(s)
	closeStore(t, s)
	s = open(t, dir, Options{})
	all(s)
	propose(t, s, &Batch{Ops: []UserOp{
		{Kind: OpRemoveTags, ID: "a", Tags: []string{"x", "never"}},
		{Kind: OpPutDevices, ID: "c", Devices: []Device{{Platform: "apns", Token: "t1"}}},
		{Kind: OpUnregister, ID: "f"},
		{Kind: OpRegister, ID: "f"},
	}})
	check(s, tag("x"))
	check(s, &Expr{Op: OpPlatform, Value: "apns"}, "c")
	if n, err := s.Ordinal("f"); err != nil || n != 6 {
		t.Fatalf("the second f has ordinal %d, %v: an ordinal is never given again", n, err)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	propose(t, s, &SetLimits{Limits{TagsPerUser: 2, DevicesPerUser: 1}})
	before, _ := s.Digest(context.Background())
	for _, c := range []struct {
		op   UserOp
		want error
	}{
		{UserOp{Kind: OpAddTags, ID: "nobody", Tags: []string{"x"}}, ErrUnknownUser},
		{UserOp{Kind: OpSetAttrs, ID: "a", Attrs: []AttrValue{{"unnamed", "v"}}}, ErrUnnamedAttribute},
		{UserOp{Kind: OpAddTags, ID: "a", Tags: []string{"1", "2", "3"}}, &LimitError{}},
		{UserOp{Kind: OpPutDevices, ID: "a", Devices: []Device{{Token: "1"}, {Token: "2"}}}, &LimitError{}},
	} {
		_, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{
			{Kind: OpAddTags, ID: "a", Tags: []string{"kept?"}}, {Kind: OpRegister, ID: "new"}, c.op,
		}})
		var limit *LimitError
		if wantLimit := errors.As(c.want, &limit); wantLimit && !errors.As(err, &limit) || !wantLimit && !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.op, err)
		}
		var op *OpError
		if !errors.As(err, &op) || op.Index != 2 {
			t.Errorf("%+v: the error does not say which operation: %v", c.op, err)
		}
	}
	_, names := s.Settings()
	if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"a"}) || len(names) != 0 {
		t.Fatal(got)
	}
	u, err := s.User("a")
	if err != nil || len(u.Tags) != 0 {
		t.Fatal(u, err)
	}
	after, _ := s.Digest(context.Background())
	if before == after {
		t.Fatal("the stamps of refused commands are state too, so that a replay agrees")
	}
}

// TestPendingLifecycle follows the bits of one push through acks, unregistering and the end.
func TestPendingLifecycle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := open(t, t.TempDir(), Options{BlockBits: 2, Now: func() time.Time { return now }})
	ctx := context.Background()
	register(t, s, "a", "b", "c", "d", "e", "f")
	r := push(t, s, &Expr{Op: OpAll}, time.Hour)
	register(t, s, "late")
	if is, err := s.Ack(ctx, 0, r.Seq); !is || err != nil {
		t.Fatal(is, err)
	}
	if is, err := s.Ack(ctx, 0, r.Seq); is || err != nil {
		t.Fatal("a second ack counts nothing:", is, err)
	}
	if is, err := s.Ack(ctx, 6, r.Seq); is || err != nil {
		t.Fatal("late is not in the audience:", is, err)
	}
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
	cleared := propose(t, s, &Received{Seq: r.Seq, Block: 0, Bits: roaring.BitmapOf(0, 1, 2)}).(*roaring.Bitmap)
	if cleared.GetCardinality() != 2 {
		t.Fatal(cleared)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "f"}}})
	state, err := s.Task(r.Seq)
	want := Progress{Total: 6, Delivered: 3, Gone: 1, Pending: 2}
	if err != nil || state.Progress != want {
		t.Fatalf("%+v, %v", state.Progress, err)
	}
	if done := propose(t, s, &End{Seq: r.Seq, Reason: Expired}); done != false {
		t.Fatal("expired before its time")
	}
	now = now.Add(time.Hour)
	if done := propose(t, s, &End{Seq: r.Seq, Reason: Expired}); done != true {
		t.Fatal("not expired")
	}
	state, _ = s.Task(r.Seq)
	want = Progress{Total: 6, Delivered: 3, Gone: 1, Expired: 2, Ended: now.UnixMilli(), Reason: Expired}
	if state.Progress != want {
		t.Fatalf("%+v", state.Progress)
	}
	if seqs, _ := s.PendingOf(3, 0, 10); len(seqs) != 0 {
		t.Fatal(seqs)
	}
	now = now.Add(TaskRetention)
	due, err := s.DueAt(now.UnixMilli(), 10)
	if err != nil || len(due.Forget) != 1 {
		t.Fatal(due, err)
	}
	propose(t, s, &Forget{Due: due.Forget})
	if _, err := s.Task(r.Seq); !errors.Is(err, ErrUnknownTask) {
		t.Fatal(err)
	}
}

// crash copies the directory as a killed process would leave it and opens the copy.
func crash(t *testing.T, s *Store, o Options) *Store {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.blocksMu.Lock() // between two writes of the fold; the journal is quiet here
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), b, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	s.blocksMu.Unlock()
	return open(t, dir, o)
}

// TestReplayGivesTheSameState compares the digest of a store with those of
// stores that got the same journal but froze, folded and crashed at other moments.
func TestReplayGivesTheSameState(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	s := open(t, t.TempDir(), Options{BlockBits: 3, Now: clock, DeltaEntries: 1 << 20})
	propose(t, s, &SetNames{Names: []SlotName{{3, "tier"}}})
	for i := range 50 {
		id := fmt.Sprintf("u%d", i)
		propose(t, s, &Batch{Ops: []UserOp{{
			Kind: OpPut, ID: id, Tags: []string{fmt.Sprint(i % 3), fmt.Sprint(i % 5)},
			Attrs:   []AttrValue{{"tier", fmt.Sprint(i % 4)}},
			Devices: []Device{{Platform: "fcm", Token: fmt.Sprint(i % 20)}},
		}}})
		if i%7 == 0 {
			r := push(t, s, &Expr{Op: OpTag, Value: "1"}, time.Hour)
			propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{r.Seq}})
		}
		if i%11 == 10 {
			propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: fmt.Sprintf("u%d", i-3)}}})
		}
	}
	replayed := crash(t, s, Options{Now: clock, DeltaEntries: 3})
	want, err := s.Digest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got, err := replayed.Digest(context.Background())
	if err != nil || got != want {
		t.Fatalf("replay: %x, not %x (%v)", got, want, err)
	}
}

// TestEndRemovesRetries of phones, also those that no outcome was counted for.
func TestEndRemovesRetries(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a", "b")
	note := func() uint64 {
		return propose(t, s, &Push{
			Random: 7, Body: []byte("x"), To: &Expr{Op: OpAll}, Lifetime: 1000, Note: []byte("{}"), Platforms: []string{"apns"},
		}).(PushResult).Seq
	}
	seq, other := note(), note()
	for _, q := range []uint64{seq, other} {
		propose(t, s, &Checkpoint{Seq: q, Platform: "apns", Next: 2, Retry: []PhoneRetry{{Ordinal: 0}, {Ordinal: 1}}})
	}
	propose(t, s, &End{Seq: seq, Reason: Withdrawn})
	if err := s.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, phones, err := s.Unfinished()
	if err != nil || len(phones) != 1 || phones[0].Seq != other || len(phones[0].Retries) != 2 {
		t.Fatalf("%+v, %v", phones, err)
	}
}
