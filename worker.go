package fanfare

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// maxAbandoned bounds the calls that are left behind at a time. Beyond it
// workers wait for their calls, however long those take.
const maxAbandoned = 1024

// job is work for the pool: a lane, or a user's catch-up.
type job struct {
	lane *lane
	user *presence
}

// pool is a fixed number of workers with two queues, lanes and catch-ups,
// served in turn so that neither starves the other.
type pool struct {
	d         *delivery
	mu        sync.Mutex
	wake      sync.Cond
	lanes     []*lane
	users     []*presence
	turn      bool
	closed    bool
	workers   map[*worker]struct{}
	running   sync.WaitGroup // workers that are not abandoned
	abandoned atomic.Int32
	epoch     time.Time // makes a monotonic clock of one word
	watching  sync.WaitGroup
	unwatch   chan struct{}
}

func (p *pool) init(d *delivery, size int) {
	p.d, p.workers, p.epoch = d, make(map[*worker]struct{}, size), time.Now()
	p.unwatch = make(chan struct{})
	p.wake.L = &p.mu
}

func (p *pool) start(size int) {
	for range size {
		p.hire()
	}
	p.watching.Go(p.watch)
}

func (p *pool) clock() int64 { return int64(time.Since(p.epoch)) }

// hire starts a worker.
func (p *pool) hire() {
	w := &worker{p: p, stranded: make(chan struct{})}
	p.mu.Lock()
	p.workers[w] = struct{}{}
	p.mu.Unlock()
	p.running.Add(1)
	go w.run()
}

func (p *pool) add(j job) {
	p.mu.Lock()
	if j.lane != nil {
		p.lanes = append(p.lanes, j.lane)
	} else {
		p.users = append(p.users, j.user)
	}
	p.mu.Unlock()
	p.wake.Signal()
}

// take waits for a job; ok is false when the pool is closed.
func (p *pool) take() (j job, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.lanes) == 0 && len(p.users) == 0 && !p.closed {
		p.wake.Wait()
	}
	if p.closed {
		return j, false
	}
	p.turn = !p.turn
	if len(p.users) == 0 || p.turn && len(p.lanes) > 0 {
		j.lane, p.lanes = p.lanes[0], p.lanes[1:]
	} else {
		j.user, p.users = p.users[0], p.users[1:]
	}
	return j, true
}

// close ends the workers and waits for them, but not for those that are
// abandoned in a call, and not longer than ctx.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wake.Broadcast()
	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
	}
	close(p.unwatch)
	p.watching.Wait()
	return err
}

// The states of a worker: the low bits of its state; above them the calls are
// counted, so that a state seen twice is the same call.
const (
	workerCalling   = 1
	workerAbandoned = 2
	workerMask      = 3
)

// worker does one job at a time. While it is in a transport's code the watchdog may abandon it:
// then its job is another worker's, and the result of the call comes late.
type worker struct {
	p       *pool
	state   atomic.Uint64
	started atomic.Int64 // when the call began, in nanoseconds since epoch
	call    call         // the one under way; written before state
	ids     []string
	// stranded is closed when an abandoned worker's users are passed over, which its late result must not overtake.
	stranded chan struct{}
}

// call is one call of a transport.
type call struct {
	lane    *lane
	run     *run
	users   []*presence
	m       *message
	catchUp *caughtUp // else it is of a lane's run
}

func (w *worker) run() {
	defer w.leave()
	for {
		j, ok := w.p.take()
		if !ok {
			return
		}
		if j.lane != nil {
			j.lane.work(w)
		} else {
			j.user.catchUp(w)
		}
		if w.abandoned() {
			return
		}
	}
}

// leave ends the goroutine. One that was abandoned has been replaced and counted out already.
func (w *worker) leave() {
	if w.abandoned() {
		w.p.abandoned.Add(-1)
		return
	}
	w.p.mu.Lock()
	delete(w.p.workers, w)
	w.p.mu.Unlock()
	w.p.running.Done()
}

func (w *worker) abandoned() bool { return w.state.Load()&workerMask == workerAbandoned }

func (w *worker) begin(c call) {
	w.call = c
	w.started.Store(w.p.clock())
	w.state.Add(workerMask + 1 + workerCalling)
}

// end reports whether the worker still has its job.
func (w *worker) end() bool {
	state := w.state.Load()
	return state&workerMask == workerCalling && w.state.CompareAndSwap(state, state-workerCalling)
}

// deliver calls the transport for one user.
func (w *worker) deliver(c call) (err error, abandoned bool) {
	p := c.users[0]
	w.begin(c)
	if b := w.p.d.batcher; b != nil {
		w.ids = append(w.ids[:0], p.id)
		errs := callBatch(w.p.d.ctx, b, w.ids, c.m)
		err = errs(0)
	} else {
		err = callOne(w.p.d, p.id, c.m)
	}
	if w.end() {
		return err, false
	}
	<-w.stranded
	p.late(c.m, err)
	return nil, true
}

// deliverBatch calls the transport for many users; the result is a function of the index.
func (w *worker) deliverBatch(c call) (errs func(int) error, abandoned bool) {
	users := append([]*presence(nil), c.users...)
	c.users = users
	w.ids = w.ids[:0]
	for _, p := range users {
		w.ids = append(w.ids, p.id)
	}
	w.begin(c)
	errs = callBatch(w.p.d.ctx, w.p.d.batcher, w.ids, c.m)
	if w.end() {
		return errs, false
	}
	<-w.stranded
	for i, p := range users {
		p.late(c.m, errs(i))
	}
	return nil, true
}

func callOne(d *delivery, id string, m *message) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = &panicError{x}
		}
	}()
	return d.online.Deliver(d.ctx, id, m.m)
}

func callBatch(ctx context.Context, b transport.Batcher, ids []string, m *message) (errs func(int) error) {
	defer func() {
		if x := recover(); x != nil {
			errs = func(int) error { return &panicError{x} }
		}
	}()
	list := b.DeliverBatch(ctx, ids, m.m)
	switch {
	case list == nil:
		return func(int) error { return nil }
	case len(list) != len(ids):
		err := fmt.Errorf("fanfare: DeliverBatch returned %d results for %d users", len(list), len(ids))
		return func(int) error { return err }
	}
	return func(i int) error { return list[i] }
}

// watch abandons workers whose call takes too long: one timer for all calls.
func (p *pool) watch() {
	tick := time.NewTicker(max(p.d.o.DeliverTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.unwatch:
			return
		}
		p.mu.Lock()
		workers := make([]*worker, 0, len(p.workers))
		for w := range p.workers {
			workers = append(workers, w)
		}
		p.mu.Unlock()
		for _, w := range workers {
			state := w.state.Load()
			if state&workerMask == workerCalling && p.clock()-w.started.Load() >= int64(p.d.o.DeliverTimeout) {
				p.abandon(w, state)
			}
		}
	}
}

// abandon leaves a worker behind in its call and puts a new one in its place.
func (p *pool) abandon(w *worker, state uint64) {
	if p.abandoned.Add(1) > maxAbandoned || !w.state.CompareAndSwap(state, state-workerCalling+workerAbandoned) {
		p.abandoned.Add(-1)
		return
	}
	c := w.call
	for _, u := range c.users {
		u.strand(c)
		p.d.o.Logger.Warn("fanfare: a delivery takes too long and is left behind", "user", u.id, "message", c.m.m.ID)
		if p.d.o.Hooks.Stuck != nil {
			p.d.o.Hooks.Stuck(u.id, c.m.m.ID)
		}
	}
	p.hire()
	p.mu.Lock()
	delete(p.workers, w)
	p.mu.Unlock()
	p.running.Done()
	if c.catchUp == nil {
		p.add(job{lane: c.lane})
	}
	close(w.stranded)
}

// strand passes a user over until the call for it returns.
func (p *presence) strand(c call) {
	l := p.lane
	if c.catchUp != nil {
		p.drop(c.catchUp)
	} else if c.m.f != nil {
		c.m.f.retain() // for late
	} else {
		l.d.messages.retain(c.m)
	}
	l.mu.Lock()
	p.stuck, p.live, p.queued = true, false, false
	p.dropFleeting()
	l.busy[p.low]++
	if c.run != nil {
		c.run.released.Add(uint32(p.low))
	}
	l.mu.Unlock()
	if c.catchUp != nil {
		p.commit(c.catchUp.delivered, false)
	}
}

// panicError is what a transport's panic becomes.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("fanfare: transport panicked: %v", e.value) }
