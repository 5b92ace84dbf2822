package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// delivery brings accepted messages to connected users. It is the store's observer.
type delivery struct {
	o          *Options
	store      *store.Store
	online     transport.Online
	batcher    transport.Batcher // nil: one user a call
	maxBatch   int
	clientAcks bool
	ctx        context.Context // ends when the Pusher closes; every Deliver gets it

	lanesMu  sync.RWMutex
	lanes    map[uint16]*lane
	lastSeq  uint64 // of the last push accepted; lanes made later have started up to it
	pool     pool
	messages messages
	phones   *phones
	present  atomic.Int64 // connected users
	// How many users were unregistered.
	unregistered atomic.Uint64
	dueSoon      func(at int64)
	planned      func()

	flightsMu sync.Mutex
	flights   map[uint64]*flight
	owed      []store.Command // outcomes of flights that have landed, but the commit failed
	asking    bool            // in a cluster: whether those asked are in the log all the same
	asked     []store.Command

	hasUnsaved atomic.Bool
	counts     counters
	events     *events // nil without hooks that are told by it

	cluster *peers.Cluster // nil for one process
	// In a cluster: ends when the Pusher closes, or refuses changes and is of no use to the other nodes.
	member   context.Context
	resign   context.CancelFunc
	joinedMu sync.Mutex // held while it joins or leaves
	joined   bool
	// Of the record that is being told, and the committer's own.
	own    bool   // it is this process's
	origin uint64 // whose it is
	// Tasks without retention that other nodes are to end, under flightsMu.
	orphans map[uint64]orphan

	endedMu sync.Mutex
	ended   map[uint64]struct{} // with client acks: tasks that ended lately, whose acks nobody waits for
}

func newDelivery(ctx context.Context, o *Options) *delivery {
	d := &delivery{o: o, cluster: o.cluster, ctx: ctx, online: o.Online, lanes: make(map[uint16]*lane), flights: make(map[uint64]*flight), orphans: make(map[uint64]orphan)}
	d.member, d.resign = context.WithCancel(ctx)
	d.messages.d = d
	d.messages.cached = make(map[uint64]*message)
	if b, ok := o.Online.(transport.Batcher); ok {
		d.batcher, d.maxBatch = b, b.MaxBatch()
		if d.maxBatch < 1 {
			d.maxBatch = chunkUsers
		}
	}
	if a, ok := o.Online.(transport.ClientAcker); ok {
		d.clientAcks = a.ClientAcks()
	}
	d.pool.init(d, o.Workers)
	return d
}

// laneOf returns the lane of a block, nil if nobody of it has connected yet.
func (d *delivery) laneOf(block uint16) *lane {
	d.lanesMu.RLock()
	defer d.lanesMu.RUnlock()
	return d.lanes[block]
}

// lane returns the lane of a block, and makes it if there is none.
func (d *delivery) lane(block uint16) *lane {
	l := d.laneOf(block)
	if l != nil {
		return l
	}
	d.lanesMu.Lock()
	defer d.lanesMu.Unlock()
	if l = d.lanes[block]; l == nil {
		l = newLane(d, block, d.lastSeq)
		d.lanes[block] = l
	}
	return l
}

func (d *delivery) eachLane(f func(*lane)) {
	d.lanesMu.RLock()
	lanes := make([]*lane, 0, len(d.lanes))
	for _, l := range d.lanes {
		lanes = append(lanes, l)
	}
	d.lanesMu.RUnlock()
	for _, l := range lanes {
		f(l)
	}
}

// Accepted starts the fan-out of a push.
func (d *delivery) Accepted(t *store.Task, m *store.Message, audience []store.BlockSet) {
	if d.own {
		d.counts.accepted.Add(1)
	}
	d.hooks().accepted(t.Seq)
	if d.cluster != nil { // this node may be the one that looks after it
		d.dueSoon(t.Accepted + store.KeyRetention.Milliseconds())
	}
	if len(audience) == 0 {
		return
	}
	f := &flight{d: d, seq: t.Seq, origin: d.origin, foreign: !d.own, done: make(chan struct{})}
	if t.Expires == t.Accepted {
		f.message = newMessage(m)
		f.message.f = f
		f.blocks = make(map[uint16]*roaring.Bitmap, len(audience))
		for _, b := range audience {
			f.blocks[b.Block] = b.Low
		}
	} else {
		d.dueSoon(t.Expires)
	}
	d.flightsMu.Lock()
	d.flights[t.Seq] = f
	d.flightsMu.Unlock()
	f.left.Store(1)
	if f.fleeting() {
		d.noteOrigin(t.Seq)
		if d.own {
			d.awaitParts(f)
		}
	}
	for _, platform := range t.Platforms {
		d.phones.start(f, platform, t)
	}
	d.lanesMu.Lock()
	d.lastSeq = t.Seq
	lanes := make([]*lane, 0, len(audience))
	for _, b := range audience {
		if l := d.lanes[b.Block]; l != nil {
			lanes = append(lanes, l)
		}
	}
	d.lanesMu.Unlock()
	if d.outlives() && !f.fleeting() && len(lanes) > 0 {
		d.messages.keep(m)
	}
	for _, l := range lanes {
		f.retain()
		l.accept(f)
	}
	f.release()
}

// Received takes users who have a message out of what is under way.
func (d *delivery) Received(seq uint64, block uint16, low *roaring.Bitmap, acked bool) {
	d.hooks().delivered(seq, block, low)
	d.hooks().changed(seq)
	l := d.laneOf(block)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.elsewhere(acked) {
		l.owe(seq, low)
		return
	}
	l.cancel(seq, low)
	l.noteGone(seq, low)
	if !d.clientAcks {
		return
	}
	for it := low.Iterator(); it.HasNext(); {
		if p := l.users.get(uint16(it.Next())); p != nil {
			p.acked(seq)
		}
	}
}

// CaughtUp does the same for one user and several messages, whose sequences ascend.
func (d *delivery) CaughtUp(ordinal uint32, seqs []uint64, acked bool) {
	block, low := d.store.Block(ordinal)
	if e := d.hooks(); e != nil {
		for _, seq := range seqs {
			e.deliveredOne(seq, block, low)
			e.changed(seq)
		}
	}
	l := d.laneOf(block)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.elsewhere(acked) {
		for _, seq := range seqs {
			l.owe(seq, roaring.BitmapOf(uint32(low)))
		}
		return
	}
	for _, r := range l.runs {
		if _, of := slices.BinarySearch(seqs, r.f.seq); of {
			l.cancel(r.f.seq, roaring.BitmapOf(uint32(low)))
		}
	}
	if l.busy[low] > 0 {
		l.gone[low] = append(l.gone[low], seqs...)
	}
	if p := l.users.get(low); p != nil && d.clientAcks {
		p.acked(seqs...)
	}
}

// unackedThrough returns what was sent to a user, up to a message, and is not acknowledged, ascending. All says that
// it is everything up to there that is pending, because all of that was sent since the user connected: so it need
// not be looked for.
func (d *delivery) unackedThrough(ordinal uint32, through uint64) (seqs []uint64, all bool) {
	block, low := d.store.Block(ordinal)
	l := d.laneOf(block)
	if l == nil || !d.clientAcks {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.users.get(low)
	if p == nil || p.timeouts > 0 || p.sent < through {
		return nil, false
	}
	for _, u := range p.unacked {
		if u.seq <= through {
			seqs = append(seqs, u.seq)
		}
	}
	slices.Sort(seqs)
	return seqs, len(seqs) > 0
}

// Ended stops a message wherever it is under way.
func (d *delivery) Ended(seq uint64, r store.Reason) {
	outlives := r == store.Completed && d.outlives()
	if outlives {
		d.messages.complete(seq)
	} else {
		d.messages.end(seq)
	}
	f := d.flight(seq)
	again := f != nil && f.fleeting() && f.message.ended.Swap(true)
	switch {
	case r == store.Expired:
		d.hooks().expired(seq)
	case r == store.Withdrawn && !again:
		d.hooks().withdrawn(seq)
	}
	d.phones.end(seq)
	if d.clientAcks {
		d.endedMu.Lock()
		if d.ended == nil {
			d.ended = make(map[uint64]struct{})
		}
		d.ended[seq] = struct{}{}
		d.endedMu.Unlock()
	}
	if d.hasUnsaved.Load() || d.cluster != nil {
		d.eachLane(func(l *lane) {
			l.mu.Lock()
			if u := l.unsaved[seq]; u != nil && !outlives { // else it is delivered yet
				delete(l.unsaved, seq)
				l.wakeSettles(u)
			}
			if o := l.owed[seq]; o != nil && (!outlives || o.m == nil) {
				l.remit(seq, o.low)
			}
			l.mu.Unlock()
		})
	}
}

// Recalled has phones told that a message was withdrawn.
func (d *delivery) Recalled(m *store.Message, platforms []string) {
	f := &flight{d: d, seq: m.Seq, done: make(chan struct{})}
	d.flightsMu.Lock()
	d.flights[m.Seq] = f
	d.flightsMu.Unlock()
	f.left.Store(1)
	for _, platform := range platforms {
		d.phones.recall(f, platform, m)
	}
	f.release()
}

// Finished counts those whom a task that is over did not reach.
func (d *delivery) Finished(seq uint64, p store.Progress) {
	if d.own {
		d.counts.expired.Add(p.Expired)
		d.counts.withdrawn.Add(p.Withdrawn)
	}
	d.hooks().finished(seq)
	d.dueSoon(p.Ended + store.TaskRetention.Milliseconds())
	if d.cluster != nil {
		d.forgetOrigin(seq)
	}
}

// Opened counts who has opened a message.
func (d *delivery) Opened(seq uint64, _ uint16, low *roaring.Bitmap) {
	if d.own {
		d.counts.opened.Add(int64(low.GetCardinality()))
	}
	d.hooks().changed(seq)
}

// Unregistered takes a user offline who is not known any more.
func (d *delivery) Unregistered(ordinal uint32, seqs []uint64) {
	if d.own {
		d.counts.gone.Add(int64(len(seqs)))
	}
	for _, seq := range seqs {
		d.hooks().changed(seq)
	}
	d.unregistered.Add(1) // before who connects now could be overlooked below
	block, low := d.store.Block(ordinal)
	l := d.laneOf(block)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.users.get(low); p != nil {
		p.leave()
	}
	bit := roaring.BitmapOf(uint32(low))
	for _, r := range l.runs {
		if !r.finished {
			l.cancel(r.f.seq, bit)
		}
	}
}

// fault reports what failed in the background.
func (d *delivery) fault(what string, err error, attrs ...any) {
	d.o.Logger.Error("fanfare: "+what, append(attrs, "error", err)...)
	d.counts.errors.Add(1)
	d.events.failed(fmt.Errorf("fanfare: %s: %w", what, err))
}

// storeFailed reports what failed in the store, which is in the log.
func (d *delivery) storeFailed(err error) {
	d.counts.errors.Add(1)
	d.events.failed(err)
	if d.cluster != nil && errors.Is(err, ErrOutcomeUnknown) { // it refuses changes: others are to do what this node has leases of, and to wait for nothing here
		d.resign()
		go d.leaveCluster(d.ctx)
	}
}

// failed reports a delivery that failed.
func (d *delivery) failed(p *presence, m *message, err error) {
	d.counts.failed.Add(1)
	d.o.Logger.Debug("fanfare: delivery failed", "user", p.id, "message", m.m.ID, "error", err)
	if d.o.Hooks.Failed != nil {
		d.o.Hooks.Failed(p.id, m.m.ID, err)
	}
}

// connected says whether the user of an ordinal is online, in a cluster on any node.
func (d *delivery) connected(ordinal uint32) bool {
	return d.connectedHere(ordinal) || d.cluster != nil && d.cluster.Presence.Elsewhere(ordinal)
}

func (d *delivery) connectedHere(ordinal uint32) bool {
	block, low := d.store.Block(ordinal)
	l := d.laneOf(block)
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.users.get(low) != nil
}

// retryUnsaved commits deliveries whose commit failed.
func (d *delivery) retryUnsaved() {
	if !d.hasUnsaved.Load() || d.store.Refused() != nil {
		return
	}
	d.hasUnsaved.Store(false)
	d.retryOwed()
	d.eachLane(func(l *lane) {
		l.mu.Lock()
		again := make(map[uint64]*roaring.Bitmap, len(l.unsaved))
		for seq, low := range l.unsaved {
			again[seq] = low.Clone()
		}
		l.mu.Unlock()
		for seq, low := range again {
			done := func(_ any, err error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if err != nil {
					d.hasUnsaved.Store(true)
				} else if u := l.unsaved[seq]; u != nil {
					l.noteGone(seq, low) // where another node's delivery came first, nobody is told of this one
					if u.AndNot(low); u.IsEmpty() {
						delete(l.unsaved, seq)
					}
				}
				l.wakeSettles(low)
			}
			if err := d.store.Go(&store.Delivered{Seq: seq, Block: l.block, Bits: low}, done); err != nil {
				done(nil, err)
			}
		}
	})
}

// checkAcks puts users back to catching up whose clients have not
// acknowledged in time, from the lowest message that is pending. What ended unacknowledged
// is not waited for, nor does it keep others from being sent.
func (d *delivery) checkAcks(now time.Time) {
	if !d.clientAcks {
		return
	}
	d.endedMu.Lock()
	ended := d.ended
	d.ended = nil
	d.endedMu.Unlock()
	d.eachLane(func(l *lane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for low, p := range l.unacked {
			p.forgetEnded(ended)
			if len(p.unacked) == 0 || l.users.get(low) != p {
				delete(l.unacked, low)
				continue
			}
			if now.Sub(p.unacked[0].at) < d.o.AckTimeout<<p.timeouts || p.stuck || p.queued || l.inflight(low) {
				continue
			}
			p.timeouts = min(p.timeouts+1, 4)
			p.setLive(false)
			p.full, p.sent, p.unacked = false, 0, nil
			p.schedule()
		}
	})
}

// abort ends pushes without retention when the Pusher closes: their tasks end with what they had.
func (d *delivery) abort() {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	for _, f := range d.flights {
		if f.fleeting() && !f.reported.Swap(true) {
			d.store.Go(f.outcome(), func(any, error) {})
		}
	}
}

// stopTimers ends the pauses of users whose deliveries failed.
func (d *delivery) stopTimers() {
	d.eachLane(func(l *lane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p := range l.users.all() {
			if p.retry != nil {
				p.retry.Stop()
			}
		}
	})
}
