package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failingJournal is the local journal with mistakes made on request.
type failingJournal struct {
	Journal
	mu    sync.Mutex
	fail  error // of the next Append
	write bool  // the record gets there all the same
	hold  chan struct{}
	held  chan struct{}
}

// next makes the next Append fail.
func (j *failingJournal) next(err error, write bool) {
	j.mu.Lock()
	j.fail, j.write = err, write
	j.mu.Unlock()
}

func (j *failingJournal) Append(position uint64, rec []byte, cut uint64) error {
	j.mu.Lock()
	err, write, hold := j.fail, j.write, j.hold
	j.fail, j.hold = nil, nil
	j.mu.Unlock()
	if hold != nil {
		close(j.held)
		<-hold
	}
	if err != nil && !write {
		return err
	}
	return errors.Join(err, j.Journal.Append(position, rec, cut))
}

// stall makes the next Append wait for release; held is closed when it does.
func (j *failingJournal) stall() (held <-chan struct{}, release func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	hold := make(chan struct{})
	j.hold, j.held = hold, make(chan struct{})
	return j.held, func() { close(hold) }
}

func wrapInto(j *failingJournal) func(Journal) Journal {
	return func(local Journal) Journal {
		j.Journal = local
		return j
	}
}

func registerErr(s *Store, id string) error {
	_, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpRegister, ID: id}}})
	return err
}

// TestNoRoomInTheJournal fails one group cleanly, and the next goes through.
func TestNoRoomInTheJournal(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{
		syscall.ENOSPC, syscall.EFBIG, syscall.EDQUOT,
		&os.PathError{Op: "write", Path: journalFile, Err: syscall.ENOSPC},
		errors.New("file resize error: truncate journal.db: file too large"), // as bbolt puts it
	} {
		j := new(failingJournal)
		dir := t.TempDir()
		s := open(t, dir, Options{WrapJournal: wrapInto(j)})
		register(t, s, "before")
		before, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		j.next(cause, false)
		if err := registerErr(s, "lost"); !errors.Is(err, ErrNoRoom) || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("%v: %v", cause, err)
		}
		if after, err := s.Stats(); err != nil || after.Position != before.Position || s.Refused() != nil {
			t.Fatalf("%v: position %d after %d; %v", cause, after.Position, before.Position, s.Refused())
		}
		if _, err := s.Ordinal("lost"); !errors.Is(err, ErrUnknownUser) {
			t.Fatal(err)
		}
		register(t, s, "after")
		closeStore(t, s)
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"after", "before"}) {
			t.Fatalf("%v: %q", cause, got)
		}
	}
}

// TestOutcomeUnknown fails a commit in the ways that say nothing of what is on the disk.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		cause error
		write bool
	}{
		{"sync error, record there", syscall.EIO, true},
		{"sync error, record not there", syscall.EIO, false},
		{"no room, and yet the record is there", syscall.ENOSPC, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := new(failingJournal)
			dir := t.TempDir()
			s := open(t, dir, Options{WrapJournal: wrapInto(j), BlockBits: 2})
			ctx := context.Background()
			register(t, s, "a", "b")
			r := push(t, s, &Expr{Op: OpAll}, time.Hour)
			j.next(c.cause, c.write)
			if err := registerErr(s, "perhaps"); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, c.cause) || !strings.Contains(err.Error(), "until the directory is opened again") {
				t.Fatal(err)
			}
			if !errors.Is(s.Refused(), ErrOutcomeUnknown) {
				t.Fatal(s.Refused())
			}
			if err := registerErr(s, "later"); !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatal(err)
			}
			if is, err := s.Ack(ctx, 0, r.Seq); is || !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatal(is, err)
			}
			// Reads go on.
			if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"a", "b"}) {
				t.Fatal(got)
			}
			if seqs, err := s.PendingOf(1, 0, 10); err != nil || !slices.Equal(seqs, []uint64{r.Seq}) {
				t.Fatal(seqs, err)
			}
			if m, err := s.Message(r.Seq); err != nil || string(m.Body) != "hello" {
				t.Fatal(m, err)
			}
			closeStore(t, s)

			s = open(t, dir, Options{})
			want := []string{"a", "b"}
			if c.write {
				want = append(want, "perhaps")
			}
			if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, want) {
				t.Fatalf("after reopening: %q, not %q", got, want)
			}
			register(t, s, "z")
			closeStore(t, s)
			s = open(t, dir, Options{})
			if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, append(want, "z")) {
				t.Fatal(got)
			}
		})
	}
}

// TestNothingIsCutThatIsNotFolded closes a store that refuses changes: the journal
// is all there is of what was acknowledged before.
func TestNothingIsCutThatIsNotFolded(t *testing.T) {
	t.Parallel()
	j := new(failingJournal)
	dir := t.TempDir()
	s := open(t, dir, Options{WrapJournal: wrapInto(j)})
	for i := range 20 {
		register(t, s, fmt.Sprintf("u%02d", i))
	}
	j.next(syscall.EIO, false)
	if err := registerErr(s, "x"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 20 {
		t.Fatal(got)
	}
}

// againJournal is a log that delivers each record twice, as a replicated one may:
// under a position of its own each time.
type againJournal struct{ Journal }

func (j againJournal) Records(after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		position := after
		for r, err := range j.Journal.Records(after) {
			for range 2 {
				if position++; !yield(JournalRecord{position, r.Record}, err) {
					return
				}
			}
		}
	}
}

// TestRecordDeliveredTwice replays each record twice: it is applied once.
func TestRecordDeliveredTwice(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	dir := t.TempDir()
	s := open(t, dir, o)
	ctx := context.Background()
	register(t, s, "a", "b", "c", "d", "e")
	for range 3 {
		push(t, s, &Expr{Op: OpAll}, time.Hour)
	}
	if is, err := s.Ack(ctx, 0, 2); !is || err != nil {
		t.Fatal(is, err)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "e"}, {Kind: OpRegister, ID: "e"}}})
	o.WrapJournal = func(local Journal) Journal { return againJournal{local} }
	twice := crash(t, s, o)
	want, err := s.Digest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := twice.Digest(ctx)
	if err != nil || got != want {
		t.Fatalf("%x, not %x (%v)", got, want, err)
	}
	if st, err := twice.Stats(); err != nil || st.Pushes != 3 {
		t.Fatal(st, err)
	}
}

// TestFoldWithoutRoom fails the fold for lack of room: changes go on until the deltas are at
// three times the bound and then fail, none waits for ever, and with room again everything goes on.
func TestFoldWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		dir := t.TempDir()
		s := open(t, dir, Options{DeltaEntries: 20, foldError: func() error {
			if full.Load() {
				return &os.PathError{Op: "write", Path: blocksFile, Err: syscall.ENOSPC}
			}
			return nil
		}})
		accepted := 0
		var err error
		for i := range 1000 {
			if err = registerErr(s, fmt.Sprintf("u%04d", i)); err != nil {
				break
			}
			accepted++
		}
		if !errors.Is(err, ErrNoRoom) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("after %d: %v", accepted, err)
		}
		if l := s.layers.Load(); l.frozen == nil || l.active.entries < 36 || l.active.entries+l.frozen.entries > 65 {
			t.Fatalf("active has %d entries", l.active.entries)
		}
		if s.Refused() != nil {
			t.Fatal(s.Refused())
		}
		if err := s.Check(context.Background()); !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		if got := members(t, s, &Expr{Op: OpAll}); len(got) != accepted {
			t.Fatal(len(got), accepted)
		}
		full.Store(false)
		time.Sleep(2 * foldRetry)
		synctest.Wait()
		register(t, s, "after")
		if err := s.Check(context.Background()); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		for i := range 1000 {
			if err = registerErr(s, fmt.Sprintf("v%04d", i)); err != nil {
				break
			}
			accepted++
		}
		if !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		// Close cannot fold either: it says so, and nothing is lost.
		if err := s.Close(context.Background()); !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); len(got) != accepted+1 {
			t.Fatal(len(got), accepted+1)
		}
	})
}

// TestFoldFailsForGood fails the fold with an error that says nothing of what is on the disk.
func TestFoldFailsForGood(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for step := range 6 {
		n := 0
		dir := t.TempDir()
		s := open(t, dir, Options{BlockBits: 1, foldError: func() error {
			if n++; n > step {
				return syscall.EIO
			}
			return nil
		}})
		register(t, s, "a", "b", "c")
		for i := 0; ; i++ { // each Check folds, in a few steps
			if err := s.Check(ctx); err != nil {
				if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
					t.Fatal(err)
				}
				break
			}
			register(t, s, fmt.Sprint(i))
		}
		users, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if err := registerErr(s, "x"); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		if err := s.Check(ctx); !errors.Is(err, ErrOutcomeUnknown) { // and does not wait for ever
			t.Fatal(err)
		}
		if got := members(t, s, &Expr{Op: OpAll}); int64(len(got)) != users.Users {
			t.Fatal(got)
		}
		closeStore(t, s)
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); int64(len(got)) != users.Users {
			t.Fatal(got)
		}
		if err := s.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContextEndsWhileWaiting ends the context of a call whose group is being written, and of
// one that still waits.
func TestContextEndsWhileWaiting(t *testing.T) {
	t.Parallel()
	j := new(failingJournal)
	s := open(t, t.TempDir(), Options{WrapJournal: wrapInto(j)})
	held, release := j.stall()
	type call struct {
		cancel context.CancelFunc
		err    chan error
	}
	propose := func(id string) call {
		ctx, cancel := context.WithCancel(context.Background())
		c := call{cancel, make(chan error, 1)}
		go func() {
			_, err := s.Propose(ctx, &Batch{Ops: []UserOp{{Kind: OpRegister, ID: id}}})
			c.err <- err
		}()
		return c
	}
	written := propose("written")
	<-held
	written.cancel()
	if err := <-written.err; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waiting := propose("waiting")
	for queued := 0; queued == 0; {
		s.queue.mu.Lock()
		queued = len(s.queue.items)
		s.queue.mu.Unlock()
	}
	waiting.cancel()
	if err := <-waiting.err; !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Propose(ended, &SetNames{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	release()
	register(t, s, "after")
	if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"after", "written"}) {
		t.Fatal(got)
	}
}

// TestCloseWithoutTime closes with a context that has ended, while the fold is held up.
func TestCloseWithoutTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{DeltaEntries: 10})
	for i := range 35 {
		register(t, s, fmt.Sprintf("u%02d", i))
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Close(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Propose": registerErr(s, "x"), "Check": s.Check(context.Background()),
		"Close": s.Close(context.Background()), "Checkpoint": s.Checkpoint(context.Background()),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if _, err := s.User("u00"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 35 {
		t.Fatal(got)
	}
}

// TestCloseInTheMiddleOfAFold ends the context of Close while a step of the fold takes its time:
// the fold is given up after that step, and a Check that waits for it ends too.
func TestCloseInTheMiddleOfAFold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := open(t, dir, Options{DeltaEntries: 20, foldError: func() error {
		once.Do(func() { close(at); <-goOn })
		return nil
	}})
	for i := range 15 {
		register(t, s, fmt.Sprintf("u%02d", i))
	}
	<-at
	checked := make(chan error, 1)
	go func() { checked <- s.Check(context.Background()) }()
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	for closing := false; !closing; {
		s.queue.mu.Lock()
		closing = s.queue.closed
		s.queue.mu.Unlock()
	}
	cancel()
	<-s.stopped.Done()
	close(goOn)
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-checked; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 15 {
		t.Fatal(got)
	}
}

// copyDir copies the files as a process killed now would leave them. Who calls it must know that
// nothing is being written.
func copyDir(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCrashAtEachStepOfAFold copies the directory before each step of a checkpoint and fold:
// reopened, each copy has the same state.
func TestCrashAtEachStepOfAFold(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	base := t.TempDir()
	dir := t.TempDir()
	var copies []string
	s := open(t, dir, Options{BlockBits: 2, Now: clock, foldError: func() error {
		to := filepath.Join(base, fmt.Sprint(len(copies)))
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		copies = append(copies, to)
		return copyDir(dir, to)
	}})
	fill := func(round int) {
		for i := range 12 {
			propose(t, s, &Batch{Ops: []UserOp{{
				Kind: OpPut, ID: fmt.Sprintf("u%d-%d", round, i), Tags: []string{"x", fmt.Sprint(i % 3)},
				Devices: []Device{{Platform: "fcm", Token: fmt.Sprint(i)}},
			}}})
		}
		r := push(t, s, &Expr{Op: OpTag, Value: "1"}, time.Hour)
		propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{r.Seq}})
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: fmt.Sprintf("u%d-4", round)}}})
	}
	for round := range 3 {
		copies = nil
		if err := os.RemoveAll(base); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(base, 0o700); err != nil {
			t.Fatal(err)
		}
		fill(round)
		want, err := s.Digest(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(copies) < 3 {
			t.Fatal("steps:", len(copies))
		}
		for step, dir := range copies {
			looked := open(t, dir, Options{Now: clock, ReadOnly: true})
			if got, err := looked.Digest(ctx); err != nil || got != want {
				t.Fatalf("round %d, step %d, for reading only: %x, not %x (%v)", round, step, got, want, err)
			}
			closeStore(t, looked)
			reopened := open(t, dir, Options{Now: clock})
			got, err := reopened.Digest(ctx)
			if err != nil || got != want {
				t.Fatalf("round %d, step %d: %x, not %x (%v)", round, step, got, want, err)
			}
			if err := reopened.Check(ctx); err != nil {
				t.Fatalf("round %d, step %d: %v", round, step, err)
			}
			closeStore(t, reopened)
			left, err := filepath.Glob(filepath.Join(dir, "segment-*"))
			if err != nil || len(left) > 0 {
				t.Fatal(left, err)
			}
		}
	}
}

// TestManyCrashesInARow folds a little, crashes, and goes on, again and again: the state is that of
// a store that did the same without a crash.
func TestManyCrashesInARow(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	whole := open(t, t.TempDir(), o)
	dir := t.TempDir()
	for i := range 12 {
		steps := 0
		o := o
		o.DeltaEntries = 5
		o.foldError = func() error {
			if steps++; steps > i%5 {
				return syscall.EIO // as good as a crash: nothing more is written to the blocks
			}
			return nil
		}
		s := open(t, dir, o)
		for n := range 6 {
			c := &Batch{Ops: []UserOp{{Kind: OpPut, ID: fmt.Sprintf("u%d", (i*5+n)%23), Tags: []string{fmt.Sprint(n), "x"}}}}
			if n == 3 {
				c = &Batch{Ops: []UserOp{{Kind: OpPut, ID: "g"}, {Kind: OpUnregister, ID: "g"}}}
			}
			if _, err := s.Propose(ctx, c); err != nil {
				if !errors.Is(err, ErrOutcomeUnknown) {
					t.Fatal(err)
				}
				break // refused, so it was not written
			}
			propose(t, whole, c)
		}
		if err := s.Close(ctx); err != nil && !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}
	s := open(t, dir, Options{Now: o.Now})
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
	all := &Expr{Op: OpAll}
	if got, want := members(t, s, all), members(t, whole, all); !slices.Equal(got, want) {
		t.Fatalf("%q, not %q", got, want)
	}
	for _, tag := range []string{"0", "1", "2", "4", "5", "x"} {
		e := &Expr{Op: OpTag, Value: tag}
		if got, want := members(t, s, e), members(t, whole, e); !slices.Equal(got, want) {
			t.Fatalf("%s: %q, not %q", tag, got, want)
		}
	}
}
