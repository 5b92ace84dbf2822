package flow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/fanfare-im/fanfare/transport"
)

// Answer is what a service's answer to one request means.
type Answer struct {
	transport.Result
	Verdict Verdict
	// Again asks for the same request once more, at once: what was wrong with it is mended.
	Again bool
}

// Sender sends batches through a Gate.
type Sender struct {
	Gate    *Gate
	Workers int           // requests under way, at most
	Timeout time.Duration // of a request

	// denied is the last answer, if the service denied its sender: then one request finds out whether it still does, before the rest.
	denied atomic.Pointer[transport.Result]
	closed atomic.Bool
}

// Send asks for each notification of a batch, several at a time, and returns what became of them. Ask sends one request, and is
// called once for each, or twice where its first answer says so. When one answer is Denied, the others that have not begun are too.
func (s *Sender) Send(ctx context.Context, batch []transport.Notification, ask func(context.Context, *transport.Notification) Answer) []transport.Result {
	results := make([]transport.Result, len(batch))
	var next atomic.Int64
	for i := range batch { // one at a time, until the service has said something
		was := s.denied.Load()
		if was == nil {
			break
		}
		s.denied.Store(nil)
		a := s.one(ctx, &batch[i], ask)
		results[i] = a.Result
		next.Store(int64(i) + 1)
		if a.Outcome == transport.Denied {
			break
		}
		if a.Verdict != Fine || a.Outcome == transport.Unsent {
			s.denied.Store(was)
		}
	}
	var workers sync.WaitGroup
	for range min(s.Workers, len(batch)-int(next.Load())) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(batch) {
					return
				}
				results[i] = s.one(ctx, &batch[i], ask).Result
			}
		})
	}
	workers.Wait()
	return results
}

func (s *Sender) one(ctx context.Context, n *transport.Notification, ask func(context.Context, *transport.Notification) Answer) (a Answer) {
	defer func() {
		if x := recover(); x != nil { // of one notification, not of the process
			a = Answer{Result: transport.Result{Outcome: transport.Retry, Reason: "panic", Detail: fmt.Sprint(x), RetryAfter: Backoff(n.Attempt)}}
		}
	}()
	a = s.ask(ctx, n, ask)
	if a.Again {
		a = s.ask(ctx, n, ask)
	}
	switch {
	case a.Outcome == transport.Denied:
		s.denied.Store(&a.Result)
	case a.Outcome == transport.Retry && a.RetryAfter <= 0:
		a.RetryAfter = Backoff(n.Attempt)
	}
	return a
}

func (s *Sender) ask(ctx context.Context, n *transport.Notification, ask func(context.Context, *transport.Notification) Answer) Answer {
	if d := s.denied.Load(); d != nil {
		return Answer{Result: *d}
	}
	if s.closed.Load() {
		return unsent("closed", 0)
	}
	if err := s.Gate.Enter(ctx); err != nil {
		var pause *PauseError
		if errors.As(err, &pause) {
			return unsent("paused", pause.For)
		}
		return unsent("out of time", 0)
	}
	one, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	left := false
	defer func() {
		if !left {
			s.Gate.Leave(Unasked, 0)
		}
	}()
	a := ask(one, n)
	left = true
	if ctx.Err() != nil && a.Verdict == Away {
		a.Verdict = Unasked // it was given up
	}
	s.Gate.Leave(a.Verdict, a.RetryAfter)
	return a
}

// Unreached is the answer where there was no connection: nobody was asked, so it counts as no try.
func Unreached(err error) Answer {
	return Answer{Result: transport.Result{Outcome: transport.Unsent, Reason: "not reached", Detail: Redact(err)}, Verdict: Away}
}

func unsent(why string, after time.Duration) Answer {
	return Answer{Result: transport.Result{Outcome: transport.Unsent, Reason: why, RetryAfter: after}}
}

// Close makes what is still to be sent Unsent.
func (s *Sender) Close() { s.closed.Store(true) }

// Backoff is the pause after so many tries: 2 s, doubling to ten minutes, give or take a quarter.
func Backoff(attempt int) time.Duration {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval, b.RandomizationFactor = 2*time.Second, 2, 10*time.Minute, 0.25
	pause := b.NextBackOff()
	for range min(attempt, 20) - 1 {
		pause = b.NextBackOff()
	}
	return pause
}
