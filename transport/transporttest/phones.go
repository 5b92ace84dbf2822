package transporttest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// Phones is a [transport.Mobile], and the phone notification service behind it:
// it records what each token's phone shows and can be told which tokens are
// dead and when the service is out of order. It is a [transport.Sizer] and a
// [transport.Closer] too. All methods are safe for concurrent use. A Phones
// must not be copied.
//
// Every token is good until it is told otherwise. For one notification it
// looks, in this order, at Overload, Kill, Reject and RetryNext.
type Phones struct {
	platform transport.Platform

	mu           sync.Mutex
	size         int
	phones       map[string]*phone
	gates        []*gate
	overload     int // batches still to be turned away
	pause        time.Duration
	hook         func(context.Context, []transport.Notification) ([]transport.Result, bool)
	total        int
	totalSignals signals
	begun        []int
	batchSignals signals
	inFlight     int
	closes       int
	violations   []string
}

// phone is what Phones keeps of one token. What few tokens need is in fate.
type phone struct {
	shown    []transport.Notification
	attempts int
	fate     *fate
}

type fate struct {
	dead     bool
	died     time.Time
	rejected string // the reason; empty: not rejected
	retries  int
	pause    time.Duration
	signals  signals
}

// NewPhones returns the phones of a platform, such as "apns". They take
// batches of any size up to the library's 500; see SetBatchSize.
func NewPhones(platform transport.Platform) *Phones {
	return &Phones{platform: platform, phones: make(map[string]*phone)}
}

// Platform returns the platform given to NewPhones.
func (p *Phones) Platform() transport.Platform { return p.platform }

// BatchSize returns what SetBatchSize has set, or else 0: the library chooses.
func (p *Phones) BatchSize() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// Send gives each notification the outcome that its token is programmed for and
// records those accepted.
func (p *Phones) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	gates, hook := p.enter(batch)
	defer p.leave()
	for _, g := range gates {
		if err := g.pass(ctx); err != nil {
			return all(len(batch), transport.Result{Outcome: transport.Retry, Reason: err.Error()})
		}
	}
	if hook != nil {
		if results, mine := hook(ctx, batch); mine {
			return results
		}
	}
	if err := ctx.Err(); err != nil {
		return all(len(batch), transport.Result{Outcome: transport.Retry, Reason: err.Error()})
	}
	return p.answer(batch)
}

func all[T any](n int, v T) []T {
	return slices.Repeat([]T{v}, n)
}

func (p *Phones) enter(batch []transport.Notification) ([]*gate, func(context.Context, []transport.Notification) ([]transport.Result, bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight++
	if p.inFlight > 1 {
		p.violate("%d calls of Send at the same time", p.inFlight)
	}
	most := p.size
	if most < 1 {
		most = 500
	}
	if n := len(batch); n == 0 || n > most {
		p.violate("a batch of %d notifications, where %d are the most", n, most)
	}
	for i := range batch {
		n := &batch[i]
		p.phone(n.Device.Token).attempts++
		switch {
		case n.Device.Platform != p.platform:
			p.violate("a notification for platform %q came to %q", n.Device.Platform, p.platform)
		case n.Content == nil || n.Message == nil:
			p.violate("a notification to token %q has no content or no message", n.Device.Token)
		case n.Attempt < 1:
			p.violate("a notification to token %q is attempt %d", n.Device.Token, n.Attempt)
		}
	}
	p.begun = append(p.begun, len(batch))
	p.batchSignals.raise(len(p.begun))
	return p.gates, p.hook
}

func (p *Phones) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
}

func (p *Phones) answer(batch []transport.Notification) []transport.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closes > 0 {
		return all(len(batch), transport.Result{Outcome: transport.Retry, Reason: ErrClosed.Error()})
	}
	if p.overload > 0 && len(batch) > 0 {
		p.overload--
		return all(len(batch), transport.Result{Outcome: transport.Retry, Reason: "overloaded", RetryAfter: p.pause})
	}
	results := make([]transport.Result, len(batch))
	for i, n := range batch {
		ph := p.phone(n.Device.Token)
		results[i] = ph.fate.next()
		if results[i].Outcome == transport.Accepted {
			ph.shown = append(ph.shown, n)
			p.total++
			if ph.fate != nil {
				ph.fate.signals.raise(len(ph.shown))
			}
		}
	}
	p.totalSignals.raise(p.total)
	return results
}

// next is the outcome that the token has in store.
func (f *fate) next() transport.Result {
	switch {
	case f == nil:
	case f.dead:
		return transport.Result{Outcome: transport.Unregistered, Reason: "unregistered", Since: f.died}
	case f.rejected != "":
		return transport.Result{Outcome: transport.Rejected, Reason: f.rejected}
	case f.retries > 0:
		f.retries--
		return transport.Result{Outcome: transport.Retry, Reason: "busy", RetryAfter: f.pause}
	}
	return transport.Result{Outcome: transport.Accepted}
}

// phone returns the token's phone; the caller holds the lock.
func (p *Phones) phone(token string) *phone {
	ph := p.phones[token]
	if ph == nil {
		ph = new(phone)
		p.phones[token] = ph
	}
	return ph
}

// violate notes a broken promise; the caller holds the lock.
func (p *Phones) violate(format string, args ...any) {
	if len(p.violations) < 100 {
		p.violations = append(p.violations, fmt.Sprintf(format, args...))
	}
}

// Close counts its calls. Batches that come later get Retry for all.
func (p *Phones) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closes++
	if p.closes > 1 {
		p.violate("Close was called %d times", p.closes)
	}
	return nil
}

// Closes returns how often Close was called.
func (p *Phones) Closes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closes
}

// Violations returns, in words, the promises of the transport interfaces that
// the caller has broken towards this transport: two calls of Send at the same
// time, an empty or too large batch, a device of another platform, a
// notification without content, message or attempt number, a second Close.
// Only the first hundred are kept.
func (p *Phones) Violations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.violations)
}

// Shown returns what the token's phone has shown: the notifications accepted
// for it, in order.
func (p *Phones) Shown(token string) []transport.Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ph := p.phones[token]; ph != nil {
		return slices.Clone(ph.shown)
	}
	return nil
}

// Showing returns what is on the token's phone now, with an app that does what it is told: the notifications accepted for it, without those that are
// silent; one with the collapse ID of an earlier one is in its place, and what is withdrawn is gone.
func (p *Phones) Showing(token string) (list []transport.Notification) {
	name := func(n transport.Notification) string { return cmp.Or(n.Content.Collapse, n.Message.ID) }
	for _, n := range p.Shown(token) {
		at := slices.IndexFunc(list, func(o transport.Notification) bool { return name(o) == name(n) })
		switch {
		case n.Content.Withdrawn && at >= 0:
			list = slices.Delete(list, at, at+1)
		case n.Content.Withdrawn || n.Content.Silent:
		case at >= 0:
			list[at] = n
		default:
			list = append(list, n)
		}
	}
	return list
}

// Attempts returns how many notifications for the token have come in, whatever
// became of them.
func (p *Phones) Attempts(token string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ph := p.phones[token]; ph != nil {
		return ph.attempts
	}
	return 0
}

// Total returns how many notifications have been accepted, for all tokens
// together.
func (p *Phones) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// Batches returns the sizes of the batches so far, in the order of coming.
func (p *Phones) Batches() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.begun)
}

// Wait returns when the token's phone has shown n notifications, or with the
// cause of ctx's end if that is first.
func (p *Phones) Wait(ctx context.Context, token string, n int) error {
	p.mu.Lock()
	ph, f := p.fateOf(token)
	reached := f.signals.at(len(ph.shown), n)
	p.mu.Unlock()
	return wait(ctx, reached)
}

// WaitTotal returns when n notifications have been accepted for all tokens
// together, or with the cause of ctx's end if that is first.
func (p *Phones) WaitTotal(ctx context.Context, n int) error {
	p.mu.Lock()
	reached := p.totalSignals.at(p.total, n)
	p.mu.Unlock()
	return wait(ctx, reached)
}

// WaitBatches returns when n calls of Send have begun, or with the cause of
// ctx's end if that is first. With Block it tells that a batch is held back now.
func (p *Phones) WaitBatches(ctx context.Context, n int) error {
	p.mu.Lock()
	reached := p.batchSignals.at(len(p.begun), n)
	p.mu.Unlock()
	return wait(ctx, reached)
}
