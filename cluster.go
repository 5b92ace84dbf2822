package fanfare

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
)

// This file is what a Pusher does beyond its own process in a cluster. Every node applies every record, and delivers to who is connected to it; what is done
// once in the cluster is told or done by the node whose record it is, or by the one that has the lease.

func init() {
	peers.Join = func(o any, c *peers.Cluster) { o.(*Options).cluster = c }
	peers.Clock = func(o any, now func() time.Time) { o.(*Options).now = now }
}

const (
	// settlePatience is how long another node waits for the outcomes of a user who is now connected there. It is more than a Deliver takes
	// that is not left behind.
	settlePatience = 6 * time.Second
	// greetPatience is how long a node that is known by a push may not be known to be there: both have just come to hear of each other.
	greetPatience = 6 * time.Second
	// orphanPatience is how long a message without retention may be under way that was accepted before this process began, by who knows whom.
	orphanPatience = 10 * time.Minute
)

// opened gets the store before anything is told.
func (d *delivery) opened(s *store.Store) {
	d.store, d.lastSeq = s, s.LastSeq()
	if d.cluster != nil {
		d.cluster.Opened(s)
	}
}

func (d *delivery) joinCluster() error {
	if d.cluster == nil {
		return nil
	}
	d.joinedMu.Lock()
	defer d.joinedMu.Unlock()
	if d.member.Err() != nil {
		return nil // it has failed meanwhile
	}
	d.joined = true
	return d.cluster.Presence.Start(d.store.Proposer(), d.settleFor)
}

// hold does work while this node has its lease, with everything applied that was in the log when it got it: what the node that had it before has
// done must not be done again. A node that has no room to go on gives the lease up.
func (d *delivery) hold(name string, work func(ctx context.Context)) {
	for d.member.Err() == nil {
		applying, stop := d.store.Applying(d.member)
		d.cluster.Leases.Hold(applying, name, func(ctx context.Context) {
			for ctx.Err() == nil {
				last, err := d.cluster.Log.Last(ctx)
				if err == nil {
					err = d.store.WaitApplied(ctx, last)
				}
				if err == nil {
					work(ctx)
					return
				}
				select {
				case <-time.After(sweepEvery):
				case <-ctx.Done():
				}
			}
		})
		stop()
	}
}

// leaveCluster has nobody be connected here, as soon as what has been delivered is in the log: from then on no other node asks for it.
func (d *delivery) leaveCluster(ctx context.Context) {
	if d.cluster == nil {
		return
	}
	d.joinedMu.Lock()
	defer d.joinedMu.Unlock()
	if !d.joined {
		return
	}
	d.joined = false
	var err error
	if d.store.Refused() == nil {
		d.retryUnsaved()
		err = d.store.Flush(ctx)
	}
	if err = errors.Join(err, d.cluster.Presence.Close()); err != nil {
		d.o.Logger.Warn("fanfare: leave the cluster", "error", err)
	}
}

// Began notes whose record is told from here on.
func (d *delivery) Began(proposer uint64, own bool) { d.origin, d.own = proposer, own }

// Planned has the plans looked at, and the one that it may have been the end of forgotten in time, by whichever node sees to that.
func (d *delivery) Planned() {
	d.dueSoon(d.o.now().UnixMilli() + store.TaskRetention.Milliseconds())
	d.planned()
}

// hooks are the events that this process tells of the record that is being told: nil for another node's, which tells them.
func (d *delivery) hooks() *events {
	if d.own {
		return d.events
	}
	return nil
}

// elsewhere says whether what is told is a delivery of another node. It has reached the connections to that, and takes nothing from those that are here; an
// acknowledgement does, and with client acks there is nothing else.
func (d *delivery) elsewhere(acked bool) bool { return d.outlives() && !d.own && !acked }

// outlives says whether a message may be on its way to connections here when its task is complete, because users have it by way of other nodes.
func (d *delivery) outlives() bool { return d.cluster != nil && !d.clientAcks }

// owed is whom a lane is to bring a message although another node has delivered it to them.
type owed struct {
	low *roaring.Bitmap
	m   *message // which may not be in the store any more; nil: it was not at hand, and is to be found there
}

// owe notes users who are connected here and are to get a message that another node has delivered to them and that has not been handed over here.
func (l *lane) owe(seq uint64, low *roaring.Bitmap) {
	here := roaring.And(low, l.connected)
	if u := l.unsaved[seq]; u != nil { // they have it from here, be it by another connection
		here.AndNot(u)
	}
	for it := here.Iterator(); it.HasNext(); {
		p := l.users.get(uint16(it.Next()))
		if seq < p.sent || seq == p.sent && !l.inflight(p.low) || p.passed(seq) {
			continue
		}
		if l.owed[seq] == nil {
			l.owed[seq] = &owed{roaring.New(), l.d.messages.hold(seq)}
		}
		l.owed[seq].low.Add(uint32(p.low))
		if p.settling {
			p.told = append(p.told, toldOf{seq, l.d.store.Applied() + 1})
		}
	}
}

// passed says whether the lane is done with a message that it has not brought to a live user: that was past its time.
func (p *presence) passed(seq uint64) bool {
	l := p.lane
	return p.live && seq <= l.started && !slices.ContainsFunc(l.runs, func(r *run) bool {
		return r.f.seq == seq && r.targets.Contains(uint32(p.low)) && !r.released.Contains(uint32(p.low))
	})
}

// toldOf is a delivery of another node, and the position of the record that is being told.
type toldOf struct{ seq, position uint64 }

// remit takes back that users are owed a message.
func (l *lane) remit(seq uint64, low *roaring.Bitmap) {
	o := l.owed[seq]
	if o == nil {
		return
	}
	if o.low.AndNot(low); o.low.IsEmpty() {
		delete(l.owed, seq)
		if o.m != nil {
			l.d.messages.release(o.m)
		}
	}
}

// remitThrough takes back that a user is owed messages up to one.
func (l *lane) remitThrough(low uint16, through uint64) {
	if len(l.owed) == 0 {
		return
	}
	bit := roaring.BitmapOf(uint32(low))
	for seq := range l.owed {
		if seq <= through {
			l.remit(seq, bit)
		}
	}
}

// withOwed adds to what is pending for a user, ascending, what the user is owed. Full says that more may be pending behind it.
func (p *presence) withOwed(seqs []uint64, full bool) []uint64 {
	l := p.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remitThrough(p.low, p.sent)
	pending := seqs
	for seq, o := range l.owed {
		if o.low.Contains(uint32(p.low)) && !(full && seq > pending[len(pending)-1]) && !slices.Contains(pending, seq) {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

// arrive tells the other nodes of a user who is connected here now, and has what they have handed over settled before the catch-up reads what is pending.
func (p *presence) arrive(ordinal uint32) {
	d := p.lane.d
	if d.cluster == nil {
		return
	}
	p.settling = true
	d.cluster.Presence.Joined(ordinal)
	go func() {
		position, err := d.cluster.Presence.Settle(d.ctx, ordinal)
		if err == nil {
			err = d.store.WaitApplied(d.ctx, position)
		}
		if err != nil && d.ctx.Err() == nil { // the user gets what is pending as far as is known here
			d.o.Logger.Warn("fanfare: settle what other nodes have delivered", "user", p.id, "error", err)
		}
		l := p.lane
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, x := range p.told { // what was delivered up to there, the user had before connecting here
			if x.position <= position {
				l.remit(x.seq, roaring.BitmapOf(uint32(p.low)))
			}
		}
		p.settling, p.told = false, nil
		p.schedule()
	}()
}

// depart tells them of one who is not any more.
func (p *presence) depart() {
	l := p.lane
	if l.d.cluster == nil {
		return
	}
	l.d.cluster.Presence.Left(l.d.store.OrdinalAt(l.block, p.low))
	l.remitThrough(p.low, math.MaxUint64)
}

// unsettled says whether there is an outcome for a user that is not in the log yet.
func (l *lane) unsettled(low uint16) bool {
	if l.inflight(low) {
		return true
	}
	for _, u := range l.unsaved {
		if u.Contains(uint32(low)) {
			return true
		}
	}
	return false
}

// wakeSettles tells who waits for users whose outcomes may be applied now.
func (l *lane) wakeSettles(low *roaring.Bitmap) {
	for w := range l.settles {
		if low.Contains(uint32(w)) {
			l.wake(w)
		}
	}
}

// settle is a question of another node that waits for outcomes of users.
type settle struct {
	left     atomic.Int32 // users, and who counts them
	answer   func()       // the first call answers
	patience *time.Timer
}

// settleFor calls done when what has been handed over here for users, who are connected to another node now, is in the log.
func (d *delivery) settleFor(ordinals []uint32, done func(position uint64)) {
	s := &settle{answer: sync.OnceFunc(func() { done(d.store.Applied()) })}
	s.patience = time.AfterFunc(settlePatience, func() {
		s.answer()
		for _, ordinal := range ordinals {
			d.unsettle(ordinal, s)
		}
	})
	s.left.Store(1)
	for _, ordinal := range ordinals {
		block, low := d.store.Block(ordinal)
		l := d.laneOf(block)
		if l == nil {
			continue
		}
		l.mu.Lock()
		if l.unsettled(low) {
			s.left.Add(1)
			l.settles[low] = append(l.settles[low], s)
		}
		l.mu.Unlock()
	}
	s.settled()
}

func (s *settle) settled() {
	if s.left.Add(-1) == 0 {
		s.patience.Stop()
		s.answer()
	}
}

// unsettle forgets a question that was answered because the user's outcomes took too long.
func (d *delivery) unsettle(ordinal uint32, s *settle) {
	block, low := d.store.Block(ordinal)
	l := d.laneOf(block)
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := slices.DeleteFunc(l.settles[low], func(x *settle) bool { return x == s })
	if l.settles[low] = left; len(left) == 0 {
		delete(l.settles, low)
	}
}

// settled tells who waits that a user's outcomes are applied.
func (l *lane) settled(low uint16) {
	list := l.settles[low]
	delete(l.settles, low)
	for _, s := range list {
		s.settled()
	}
}

// awaitParts has the task of a message without retention wait for what comes of it on the other nodes.
func (d *delivery) awaitParts(f *flight) {
	if d.cluster == nil {
		return
	}
	nodes := d.cluster.Presence.Nodes()
	if len(nodes) == 0 {
		return
	}
	f.retain()
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	f.parts = make(map[uint64]struct{}, len(nodes))
	for _, node := range nodes {
		f.parts[node] = struct{}{}
	}
}

// OnlinePart notes that a node is done with such a message.
func (d *delivery) OnlinePart(seq uint64) {
	d.flightsMu.Lock()
	f := d.flights[seq]
	last := f != nil && f.without(d.origin)
	if d.own {
		d.paid(seq)
		if o, open := d.orphans[seq]; open {
			o.paid = true
			d.orphans[seq] = o
		}
	}
	d.flightsMu.Unlock()
	if last {
		f.release()
	}
}

// paid forgets that the outcome of a message without retention is owed: it is in the log.
func (d *delivery) paid(seq uint64) {
	of := func(c store.Command) bool {
		switch c := c.(type) {
		case *store.OnlineDone:
			return c.Seq == seq
		case *store.OnlinePart:
			return c.Seq == seq
		}
		return false
	}
	d.owed, d.asked = slices.DeleteFunc(d.owed, of), slices.DeleteFunc(d.asked, of)
}

// without waits no longer for a node; last says that there is no other.
func (f *flight) without(node uint64) (last bool) {
	if _, waits := f.parts[node]; !waits {
		return false
	}
	delete(f.parts, node)
	return len(f.parts) == 0
}

// checkParts waits no longer for nodes that are gone.
func (d *delivery) checkParts() {
	if d.cluster == nil {
		return
	}
	nodes := d.cluster.Presence.Nodes()
	var done []*flight
	d.flightsMu.Lock()
	for _, f := range d.flights {
		for node := range f.parts {
			if !slices.Contains(nodes, node) && f.without(node) {
				done = append(done, f)
			}
		}
	}
	d.flightsMu.Unlock()
	for _, f := range done {
		f.release()
	}
}

// orphan is a message without retention that another node accepted.
type orphan struct {
	origin uint64    // 0: nobody knows
	since  time.Time // when it became known here
	paid   bool      // what came of it here is in the log
}

// noteOrigin remembers who is to end a task.
func (d *delivery) noteOrigin(seq uint64) {
	if d.cluster == nil || d.own {
		return
	}
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	d.orphans[seq] = orphan{origin: d.origin, since: time.Now()}
}

func (d *delivery) forgetOrigin(seq uint64) {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	delete(d.orphans, seq)
	d.paid(seq)
}

// adopt notes the tasks without retention that were accepted before anything was told here, and says that this node has no part in them: who accepted one may come to apply it when
// this node is known to be there, and wait for it.
func (d *delivery) adopt() (err error) {
	var adopted []uint64
	d.store.Told(func() {
		var online []uint64
		if online, _, err = d.store.Unfinished(); err != nil {
			return
		}
		d.flightsMu.Lock()
		defer d.flightsMu.Unlock()
		for _, seq := range online {
			if _, told := d.orphans[seq]; !told {
				d.orphans[seq] = orphan{since: time.Now()}
				adopted = append(adopted, seq)
			}
		}
	})
	for _, seq := range adopted {
		d.report(&store.OnlinePart{Seq: seq}, func() {})
	}
	return err
}

// endOrphans ends the tasks without retention of nodes that are gone.
func (d *delivery) endOrphans(ctx context.Context) error {
	if d.cluster == nil {
		return nil
	}
	nodes := d.cluster.Presence.Nodes()
	var ends []uint64
	d.flightsMu.Lock()
	for seq, o := range d.orphans {
		if o.origin != 0 && !slices.Contains(nodes, o.origin) && time.Since(o.since) > greetPatience || o.origin == 0 && time.Since(o.since) > orphanPatience {
			ends = append(ends, seq)
		}
	}
	d.flightsMu.Unlock()
	for _, seq := range ends {
		if _, err := d.store.Propose(ctx, &store.OnlineDone{Seq: seq}); err != nil {
			return err
		}
		d.forgetOrigin(seq)
	}
	return nil
}
