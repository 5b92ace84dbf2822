package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// proposal is one thing for the committer to do: a command, an acknowledgement
// that it joins with others, or a function to run between two groups.
type proposal struct {
	command Command
	payload []byte
	ahead   *ahead
	imports bool
	ack     *ackOf
	control func()
	queued  time.Time
	done    func(any, error) // called once; must not block
	state   atomic.Int32     // of proposalWaiting and its like
}

// A proposal waits until the committer takes it or its caller gives up.
const (
	proposalWaiting int32 = iota
	proposalTaken
	proposalGivenUp
)

// ackOf is what one user says of one message: that it is there, or has been opened.
type ackOf struct {
	ordinal uint32
	seq     uint64
	opened  bool
}

// queue holds what waits for the committer. It has no bound of its own:
// every caller waits for its answer, and lanes limit what they have under way.
type queue struct {
	mu     sync.Mutex
	items  []*proposal
	most   int   // bytes of a group, about
	closed bool  // takes no more commands
	ended  bool  // takes nothing at all
	refuse error // what it answers instead, where nobody takes anything
	wake   chan struct{}
}

func (q *queue) push(p *proposal) error {
	q.mu.Lock()
	if q.ended || q.closed && p.control == nil {
		q.mu.Unlock()
		return ErrClosed
	}
	if q.refuse != nil {
		q.mu.Unlock()
		return q.refuse
	}
	p.queued = time.Now()
	q.items = append(q.items, p)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// giveUp takes p back, if the committer has not taken it yet.
func (p *proposal) giveUp() bool { return p.state.CompareAndSwap(proposalWaiting, proposalGivenUp) }

// take is the committer's; it says whether the caller still wants p.
func (p *proposal) take() bool { return p.state.CompareAndSwap(proposalWaiting, proposalTaken) }

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
}

// take returns the next group: one control alone, or commands up to the size of a record
// with at most one step of an import among them. Whose caller has given up is left out.
func (q *queue) take() (group []*proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var left []*proposal
	size, imports := 0, false
	for i, p := range q.items {
		if p.control != nil || size+len(p.payload) > q.most {
			if len(group) > 0 {
				left = append(left, q.items[i:]...)
				break
			}
		}
		if p.imports && imports {
			left = append(left, p)
			continue
		}
		if !p.take() {
			continue
		}
		group = append(group, p)
		if p.control != nil {
			left = append(left, q.items[i+1:]...)
			break
		}
		imports = imports || p.imports
		size += len(p.payload) + ackBytes
	}
	q.items = left
	return group
}

// ackBytes is what a proposal counts for beside its payload: more than an acknowledgement of a message
// that nobody else acknowledges comes to in a record.
const ackBytes = 40

func (q *queue) failAll(err error) {
	q.mu.Lock()
	items := q.items
	q.items, q.closed, q.ended = nil, true, true
	q.mu.Unlock()
	for _, p := range items {
		if p.take() {
			p.done(nil, err)
		}
	}
}

// Propose makes a command durable, applies it and returns its result. When ctx ends while the
// command is being written, its outcome is not known, and the error says so.
func (s *Store) Propose(ctx context.Context, c Command) (any, error) {
	p, err := s.newProposal(c, nil)
	if err != nil {
		return nil, err
	}
	return s.wait(ctx, p)
}

// Prepare does what can be done for a command before it is proposed, which the function that it returns
// does, as [Store.Propose]. It may be called while commands that come before are still under way.
func (s *Store) Prepare(c Command) (propose func(context.Context) (any, error), err error) {
	p, err := s.newProposal(c, nil)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) { return s.wait(ctx, p) }, nil
}

// Go proposes a command and returns. Done is called when the command is applied or has failed, by the committer, or, with a log,
// by who finds that out; it must not block. When Go returns an error, done is not called.
func (s *Store) Go(c Command, done func(any, error)) error {
	p, err := s.newProposal(c, nil)
	if err != nil {
		return err
	}
	p.done = done
	return s.queue.push(p)
}

// newProposal checks a command, and reads for it unless that has been done.
func (s *Store) newProposal(c Command, read *ahead) (*proposal, error) {
	p := &proposal{command: c, payload: encodeCommand(c)}
	if len(p.payload) > MaxCommand {
		return nil, &LimitError{What: "bytes of one step", Limit: MaxCommand, Got: int64(len(p.payload))}
	}
	if l := s.o.Log; l != nil && int(c.kind().version()) > l.Version() {
		return nil, ErrUpgrading
	}
	var err error
	switch c := c.(type) {
	case *Push, *PlanStep, *Save:
		// Of what a caller could still change, or what could not be read back, the journal's copy is applied.
		if p.command, err = decodeCommand(p.payload); err != nil {
			return nil, fmt.Errorf("fanfare: a command that could not be replayed: %w", err)
		}
	case *Batch:
		if !c.fitsKeys() {
			return nil, &FormatError{What: "command", Detail: "text too long for a key"}
		}
		p.imports = c.Import
	}
	if p.ahead = read; read == nil {
		p.ahead, err = s.ahead(p.command)
	}
	return p, err
}

// Ack clears one pending bit. Acknowledgements of the same message and block that wait
// together become one command. It reports whether the bit was set.
func (s *Store) Ack(ctx context.Context, ordinal uint32, seq uint64) (bool, error) {
	r, err := s.wait(ctx, &proposal{ack: &ackOf{ordinal: ordinal, seq: seq}})
	is, _ := r.(bool)
	return is, err
}

// Opened notes that a user has opened a message, and reports whether that is new. Those of the same message and block that
// wait together become one command. It returns [ErrUnknownTask] if there is no such task any more.
func (s *Store) Opened(ctx context.Context, ordinal uint32, seq uint64) (bool, error) {
	r, err := s.wait(ctx, &proposal{ack: &ackOf{ordinal: ordinal, seq: seq, opened: true}})
	is, _ := r.(bool)
	return is, err
}

// ackStep is how many messages one step of an AckThrough acknowledges.
const ackStep = 10_000

// AckThrough clears a user's pending bits of all messages up to and including one, as they are when it is called, and
// returns how many were still set. After an error it may have cleared the lowest of them.
func (s *Store) AckThrough(ctx context.Context, ordinal uint32, through uint64) (cleared int, err error) {
	block, low := s.geo.block(ordinal), s.geo.low(ordinal)
	for more := true; more; {
		c, read := &Acked{Ordinal: ordinal}, new(ahead)
		err := s.withView(func(v *view) error {
			read.layers = v.layers
			c.Seqs, read.waiting = v.pendingOf(block, low, 0, ackStep)
			return nil
		})
		if err != nil {
			return cleared, err
		}
		if more = len(c.Seqs) == ackStep && c.Seqs[ackStep-1] < through; !more {
			n, found := slices.BinarySearch(c.Seqs, through)
			if found {
				n++
			}
			c.Seqs = c.Seqs[:n]
		}
		if len(c.Seqs) == 0 {
			return cleared, nil
		}
		if read.waiting == nil {
			read.waiting = []uint64{} // known, and none
		}
		p, err := s.newProposal(c, read)
		if err != nil {
			return cleared, err
		}
		r, err := s.wait(ctx, p)
		if err != nil {
			return cleared, err
		}
		cleared += r.(int)
	}
	return cleared, nil
}

func (s *Store) wait(ctx context.Context, p *proposal) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type answer struct {
		r   any
		err error
	}
	answered := make(chan answer, 1)
	p.done = func(r any, err error) { answered <- answer{r, err} }
	if err := s.queue.push(p); err != nil {
		return nil, err
	}
	select {
	case a := <-answered:
		return a.r, a.err
	case <-ctx.Done():
		if p.giveUp() {
			return nil, ctx.Err()
		}
		select {
		case a := <-answered:
			return a.r, a.err
		default:
			return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
		}
	}
}

// control runs f in the committer, between two groups.
func (s *Store) control(ctx context.Context, f func()) error {
	_, err := s.wait(ctx, &proposal{control: f})
	return err
}

func (s *Store) commit() {
	for {
		group := s.queue.take()
		if len(group) == 0 {
			select {
			case <-s.queue.wake:
			case <-s.stopped.Done():
				return
			}
			continue
		}
		if f := group[0].control; f != nil {
			f()
			group[0].done(nil, nil)
			continue
		}
		s.commitGroup(group)
	}
}

// commitGroup writes, applies and answers a group.
func (s *Store) commitGroup(group []*proposal) {
	fail := func(err error) {
		s.counts.refused(len(group), err)
		for _, p := range group {
			p.done(nil, err)
		}
	}
	if err := s.waitForRoom(); err != nil {
		fail(err)
		return
	}
	g := s.form(group)
	position := s.st.position + 1
	rec, began := g.rec.encode(), time.Now()
	if err := s.append(position, rec); err != nil {
		fail(s.journalError(position, err))
		return
	}
	s.counts.committed(g, len(rec), time.Since(began))
	s.number += uint64(len(g.commands))
	events, err := s.applyGroup(position, g)
	if err != nil {
		fail(s.refuseChanges(err))
		return
	}
	s.publish()
	s.tell(g.rec, events)
	for _, answer := range g.answers {
		answer()
	}
	s.freezeFull()
}

// tell tells the observer what a record has changed.
func (s *Store) tell(rec *record, events []func(Observer)) {
	if s.observer == nil || len(events) == 0 {
		return
	}
	s.observer.Began(rec.proposer, rec.proposer == s.proposer)
	for _, event := range events {
		event(s.observer)
	}
}

// freezeFull starts a checkpoint when the delta has reached its bound.
func (s *Store) freezeFull() {
	if d := s.layers.Load().active; d.entries >= s.o.DeltaEntries || d.bytes >= s.o.DeltaBytes {
		s.freezeDelta()
	}
}

func (s *Store) append(position uint64, rec []byte) (err error) {
	defer guardFaults(journalFile, &err)()
	return s.journal.Append(position, rec, s.cut.Load())
}

// formed is a group laid out as a record.
type formed struct {
	rec      *record
	commands []Command
	aheads   []*ahead
	result   []func(any, error) // of each command: prepares the answers
	answers  []func()
}

func (s *Store) form(group []*proposal) *formed {
	g := &formed{rec: &record{
		stamp: max(s.o.Now().UnixMilli(), s.published.Load().now), proposer: s.proposer, first: s.number + 1,
	}}
	add := func(c Command, payload []byte, read *ahead, result func(any, error)) {
		g.rec.commands = append(g.rec.commands, payload)
		g.commands = append(g.commands, c)
		g.aheads = append(g.aheads, read)
		g.result = append(g.result, result)
	}
	type message struct {
		seq    uint64
		block  uint16
		opened bool
	}
	acks := make(map[message][]*proposal)
	var order []message
	for _, p := range group {
		if p.ack != nil {
			m := message{p.ack.seq, s.geo.block(p.ack.ordinal), p.ack.opened}
			if acks[m] == nil {
				order = append(order, m)
			}
			acks[m] = append(acks[m], p)
			continue
		}
		add(p.command, p.payload, p.ahead, func(r any, err error) {
			g.answers = append(g.answers, func() { p.done(r, err) })
		})
	}
	for _, m := range order {
		joined := acks[m]
		low := roaring.New()
		for _, p := range joined {
			low.Add(uint32(s.geo.low(p.ack.ordinal)))
		}
		var c Command = &Received{Seq: m.seq, Block: m.block, Bits: low}
		if m.opened {
			c = &Opened{Seq: m.seq, Block: m.block, Bits: low}
		}
		add(c, encodeCommand(c), nil, func(r any, err error) {
			counted, _ := r.(*roaring.Bitmap)
			for _, p := range joined {
				is := counted != nil && counted.Contains(uint32(s.geo.low(p.ack.ordinal)))
				g.answers = append(g.answers, func() { p.done(is, err) })
			}
		})
	}
	return g
}

// applyGroup applies a durable group. An error is damage met on the way, after which this
// process's state can no longer be trusted to be what the journal says.
func (s *Store) applyGroup(position uint64, g *formed) (events []func(Observer), err error) {
	defer guardFaults("apply", &err)()
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	a := &applier{s: s, st: &s.st, d: v.active, v: v}
	defer func() { a.v.close() }()
	a.record(position, g.rec, g.commands, func(i int) *ahead { return g.aheads[i] }, func(i int, r any, err error) { g.result[i](r, err) })
	s.reuse(g.aheads)
	return a.events, nil
}

// journalError decides what a failed append means. A failed commit is not a
// failed command: after an error in its second sync the record can be there
// all the same. So the last record is read back.
func (s *Store) journalError(position uint64, cause error) error {
	last, err := s.lastRecord()
	if err == nil && last < position && noRoom(cause) {
		return roomError(journalFile, cause)
	}
	return s.refuseChanges(cause)
}

func (s *Store) lastRecord() (last uint64, err error) {
	defer guardFaults(journalFile, &err)()
	last, _, err = s.journal.Last()
	return last, err
}

// waitForRoom slows callers down while the fold is behind, until it is done or
// cannot write: when the active delta is at twice its bound, or with the frozen one at three times.
func (s *Store) waitForRoom() error {
	for {
		if p := s.refuse.Load(); p != nil {
			return *p
		}
		news := s.foldNews.wait()
		if l := s.layers.Load(); l.frozen == nil || s.fits(l.active, l.frozen) {
			return nil
		}
		if p := s.foldFail.Load(); p != nil {
			return *p
		}
		select {
		case <-news:
		case <-s.stopped.Done():
			return ErrClosed
		}
	}
}

func (s *Store) fits(active, frozen *delta) bool {
	entries, bytes := s.o.DeltaEntries, s.o.DeltaBytes
	return active.entries < 2*entries && active.bytes < 2*bytes &&
		active.entries+frozen.entries < 3*entries && active.bytes+frozen.bytes < 3*bytes
}

// freezeDelta starts a checkpoint, unless one is under way. Only the committer calls it, between records.
func (s *Store) freezeDelta() {
	l := s.layers.Load()
	if l.frozen != nil || s.refuse.Load() != nil { // a group may be applied in part: the journal decides at the next Open
		return
	}
	fresh := newDelta()
	fresh.position, fresh.digest = l.active.position, l.active.digest
	l.active.digest = nil // when a store freezes its delta is its own affair
	l.active.put(bucketState, string(stateKey), s.st.encode())
	s.setLayers(func(l *layers) { l.frozen, l.active = l.active, fresh })
	s.frozen <- struct{}{}
}

// setLayers replaces the layers by a changed copy.
func (s *Store) setLayers(change func(*layers)) {
	s.layersMu.Lock()
	l := *s.layers.Load()
	change(&l)
	s.layers.Store(&l)
	s.layersMu.Unlock()
}

// broadcast wakes everyone who waits, each time it is told to.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next tell closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

var errStopped = errors.New("fanfare: stopped")
