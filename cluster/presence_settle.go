package cluster

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare"
)

// A login on one node waits for what the others have handed over for its user. Rounds make that cheap: all who call while one begins share its one message to
// all nodes, and its answers. Each round waits for the slowest node; so that callers do not wait for it twice, for the round before and for their own, up to
// maxRounds are under way, and they begin at even distances: a quarter of what the last one took, within bounds. With nothing under way a round begins at once.
const (
	maxRounds   = 4
	leastPacing = time.Millisecond
	mostPacing  = 50 * time.Millisecond
	// maxAnswering is how many rounds of others may be settling here. What comes beyond is not heard, and asked again.
	maxAnswering = 256
)

// settleRound is one question to all other nodes.
type settleRound struct {
	callers  map[uint32]int // who wait for it, by ordinal; guarded by presence.mu
	done     chan struct{}
	position uint64 // these two are set before done is closed
	err      error

	id    uint64 // from here on: the loop's
	wait  map[uint64]struct{}
	began time.Time
	asked time.Time
	body  []byte
}

// answer is what is to be told to who asked.
type answer struct {
	question
	position uint64
}

// question is a round of another node.
type question struct{ epoch, round uint64 }

// Settle is part of [peers.Presence]. The nodes that it asks are those that are known when its round begins: a node that begins meanwhile is not asked and not
// waited for. A question or an answer that is lost is made good by asking again. With no other node known it returns 0 at once. It fails with the error of ctx, or,
// once the presence is closed, with [fanfare.ErrClosed].
func (p *presence) Settle(ctx context.Context, ordinal uint32) (position uint64, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, fanfare.ErrClosed
	}
	if len(*p.nodes.Load()) == 0 {
		p.mu.Unlock()
		return 0, nil
	}
	if n := len(p.waiting); n == 0 || len(p.waiting[n-1].callers) >= p.mostOrdinals {
		p.waiting = append(p.waiting, &settleRound{callers: make(map[uint32]int), done: make(chan struct{})})
	}
	r := p.waiting[len(p.waiting)-1]
	r.callers[ordinal]++
	p.mu.Unlock()
	p.signal()

	select {
	case <-r.done:
		return r.position, r.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if r.callers[ordinal]--; r.callers[ordinal] == 0 {
		delete(r.callers, ordinal)
	}
	abandoned := len(r.callers) == 0
	p.mu.Unlock()
	if abandoned {
		p.signal()
	}
	return 0, ctx.Err()
}

// signal wakes the loop: there are callers, or answers.
func (p *presence) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// turn begins the rounds that may begin, ends those that nobody waits for, and tells the answers. It returns how long until it is to be called again, if not zero.
func (p *presence) turn() (again time.Duration) {
	p.tellAnswers()
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(r *settleRound) bool { return len(r.callers) == 0 })
	for id, r := range p.rounds {
		if len(r.callers) == 0 {
			delete(p.rounds, id)
		}
	}
	p.mu.Unlock()
	for len(p.rounds) < maxRounds {
		if pause := p.pacing - time.Since(p.lastRound); len(p.rounds) > 0 && pause > 0 {
			again = pause
			break
		}
		if !p.beginRound() {
			break
		}
	}
	return again
}

// beginRound asks all other nodes for those who wait; none says that nobody does.
func (p *presence) beginRound() (began bool) {
	p.mu.Lock()
	if len(p.waiting) == 0 {
		p.mu.Unlock()
		return false
	}
	r := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	ordinals := slices.Collect(maps.Keys(r.callers))
	p.mu.Unlock()

	p.lastID++
	now := time.Now()
	r.id, r.began, r.asked, r.wait = p.lastID, now, now, make(map[uint64]struct{}, len(p.others))
	for _, o := range p.others {
		r.wait[o.epoch] = struct{}{}
	}
	if len(r.wait) == 0 {
		close(r.done)
		return true
	}
	r.body = appendOrdinals(binary.AppendUvarint(nil, r.id), ordinals)
	p.rounds[r.id], p.lastRound = r, now
	p.tell(kindSettle, p.toAll, r.body)
	return true
}

// askAgain asks the nodes that have not answered for long: the question or the answer may be lost.
func (p *presence) askAgain() {
	for _, r := range p.rounds {
		if time.Since(r.asked) < p.retry {
			continue
		}
		r.asked = time.Now()
		for epoch := range r.wait {
			p.tell(kindSettle, p.toOne(epoch), r.body)
		}
	}
}

// answered notes an answer of a node.
func (p *presence) answered(epoch, id, position uint64) {
	r := p.rounds[id]
	if r == nil {
		return
	}
	if _, waits := r.wait[epoch]; waits {
		r.position = max(r.position, position)
		p.waitNoMore(r, epoch)
	}
}

// waitNoMore ends a round when the last node has answered or is gone.
func (p *presence) waitNoMore(r *settleRound, epoch uint64) {
	if delete(r.wait, epoch); len(r.wait) > 0 {
		return
	}
	delete(p.rounds, r.id)
	p.pacing = min(max(time.Since(r.began)/maxRounds, leastPacing), mostPacing)
	close(r.done)
}

// settleFor has the Pusher settle what another node asks for.
func (p *presence) settleFor(q question, ordinals []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, is := p.answering[q]; is || len(p.answering) >= maxAnswering {
		return
	}
	p.answering[q] = struct{}{}
	p.running.Go(func() { p.settle(ordinals, func(position uint64) { p.answer(q, position) }) })
}

// answer is called with locks of others held, so that it leaves the telling to the loop.
func (p *presence) answer(q question, position uint64) {
	p.mu.Lock()
	_, is := p.answering[q]
	if is && !p.closed {
		delete(p.answering, q)
		p.answers = append(p.answers, answer{q, position})
	}
	p.mu.Unlock()
	if is {
		p.signal()
	}
}

func (p *presence) tellAnswers() {
	p.mu.Lock()
	list := p.answers
	p.answers = nil
	p.mu.Unlock()
	for _, a := range list {
		p.tell(kindSettled, p.toOne(a.epoch), binary.AppendUvarint(binary.AppendUvarint(nil, a.round), a.position))
	}
}

// endRounds fails all who wait. The loop has ended.
func (p *presence) endRounds() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range slices.AppendSeq(p.waiting, maps.Values(p.rounds)) {
		r.err = fanfare.ErrClosed
		close(r.done)
	}
	p.waiting, p.answers = nil, nil
	clear(p.rounds)
}
