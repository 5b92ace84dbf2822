package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLostGroupsAreForgotten: a group that may come late is not kept when its callers have been told so: there may be many before the log is there again.
func TestLostGroupsAreForgotten(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	s := openLogged(t, t.TempDir(), l)
	l.fault = func() (int, error) { return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrUnavailable) }
	if _, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpRegister, ID: "ann"}}}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	s.follower.mu.Lock()
	defer s.follower.mu.Unlock()
	if n := len(s.follower.pending); n != 0 {
		t.Error("kept:", n)
	}
}

// lateLog takes a record, and says so, only when the store does not follow it any more.
type lateLog struct {
	*memoryLog
	appending chan struct{}
	goOn      chan struct{}
}

func (l *lateLog) Append(ctx context.Context, id string, record []byte) (uint64, error) {
	l.appending <- struct{}{}
	<-ctx.Done()
	<-l.goOn
	return 1, nil
}

// TestGroupsBehindTheFollower: callers whose group goes to the log when the store has stopped to follow it do not wait for it to come back.
func TestGroupsBehindTheFollower(t *testing.T) {
	t.Parallel()
	l := &lateLog{memoryLog: newMemoryLog(), appending: make(chan struct{}, 2), goOn: make(chan struct{})}
	s, err := Open(t.TempDir(), Options{Log: l, LogTimeout: time.Hour}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan error, 2)
	done := func(_ any, err error) { answers <- err }
	register := func() {
		if err := s.Go(&Batch{Ops: []UserOp{{Kind: OpRegister, ID: "ann"}}}, done); err != nil {
			t.Error(err)
		}
	}
	register()
	<-l.appending
	register()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	closed := make(chan error)
	go func() { closed <- s.Close(ctx) }()
	if err := <-answers; !errors.Is(err, ErrOutcomeUnknown) { // of the follower that has stopped
		t.Error(err)
	}
	close(l.goOn)
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case err := <-answers:
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a caller still waits")
	}
}

// awayLog takes no record while it is away, and takes its time for each otherwise.
type awayLog struct {
	*memoryLog
	takes time.Duration
	away  atomic.Bool
}

func (l *awayLog) Append(ctx context.Context, id string, record []byte) (uint64, error) {
	try := ctx
	if !l.away.Load() {
		var cancel context.CancelFunc
		try, cancel = context.WithTimeout(ctx, l.takes)
		defer cancel()
	}
	<-try.Done()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	return l.memoryLog.Append(ctx, id, record)
}

// TestLogAwayBehindAQueue: with a log that is away a change fails in its time, however many are before it; and with one that is there no change fails for what it has waited behind others.
func TestLogAwayBehindAQueue(t *testing.T) {
	t.Parallel()
	const timeout = 5 * time.Second
	type answer struct {
		took time.Duration
		err  error
	}
	// Each of the changes is a group of its own.
	propose := func(t *testing.T, l *awayLog, changes int, apart time.Duration) (answers []answer) {
		l.memoryLog = newMemoryLog()
		s, err := Open(t.TempDir(), Options{Log: l, LogTimeout: timeout, RecordBytes: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			l.away.Store(false)
			must(s.Close(context.Background()))
		}()
		got := make(chan answer, changes)
		for i := range changes {
			began := time.Now()
			must(s.Go(&Batch{Ops: []UserOp{registerOp(fmt.Sprint("user ", i))}}, func(_ any, err error) {
				got <- answer{time.Since(began), err}
			}))
			time.Sleep(apart)
		}
		for range changes {
			answers = append(answers, <-got)
		}
		return answers
	}
	for _, apart := range []time.Duration{0, 700 * time.Millisecond} {
		t.Run(fmt.Sprint("away, one after ", apart), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := new(awayLog)
				l.away.Store(true)
				for i, a := range propose(t, l, 20, apart) {
					if !errors.Is(a.err, ErrUnavailable) || errors.Is(a.err, ErrOutcomeUnknown) || a.took > timeout || a.took < timeout/2 {
						t.Errorf("change %d after %v: %v", i, a.took, a.err)
					}
				}
			})
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			for i, a := range propose(t, &awayLog{takes: 4 * time.Second}, 20, 0) {
				if a.err != nil {
					t.Errorf("change %d after %v: %v", i, a.took, a.err)
				}
			}
		})
	})
	t.Run("comes back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := &awayLog{takes: 2 * time.Second}
			l.away.Store(true)
			time.AfterFunc(6*time.Second, func() { l.away.Store(false) })
			for i, a := range propose(t, l, 40, 500*time.Millisecond) {
				if made := i > 20; made && a.err != nil {
					t.Errorf("change %d after %v: %v", i, a.took, a.err)
				}
			}
		})
	})
}

// TestLogHandsNothingBack: what the log took late has as much time to come back as is left, and half of all at least.
func TestLogHandsNothingBack(t *testing.T) {
	t.Parallel()
	for takes, want := range map[time.Duration]time.Duration{0: 5 * time.Second, 4 * time.Second: 6500 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				held := &heldLog{memoryLog: newMemoryLog(), hold: make(chan struct{})}
				other, err := Open(t.TempDir(), Options{Log: held.memoryLog}, nil)
				must(err)
				s, err := Open(t.TempDir(), Options{Log: &slowLog{held, takes}, LogTimeout: 5 * time.Second}, nil)
				must(err)
				register(t, other, "ann") // before the other, which is applied behind it
				began := time.Now()
				_, err = s.Propose(t.Context(), &Batch{Ops: []UserOp{registerOp("bob")}})
				if took := time.Since(began); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrUnavailable) || took != want {
					t.Errorf("after %v: %v", took, err)
				}
				close(held.hold)
				must(s.Close(t.Context()))
				must(other.Close(t.Context()))
			})
		})
	}
}

// slowLog takes its time for each record.
type slowLog struct {
	Log
	takes time.Duration
}

func (l *slowLog) Append(ctx context.Context, id string, record []byte) (uint64, error) {
	time.Sleep(l.takes)
	return l.Log.Append(ctx, id, record)
}

// TestChangeBehindAControl: what waits behind a control, and that for a record that comes back late, has waited for no log that is away.
func TestChangeBehindAControl(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := &heldLog{memoryLog: newMemoryLog(), hold: make(chan struct{})}
		other, err := Open(t.TempDir(), Options{Log: held.memoryLog}, nil)
		must(err)
		s, err := Open(t.TempDir(), Options{Log: held, LogTimeout: 5 * time.Second}, nil)
		must(err)
		register(t, other, "ann")
		answers := make(chan error, 3)
		propose := func(id string) {
			must(s.Go(&Batch{Ops: []UserOp{registerOp(id)}}, func(_ any, err error) { answers <- err }))
		}
		propose("bob")
		go func() { answers <- s.Flush(t.Context()) }()
		synctest.Wait()
		propose("cid")
		time.Sleep(4 * time.Second)
		close(held.hold)
		for range 3 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		must(s.Close(t.Context()))
		must(other.Close(t.Context()))
	})
}

// toldOf is an observer that says which pushes it is told of.
type toldOf struct {
	accepted
	push func(seq uint64)
}

func (o *toldOf) Accepted(t *Task, _ *Message, _ []BlockSet) { o.push(t.Seq) }

// TestGroupThatComesTwice: what was read ahead for a group is given back once, for it is soon another's.
func TestGroupThatComesTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		goOn := make(chan struct{})
		var read *ahead
		s, err := Open(t.TempDir(), Options{Log: l, LogTimeout: time.Minute}, &toldOf{push: func(seq uint64) {
			if seq == 1 {
				<-goOn
			} else {
				read.facts["another's"] = 1
			}
		}})
		must(err)
		other := openLogged(t, t.TempDir(), l)
		register(t, other, "ann")
		push(t, other, &Expr{Op: OpAll}, time.Hour)
		l.fault = func() (int, error) { return 2, nil }
		answer := make(chan error, 1)
		must(s.Go(&Push{To: &Expr{Op: OpAll}, Lifetime: 1000}, func(_ any, err error) { answer <- err }))
		synctest.Wait() // both are decoded, behind the one that is being told
		for _, g := range s.follower.pending {
			read = g.aheads[0]
		}
		close(goOn)
		must(<-answer)
		must(s.WaitApplied(t.Context(), 4))
		if len(read.facts) != 1 {
			t.Error("given back again")
		}
		must(s.Close(t.Context()))
	})
}
