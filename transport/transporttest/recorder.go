package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/fanfare-im/fanfare/transport"
)

var (
	// ErrNotConnected is what a [Recorder] returns for a user whom Disconnect or
	// DisconnectAll has taken away.
	ErrNotConnected = errors.New("transporttest: user is not connected")
	// ErrFailed is what a delivery fails with after Recorder.FailNext without an
	// error of its own.
	ErrFailed = errors.New("transporttest: delivery fails as told")
	// ErrClosed is what a fake returns after its Close.
	ErrClosed = errors.New("transporttest: closed")
)

// Recorder is a [transport.Online] that records what each user receives and can
// be told to misbehave. The zero value is ready: everyone is connected and
// every delivery succeeds. It is a [transport.Closer] too. All methods are safe
// for concurrent use. A Recorder must not be copied.
//
// One delivery goes through, in this order: what Block and Hang hold back, what
// FailNext and PanicNext have in store, Disconnect, the function set by
// OnDeliver, the record. Nothing in it sleeps; what a test waits for it waits
// for with Wait, WaitTotal and WaitAttempts.
type Recorder struct {
	mu           sync.Mutex
	boxes        map[string]*box
	othersAway   bool // users without a box are not connected
	hook         func(context.Context, string, *transport.Message) error
	total        int
	totalSignals signals
	attempts     int
	closes       int
	violations   []string
}

// box is what the Recorder keeps of one user. What few users need is in plan.
type box struct {
	received []*transport.Message
	attempts int
	inFlight int
	away     bool
	plan     *plan
}

type plan struct {
	steps           []step
	gates           []*gate
	receivedSignals signals
	attemptSignals  signals
}

// step is what the next n deliveries do.
type step struct {
	n      int
	err    error
	panics bool
	value  any
}

// Deliver records m for the user, or does what it was told to do instead.
func (r *Recorder) Deliver(ctx context.Context, userID string, m *transport.Message) error {
	b, gates := r.enter(userID)
	defer r.leave(b)
	for _, g := range gates {
		if err := g.pass(ctx); err != nil {
			return err
		}
	}
	hook, err := r.decide(b)
	if err != nil {
		return err
	}
	if hook != nil {
		if err := hook(ctx, userID, m); err != nil {
			return err
		}
	}
	r.record(b, m)
	return nil
}

func (r *Recorder) enter(userID string) (*box, []*gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.box(userID)
	b.attempts++
	r.attempts++
	b.inFlight++
	if b.inFlight > 1 {
		r.violate("%d deliveries at the same time for user %q", b.inFlight, userID)
	}
	if b.plan == nil {
		return b, nil
	}
	b.plan.attemptSignals.raise(b.attempts)
	return b, b.plan.gates
}

func (r *Recorder) leave(b *box) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.inFlight--
}

// decide takes the next step in store. Where that is a panic, it panics.
func (r *Recorder) decide(b *box) (hook func(context.Context, string, *transport.Message) error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closes > 0 {
		return nil, ErrClosed
	}
	if b.plan != nil && len(b.plan.steps) > 0 {
		s := &b.plan.steps[0]
		now := *s
		if s.n--; s.n == 0 {
			b.plan.steps = b.plan.steps[1:]
		}
		if now.panics {
			panic(now.value)
		}
		return nil, now.err
	}
	if b.away {
		return nil, ErrNotConnected
	}
	return r.hook, nil
}

func (r *Recorder) record(b *box, m *transport.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.received = append(b.received, m)
	r.total++
	if b.plan != nil {
		b.plan.receivedSignals.raise(len(b.received))
	}
	r.totalSignals.raise(r.total)
}

// box returns the user's box; the caller holds the lock.
func (r *Recorder) box(userID string) *box {
	b := r.boxes[userID]
	if b == nil {
		if r.boxes == nil {
			r.boxes = make(map[string]*box)
		}
		b = &box{away: r.othersAway}
		r.boxes[userID] = b
	}
	return b
}

func (r *Recorder) planOf(userID string) (*box, *plan) {
	b := r.box(userID)
	if b.plan == nil {
		b.plan = new(plan)
	}
	return b, b.plan
}

// violate notes a broken promise; the caller holds the lock.
func (r *Recorder) violate(format string, args ...any) {
	if len(r.violations) < 100 {
		r.violations = append(r.violations, fmt.Sprintf(format, args...))
	}
}

// Close counts its calls. Deliveries that begin later fail with [ErrClosed].
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes++
	if r.closes > 1 {
		r.violate("Close was called %d times", r.closes)
	}
	return nil
}

// Closes returns how often Close was called.
func (r *Recorder) Closes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closes
}

// Violations returns, in words, the promises of the transport interfaces that
// the caller has broken towards this transport: two deliveries at the same time
// for one user, a second Close, a batch that is empty, too large or names a
// user twice. Only the first hundred are kept.
func (r *Recorder) Violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.violations)
}

// Received returns what the user has received, in the order of receiving, a
// message that came twice twice. The slice is the caller's, the messages are
// those that were delivered.
func (r *Recorder) Received(userID string) []*transport.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.boxes[userID]; b != nil {
		return slices.Clone(b.received)
	}
	return nil
}

// Users returns, sorted, who has received anything.
func (r *Recorder) Users() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var users []string
	for u, b := range r.boxes {
		if len(b.received) > 0 {
			users = append(users, u)
		}
	}
	slices.Sort(users)
	return users
}

// Total returns how many messages have been received by all users together.
func (r *Recorder) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// Attempts returns how many deliveries to the user have begun, whatever became
// of them.
func (r *Recorder) Attempts(userID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.boxes[userID]; b != nil {
		return b.attempts
	}
	return 0
}

// TotalAttempts returns how many deliveries have begun, to all users together.
func (r *Recorder) TotalAttempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

// Wait returns when the user has received n messages since the Recorder was
// made, or with the cause of ctx's end if that is first.
func (r *Recorder) Wait(ctx context.Context, userID string, n int) error {
	r.mu.Lock()
	b, p := r.planOf(userID)
	reached := p.receivedSignals.at(len(b.received), n)
	r.mu.Unlock()
	return wait(ctx, reached)
}

// WaitAttempts returns when n deliveries to the user have begun, or with the
// cause of ctx's end if that is first. With Block it tells that the delivery is
// held back now.
func (r *Recorder) WaitAttempts(ctx context.Context, userID string, n int) error {
	r.mu.Lock()
	b, p := r.planOf(userID)
	reached := p.attemptSignals.at(b.attempts, n)
	r.mu.Unlock()
	return wait(ctx, reached)
}

// WaitTotal returns when all users together have received n messages, or with
// the cause of ctx's end if that is first.
func (r *Recorder) WaitTotal(ctx context.Context, n int) error {
	r.mu.Lock()
	reached := r.totalSignals.at(r.total, n)
	r.mu.Unlock()
	return wait(ctx, reached)
}
