package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

func numbered(n uint64) *transport.Message {
	return &transport.Message{ID: fmt.Sprintf("%032x", n), Sequence: n, Body: []byte("hello")}
}

func TestRecorderRecords(t *testing.T) {
	t.Parallel()
	var r Recorder
	one, two := numbered(1), numbered(2)
	for _, m := range []*transport.Message{one, two, two} {
		if err := r.Deliver(t.Context(), "alice", m); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Deliver(t.Context(), "bob", one); err != nil {
		t.Fatal(err)
	}
	if got := r.Received("alice"); !slices.Equal(got, []*transport.Message{one, two, two}) {
		t.Errorf("alice received %v", got)
	}
	if got := r.Received("carol"); got != nil {
		t.Errorf("carol received %v", got)
	}
	if r.Total() != 4 || r.TotalAttempts() != 4 || r.Attempts("alice") != 3 || r.Attempts("carol") != 0 {
		t.Errorf("total %d, attempts %d, alice's %d, carol's %d", r.Total(), r.TotalAttempts(), r.Attempts("alice"), r.Attempts("carol"))
	}
	if got := r.Users(); !slices.Equal(got, []string{"alice", "bob"}) {
		t.Errorf("users %v", got)
	}
	if v := r.Violations(); len(v) > 0 {
		t.Errorf("violations %v", v)
	}
}

func TestRecorderSteps(t *testing.T) {
	t.Parallel()
	var r Recorder
	own := errors.New("own")
	r.FailNext("alice", 2, nil)
	r.PanicNext("alice", 1, "boom")
	r.FailNext("alice", 1, own)
	r.FailNext("alice", 0, own)
	deliver := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v", v)
			}
		}()
		return r.Deliver(t.Context(), "alice", numbered(1))
	}
	var got []string
	for range 5 {
		got = append(got, fmt.Sprint(deliver()))
	}
	want := []string{ErrFailed.Error(), ErrFailed.Error(), "panic: boom", "own", "<nil>"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := r.Deliver(t.Context(), "bob", numbered(1)); err != nil {
		t.Errorf("bob, of whom nothing was said: %v", err)
	}
	if v := r.Violations(); len(v) > 0 {
		t.Errorf("a delivery that panicked counts as still in flight: %v", v)
	}
}

func TestRecorderConnections(t *testing.T) {
	t.Parallel()
	var r Recorder
	deliver := func(user string) error { return r.Deliver(t.Context(), user, numbered(1)) }
	r.Disconnect("alice", "bob")
	r.Connect("bob")
	if err := deliver("alice"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("alice: %v", err)
	}
	if err := deliver("bob"); err != nil {
		t.Errorf("bob: %v", err)
	}
	r.DisconnectAll()
	for _, u := range []string{"alice", "bob", "carol"} {
		if err := deliver(u); !errors.Is(err, ErrNotConnected) {
			t.Errorf("%s, everyone disconnected: %v", u, err)
		}
	}
	r.Connect("carol")
	if err := deliver("carol"); err != nil {
		t.Errorf("carol: %v", err)
	}
}

func TestRecorderHook(t *testing.T) {
	t.Parallel()
	var r Recorder
	refused := errors.New("refused")
	r.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
		if r.Attempts(user) != 1 { // may call the Recorder
			t.Errorf("attempts of %s: %d", user, r.Attempts(user))
		}
		if user == "alice" {
			return refused
		}
		return nil
	})
	if err := r.Deliver(t.Context(), "alice", numbered(1)); !errors.Is(err, refused) {
		t.Errorf("alice: %v", err)
	}
	if err := r.Deliver(t.Context(), "bob", numbered(1)); err != nil {
		t.Errorf("bob: %v", err)
	}
	r.OnDeliver(nil)
	if err := r.Deliver(t.Context(), "alice", numbered(2)); err != nil || r.Total() != 2 {
		t.Errorf("alice, the function taken away: %v; total %d", err, r.Total())
	}
}

func TestRecorderBlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r Recorder
		first, second := r.Block("alice"), r.Block("alice")
		result := make(chan error, 1)
		deliver := func(ctx context.Context) {
			go func() { result <- r.Deliver(ctx, "alice", numbered(1)) }()
		}
		deliver(t.Context())
		if err := r.WaitAttempts(t.Context(), "alice", 1); err != nil {
			t.Fatal(err)
		}
		first()
		first()
		synctest.Wait()
		if r.Total() != 0 {
			t.Fatal("delivered, although held back twice and released once")
		}
		second()
		if err := <-result; err != nil || r.Total() != 1 {
			t.Fatalf("after both releases: %v, total %d", err, r.Total())
		}

		release := r.Block("alice")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		deliver(ctx)
		if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("blocked until the end of the context: %v", err)
		}
		release()

		release = r.Hang("alice")
		deliver(ctx) // ended already
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("the end of the context freed a hanging delivery: %v", err)
		default:
		}
		release()
		if err := <-result; err != nil || r.Total() != 2 {
			t.Fatalf("after the release: %v, total %d", err, r.Total())
		}
		if v := r.Violations(); len(v) > 0 {
			t.Fatalf("violations %v", v)
		}
	})
}

func TestRecorderWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r Recorder
		reached := make(chan string, 4)
		waits := func(what string, f func() error) {
			go func() {
				if err := f(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				reached <- what
			}()
			synctest.Wait()
		}
		waits("alice has 2", func() error { return r.Wait(t.Context(), "alice", 2) })
		waits("3 attempts for alice", func() error { return r.WaitAttempts(t.Context(), "alice", 3) })
		waits("3 in all", func() error { return r.WaitTotal(t.Context(), 3) })
		waits("0 in all", func() error { return r.WaitTotal(t.Context(), 0) })
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-reached:
				if got != want {
					t.Fatalf("reached: %s, want %s", got, want)
				}
			default:
				if want != "" {
					t.Fatalf("not reached: %s", want)
				}
			}
		}
		expect("0 in all")
		r.FailNext("alice", 1, nil)
		for n, want := range []string{"", "", "3 attempts for alice"} {
			_ = r.Deliver(t.Context(), "alice", numbered(uint64(n)))
			if n == 2 {
				break
			}
			expect(want)
		}
		synctest.Wait()
		both := []string{<-reached, <-reached}
		slices.Sort(both)
		if !slices.Equal(both, []string{"3 attempts for alice", "alice has 2"}) {
			t.Fatalf("reached %v", both)
		}
		_ = r.Deliver(t.Context(), "bob", numbered(1))
		expect("3 in all")

		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := r.Wait(ctx, "alice", 99); !errors.Is(err, why) {
			t.Fatalf("the wait ended with %v", err)
		}
		if err := r.Wait(ctx, "alice", 1); err != nil {
			t.Fatalf("what was reached already: %v", err)
		}
	})
}

func TestRecorderViolations(t *testing.T) {
	t.Parallel()
	r := &BatchRecorder{Max: 2}
	release := r.Block("alice")
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- r.Deliver(t.Context(), "alice", numbered(1)) }()
	}
	if err := r.WaitAttempts(t.Context(), "alice", 2); err != nil {
		t.Fatal(err)
	}
	release()
	<-done
	<-done
	r.DeliverBatch(t.Context(), nil, numbered(2))
	r.DeliverBatch(t.Context(), []string{"a", "b", "c"}, numbered(2))
	r.DeliverBatch(t.Context(), []string{"a", "a"}, numbered(2))
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Deliver(t.Context(), "alice", numbered(3)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	got := r.Violations()
	want := []string{"at the same time", "0 users", "3 users", "twice", "Close was called 2 times"}
	if len(got) != len(want) {
		t.Fatalf("violations %q", got)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("violation %q, want %q in it", got[i], w)
		}
	}
	if b := r.Batches(); !slices.Equal(b, []int{0, 3, 2}) {
		t.Errorf("batches %v", b)
	}
	for range 300 {
		_ = r.Close()
	}
	if n := len(r.Violations()); n != 100 {
		t.Errorf("%d violations kept", n)
	}
	if r.Closes() != 302 {
		t.Errorf("%d closes", r.Closes())
	}
}

// The powers are seen by type assertion, and only those that are there.
func TestPowers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		o           transport.Online
		batch, acks bool
	}{
		{new(Recorder), false, false},
		{new(AckRecorder), false, true},
		{new(BatchRecorder), true, false},
		{new(AckBatchRecorder), true, true},
	} {
		_, batch := tc.o.(transport.Batcher)
		a, acks := tc.o.(transport.ClientAcker)
		_, closes := tc.o.(transport.Closer)
		if batch != tc.batch || acks != tc.acks || acks && !a.ClientAcks() || !closes {
			t.Errorf("%T: batch %v, acks %v, closes %v", tc.o, batch, acks, closes)
		}
	}
}

func BenchmarkRecorder(b *testing.B) {
	var r Recorder
	m := numbered(1)
	users := make([]string, 1<<16)
	for i := range users {
		users[i] = fmt.Sprintf("user-%d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := r.Deliver(b.Context(), users[i%len(users)], m); err != nil {
			b.Fatal(err)
		}
	}
}
