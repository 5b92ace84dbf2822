package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestLostGroupsAreForgotten: a group that may come late is not kept any more when a later one has come.
func TestLostGroupsAreForgotten(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	s := openLogged(t, t.TempDir(), l)
	l.fault = func() (int, error) { return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrUnavailable) }
	if _, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpRegister, ID: "ann"}}}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	l.fault = nil
	register(t, s, "bob")
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
