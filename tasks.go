package fanfare

import (
	"context"
	"iter"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Task is the push of one message to one audience. It is kept, with its
// statistics, for 30 days after its end. Its methods are safe for concurrent use.
type Task struct {
	// ID names the task, and the message that users receive.
	ID string
	// Duplicate says that Push found the key of an earlier push, and this is its task.
	Duplicate bool

	p    *Pusher
	seq  uint64
	info TaskInfo
}

// TaskInfo is what does not change of a task.
type TaskInfo struct {
	From     string    // as in the [Message]
	To       Audience  // as in the [Message]; of a plan with a pace, with variants or Local: which of those whose turn it was
	Key      string    // as in the [Message]; empty: none
	Category string    // as in the [Message]; empty: none
	Accepted time.Time // to the millisecond
	Expires  time.Time // equals Accepted for lifetime 0
	Plan     string    // the ID of the plan that released it; empty: none
	Variant  string    // of the plan's variants, which one; empty: none
}

// Info returns what does not change of the task.
func (t *Task) Info() TaskInfo { return t.info }

// Progress is how far a task has come. Total is the sum of Delivered, Failed, Pending,
// Expired, Withdrawn and Gone; while a push with lifetime 0 goes out, these are 0.
type Progress struct {
	Total     int64 // users of the frozen audience
	Delivered int64 // have the message; with client acks, have acknowledged it
	Failed    int64 // with lifetime 0: the transport failed for them
	Pending   int64 // wait for it
	Expired   int64 // did not come in time
	Withdrawn int64 // waited for it when it was withdrawn
	Gone      int64 // were unregistered while waiting
	// OptedOut counts those who were left out because they want no messages of the category; they are not of Total.
	OptedOut int64
	// Capped counts those who were left out because they have had as many messages of the category as they may have; they are not of Total.
	Capped int64
	// Opened is how many users have opened the message, as [Pusher.Opened] was told, those unregistered since too. It is no part of the sum.
	Opened int64
	// Ended is when the last user had it, it expired, or it was withdrawn; zero before. One whose notification goes to
	// all always does not end before the phones are done.
	Ended time.Time
	// Phones counts notifications by platform.
	Phones map[string]PhoneStats
	// Recalls counts what told phones that the message was withdrawn, by platform, after the end of the task; nil unless there were any to tell.
	Recalls map[string]PhoneStats
	// Recalling says that there are phones still to be told: now, at another try, or after the next Open where one of Recalls is Stopped.
	Recalling bool
}

// Notification returns what phones show of the message, nil if they show nothing, and once the task has ended: the message is kept no longer.
func (t *Task) Notification(ctx context.Context) (*Notification, error) {
	if err := t.p.open(); err != nil {
		return nil, err
	}
	m, err := t.p.store.Message(t.seq)
	if err != nil || m == nil || len(m.Note) == 0 {
		return nil, err
	}
	n, err := readNote(m.Note)
	if err != nil || n.Silent {
		return nil, err
	}
	return n, nil
}

// PhoneStats counts the notifications of a task on a platform. What was accepted after some retries counts in both.
type PhoneStats struct {
	Sent         int64 // tries, whether they reached the service or not
	Accepted     int64 // taken by the service
	Unregistered int64 // dead tokens
	Rejected     int64 // refused for good
	Retried      int64 // answered "try again"
	GaveUp       int64 // tried too often, or the message's end came before the next try
	// Reasons are those of the rejected ones in the service's own words, at most 32 and "other". Nil: there are none.
	Reasons map[string]int64
	// Stopped is why this process goes no further, because the service denies its sender, say, and what to look at; what is
	// left is tried after the next Open. Empty: it was not stopped.
	Stopped string
}

// Progress returns how far the task has come. It returns [ErrUnknownTask] once the task is forgotten.
func (t *Task) Progress() (Progress, error) {
	if err := t.p.open(); err != nil {
		return Progress{}, err
	}
	s, err := t.p.store.Task(t.seq)
	if err != nil {
		return Progress{}, err
	}
	return t.p.progressOf(s), nil
}

func (p *Pusher) progressOf(s *store.TaskState) Progress {
	g := s.Progress
	out := Progress{
		Total: g.Total, Delivered: g.Delivered, Failed: g.Failed, Pending: g.Pending,
		Expired: g.Expired, Withdrawn: g.Withdrawn, Gone: g.Gone, OptedOut: g.OptedOut, Capped: g.Capped, Opened: g.Opened,
	}
	if g.Ended != 0 {
		out.Ended = time.UnixMilli(g.Ended)
	}
	out.Phones, out.Recalls = phoneStats(s.Phones), phoneStats(s.Recalls)
	out.Recalling = len(s.Recalls) > 0 && !s.Notified
	for platform, n := range out.Phones {
		of := out.Phones
		if r, is := out.Recalls[platform]; is {
			of, n = out.Recalls, r
		}
		n.Stopped = p.delivery.phones.stopped(s.Seq, platform)
		of[platform] = n
	}
	return out
}

func phoneStats(of map[string]store.PhoneStats) map[string]PhoneStats {
	if of == nil {
		return nil
	}
	out := make(map[string]PhoneStats, len(of))
	for platform, n := range of {
		out[platform] = PhoneStats{
			Sent: n.Sent, Accepted: n.Accepted, Unregistered: n.Unregistered, Rejected: n.Rejected, Retried: n.Retried, GaveUp: n.GaveUp, Reasons: n.Reasons,
		}
	}
	return out
}

// Wait returns when the fan-out of this process is finished: everyone who was online and up to date has
// been tried and counted, and every phone has been notified or its service denies the sender, or the task has ended. Users who
// come later are not waited for, nor those who are still catching up with earlier messages, unless the
// lifetime is 0: then they get it in its place or not at all, and are waited for until that is known. Phones that are told of a
// withdrawal are waited for as those that are notified. What there was no room to record may be counted later. It returns the context's error if that ends first, and
// [ErrClosed] if the Pusher closes.
func (t *Task) Wait(ctx context.Context) error {
	if err := t.p.writable(); err != nil {
		return err
	}
	for f := t.p.delivery.flight(t.seq); f != nil; f = t.p.delivery.flight(t.seq) { // another, where it was withdrawn meanwhile
		if err := t.p.landed(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pusher) landed(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.delivery.ctx.Done():
		return ErrClosed
	}
}

// Drain returns when the pushes with lifetime 0 that are under way are finished, as [Task.Wait] says. It is for a process that is to end, after its
// last push and before it lets its connections go: such a push does not go on at the next Open, and all others do. It
// does not wait for pushes that come meanwhile. It returns the context's error if that ends first, and [ErrClosed] if the Pusher closes.
func (p *Pusher) Drain(ctx context.Context) error {
	if err := p.writable(); err != nil {
		return err
	}
	for _, f := range p.delivery.fleeting() {
		if err := p.landed(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// Task returns a task by its ID, or [ErrUnknownTask].
func (p *Pusher) Task(ctx context.Context, id string) (*Task, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	return p.task(id)
}

func (p *Pusher) task(id string) (*Task, error) {
	seq, random, ok := store.ParseMessageID(id)
	if !ok {
		return nil, ErrUnknownTask
	}
	s, err := p.store.Task(seq)
	if err != nil {
		return nil, err
	}
	if s.Random != random {
		return nil, ErrUnknownTask
	}
	return p.taskOf(s), nil
}

// TaskOfKey returns the task of a push by its sender and idempotency key, as long as a push with that key would be the same one: 7
// days. Otherwise it returns [ErrUnknownTask].
func (p *Pusher) TaskOfKey(ctx context.Context, from, key string) (*Task, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if key == "" {
		return nil, ErrUnknownTask
	}
	s, err := p.store.TaskOfKey(from, key, p.o.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	return p.taskOf(s), nil
}

// taskSeq is task for those who want no more than to know that there is one.
func (p *Pusher) taskSeq(id string) (uint64, error) {
	seq, random, ok := store.ParseMessageID(id)
	if !ok {
		return 0, ErrUnknownTask
	}
	r, err := p.store.TaskRandom(seq)
	if err == nil && r != random {
		err = ErrUnknownTask
	}
	return seq, err
}

func (p *Pusher) taskOf(s *store.TaskState) *Task {
	t := &Task{
		ID: store.MessageID(s.Seq, s.Random), p: p, seq: s.Seq,
		info: TaskInfo{
			From: s.From, To: Audience{s.To}, Key: s.Key, Category: s.Category,
			Accepted: time.UnixMilli(s.Accepted), Expires: time.UnixMilli(s.Expires), Variant: s.Part,
		},
	}
	if s.Plan != 0 {
		t.info.Plan = store.PlanID(s.Plan)
	}
	return t
}

// Tasks yields the tasks, newest first. Nothing is held open between two of them.
func (p *Pusher) Tasks(ctx context.Context) iter.Seq2[*Task, error] {
	return p.tasks(ctx, p.store.Tasks())
}

// TasksBefore yields the tasks that were accepted before another, newest first, as Tasks does, for a list that goes on where a page of it has ended. The other may be
// forgotten by then; what cannot be an ID is [ErrUnknownTask].
func (p *Pusher) TasksBefore(ctx context.Context, id string) iter.Seq2[*Task, error] {
	seq, _, ok := store.ParseMessageID(id)
	if !ok {
		return func(yield func(*Task, error) bool) { yield(nil, ErrUnknownTask) }
	}
	return p.tasks(ctx, p.store.TasksBefore(seq))
}

func (p *Pusher) tasks(ctx context.Context, of iter.Seq2[*store.TaskState, error]) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		if err := p.open(); err != nil {
			yield(nil, err)
			return
		}
		for s, err := range of {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(p.taskOf(s), nil) {
				return
			}
		}
	}
}
