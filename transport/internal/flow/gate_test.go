package flow

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// service is a server that answers some requests at a time in a time, and refuses those beyond.
type service struct {
	takes  int
	in     time.Duration
	inside atomic.Int64
	asked  atomic.Int64
}

func (s *service) ask() Verdict {
	s.asked.Add(1)
	defer s.inside.Add(-1)
	if s.inside.Add(1) > int64(s.takes) { // which costs it little
		time.Sleep(s.in / 10)
		return Busy
	}
	time.Sleep(s.in/2 + rand.N(s.in)) // not all at once
	return Fine
}

// drive asks for a time with as many workers as given.
func drive(g *Gate, s *service, workers int, d time.Duration) (fine, busy int64) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var f, b atomic.Int64
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				err := g.Enter(ctx)
				var pause *PauseError
				if errors.As(err, &pause) {
					time.Sleep(pause.For)
					continue
				}
				if err != nil {
					return
				}
				v := s.ask()
				if v == Fine {
					f.Add(1)
				} else {
					b.Add(1)
				}
				g.Leave(v, 0)
			}
		})
	}
	running.Wait()
	return f.Load(), b.Load()
}

// TestWindowFollowsTheService: with a service that takes a tenth of what is allowed most of its places are used, most requests are answered, and when it takes
// more again, that is used too.
func TestWindowFollowsTheService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 500})
		s := &service{takes: 50, in: 100 * time.Millisecond}
		drive(g, s, 500, 20*time.Second) // until it has come down
		fine, busy := drive(g, s, 500, time.Minute)
		if most := int64(50 * 600); fine < most*7/10 || busy > fine*3/10 {
			t.Errorf("of %d answers possible there were %d, and %d refused", most, fine, busy)
		}
		s.takes = 1000
		drive(g, s, 500, 20*time.Second)
		if g.Window() != 500 {
			t.Error("the window is", g.Window())
		}
	})
}

// TestFewRefusalsDoNotCloseTheWindow: one request in two hundred that is refused whatever the load leaves the window nearly open.
func TestFewRefusalsDoNotCloseTheWindow(t *testing.T) {
	t.Parallel()
	g := NewGate(GateOptions{Most: 400})
	least := 400
	for i := range 100_000 {
		if err := g.Enter(context.Background()); err != nil {
			t.Fatal(err)
		}
		v := Fine
		if i%200 == 0 {
			v = Busy
		}
		g.Leave(v, 0)
		least = min(least, g.Window())
	}
	if least < 380 {
		t.Error("the window was", least)
	}
}

// TestBreaker: a service that does not answer is left alone, longer each time, and asked by one request at a time until it
// answers.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		g := NewGate(GateOptions{Most: 5, Failures: 5})
		for range 5 {
			if err := g.Enter(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			g.Leave(Away, 0)
		}
		last := time.Duration(0)
		for range 8 {
			var pause *PauseError
			if err := g.Enter(ctx); !errors.As(err, &pause) || pause.For <= 0 || pause.For > 72*time.Second || pause.For < last && last < 48*time.Second {
				t.Fatal(err, "after", last)
			}
			last = pause.For
			time.Sleep(pause.For)
			if err := g.Enter(ctx); err != nil {
				t.Fatal(err)
			}
			soon, cancel := context.WithTimeout(ctx, time.Millisecond)
			if err := g.Enter(soon); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("a second request while the first finds out:", err)
			}
			cancel()
			g.Leave(Away, 0)
		}
		time.Sleep(2 * time.Minute)
		if err := g.Enter(ctx); err != nil {
			t.Fatal(err)
		}
		g.Leave(Fine, 0)
		for range g.Window() {
			if err := g.Enter(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestRetryAfterOfAll: when a service refuses everything and says for how long, it is left alone for that long.
func TestRetryAfterOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 5, Failures: 5})
		for range 5 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			g.Leave(Busy, 5*time.Minute)
		}
		var pause *PauseError
		if err := g.Enter(t.Context()); !errors.As(err, &pause) || pause.For != 5*time.Minute {
			t.Fatal(err)
		}
	})
}

// TestWaitersLearnOfAPause: who waits for a turn when the service is given up need not wait on.
func TestWaitersLearnOfAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 1, Failures: 1})
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		for range 3 {
			go func() { got <- g.Enter(t.Context()) }()
		}
		synctest.Wait()
		g.Leave(Away, 0)
		for range 3 {
			var pause *PauseError
			if err := <-got; !errors.As(err, &pause) {
				t.Fatal(err)
			}
		}
	})
}

// TestRate: no more begin in a second than are allowed, and nearly that many do.
func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 100, PerSecond: 1000})
		s := &service{takes: 100, in: 10 * time.Millisecond}
		drive(g, s, 100, 10*time.Second)
		if n := s.asked.Load(); n > 10_050 || n < 9_800 {
			t.Fatal(n, "in ten seconds")
		}
	})
}

// TestGateUnderCancels: whoever gives up waiting takes nobody's turn away.
func TestGateUnderCancels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 3})
		s := &service{takes: 3, in: time.Millisecond}
		var running sync.WaitGroup
		for range 30 {
			running.Go(func() {
				for i := range 200 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Millisecond)
					if g.Enter(ctx) == nil {
						s.ask()
						g.Leave(Fine, 0)
					}
					cancel()
				}
			})
		}
		running.Wait()
		if g.inside != 0 || len(g.waiting) != 0 {
			t.Fatal(g.inside, len(g.waiting))
		}
		for range 3 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{0: 2 * time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 15: 10 * time.Minute, 1000: 10 * time.Minute} {
		if got := Backoff(attempt); got < want*3/4 || got > want*5/4 {
			t.Errorf("after %d tries %v, want about %v", attempt, got, want)
		}
	}
}

// TestPauseWhileWaitingForTheRate: who waits for the rate when the service is given up does not begin.
func TestPauseWhileWaitingForTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Most: 10, PerSecond: 10, Failures: 2})
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 9)
		for range 9 {
			go func() { errs <- g.Enter(t.Context()) }()
		}
		synctest.Wait()
		g.mu.Lock()
		g.window = 1
		g.mu.Unlock()
		g.Leave(Away, 0)
		if err := <-errs; err != nil { // one has its turn by the rate
			t.Fatal(err)
		}
		g.Leave(Away, 0)
		for range 8 {
			var pause *PauseError
			if err := <-errs; !errors.As(err, &pause) {
				t.Fatal(err)
			}
		}
		if g.inside != 0 {
			t.Error(g.inside, "inside")
		}
	})
}

// TestTurnOfOneWhoGivesUp: a turn that comes together with the end of its context is the next one's.
func TestTurnOfOneWhoGivesUp(t *testing.T) {
	t.Parallel()
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			g := NewGate(GateOptions{Most: 1})
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			go func() { first <- g.Enter(ctx) }()
			synctest.Wait()
			go func() { second <- g.Enter(t.Context()) }()
			synctest.Wait()
			g.Leave(Fine, 0)
			cancel()
			if <-first == nil {
				g.Leave(Fine, 0)
			}
			if err := <-second; err != nil {
				t.Fatal(err)
			}
		})
	}
}
