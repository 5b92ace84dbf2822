package transporttest

import (
	"context"
	"slices"
	"sync"

	"github.com/fanfare-im/fanfare/transport"
)

// FailNext makes the next n deliveries to the user fail with err, or with
// [ErrFailed] where err is nil. It comes after what FailNext and PanicNext have
// in store for the user already.
func (r *Recorder) FailNext(userID string, n int, err error) {
	if err == nil {
		err = ErrFailed
	}
	r.store(userID, step{n: n, err: err})
}

// PanicNext makes the next n deliveries to the user panic with value. It comes
// after what FailNext and PanicNext have in store for the user already.
func (r *Recorder) PanicNext(userID string, n int, value any) {
	r.store(userID, step{n: n, panics: true, value: value})
}

func (r *Recorder) store(userID string, s step) {
	if s.n < 1 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, p := r.planOf(userID)
	p.steps = append(p.steps, s)
}

// Block holds back the deliveries to the user that begin from now on, until
// release is called or their context ends; they fail with the context's error
// then. release may be called more than once.
func (r *Recorder) Block(userID string) (release func()) {
	return r.hold(userID, false)
}

// Hang holds back the deliveries to the user that begin from now on, until
// release is called; unlike with Block, the end of their context does not free
// them. release may be called more than once.
func (r *Recorder) Hang(userID string) (release func()) {
	return r.hold(userID, true)
}

func (r *Recorder) hold(userID string, hard bool) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, p := r.planOf(userID)
	g := &gate{opened: make(chan struct{}), hard: hard}
	p.gates = append(p.gates, g)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(g.opened)
		// A delivery may be walking along the slice.
		p.gates = slices.DeleteFunc(slices.Clone(p.gates), func(other *gate) bool { return other == g })
	})
}

// Disconnect makes deliveries to the users fail with [ErrNotConnected].
func (r *Recorder) Disconnect(userIDs ...string) {
	r.setAway(true, userIDs)
}

// Connect undoes Disconnect and DisconnectAll for the users.
func (r *Recorder) Connect(userIDs ...string) {
	r.setAway(false, userIDs)
}

func (r *Recorder) setAway(away bool, userIDs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range userIDs {
		r.box(u).away = away
	}
}

// DisconnectAll makes deliveries to everyone fail with [ErrNotConnected],
// except to those whom Connect names later.
func (r *Recorder) DisconnectAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.othersAway = true
	for _, b := range r.boxes {
		b.away = true
	}
}

// OnDeliver sets a function that each delivery calls before it is recorded. It
// holds no lock meanwhile, so the function may call the Recorder. An error from
// it is the delivery's; a panic too. nil takes the function away.
func (r *Recorder) OnDeliver(f func(ctx context.Context, userID string, m *transport.Message) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = f
}
