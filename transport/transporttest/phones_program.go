package transporttest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// SetBatchSize sets what BatchSize returns. As a Pusher asks once, at Open, it
// is set before that.
func (p *Phones) SetBatchSize(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = n
}

// Kill makes the tokens dead since the given moment: notifications for them are
// Unregistered. With the zero time the service does not say since when.
func (p *Phones) Kill(since time.Time, tokens ...string) {
	p.each(tokens, func(f *fate) { f.dead, f.died = true, since })
}

// Revive undoes Kill and Reject for the tokens.
func (p *Phones) Revive(tokens ...string) {
	p.each(tokens, func(f *fate) { f.dead, f.died, f.rejected = false, time.Time{}, "" })
}

// Reject makes notifications for the tokens Rejected, with the reason, or with
// "rejected" where it is empty.
func (p *Phones) Reject(reason string, tokens ...string) {
	if reason == "" {
		reason = "rejected"
	}
	p.each(tokens, func(f *fate) { f.rejected = reason })
}

// RetryNext makes the next n notifications for the token Retry, with after as
// RetryAfter. It replaces what an earlier RetryNext has left.
func (p *Phones) RetryNext(token string, n int, after time.Duration) {
	p.each([]string{token}, func(f *fate) { f.retries, f.pause = n, after })
}

// Overload makes the next n batches Retry as a whole, with after as RetryAfter;
// 0 ends it.
func (p *Phones) Overload(n int, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overload, p.pause = n, after
}

// Block holds back the batches that come from now on, until release is called
// or their context ends; all their results are Retry then. release may be
// called more than once.
func (p *Phones) Block() (release func()) { return p.hold(false) }

// Hang holds back the batches that come from now on, until release is called;
// unlike with Block, the end of their context does not free them. release may
// be called more than once.
func (p *Phones) Hang() (release func()) { return p.hold(true) }

func (p *Phones) hold(hard bool) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &gate{opened: make(chan struct{}), hard: hard}
	p.gates = append(p.gates, g)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		close(g.opened)
		// A call of Send may be walking along the slice.
		p.gates = slices.DeleteFunc(slices.Clone(p.gates), func(other *gate) bool { return other == g })
	})
}

// OnSend sets a function that each call of Send calls first, with no lock held.
// Where it returns true, its results are the call's, whatever their number, and
// nothing is recorded; a panic is the call's too. Like a transport it may not
// keep or change the batch. nil takes the function away.
func (p *Phones) OnSend(f func(ctx context.Context, batch []transport.Notification) ([]transport.Result, bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = f
}

func (p *Phones) each(tokens []string, f func(*fate)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range tokens {
		_, one := p.fateOf(t)
		f(one)
	}
}

// fateOf returns the token's phone and fate; the caller holds the lock.
func (p *Phones) fateOf(token string) (*phone, *fate) {
	ph := p.phone(token)
	if ph.fate == nil {
		ph.fate = new(fate)
	}
	return ph, ph.fate
}
