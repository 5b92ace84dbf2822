package fanfare

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/store"
)

// A lane commits what it has delivered after so many users or so much time.
const (
	commitUsers = 16384
	commitAfter = 50 * time.Millisecond
	chunkUsers  = 256
	// turnTime is how long a lane or a catch-up keeps its worker while others wait for one.
	turnTime = 50 * time.Millisecond
)

// lane is the online delivery of one block. Messages go out strictly in
// sequence; at most one worker is in a lane at a time.
//
// The lock is never held over a call to a transport, or while waiting for the committer,
// which takes it when it tells what it applied.
type lane struct {
	d     *delivery
	block uint16

	mu        sync.Mutex
	users     presences       // who is connected
	connected *roaring.Bitmap // the same
	live      *roaring.Bitmap // of them, who gets messages from the lane
	started   uint64          // the highest sequence that the lane has started, or had no users for
	waiting   []*flight       // accepted, not started, in order
	current   *run
	scheduled bool                       // a worker is here, or the pool has the lane in its queue
	runs      []*run                     // whose outcome is not all applied, the current one too
	busy      map[uint16]int             // users with an outcome of their own not applied: a catch-up, a late call
	waiters   map[uint16]struct{}        // users whose catch-up waits for an outcome to be applied
	hung      map[uint16]int             // calls that were left behind and have not returned, of earlier connections too
	gone      map[uint16][]uint64        // acknowledged while the user was busy
	unacked   map[uint16]*presence       // with client acks: who has been sent something not acknowledged, or had been lately
	owed      map[uint64]*owed           // in a cluster: who is to get a message here although another node has delivered it
	settles   map[uint16][]*settle       // what waits for a user's outcomes, for another node
	unsaved   map[uint64]*roaring.Bitmap // delivered, but the commit failed: never sent again, committed when it can be
}

func newLane(d *delivery, block uint16, started uint64) *lane {
	return &lane{
		d: d, block: block, started: started, connected: roaring.New(), live: roaring.New(),
		busy: make(map[uint16]int), gone: make(map[uint16][]uint64), waiters: make(map[uint16]struct{}), hung: make(map[uint16]int),
		unacked: make(map[uint16]*presence), owed: make(map[uint64]*owed), settles: make(map[uint16][]*settle),
		unsaved: make(map[uint64]*roaring.Bitmap),
	}
}

// run is one message going out in one lane.
type run struct {
	f         *flight
	m         *message
	targets   *roaring.Bitmap // whom it is to reach; not changed after the start
	it        roaring.IntPeekable
	released  *roaring.Bitmap // of targets: whose outcome is applied, or who are somebody else's care now
	cancelled *roaring.Bitmap // acknowledged or unregistered before their turn
	cancels   atomic.Uint32   // changes with cancelled
	unapplied int             // commits under way
	finished  bool

	// The worker's own, handed on with the lane; the watchdog takes delivered and since while a call goes on.
	chunk     []*presence
	pos       int
	seen      uint32   // cancels when the chunk was taken
	until     int64    // when the message expires, by the pool's clock and as of when the chunk was taken
	delivered []uint32 // not yet committed
	since     int64    // the last commit, or the start, by the pool's clock
}

// inflight says whether a user's outcome for something already sent is still
// to be applied. Until it is, pending bits do not tell what the user has.
func (l *lane) inflight(low uint16) bool {
	if l.busy[low] > 0 {
		return true
	}
	for _, r := range l.runs {
		if r.targets.Contains(uint32(low)) && !r.released.Contains(uint32(low)) {
			return true
		}
	}
	return false
}

// accept queues a message; the committer calls it in order of sequence.
func (l *lane) accept(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users.n == 0 && len(l.waiting) == 0 && l.current == nil {
		l.started = f.seq // nobody to start it for; who connects later catches up
		f.release()
		return
	}
	l.waiting = append(l.waiting, f)
	l.schedule()
}

func (l *lane) schedule() {
	if !l.scheduled {
		l.scheduled = true
		l.d.pool.add(job{lane: l})
	}
}

// work carries the lane on until there is nothing to do, or others have waited long enough. When the worker is
// abandoned in a call, the lane has gone to another one already.
func (l *lane) work(w *worker) {
	for l.d.ctx.Err() == nil && !l.handOver(w, nil) {
		r := l.next()
		if r == nil {
			return
		}
		if !l.deliver(w, r) {
			return
		}
	}
}

// handOver puts the lane at the end of the queue when the worker has been with it for its turn and is wanted
// elsewhere. When it is true the lane is somebody else's.
func (l *lane) handOver(w *worker, r *run) bool {
	if !w.overstays() {
		return false
	}
	if r != nil {
		l.commit(r)
	}
	l.d.pool.add(job{lane: l})
	return true
}

// next returns the run to go on with, starting one if need be; nil when the lane is idle.
func (l *lane) next() *run {
	l.mu.Lock()
	r := l.current
	if r != nil {
		l.mu.Unlock()
		return r
	}
	if len(l.waiting) == 0 {
		l.scheduled = false
		l.mu.Unlock()
		return nil
	}
	f := l.waiting[0]
	l.mu.Unlock()
	return l.start(f)
}

// start computes whom the message reaches now. Setting started and choosing
// the live users is one step under the lock, so each user gets the message either here or in a catch-up.
func (l *lane) start(f *flight) *run {
	r := &run{f: f, targets: roaring.New(), released: roaring.New()}
	l.mu.Lock()
	l.runs = append(l.runs, r) // from before the read on, so that what is acknowledged behind it is cancelled
	l.mu.Unlock()
	m, _ := l.d.messages.acquire(f.seq, f) // one that cannot be read stays pending
	l.d.store.Told(func() { l.choose(r, f, m) })
	l.d.o.hook("lane:started", "")
	return r
}

// choose makes the users who are live the targets of a run.
func (l *lane) choose(r *run, f *flight, m *message) {
	var audience *roaring.Bitmap
	if m != nil {
		if f.fleeting() {
			audience = f.audience(l.block)
		} else {
			var err error
			if audience, err = l.d.store.Pending(l.block, f.seq); err != nil {
				l.d.fault("read pending", err, "block", l.block)
			}
		}
	}
	l.d.o.hook("lane:start", "")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.started = f.seq
	r.m, r.since = m, l.d.pool.clock()
	if o := l.owed[f.seq]; o != nil && m == nil {
		l.remit(f.seq, o.low)
	} else if o != nil && audience == nil {
		audience = o.low.Clone()
	} else if o != nil {
		audience = roaring.Or(audience, o.low)
	}
	if audience != nil {
		r.targets = roaring.And(audience, l.live)
		if u := l.unsaved[f.seq]; u != nil {
			r.targets.AndNot(u)
		}
		if f.fleeting() {
			behind := roaring.And(audience, l.connected)
			behind.AndNot(l.live)
			for it := behind.Iterator(); it.HasNext(); {
				if p := l.users.get(uint16(it.Next())); p.sent < f.seq {
					p.keep(m)
				}
			}
		}
	}
	r.it = r.targets.Iterator()
	l.current = r
}

// deliver sends the run to all its targets. It returns false when the lane is another worker's now.
func (l *lane) deliver(w *worker, r *run) bool {
	for l.d.ctx.Err() == nil {
		if r.pos >= len(r.chunk) && !l.nextChunk(w, r) {
			l.finish(r)
			return true
		}
		if l.inBatches(r.m) {
			if !l.deliverChunk(w, r) {
				return false
			}
		} else if !l.deliverEach(w, r) {
			return false
		}
	}
	l.commit(r)
	return true
}

// inBatches says whether one call delivers a message to many. Where each user has another message each is a call, with all that is looked at before one.
func (l *lane) inBatches(m *message) bool { return l.d.batcher != nil && m.filler() == nil }

// nextChunk takes the next targets who are still there and still to get it.
func (l *lane) nextChunk(w *worker, r *run) bool {
	r.chunk, r.pos = r.chunk[:0], 0
	if r.m == nil || !r.m.deliverable() {
		return false
	}
	size := chunkUsers
	if l.inBatches(r.m) {
		size = l.d.maxBatch
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.tick() // the lock may have taken its time
	r.until = w.now + int64(r.m.left())
	r.seen = r.cancels.Load()
	for r.it.HasNext() && len(r.chunk) < size {
		low := r.it.Next()
		p := l.users.get(uint16(low))
		if p == nil || !p.live || p.stuck || p.sent >= r.f.seq || r.cancelled != nil && r.cancelled.Contains(low) {
			l.release(r, uint16(low))
			continue
		}
		if l.d.clientAcks && !r.f.fleeting() {
			if len(p.unacked) >= maxUnacked {
				p.setLive(false)
				p.full = true // the acknowledgements bring it back
				l.release(r, uint16(low))
				continue
			}
			p.awaitAck(r.f.seq, w.time())
		}
		p.sent = r.f.seq
		r.chunk = append(r.chunk, p)
	}
	return len(r.chunk) > 0 || r.it.HasNext()
}

// release gives a user of a run back to catch-ups.
func (l *lane) release(r *run, low uint16) {
	r.released.Add(uint32(low))
	l.wake(low)
}

// wake schedules the catch-up of a user who waited for an outcome.
func (l *lane) wake(low uint16) {
	if len(l.settles[low]) > 0 && !l.unsettled(low) {
		l.settled(low)
	}
	if _, waits := l.waiters[low]; !waits || l.inflight(low) {
		return
	}
	delete(l.waiters, low)
	if p := l.users.get(low); p != nil {
		p.schedule()
	}
}

func (l *lane) deliverEach(w *worker, r *run) bool {
	for r.pos < len(r.chunk) {
		p := r.chunk[r.pos]
		r.pos++
		if l.d.ctx.Err() != nil {
			l.undo(r, p)
			continue
		}
		if (r.cancels.Load() != r.seen || w.now >= r.until || r.m.ended.Load()) && l.skip(r, p) {
			continue
		}
		err, abandoned := w.deliver(call{lane: l, run: r, users: r.chunk[r.pos-1 : r.pos], m: r.m})
		if abandoned {
			return false
		}
		l.outcome(r, p, err)
		if !l.settle(w, r) {
			return false
		}
	}
	return true
}

func (l *lane) deliverChunk(w *worker, r *run) bool {
	kept := r.chunk[:0]
	for _, p := range r.chunk {
		if !l.skip(r, p) {
			kept = append(kept, p)
		}
	}
	r.chunk, r.pos = kept, len(kept)
	if len(kept) == 0 {
		return true
	}
	if l.d.ctx.Err() != nil {
		for _, p := range kept {
			l.undo(r, p)
		}
		return true
	}
	errs, abandoned := w.deliverBatch(call{lane: l, run: r, users: r.chunk, m: r.m})
	if abandoned {
		return false
	}
	for i, p := range r.chunk {
		l.outcome(r, p, errs(i))
	}
	return l.settle(w, r)
}

// skip passes over a user who must not get the message any more, or is not there.
func (l *lane) skip(r *run, p *presence) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.conns > 0 && r.m.deliverable() && !(r.cancelled != nil && r.cancelled.Contains(uint32(p.low))) {
		return false
	}
	p.forgetUnacked(r.f.seq)
	l.release(r, p.low)
	return true
}

// undo takes back that a message was handed over, when the Pusher closes before it was.
func (l *lane) undo(r *run, p *presence) {
	l.mu.Lock()
	p.forgetUnacked(r.f.seq)
	p.sent = r.f.seq - 1
	p.setLive(false)
	l.release(r, p.low)
	l.mu.Unlock()
}

// outcome notes the result of a call.
func (l *lane) outcome(r *run, p *presence, err error) {
	switch {
	case err == nil && r.f.fleeting():
		r.f.delivered.Add(1)
		r.delivered = append(r.delivered, uint32(p.low))
	case err == nil:
		r.delivered = append(r.delivered, uint32(p.low))
		if l.d.clientAcks {
			l.mu.Lock()
			p.handed(r.f.seq) // its turn may have come long after the chunk was taken
			l.mu.Unlock()
		}
	default:
		l.d.failed(p, r.m, err)
		l.mu.Lock()
		if r.f.fleeting() {
			r.f.failed.Add(1)
		} else {
			p.forgetUnacked(r.f.seq)
			p.retryFrom(r.f.seq)
		}
		l.release(r, p.low)
		l.mu.Unlock()
	}
}

// settle commits when it is time to, and hands the lane over when it is time to: then it returns false.
func (l *lane) settle(w *worker, r *run) bool {
	if len(r.delivered) >= commitUsers || len(r.delivered) > 0 && w.now-r.since >= int64(commitAfter) {
		l.commit(r)
	}
	return !l.handOver(w, r)
}

// commit makes the deliveries so far durable, without waiting. With client acks, and
// for a message without retention, there is nothing to make durable.
func (l *lane) commit(r *run) {
	low := roaring.BitmapOf(r.delivered...)
	r.delivered, r.since = r.delivered[:0], l.d.pool.clock()
	if low.IsEmpty() {
		return
	}
	l.d.counts.delivered.Add(int64(low.GetCardinality()))
	if r.f.fleeting() {
		l.d.events.delivered(r.f.seq, l.block, low)
	}
	if l.d.clientAcks || r.f.fleeting() {
		l.applied(r, low)
		return
	}
	l.d.o.hook("lane:commit", "")
	l.mu.Lock()
	r.unapplied++
	l.mu.Unlock()
	r.f.retain() // who waits for the task finds its deliveries counted
	done := func(_ any, err error) {
		l.mu.Lock()
		r.unapplied--
		if err != nil {
			l.save(r.f.seq, low)
		}
		l.mu.Unlock()
		l.applied(r, low)
		r.f.release()
	}
	if err := l.d.store.Go(&store.Delivered{Seq: r.f.seq, Block: l.block, Bits: low}, done); err != nil {
		done(nil, err)
	}
}

// applied gives the users of an outcome back to catch-ups.
func (l *lane) applied(r *run, low *roaring.Bitmap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.released.Or(low)
	l.remit(r.f.seq, low)
	l.dropRun(r)
	for w := range l.waiters {
		if low.Contains(uint32(w)) {
			l.wake(w)
		}
	}
	l.wakeSettles(low)
}

func (l *lane) dropRun(r *run) {
	if !r.finished || r.unapplied > 0 {
		return
	}
	for i, x := range l.runs {
		if x == r {
			l.runs = append(l.runs[:i], l.runs[i+1:]...)
			break
		}
	}
}

// finish ends a run: the rest of its targets are not to get it from here.
func (l *lane) finish(r *run) {
	l.commit(r)
	l.mu.Lock()
	for r.it.HasNext() { // a message that ended midway
		l.release(r, uint16(r.it.Next()))
	}
	if o := l.owed[r.f.seq]; o != nil && r.m != nil && !r.m.deliverable() {
		l.remit(r.f.seq, o.low)
	}
	r.finished = true
	l.current = nil
	l.dropRun(r)
	l.mu.Unlock()
	if r.m != nil {
		l.d.messages.release(r.m)
	}
	r.f.release()
}

// save keeps deliveries whose commit failed, so that they are not sent again; see retryUnsaved.
func (l *lane) save(seq uint64, low *roaring.Bitmap) {
	if u := l.unsaved[seq]; u != nil {
		u.Or(low)
	} else {
		l.unsaved[seq] = low.Clone()
	}
	l.d.hasUnsaved.Store(true)
}

// cancel takes acknowledged or unregistered users out of the run under way.
func (l *lane) cancel(seq uint64, low *roaring.Bitmap) {
	for _, r := range l.runs {
		if r.f.seq == seq && !r.finished {
			if r.cancelled == nil {
				r.cancelled = roaring.New()
			}
			r.cancelled.Or(low)
			r.cancels.Add(1)
		}
	}
}

// noteGone has catch-ups that are under way not send a message to users who do not wait for it any more.
func (l *lane) noteGone(seq uint64, low *roaring.Bitmap) {
	if uint64(len(l.busy)) < low.GetCardinality() {
		for b := range l.busy {
			if low.Contains(uint32(b)) {
				l.gone[b] = append(l.gone[b], seq)
			}
		}
	} else {
		for it := low.Iterator(); it.HasNext(); {
			if b := uint16(it.Next()); l.busy[b] > 0 {
				l.gone[b] = append(l.gone[b], seq)
			}
		}
	}
}
