// Package flow holds what the senders of phone notifications share: how many requests they have under way and on which
// connections, how fast those follow each other, and when a service that does not answer is left alone.
package flow

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

// GateOptions adjust a Gate. Those left out take the default.
type GateOptions struct {
	// Most is how many requests may be under way at a time. It is where a Gate begins. Default: 1.
	Most int
	// PerSecond is how many requests may begin in a second. Default: as many as there are.
	PerSecond float64
	// Failures is how many requests in a row may be refused or go without an answer before the service is left alone, at least. Default: 20.
	Failures int
	// Pause is for how long it is left alone at first; it doubles each time, up to MaxPause, give or take a fifth.
	// Defaults: 1 s and 1 min.
	Pause, MaxPause time.Duration
}

// Verdict is what an answer says of the service, not of the notification.
type Verdict int

const (
	Fine    Verdict = iota // it answered
	Busy                   // it wants fewer requests
	Away                   // there was no answer of its own, or none that helps
	Unasked                // the request did not get there, or was given up: nothing is known
)

// PauseError says that the service is left alone for a while.
type PauseError struct{ For time.Duration }

func (e *PauseError) Error() string {
	return fmt.Sprintf("the service is left alone for %v", e.For.Round(time.Millisecond))
}

// Gate is what each request goes through. It is safe for concurrent use.
//
// Its window is how many requests may be under way. After as many answers as it is large it is made smaller by half the
// share of those that were refused, or, if that is below a fiftieth, larger by a hundredth of the most: additive increase and
// multiplicative decrease, of which the latter goes by how much is refused, as in M. Alizadeh and others, Data Center TCP, 2010. A
// window that was halved at each refusal would stay small at a service that refuses one request in two hundred whatever its
// load is.
//
// After Failures requests in a row, or as many as the window is large, that were refused or got no answer, nothing begins for a
// pause, and then a single request finds out whether the service is back.
type Gate struct {
	o       GateOptions
	limiter *rate.Limiter

	mu      sync.Mutex
	window  float64
	inside  int
	waiting []chan struct{} // closed for who may come in, in order
	answers int             // since the window was last set
	refused int             // of these
	failed  int             // requests in a row that were refused or got no answer
	broken  bool            // so many that nobody knows whether the service is there
	pauses  *backoff.ExponentialBackOff
	until   time.Time // nothing begins before
}

// NewGate makes a Gate.
func NewGate(o GateOptions) *Gate {
	o.Most = max(o.Most, 1)
	if o.Failures <= 0 {
		o.Failures = 20
	}
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	if o.MaxPause <= 0 {
		o.MaxPause = time.Minute
	}
	limit := rate.Inf
	if o.PerSecond > 0 {
		limit = rate.Limit(o.PerSecond)
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier, pauses.RandomizationFactor = o.Pause, o.MaxPause, 2, 0.2
	// What a twentieth of a second lets through may begin at once, for a timer that fires late is made good then.
	return &Gate{o: o, window: float64(o.Most), pauses: pauses, limiter: rate.NewLimiter(limit, max(int(o.PerSecond/20), 1))}
}

// Enter waits until a request may begin. Each one that may is ended with Leave. It returns a [*PauseError] while the service
// is left alone, and the context's error when that ends first.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		if wait := g.paused(); wait > 0 {
			return &PauseError{wait}
		}
		if err := ctx.Err(); err != nil {
			g.admit() // it may have been this one's turn
			return err
		}
		if g.inside < g.width() {
			break
		}
		turn := make(chan struct{})
		g.waiting = append(g.waiting, turn)
		g.mu.Unlock()
		select {
		case <-turn:
			g.mu.Lock()
		case <-ctx.Done():
			g.mu.Lock()
			if i := slices.Index(g.waiting, turn); i >= 0 {
				g.waiting = slices.Delete(g.waiting, i, i+1)
			} else {
				g.admit() // it was this one's turn
			}
			return ctx.Err()
		}
	}
	g.inside++
	if g.o.PerSecond <= 0 {
		return nil
	}
	g.mu.Unlock()
	err := g.limiter.Wait(ctx)
	g.mu.Lock()
	if wait := g.paused(); err == nil && wait > 0 { // it was given up meanwhile
		g.inside--
		g.admit()
		return &PauseError{wait}
	}
	if err != nil {
		g.inside--
		g.admit()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return context.DeadlineExceeded // it would be over by then, as the limiter says at once
	}
	return nil
}

// paused returns for how long nothing may begin.
func (g *Gate) paused() time.Duration {
	if g.until.IsZero() {
		return 0
	}
	wait := time.Until(g.until)
	if wait <= 0 {
		g.until = time.Time{}
	}
	return wait
}

// width is how many may be inside; while nobody knows whether the service is back, one.
func (g *Gate) width() int {
	if g.broken {
		return 1
	}
	return max(int(g.window), 1)
}

// admit wakes as many as there is room for.
func (g *Gate) admit() {
	n := min(max(g.width()-g.inside, 0), len(g.waiting))
	if !g.until.IsZero() {
		n = len(g.waiting) // who learn that they need not wait
	}
	for _, turn := range g.waiting[:n] {
		close(turn)
	}
	g.waiting = slices.Delete(g.waiting, 0, n)
}

// maxAfter bounds how long a service is left alone because an answer asks for it: the answer may be anybody's.
const maxAfter = 10 * time.Minute

// Leave ends a request. After is how long the service asks to be left alone, as far as it does: it is, when Failures requests in
// a row were refused, for ten minutes at most.
func (g *Gate) Leave(v Verdict, after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	switch v {
	case Fine:
		g.answers++
		g.failed, g.broken = 0, false
		g.pauses.Reset()
	case Busy, Away:
		g.answers++
		g.refused++
		g.failed++
		if g.broken = g.broken || g.failed >= max(g.o.Failures, int(g.window)); g.broken && g.paused() <= 0 {
			g.until = time.Now().Add(max(g.pauses.NextBackOff(), min(after, maxAfter)))
		}
	}
	if g.answers >= max(int(g.window), 1) {
		if share := float64(g.refused) / float64(g.answers); share >= 1./50 {
			g.window = max(g.window*(1-share/2), 1)
		} else {
			g.window = min(g.window+max(float64(g.o.Most)/100, 1), float64(g.o.Most))
		}
		g.answers, g.refused = 0, 0
	}
	g.admit()
}

// Window returns how many requests may be under way now.
func (g *Gate) Window() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.width()
}
