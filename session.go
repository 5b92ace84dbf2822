package fanfare

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/store"
)

const (
	maxFleeting = 16 // lifetime 0 messages that wait for a user's catch-up; the oldest goes first
	maxUnacked  = 64 // messages on their way to a user whose client acknowledges
)

// Session is one connection of a user. A user is online from the first
// session's Connect to the last one's Close.
type Session struct {
	p    *presence
	once sync.Once
}

// Connect makes the user online, and known if the user was not. What is pending is then
// delivered in order by the library's own goroutines, and after it new
// messages as they come; Connect waits for none of that. A further session of a user who
// is online gets nothing older: Deliver is for the user, on all connections.
//
// It may be called from anywhere, also while the host holds a lock that its Deliver takes.
func (p *Pusher) Connect(ctx context.Context, user string) (*Session, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if err := checkID(user); err != nil {
		return nil, err
	}
	for {
		ord, err := p.store.Ordinal(user)
		if errors.Is(err, ErrUnknownUser) {
			if err := p.Register(ctx, user); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		p.o.hook("connect:found", user)
		s := p.delivery.connect(ord, user)
		// Unregistered, and perhaps registered anew, in between: then that session was nobody's.
		if now, err := p.store.Ordinal(user); err == nil && now == ord {
			return s, nil
		} else if err != nil && !errors.Is(err, ErrUnknownUser) {
			s.Close()
			return nil, err
		}
		s.Close()
	}
}

// Online returns how many users are connected.
func (p *Pusher) Online() int { return int(p.delivery.present.Load()) }

// Close ends the session. It waits for nothing, so a Deliver for the user may still be under way
// when it returns. Closing again does nothing. It always returns nil.
func (s *Session) Close() error {
	s.once.Do(s.p.disconnect)
	return nil
}

// presence is a connected user. Its fields belong to the lane's lock, but
// for sent while a worker has the user in hand.
type presence struct {
	lane     *lane
	id       string
	low      uint16
	live     bool // else catching up
	queued   bool // a catch-up is in the pool's queue or at work
	stuck    bool // a call was abandoned and has not returned
	full     bool // with client acks: too many are unacknowledged
	attempt  uint8
	timeouts uint8
	conns    int32
	sent     uint64 // the highest sequence handed to the transport
	fleeting []*message
	unacked  []unacked
	retry    *time.Timer
}

type unacked struct {
	seq uint64
	at  time.Time
}

func (d *delivery) connect(ord uint32, id string) *Session {
	block, low := d.store.Block(ord)
	l := d.lane(block)
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.users[low]
	if p == nil {
		p = &presence{lane: l, id: id, low: low}
		l.users[low] = p
		l.connected.Add(uint32(low))
		d.present.Add(1)
	}
	if p.conns++; p.conns == 1 {
		p.schedule()
	}
	return &Session{p: p}
}

func (p *presence) disconnect() {
	l := p.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.conns--; p.conns == 0 {
		p.leave()
	}
}

// leave takes the user offline.
func (p *presence) leave() {
	l := p.lane
	if l.users[p.low] != p {
		return // unregistered before
	}
	delete(l.users, p.low)
	delete(l.waiters, p.low)
	l.connected.Remove(uint32(p.low))
	l.d.present.Add(-1)
	p.live = false
	p.dropFleeting()
	if p.retry != nil {
		p.retry.Stop()
	}
}

// schedule puts the user's catch-up into the pool's queue, once.
func (p *presence) schedule() {
	if !p.queued && !p.stuck && p.conns > 0 && p.lane.d.online != nil {
		p.queued = true
		p.lane.d.pool.add(job{user: p})
	}
}

// keep queues a message without retention on a user who is catching up.
func (p *presence) keep(m *message) {
	if p.full || p.stuck || p.attempt > 0 {
		m.f.failed.Add(1) // nobody knows when the catch-up goes on
		return
	}
	if len(p.fleeting) == maxFleeting {
		old := p.fleeting[0]
		p.fleeting = slices.Delete(p.fleeting, 0, 1)
		old.f.failed.Add(1)
		old.f.release()
	}
	m.f.retain()
	p.fleeting = append(p.fleeting, m)
}

func (p *presence) dropFleeting() {
	for _, m := range p.fleeting {
		m.f.failed.Add(1)
		m.f.release()
	}
	p.fleeting = nil
}

// retryFrom puts the user back to catching up from a message, after a pause.
func (p *presence) retryFrom(seq uint64) {
	p.live = false
	p.sent = seq - 1
	p.dropFleeting()
	if p.conns == 0 {
		return
	}
	wait := p.lane.d.o.retryPause(int(p.attempt))
	if p.attempt < 255 {
		p.attempt++
	}
	p.later(wait)
}

func (p *presence) later(wait time.Duration) {
	if p.retry != nil {
		p.retry.Stop()
	}
	p.retry = time.AfterFunc(wait, func() {
		p.lane.mu.Lock()
		p.schedule()
		p.lane.mu.Unlock()
	})
}

// pause is the backoff between tries to deliver to a user: 100 ms, doubled each time, up to 30 s.
func pause(attempt int) time.Duration {
	return min(100*time.Millisecond<<min(attempt, 20), 30*time.Second)
}

func (p *presence) forgetUnacked(seq uint64) {
	if i := slices.IndexFunc(p.unacked, func(u unacked) bool { return u.seq == seq }); i >= 0 {
		p.unacked = slices.Delete(p.unacked, i, i+1)
	}
}

// forgetEnded stops waiting for acknowledgements of messages that have ended.
func (p *presence) forgetEnded(ended map[uint64]struct{}) {
	if len(ended) == 0 || len(p.unacked) == 0 {
		return
	}
	p.unacked = slices.DeleteFunc(p.unacked, func(u unacked) bool {
		_, gone := ended[u.seq]
		return gone
	})
	p.drained()
}

// drained goes on with a user who had too many unacknowledged messages and has not any more.
func (p *presence) drained() {
	if p.full && len(p.unacked) < maxUnacked {
		p.full = false
		p.schedule()
	}
}

// acked notes that messages are not waited for any more.
func (p *presence) acked(seqs ...uint64) {
	before := len(p.unacked)
	for _, seq := range seqs {
		p.forgetUnacked(seq)
	}
	if len(p.unacked) == before {
		return
	}
	p.timeouts = 0
	p.drained()
}

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
		seqs, err := d.store.PendingOf(d.store.OrdinalAt(l.block, p.low), after, maxUnacked)
		if err != nil {
			d.o.Logger.Error("fanfare: read what a user waits for", "error", err)
			l.mu.Lock()
			p.queued = false
			l.settleBusy(p.low)
			p.retryFrom(after + 1)
			l.mu.Unlock()
			return
		}
		d.o.hook("catchup:read", p.id)
		todo, again := p.plan(seqs, limit)
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
	case l.users[p.low] != p || p.live || p.stuck || p.full:
	case l.inflight(p.low):
		l.waiters[p.low] = struct{}{}
	default:
		return true
	}
	p.queued = false
	return false
}

// plan chooses what to deliver of the pending messages read, and what was
// queued, up to the limit. With nothing to do the user goes live, unless the lane has moved
// on, and then again is true.
func (p *presence) plan(seqs []uint64, limit uint64) (todo []*message, again bool) {
	l, d := p.lane, p.lane.d
	full := len(seqs) == maxUnacked
	var found []*message
	for _, seq := range seqs {
		if seq > limit {
			full = false
			break
		}
		if m := d.messages.acquire(seq, nil); m != nil {
			found = append(found, m)
		}
	}
	upTo := limit
	if full {
		upTo = seqs[len(seqs)-1]
	}
	d.o.hook("catchup:plan", p.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	here := l.users[p.low] == p
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
	p.live, p.queued, p.attempt = true, false, 0
	return nil, false
}

// caughtUp is a round of a catch-up in a worker's hand.
type caughtUp struct {
	todo      []*message
	next      int
	delivered []uint64
}

// deliver sends a round's messages in order.
func (p *presence) deliver(w *worker, todo []*message) {
	l, d := p.lane, p.lane.d
	c := &caughtUp{todo: todo}
	var failed *message
	full := false
	for c.next < len(todo) && failed == nil && !full {
		m := todo[c.next]
		c.next++
		l.mu.Lock()
		here := p.conns > 0 && l.users[p.low] == p && d.ctx.Err() == nil
		send := here && m.deliverable() && !p.alreadyAcked(m)
		if send && d.clientAcks && m.f == nil {
			if len(p.unacked) >= maxUnacked {
				full, send = true, false
				c.next--
			} else {
				p.unacked = append(p.unacked, unacked{m.seq, time.Now()})
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
			c.delivered = append(c.delivered, m.seq)
			d.messages.release(m)
		}
	}
	d.o.hook("catchup:delivered", p.id)
	p.drop(c)
	l.mu.Lock()
	p.queued = false
	switch {
	case failed != nil:
		p.forgetUnacked(failed.seq)
		if len(c.delivered) > 0 {
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

// commit makes a user's deliveries durable and then, if more is set, goes on with the catch-up.
func (p *presence) commit(seqs []uint64, more bool) {
	l, d := p.lane, p.lane.d
	done := func(_ any, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			for _, seq := range seqs {
				l.save(seq, roaring.BitmapOf(uint32(p.low)))
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
	if m.f != nil {
		if err == nil {
			m.f.delivered.Add(1)
		} else {
			m.f.failed.Add(1)
		}
		m.f.release()
	}
	l.mu.Lock()
	p.stuck = false
	if err != nil {
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
