package fanfare

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/store"
)

// catchUp delivers what is pending for a user, up to what the user's lane has
// started, and makes the user live when nothing is left. One call does one
// round: a further one follows when what it delivered is durable.
func (p *presence) catchUp(w *worker) {
	l, d := p.lane, p.lane.d
	for d.ctx.Err() == nil {
		l.mu.Lock()
		if !p.mayCatchUp() {
			l.mu.Unlock()
			return
		}
		limit, after := l.started, p.sent
		// From before the read on, so that what is acknowledged behind it is noted in gone.
		l.busy[p.low]++
		l.mu.Unlock()
		d.o.hook("catchup:limit", p.id)
		var seqs []uint64
		var full bool
		var err error
		d.store.Told(func() {
			seqs, err = d.store.PendingOf(d.store.OrdinalAt(l.block, p.low), after, maxUnacked)
			full = len(seqs) == maxUnacked
			seqs = p.withOwed(seqs, full)
		})
		if err != nil {
			d.fault("read what a user waits for", err)
			l.mu.Lock()
			p.queued = false
			l.settleBusy(p.low)
			p.retryFrom(after + 1)
			l.mu.Unlock()
			return
		}
		d.o.hook("catchup:read", p.id)
		todo, again := p.plan(seqs, full, limit)
		if len(todo) == 0 {
			if again {
				continue
			}
			return
		}
		p.deliver(w, todo)
		return // when the round is durable its commit goes on
	}
}

// mayCatchUp says whether the catch-up may go on; if not, it is not queued any more. It
// waits for an outcome that is not applied, because until then pending bits lie.
func (p *presence) mayCatchUp() bool {
	l := p.lane
	switch {
	case l.users.get(p.low) != p || p.live || p.stuck || p.full:
	case l.inflight(p.low):
		l.waiters[p.low] = struct{}{}
	default:
		return true
	}
	p.queued = false
	return false
}

// plan chooses what to deliver of the pending messages read, and what was
// queued, up to the limit; full says that more may be pending behind what was read. With nothing to do the user goes live, unless the lane has moved
// on, and then again is true.
func (p *presence) plan(seqs []uint64, full bool, limit uint64) (todo []*message, again bool) {
	l, d := p.lane, p.lane.d
	due := seqs
	if n, found := slices.BinarySearch(seqs, limit); n < len(seqs) && !found {
		due, full = seqs[:n], false
	} else if found {
		due, full = seqs[:n+1], full && n+1 == len(seqs)
	}
	found := d.messages.acquireAll(due, make([]*message, 0, len(due))) // one that cannot be read does not hold up the others
	upTo := limit
	if full {
		upTo = seqs[len(seqs)-1]
	}
	d.o.hook("catchup:plan", p.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	here := l.users.get(p.low) == p
	for _, m := range found {
		u := l.unsaved[m.seq]
		if !here || u != nil && u.Contains(uint32(p.low)) {
			d.messages.release(m)
			continue
		}
		todo = append(todo, m)
	}
	if !here {
		p.queued = false
		l.settleBusy(p.low)
		return nil, false
	}
	for len(p.fleeting) > 0 && p.fleeting[0].seq <= upTo {
		todo = append(todo, p.fleeting[0])
		p.fleeting = p.fleeting[1:]
	}
	slices.SortFunc(todo, func(x, y *message) int {
		if x.seq < y.seq {
			return -1
		}
		return 1
	})
	if len(todo) > 0 {
		return todo, false
	}
	l.settleBusy(p.low)
	p.sent = max(p.sent, upTo)
	if full || l.started != limit || len(p.fleeting) > 0 {
		return nil, true
	}
	p.setLive(true)
	l.remitThrough(p.low, p.sent)
	d.counts.caughtUp.Add(1)
	p.queued, p.attempt = false, 0
	return nil, false
}

// caughtUp is a round of a catch-up in a worker's hand.
type caughtUp struct {
	todo      []*message
	next      int
	delivered []uint64 // not yet committed
	since     int64    // the last commit, or the start, by the pool's clock
	progress  bool     // something was delivered
}

// deliver sends a round's messages in order.
func (p *presence) deliver(w *worker, todo []*message) {
	l, d := p.lane, p.lane.d
	w.tick() // what is pending has been read since
	c := &caughtUp{todo: todo, since: w.now}
	var failed *message
	full, over := false, false
	for c.next < len(todo) && failed == nil && !full && !over {
		m := todo[c.next]
		c.next++
		l.mu.Lock()
		here := p.conns > 0 && l.users.get(p.low) == p && d.ctx.Err() == nil
		send := here && m.deliverable() && !p.alreadyAcked(m)
		if send && d.clientAcks && m.f == nil {
			if len(p.unacked) >= maxUnacked {
				full, send = true, false
				c.next--
			} else {
				p.awaitAck(m.seq, w.time())
			}
		}
		if send || here && !full {
			p.sent = max(p.sent, m.seq)
		}
		l.mu.Unlock()
		if full || !here {
			if !here {
				c.next--
			}
			break
		}
		if !send {
			if m.f != nil {
				m.f.failed.Add(1)
				m.f.release()
			} else {
				d.messages.release(m)
			}
			continue
		}
		err, abandoned := w.deliver(call{lane: l, users: []*presence{p}, m: m, catchUp: c})
		if abandoned {
			return
		}
		switch {
		case m.f != nil:
			if err == nil {
				m.f.delivered.Add(1)
				d.counts.delivered.Add(1)
				d.events.deliveredOne(m.seq, l.block, p.low)
			} else {
				d.failed(p, m, err)
				m.f.failed.Add(1)
			}
			m.f.release()
		case err != nil:
			d.failed(p, m, err)
			failed = m
			d.messages.release(m)
		default:
			d.counts.delivered.Add(1)
			p.note(w, c, m.seq)
			d.messages.release(m)
		}
		over = w.overstays()
	}
	d.o.hook("catchup:delivered", p.id)
	if over && failed == nil {
		p.putBack(c)
	}
	p.drop(c)
	l.mu.Lock()
	p.queued = false
	switch {
	case failed != nil:
		p.forgetUnacked(failed.seq)
		if c.progress {
			p.attempt = 0
		}
		p.retryFrom(failed.seq)
	case full:
		p.full = len(p.unacked) >= maxUnacked // else an acknowledgement came meanwhile
		p.dropFleeting()
	}
	l.mu.Unlock()
	p.commit(c.delivered, failed == nil && !p.isFull())
}

// note adds a delivery to a round, and commits those so far when a slow transport has made them wait.
func (p *presence) note(w *worker, c *caughtUp, seq uint64) {
	c.delivered, c.progress = append(c.delivered, seq), true
	if w.now-c.since >= int64(commitAfter) {
		p.flush(c)
	}
}

// flush commits what a round has delivered so far.
func (p *presence) flush(c *caughtUp) {
	if p.lane.d.clientAcks || len(c.delivered) == 0 {
		return
	}
	p.lane.mu.Lock()
	p.lane.busy[p.low]++ // for this commit; the round goes on and has its own
	p.lane.mu.Unlock()
	p.commit(c.delivered, false)
	c.delivered, c.since = nil, p.lane.d.pool.clock()
}

func (p *presence) isFull() bool {
	p.lane.mu.Lock()
	defer p.lane.mu.Unlock()
	return p.full
}

// alreadyAcked says whether an acknowledgement came since the round began.
func (p *presence) alreadyAcked(m *message) bool {
	if m.f != nil {
		return false
	}
	return slices.Contains(p.lane.gone[p.low], m.seq)
}

// drop lets go of the messages of a round that were not sent.
func (p *presence) drop(c *caughtUp) {
	for _, m := range c.todo[c.next:] {
		if m.f != nil {
			m.f.failed.Add(1)
			m.f.release()
		} else {
			p.lane.d.messages.release(m)
		}
	}
	c.next = len(c.todo)
}

// putBack keeps what has no retention of the rest of a round for the next one; what has is found again.
func (p *presence) putBack(c *caughtUp) {
	l := p.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users.get(p.low) != p {
		return
	}
	retained := c.todo[:c.next]
	var fleeting []*message
	for _, m := range c.todo[c.next:] {
		if m.f != nil {
			fleeting = append(fleeting, m)
		} else {
			retained = append(retained, m)
		}
	}
	c.todo, p.fleeting = retained, append(fleeting, p.fleeting...)
}

// commit makes a user's deliveries durable and then, if more is set, goes on with the catch-up.
func (p *presence) commit(seqs []uint64, more bool) {
	l, d := p.lane, p.lane.d
	done := func(_ any, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, seq := range seqs {
			if err != nil {
				l.save(seq, roaring.BitmapOf(uint32(p.low)))
			}
			if l.owed[seq] != nil { // meanwhile the user may have connected anew, and come to be owed it
				l.remit(seq, roaring.BitmapOf(uint32(p.low)))
			}
		}
		l.settleBusy(p.low)
		if more {
			p.attempt = 0
			p.schedule()
		}
	}
	if len(seqs) == 0 || d.clientAcks {
		done(nil, nil)
		return
	}
	ord := d.store.OrdinalAt(l.block, p.low)
	if err := d.store.Go(&store.CaughtUp{Ordinal: ord, Seqs: seqs}, done); err != nil {
		done(nil, err)
	}
}

func (l *lane) settleBusy(low uint16) {
	if l.busy[low]--; l.busy[low] == 0 {
		delete(l.busy, low)
		delete(l.gone, low)
	}
	l.wake(low)
}

// late takes the result of a call whose worker was abandoned: now the user is not stuck any more.
func (p *presence) late(m *message, err error) {
	l := p.lane
	if err != nil {
		l.d.failed(p, m, err)
	}
	l.mu.Lock()
	p.stuck = false
	if l.hung[p.low]--; l.hung[p.low] == 0 {
		delete(l.hung, p.low)
	}
	if err == nil {
		l.d.counts.delivered.Add(1)
		p.handed(m.seq)
	} else {
		p.forgetUnacked(m.seq)
		if m.f == nil {
			p.retryFrom(m.seq)
		}
	}
	l.mu.Unlock()
	var seqs []uint64
	if m.f == nil {
		l.d.messages.release(m)
		if err == nil {
			seqs = []uint64{m.seq}
		}
	}
	p.commit(seqs, err == nil || m.f != nil)
}
