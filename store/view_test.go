package store

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestGrowingFilesWaitForNoReader has a reader open in each file while the files grow to many times their size. Where bbolt would
// have to map them anew it would wait for the readers, and new ones would wait behind it.
func TestGrowingFilesWaitForNoReader(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" || strconv.IntSize < 64 {
		t.Skip("files are not mapped ahead here")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // only if it is stuck
	defer cancel()
	s := open(t, t.TempDir(), Options{DeltaBytes: 1 << 30})
	register(t, s, "a")
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	reader, err := s.view()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.close()
	journal, err := s.local.db.Load().Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Rollback()
	for range 10 {
		if _, err := s.Propose(ctx, &Push{Body: make([]byte, 100_000), To: &Expr{Op: OpAll}, Lifetime: 1000}); err != nil {
			t.Fatal("the journal waits:", err)
		}
	}
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal("the fold waits:", err)
	}
	st, err := s.Stats()
	if err != nil || st.BlocksBytes < 1_000_000 || st.JournalBytes < 1_000_000 {
		t.Fatalf("they have not grown: %+v, %v", st, err)
	}
	if n, err := s.Count(context.Background(), &Expr{Op: OpAll}); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if _, found := reader.ordinal("a"); !found || reader.get(bucketTasks, key64(10)) == nil {
		t.Fatal("a view has its transaction of then, and the deltas of then, in which the push is")
	}
}

// TestReadsSeeWhatWasAnswered counts a user's attribute up, while it is folded all the time and others read it. Nobody reads less
// than what was answered before the read: a view whose transaction is older than its layers would miss what was just folded.
func TestReadsSeeWhatWasAnswered(t *testing.T) {
	t.Parallel()
	const readers, changes = 2, 20
	s := open(t, t.TempDir(), Options{DeltaEntries: 2})
	propose(t, s, &SetNames{Names: []SlotName{{0, "n"}}})
	var answered atomic.Int64
	set := func(n int) {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: "a", Attrs: []AttrValue{{"n", strconv.Itoa(n)}}}}})
		answered.Store(int64(n))
	}
	set(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range readers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := answered.Load()
				u, err := s.User("a")
				if err != nil || len(u.Attrs) != 1 {
					t.Errorf("%+v, %v", u, err)
					return
				}
				if n, err := strconv.ParseInt(u.Attrs[0].Value, 10, 64); err != nil || n < least {
					t.Errorf("%d is read, %d was answered before (%v)", n, least, err)
					return
				}
			}
		})
	}
	defer close(done)
	for n := 1; n <= changes; n++ {
		set(n)
	}
}

// TestNoViewStaysOpen goes through everything that reads: nothing of it leaves a transaction open, and while a caller has
// something from an iteration none is open either.
func TestNoViewStaysOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closedStore(t, dir, false, false)
	s := open(t, dir, Options{})
	none := func(when string) {
		t.Helper()
		if n := s.Views(); n != 0 {
			t.Fatalf("%s: %d views are open", when, n)
		}
	}
	for range s.Members(&Expr{Op: OpAll}) {
		none("in Members")
	}
	for range s.Members(&Expr{Op: OpAll}) {
		break
	}
	none("after Members that was left")
	for range s.Tasks() {
		none("in Tasks")
	}
	if _, err := s.Count(context.Background(), &Expr{Op: OpAttr, Name: "no such name", Value: "1"}); err == nil {
		t.Fatal("counted")
	}
	none("after an error")
	if err := s.Go(&SetNames{}, func(any, error) { none("in an answer") }); err != nil {
		t.Fatal(err)
	}
	push(t, s, &Expr{Op: OpAll}, time.Hour)
	none("after a push")
}
