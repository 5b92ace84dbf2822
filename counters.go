package fanfare

import (
	"sync/atomic"
	"time"
)

// Counters count what happened since the Pusher was opened. They only rise, and start again with the process.
type Counters struct {
	Accepted  int64 // pushes; a duplicate is none
	Delivered int64 // successful deliveries to a user by the online transport, again after a lost ack too
	Failed    int64 // those that returned an error or panicked
	Acked     int64 // messages that users acknowledged, each once a user
	Opened    int64 // messages that users opened, each once a user
	Expired   int64 // users who did not come in time, or whom a push with lifetime 0 did not reach
	Withdrawn int64 // users who waited for a message that was withdrawn
	Gone      int64 // messages that users waited for who were unregistered
	CaughtUp  int64 // catch-ups that came to their end: the user is live
	Errors    int64 // in the background, as [Hooks].Error is told

	Commits     int64         // durable steps, one synced write to the journal each
	CommitTime  time.Duration // that these writes took
	CommitBytes int64         // written, without what the file needs beside
	Commands    int64         // changes in these steps; acknowledgements that came together are one
	NoRoom      int64         // changes refused with [ErrNoRoom]
	Unknown     int64         // changes refused with [ErrOutcomeUnknown]
	Folds       int64         // deltas folded into the blocks
	FoldTime    time.Duration // that this took, failed tries too
	FoldEntries int64         // changes folded
	FoldBytes   int64         // of these changes, about
	FoldErrors  int64         // tries that failed, for want of room mostly

	EventsDropped int64 // events for [Hooks] that came while its queue was full, or whose task could not be read when their turn came
}

// PhoneCounters count the notifications of all tasks on a platform. But for Tasks and Stopped, which are of this moment, they count since the Pusher was
// opened, and only rise. Accepted, Unregistered, Rejected, Retried and GaveUp are what they are in [PhoneStats].
type PhoneCounters struct {
	Accepted     int64
	Unregistered int64
	Rejected     int64
	Retried      int64
	GaveUp       int64
	Unsent       int64 // that the transport did not try; they come again
	Tasks        int   // that have phones to notify, now
	Stopped      int   // of the live ones, those that go no further because the service denies its sender, now
}

// counters are the same while they change. Nothing is counted twice: what the store counts is the store's.
type counters struct {
	accepted, delivered, failed, acked, opened, expired, withdrawn, gone, caughtUp, errors atomic.Int64
}

// phoneCounters are a platform's.
type phoneCounters struct {
	accepted, unregistered, rejected, retried, gaveUp, unsent atomic.Int64
}

// count adds what became of a batch.
func (c *phoneCounters) count(o *phoneOutcome) {
	s := &o.cp.Stats
	c.accepted.Add(s.Accepted)
	c.unregistered.Add(s.Unregistered)
	c.rejected.Add(s.Rejected)
	c.retried.Add(s.Retried)
	c.gaveUp.Add(s.GaveUp)
	c.unsent.Add(int64(o.unsent))
}

func (r *phoneRunner) counters() PhoneCounters {
	c := &r.counts
	r.mu.Lock()
	defer r.mu.Unlock()
	return PhoneCounters{
		Accepted: c.accepted.Load(), Unregistered: c.unregistered.Load(), Rejected: c.rejected.Load(),
		Retried: c.retried.Load(), GaveUp: c.gaveUp.Load(), Unsent: c.unsent.Load(),
		Tasks: len(r.tasks), Stopped: len(r.stopped),
	}
}
