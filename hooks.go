package fanfare

import (
	"iter"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/store"
)

// Hooks are functions that a Pusher calls when something happens. A nil one is not called and costs nothing.
//
// Stuck and Failed are called at once, from the Pusher's own goroutines, several at a time, and must not block. All others
// are called one after the other from a goroutine that does nothing else, in the order in which things
// happened to a task. They may take their time and call every method of the Pusher: deliveries
// and changes do not wait for them. At most 1,024 events wait; what happens while the queue is full is dropped
// and counted in [Counters].EventsDropped, so they are for showing and counting, not for bookkeeping: a task's Progress
// is the truth. Close calls them for what waits, for 200 ms at most, and leaves one that has not returned behind.
// A panic of one is not recovered: as any of the program's, it ends the process.
type Hooks struct {
	// Stuck: a Deliver has taken longer than DeliverTimeout and was left behind.
	// The user gets nothing more until it returns.
	Stuck func(user, messageID string)
	// Failed: a Deliver returned an error, or panicked. It will be tried again, unless
	// the message has lifetime 0.
	Failed func(user, messageID string, err error)

	// Accepted: a push was accepted. A duplicate is none.
	Accepted func(TaskEvent)
	// Progress: the counts of a task have changed. It is called at most once a second for a task, however much changes. Of its
	// end Finished is told instead; who opens its message later is told here again.
	Progress func(TaskEvent)
	// Delivered: users have a message, and if it has a lifetime that is durable. With client acks they have acknowledged it. Many come in one call.
	Delivered func(DeliveredEvent)
	// Expired: a message's lifetime is over, and users still waited for it. Finished follows.
	Expired func(TaskEvent)
	// Withdrawn: a task was withdrawn. Finished follows.
	Withdrawn func(TaskEvent)
	// Finished: a task has ended, for whatever reason.
	Finished func(TaskEvent)
	// Error: something failed in the background, and no caller was told. The Logger is, too. What can be is tried again.
	Error func(error)
}

// TaskEvent is what hooks are told of a task.
type TaskEvent struct {
	Task     *Task    // which the hook may keep
	Progress Progress // as it is when the hook is called
}

// DeliveredEvent says that users have a message: some of those, all of one block, who got it lately.
type DeliveredEvent struct {
	MessageID string // which is the ID of the task, too
	Count     int    // of the users, at least 1

	p     *Pusher
	block uint16
	low   *roaring.Bitmap
}

// Users yields the IDs of the users, which are looked up as they are asked for: who was unregistered since is left out.
func (e DeliveredEvent) Users() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		low := make([]uint32, min(e.Count, 4096))
		if e.low == nil {
			return
		}
		it := e.low.ManyIterator()
		for n := it.NextMany(low); n > 0; n = it.NextMany(low) {
			err := e.p.open()
			var ids []string
			if err == nil {
				ids, err = e.p.store.Names(e.block, low[:n])
			}
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
		}
	}
}

// progressEvery is how often a task's progress is told at most.
const progressEvery = time.Second

// call calls the hook of an event.
func (e *events) call(ev event) {
	h := e.hooks
	switch ev.kind {
	case eventAccepted:
		e.ofTask(ev.of.seq, h.Accepted)
	case eventProgress:
		e.ofTask(ev.of.seq, h.Progress)
	case eventExpired:
		e.ofTask(ev.of.seq, h.Expired)
	case eventWithdrawn:
		e.ofTask(ev.of.seq, h.Withdrawn)
	case eventFinished:
		e.ofTask(ev.of.seq, h.Finished)
	case eventError:
		h.Error(ev.err)
	case eventDelivered:
		random, err := e.p.store.TaskRandom(ev.of.seq)
		if err != nil {
			e.dropped.Add(1)
			return
		}
		h.Delivered(DeliveredEvent{
			MessageID: store.MessageID(ev.of.seq, random), Count: int(ev.low.GetCardinality()), p: e.p, block: ev.of.block, low: ev.low,
		})
	}
}

// ofTask calls a hook for a task, unless that was forgotten since or cannot be read.
func (e *events) ofTask(seq uint64, hook func(TaskEvent)) {
	s, err := e.p.store.Task(seq)
	if err != nil {
		e.dropped.Add(1)
		return
	}
	hook(TaskEvent{Task: e.p.taskOf(s), Progress: e.p.progressOf(s)})
}
