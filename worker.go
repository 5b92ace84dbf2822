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
	workers   map[*worker]struct{} // that are not abandoned
	idle      int                  // of them, in take
	running   sync.WaitGroup       // workers that are not abandoned
	abandoned atomic.Int32
	epoch     time.Time // makes a monotonic clock of one word
	watching  sync.WaitGroup
	atWork    chan struct{} // wakes the watchdog: somebody has a job
	unwatch   chan struct{}
}

func (p *pool) init(d *delivery, size int) {
	p.d, p.workers, p.epoch = d, make(map[*worker]struct{}, size), time.Now()
	p.atWork, p.unwatch = make(chan struct{}, 1), make(chan struct{})
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

// wanted says whether somebody waits for a worker.
func (p *pool) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lanes)+len(p.users) > 0
}

// take waits for a job; ok is false when the pool is closed.
func (p *pool) take() (j job, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle++
	for len(p.lanes) == 0 && len(p.users) == 0 && !p.closed {
		p.wake.Wait()
	}
	if p.closed {
		return j, false
	}
	p.idle--
	select {
	case p.atWork <- struct{}{}:
	default:
	}
	p.turn = !p.turn
	if len(p.users) == 0 || p.turn && len(p.lanes) > 0 {
		j.lane, p.lanes = p.lanes[0], p.lanes[1:]
	} else {
		j.user, p.users = p.users[0], p.users[1:]
	}
	return j, true
}

// close ends the workers and waits for them. A call that has not returned a moment after its context has
// ended is left behind, however many there are.
func (p *pool) close(ctx context.Context) error {
	close(p.unwatch) // nobody is hired any more
	p.watching.Wait()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wake.Broadcast()
	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	for {
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			p.eachCall(p.leaveBehind)
			return ctx.Err()
		case <-patience.C:
			p.eachCall(p.leaveBehind)
			patience.Reset(closePatience / 20) // one that was about to call
		}
	}
}

// The states of a worker: the low bits of its state; above them the calls are
// counted, so that a state seen twice is the same call.
const (
	workerCalling   = 1
	workerAbandoned = 2
	workerSettling  = 3 // in a call, and the watchdog commits what was delivered before it
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
	turn    int64 // when it took its job, or found that nobody else waits for it; by the pool's clock
	now     int64 // when its last call ended, by the same clock, which is read once a call

	settling sync.Mutex // held over workerSettling
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
		w.tick()
		w.turn = w.now
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

// overstays says whether the worker has had its job for its turn while others wait for a worker.
func (w *worker) overstays() bool {
	if w.now-w.turn < int64(turnTime) {
		return false
	}
	w.turn = w.now
	return w.p.wanted()
}

func (w *worker) abandoned() bool { return w.state.Load()&workerMask == workerAbandoned }

func (w *worker) begin(c call) {
	w.call = c
	w.started.Store(w.now)
	w.state.Add(workerMask + 1 + workerCalling)
}

func (w *worker) tick() { w.now = w.p.clock() }

func (w *worker) time() time.Time { return w.p.epoch.Add(time.Duration(w.now)) }

// end reports whether the worker still has its job.
func (w *worker) end() bool {
	state := w.state.Load()
	if state&workerMask == workerCalling && w.state.CompareAndSwap(state, state-workerCalling) {
		return true
	}
	w.settling.Lock() // the watchdog has the books
	defer w.settling.Unlock()
	state = w.state.Load()
	return state&workerMask == workerCalling && w.state.CompareAndSwap(state, state-workerCalling)
}

// settle commits what the worker delivered before a call that takes its time. The worker's own books are the
// watchdog's meanwhile, so that they need no lock while calls are quick.
func (w *worker) settle(state uint64) {
	w.settling.Lock()
	defer w.settling.Unlock()
	if !w.state.CompareAndSwap(state, state-workerCalling+workerSettling) {
		return
	}
	c, due := w.call, w.p.clock()-int64(commitAfter-watchEvery)
	if c.catchUp == nil && len(c.run.delivered) > 0 && c.run.since <= due {
		c.lane.commit(c.run)
	} else if c.catchUp != nil && c.catchUp.since <= due {
		c.users[0].flush(c.catchUp)
	}
	w.state.Store(state)
}

// deliver calls the transport for one user.
func (w *worker) deliver(c call) (err error, abandoned bool) {
	p := c.users[0]
	w.begin(c)
	if b := w.p.d.batcher; b != nil {
		w.ids = append(w.ids[:0], p.id)
		errs := callBatch(w.p.d, b, w.ids, c.m)
		err = errs(0)
	} else {
		err = callOne(w.p.d, p.id, c.m)
	}
	if w.end() {
		w.tick()
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
	errs = callBatch(w.p.d, w.p.d.batcher, w.ids, c.m)
	if w.end() {
		w.tick()
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
	own, err := m.of(d, id)
	if err != nil {
		return err
	}
	return d.online.Deliver(d.ctx, id, own)
}

// callBatch delivers a message to many, or one that is each user's own to one.
func callBatch(d *delivery, b transport.Batcher, ids []string, m *message) (errs func(int) error) {
	defer func() {
		if x := recover(); x != nil {
			errs = func(int) error { return &panicError{x} }
		}
	}()
	own, err := m.of(d, ids[0])
	if err != nil {
		return func(int) error { return err }
	}
	list := b.DeliverBatch(d.ctx, ids, own)
	switch {
	case list == nil:
		return func(int) error { return nil }
	case len(list) != len(ids):
		err := fmt.Errorf("fanfare: DeliverBatch returned %d results for %d users", len(list), len(ids))
		return func(int) error { return err }
	}
	return func(i int) error { return list[i] }
}

// watchEvery is how often the watchdog looks at the workers while there is work.
const watchEvery = commitAfter / 2

// closePatience is how long Close waits for calls after their context has ended.
const closePatience = 200 * time.Millisecond

// watch looks after calls that take their time, one timer for all: what was delivered before one is committed,
// and when it takes too long its worker is abandoned. While there is no work it sleeps.
func (p *pool) watch() {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for ticks := true; ; {
		select {
		case <-p.unwatch:
			return
		case <-tick.C:
			p.eachCall(p.look)
			ticks = false
		case <-p.atWork:
		}
		if !ticks && p.working() {
			ticks = true
			tick.Reset(max(min(p.d.o.DeliverTimeout/4, watchEvery), time.Millisecond))
		}
	}
}

func (p *pool) working() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.workers) > p.idle
}

// eachCall calls f for each worker that is in a call.
func (p *pool) eachCall(f func(w *worker, state uint64)) {
	p.mu.Lock()
	workers := make([]*worker, 0, len(p.workers))
	for w := range p.workers {
		workers = append(workers, w)
	}
	p.mu.Unlock()
	for _, w := range workers {
		if state := w.state.Load(); state&workerMask == workerCalling {
			f(w, state)
		}
	}
}

// look does what is due in a call that is under way.
func (p *pool) look(w *worker, state uint64) {
	switch age := time.Duration(p.clock() - w.started.Load()); {
	case age >= p.d.o.DeliverTimeout:
		p.abandon(w, state)
	case age >= watchEvery/2:
		w.settle(state)
	}
}

// abandon leaves a worker behind in its call and puts a new one in its place.
func (p *pool) abandon(w *worker, state uint64) {
	if p.abandoned.Load() >= maxAbandoned {
		w.settle(state)
		return
	}
	if !w.strand(state) {
		return
	}
	c := w.call
	for _, u := range c.users {
		p.d.o.Logger.Warn("fanfare: a delivery takes too long and is left behind", "user", u.id, "message", c.m.m.ID)
		if p.d.o.Hooks.Stuck != nil {
			p.d.o.Hooks.Stuck(u.id, c.m.m.ID)
		}
	}
	p.hire()
	if c.catchUp == nil {
		p.add(job{lane: c.lane})
	}
	p.dismiss(w)
}

// leaveBehind does it when the Pusher closes: nobody carries on.
func (p *pool) leaveBehind(w *worker, state uint64) {
	if w.strand(state) {
		p.d.o.Logger.Warn("fanfare: a delivery outlasts the Pusher and is left behind", "user", w.call.users[0].id, "message", w.call.m.m.ID)
		p.dismiss(w)
	}
}

// strand takes a worker's job away while it is in a call. What it delivered before is committed.
func (w *worker) strand(state uint64) bool {
	w.p.abandoned.Add(1)
	if !w.state.CompareAndSwap(state, state-workerCalling+workerAbandoned) {
		w.p.abandoned.Add(-1)
		return false
	}
	c := w.call
	for _, u := range c.users {
		u.strand(c)
	}
	if c.catchUp == nil {
		c.lane.commit(c.run)
	}
	return true
}

// dismiss counts a stranded worker out, and lets its call's result count.
func (p *pool) dismiss(w *worker) {
	p.mu.Lock()
	delete(p.workers, w)
	p.mu.Unlock()
	p.running.Done()
	close(w.stranded)
}

// strand passes a user over until the call for it returns. A message without retention has failed then.
func (p *presence) strand(c call) {
	l := p.lane
	if c.catchUp != nil {
		p.drop(c.catchUp)
	}
	switch {
	case c.m.f != nil:
		c.m.f.failed.Add(1)
		if c.catchUp != nil {
			c.m.f.release()
		}
	case c.catchUp == nil:
		l.d.messages.retain(c.m) // for late
	}
	l.mu.Lock()
	p.setLive(false)
	p.stuck, p.queued = true, false
	p.dropFleeting()
	l.hung[p.low]++
	if now := l.users.get(p.low); now != nil {
		now.dropFleeting() // of a new connection, which waits for this call too
	}
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
