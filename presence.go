package fanfare

import (
	"slices"
	"time"
)

const (
	maxFleeting = 16 // lifetime 0 messages that wait for a user's catch-up; the oldest goes first
	maxUnacked  = 64 // messages on their way to a user whose client acknowledges
)

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
	sent     uint64   // the highest sequence handed to the transport
	settling bool     // in a cluster: other nodes are asked what they have handed over
	told     []toldOf // while settling: what others have delivered to the user
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
	p := l.users.get(low)
	if p == nil {
		p = &presence{lane: l, id: id, low: low}
		l.users.put(p)
		l.connected.Add(uint32(low))
		d.present.Add(1)
		p.arrive(ord)
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
	if l.users.get(p.low) != p {
		return // unregistered before
	}
	p.setLive(false)
	for _, r := range l.runs { // a call for the user that has not begun does not begin
		r.cancels.Add(1)
	}
	l.users.remove(p.low)
	delete(l.waiters, p.low)
	l.connected.Remove(uint32(p.low))
	l.d.present.Add(-1)
	p.depart()
	p.dropFleeting()
	if p.retry != nil {
		p.retry.Stop()
	}
}

// setLive notes whether the lane brings the user messages. Who has left is not live, and stays so.
func (p *presence) setLive(is bool) {
	if p.live == is {
		return
	}
	if p.live = is; is {
		p.lane.live.Add(uint32(p.low))
	} else {
		p.lane.live.Remove(uint32(p.low))
	}
}

// schedule puts the user's catch-up into the pool's queue, once.
func (p *presence) schedule() {
	if !p.queued && !p.stuck && !p.settling && p.conns > 0 && p.lane.d.online != nil {
		p.queued = true
		p.lane.d.pool.add(job{user: p})
	}
}

// keep queues a message without retention on a user who is catching up.
func (p *presence) keep(m *message) {
	if p.full || p.stuck || p.attempt > 0 || p.lane.hung[p.low] > 0 {
		m.f.failed.Add(1) // nobody knows when the catch-up goes on
		return
	}
	if len(p.fleeting) >= maxFleeting {
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
	p.setLive(false)
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

// awaitAck notes that a message goes out that the client is to acknowledge.
func (p *presence) awaitAck(seq uint64, at time.Time) {
	p.unacked = append(p.unacked, unacked{seq, at})
	p.lane.unacked[p.low] = p
}

// handed starts the time that the client has to acknowledge.
func (p *presence) handed(seq uint64) {
	if i := slices.IndexFunc(p.unacked, func(u unacked) bool { return u.seq == seq }); i >= 0 {
		p.unacked[i].at = time.Now()
	}
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
