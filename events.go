package fanfare

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// maxEvents is how many events wait for the hooks, those of progress apart, and of how many tasks progress is told at a time.
const maxEvents = 1024

type eventKind byte

const (
	eventAccepted eventKind = iota
	eventProgress
	eventDelivered
	eventExpired
	eventWithdrawn
	eventFinished
	eventError
)

// event is one that waits for its hook.
type event struct {
	kind eventKind
	of   deliveredTo     // the block counts for deliveries only
	low  *roaring.Bitmap // of deliveries, when its turn has come
	err  error
}

// deliveredTo is a message and a block, whose deliveries are one event while that waits.
type deliveredTo struct {
	seq   uint64
	block uint16
}

// events is the queue between what happens and the hooks that are told. Whoever adds to it, the committer above all, waits for a
// map at most. Its methods may be called with nil, when there are no hooks.
type events struct {
	p       *Pusher
	hooks   *Hooks
	dropped atomic.Int64
	wake    chan struct{}
	stop    chan struct{} // closed when no hook is to be called any more
	done    chan struct{}

	mu      sync.Mutex
	queue   []event
	waiting int // in the queue, but for progress
	users   map[deliveredTo]*roaring.Bitmap
	tasks   map[uint64]*changing
	resting []resting // ascending by time
	closed  bool      // takes nothing more
}

// changing is a task of whose progress the hook is to be told, or was in the last second.
type changing struct {
	queued bool
	again  bool // it has changed since
}

// resting is a task whose progress is not told before a time.
type resting struct {
	seq   uint64
	until time.Time
}

// newEvents returns nil if there are no hooks to call.
func newEvents(p *Pusher, h *Hooks) *events {
	if h.Accepted == nil && h.Progress == nil && h.Delivered == nil && h.Expired == nil && h.Withdrawn == nil && h.Finished == nil && h.Error == nil {
		return nil
	}
	return &events{
		p: p, hooks: h, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		users: make(map[deliveredTo]*roaring.Bitmap), tasks: make(map[uint64]*changing),
	}
}

func (e *events) accepted(seq uint64) {
	if e != nil && e.hooks.Accepted != nil {
		e.add(event{kind: eventAccepted, of: deliveredTo{seq: seq}})
	}
}

func (e *events) expired(seq uint64) {
	if e != nil && e.hooks.Expired != nil {
		e.add(event{kind: eventExpired, of: deliveredTo{seq: seq}})
	}
}

func (e *events) withdrawn(seq uint64) {
	if e != nil && e.hooks.Withdrawn != nil {
		e.add(event{kind: eventWithdrawn, of: deliveredTo{seq: seq}})
	}
}

// finished also ends what is still to be told of the task's progress, for the hook sees that.
func (e *events) finished(seq uint64) {
	if e == nil {
		return
	}
	if e.hooks.Finished != nil {
		e.add(event{kind: eventFinished, of: deliveredTo{seq: seq}})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.tasks[seq]; c != nil {
		c.again = false
	}
}

func (e *events) failed(err error) {
	if e != nil && e.hooks.Error != nil {
		e.add(event{kind: eventError, err: err})
	}
}

func (e *events) add(ev event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.room() {
		e.waiting++
		e.push(ev)
	}
}

// room says whether the queue takes one more; if not, that is dropped.
func (e *events) room() bool {
	switch {
	case e.closed:
		return false
	case e.waiting >= maxEvents:
		e.dropped.Add(1)
		return false
	}
	return true
}

func (e *events) push(ev event) {
	e.queue = append(e.queue, ev)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// delivered notes users who have a message.
func (e *events) delivered(seq uint64, block uint16, low *roaring.Bitmap) {
	if e == nil || e.hooks.Delivered == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if to := e.deliveries(deliveredTo{seq, block}); to != nil {
		to.Or(low)
	}
}

// deliveredOne notes one user.
func (e *events) deliveredOne(seq uint64, block, low uint16) {
	if e == nil || e.hooks.Delivered == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if to := e.deliveries(deliveredTo{seq, block}); to != nil {
		to.Add(uint32(low))
	}
}

// deliveries returns the set of the event that waits, or of a new one; nil if there is no room.
func (e *events) deliveries(of deliveredTo) *roaring.Bitmap {
	low := e.users[of]
	if low == nil && e.room() {
		low = roaring.New()
		e.users[of] = low
		e.waiting++
		e.push(event{kind: eventDelivered, of: of})
	}
	return low
}

// changed notes that the counts of a task are others.
func (e *events) changed(seq uint64) {
	if e == nil || e.hooks.Progress == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.tasks[seq]
	switch {
	case e.closed:
	case c != nil:
		c.again = c.again || !c.queued
	case len(e.tasks) >= maxEvents:
		e.dropped.Add(1)
	default:
		e.tasks[seq] = &changing{queued: true}
		e.push(event{kind: eventProgress, of: deliveredTo{seq: seq}})
	}
}

// run calls the hooks.
func (e *events) run() {
	defer close(e.done)
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		ev, some, wait := e.next(time.Now())
		switch {
		case some:
			select {
			case <-e.stop:
				return
			default:
				e.call(ev)
			}
			continue
		case wait == 0:
			return
		case wait > 0:
			rest.Reset(wait)
		}
		select {
		case <-e.wake:
		case <-rest.C:
		}
	}
}

// next takes an event from the queue. Without one it returns how long until there may be one: negative, until something
// is added; 0, there will be none.
func (e *events) next(now time.Time) (ev event, some bool, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.resting) > 0 && !e.closed && !e.resting[0].until.After(now) {
		seq := e.resting[0].seq
		e.resting = e.resting[1:]
		if c := e.tasks[seq]; c.again {
			c.queued, c.again = true, false
			e.push(event{kind: eventProgress, of: deliveredTo{seq: seq}})
		} else {
			delete(e.tasks, seq)
		}
	}
	if len(e.queue) == 0 {
		switch {
		case e.closed:
			return ev, false, 0
		case len(e.resting) > 0:
			return ev, false, e.resting[0].until.Sub(now)
		}
		return ev, false, -1
	}
	ev = e.queue[0]
	e.queue[0] = event{}
	e.queue = e.queue[1:]
	switch ev.kind {
	case eventProgress:
		e.tasks[ev.of.seq].queued = false // what changes from here on is told again
		e.resting = append(e.resting, resting{ev.of.seq, now.Add(progressEvery)})
		return ev, true, 0
	case eventDelivered:
		ev.low = e.users[ev.of]
		delete(e.users, ev.of)
	}
	e.waiting--
	return ev, true, 0
}

// close has the hooks called for what waits, and waits for that: not for long, and not for one that does not return.
func (e *events) close(ctx context.Context) {
	if e == nil {
		return
	}
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-e.done:
	case <-patience.C:
	case <-ctx.Done():
	}
	close(e.stop)
}
