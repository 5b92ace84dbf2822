package fanfare

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// phoneRunner works on the tasks of its platform, the one first that has had something due for the longest.
type phoneRunner struct {
	d        *delivery
	platform string
	mobile   transport.Mobile
	batch    int
	counts   phoneCounters

	ctx   context.Context // of the Pusher, or of the lease while the node has it
	mu    sync.Mutex
	holds bool // it is for this process to notify
	tasks map[uint64]*phoneTask
	queue phoneQueue // the same
	// stopped are tasks that go no further in this process, and why.
	stopped map[uint64]string
	warned  time.Time // when the log last said that most wait for another try
	wake    chan struct{}
}

// hold does the work while this node has its lease, from the checkpoints that there are.
func (r *phoneRunner) hold(ctx context.Context) {
	r.mu.Lock()
	r.ctx, r.holds = ctx, true // what is accepted from here on is added by who tells it
	r.mu.Unlock()
	_, unfinished, err := r.d.store.Unfinished()
	if err == nil {
		err = r.d.phones.resume(unfinished, r.platform)
	}
	if err != nil {
		r.d.fault("notify phones", err, "platform", r.platform)
		select { // until it gets the lease again
		case <-time.After(sweepEvery):
		case <-ctx.Done():
		}
	} else {
		r.run()
	}
	r.mu.Lock()
	left := r.tasks
	r.holds, r.tasks, r.queue, r.stopped = false, make(map[uint64]*phoneTask), nil, make(map[uint64]string)
	r.mu.Unlock()
	for _, t := range left {
		for ; t != nil; t = t.then {
			t.f.release()
		}
	}
}

// add hands a task to the runner, which may be done with it before add returns: so its part in the
// fan-out is counted first.
func (r *phoneRunner) add(t *phoneTask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.holds || r.tasks[t.seq] != nil { // another node's, or taken up while it was told
		return
	}
	t.f.retain()
	r.put(t)
	r.poke()
}

// put is add with the lock held, of a task that is counted.
func (r *phoneRunner) put(t *phoneTask) {
	t.at = t.due()
	r.tasks[t.seq] = t
	heap.Push(&r.queue, t)
}

func (r *phoneRunner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *phoneRunner) run() {
	for r.ctx.Err() == nil {
		t, wait := r.pick()
		if t == nil {
			r.sleep(wait)
			continue
		}
		done, err := r.step(t)
		if err != nil {
			r.d.fault("notify phones", err, "platform", r.platform)
			if t.unsaved != nil {
				r.sleep(time.Second) // the store takes nothing, for any task
			} else {
				t.from = r.d.o.now().Add(time.Second)
			}
		} else if now := r.d.o.now(); t.from.Before(now) {
			t.from = now // others have their turn
		}
		if done {
			r.remove(t)
		} else {
			r.renew(t)
		}
	}
}

// sleep waits for the time given, or without end if it is 0, or until something changes.
func (r *phoneRunner) sleep(wait time.Duration) {
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-r.wake:
	case <-r.ctx.Done():
	}
}

func (r *phoneRunner) remove(t *phoneTask) {
	r.mu.Lock()
	delete(r.tasks, t.seq)
	heap.Remove(&r.queue, t.place)
	if t.then != nil { // at once, so that the end of the message finds one of the two
		r.put(t.then)
	}
	r.mu.Unlock()
	t.f.release()
}

// renew gives a task its new place after a step.
func (r *phoneRunner) renew(t *phoneTask) {
	at := t.due()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.finished {
		t.at = at
		heap.Fix(&r.queue, t.place)
	}
}

// pick returns a task that has something to do now, else how long until one has.
func (r *phoneRunner) pick() (*phoneTask, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil, 0
	}
	t := r.queue[0]
	if wait := t.at.Sub(r.d.o.now()); wait > 0 {
		return nil, wait
	}
	return t, 0
}

// step sends one batch and makes its outcome durable. Done means that the task is over on this platform.
func (r *phoneRunner) step(t *phoneTask) (done bool, err error) {
	if t.unsaved != nil { // before all else: the task may have ended since, and what was sent counts
		return r.settle(t)
	}
	r.mu.Lock()
	finished := t.finished
	r.mu.Unlock()
	if finished {
		return true, nil // the end of the task closed the checkpoint
	}
	m := t.told
	if m == nil {
		if m, err = r.d.messages.acquire(t.seq, nil); m == nil {
			return err == nil, err
		}
		defer r.d.messages.release(m)
	}
	if !m.deliverable() {
		t.from = r.d.o.now().Add(time.Second) // its end is near
		return false, nil
	}
	o, err := r.sendBatch(t, m)
	if o != nil {
		r.counts.count(o)
	}
	switch {
	case err != nil || o == nil:
		return false, err
	case o.empty() && o.cp.Next == t.walk.next:
		t.walk = o.walk
		return false, nil
	case o.cp.Stats.Sent > 0 || o.unsent == 0 && o.denied == nil:
		t.unsaved = o
		return r.settle(t)
	case o.denied != nil:
		r.stop(t, o.denied)
		return true, nil
	}
	t.from = r.d.o.now().Add(o.after) // nothing was tried: the checkpoint is good as it is
	return false, nil
}

// stop ends a task's work in this process.
func (r *phoneRunner) stop(t *phoneTask, why *transport.Result) {
	reason := strings.TrimSuffix(cmp.Or(why.Reason, why.Outcome.String())+": "+why.Detail, ": ")
	r.d.fault("the service of "+r.platform+" denies its sender", errors.New(reason))
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.finished {
		r.stopped[t.seq] = reason
	}
}

// settle makes the outcome of a step durable.
func (r *phoneRunner) settle(t *phoneTask) (done bool, err error) {
	if err := r.record(t.unsaved); err != nil {
		return false, err
	}
	if t.told == nil {
		r.d.events.changed(t.seq)
	}
	cp := &t.unsaved.cp
	t.walk = t.unsaved.walk
	settled := make(map[retryID]struct{}, len(cp.Settled))
	for i := range cp.Settled {
		settled[retryIDOf(&cp.Settled[i])] = struct{}{}
	}
	t.retries = slices.DeleteFunc(t.retries, func(x store.PhoneRetry) bool {
		_, is := settled[retryIDOf(&x)]
		return is
	})
	t.retries = append(t.retries, cp.Retry...)
	denied := t.unsaved.denied
	t.unsaved = nil
	if denied != nil && !cp.Done {
		r.stop(t, denied)
		return true, nil
	}
	return cp.Done, nil
}

// sendBatch sends what has its turn. Nil: nothing was sent, because the Pusher closes or the message has ended.
func (r *phoneRunner) sendBatch(t *phoneTask, m *message) (*phoneOutcome, error) {
	o := &phoneOutcome{cp: store.Checkpoint{Seq: t.seq, Platform: r.platform, Next: t.walk.next, Recall: t.told != nil}, walk: t.walk}
	cp := &o.cp
	batch, err := r.collect(t, m, o)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(batch, r.batch) {
		switch {
		case m.deliverable() && r.ctx.Err() == nil && o.denied == nil:
			r.send(m, part, o)
		case cp.Stats.Sent == 0 && o.denied == nil:
			return nil, nil // after a restart the checkpoint is where it was
		default: // the part before is not to be sent again, and this one still is
			for _, s := range part {
				cp.Retry = append(cp.Retry, s.unsent(r.d.o.now()))
			}
		}
	}
	_, more := o.walk.turn()
	cp.Done = !more && len(cp.Retry)+len(t.retries)-len(cp.Settled) == 0
	return o, nil
}

// record makes the outcome of a batch durable. It may be called again after an error.
func (r *phoneRunner) record(o *phoneOutcome) error {
	// The context of the Pusher ends while this is under way; what was sent must be recorded all the same.
	ctx := context.WithoutCancel(r.ctx)
	for len(o.dead) > 0 {
		n, size := 0, 0
		for n < min(len(o.dead), 100) && (n == 0 || size+opBytes(&o.dead[n]) <= importBytes) {
			size += opBytes(&o.dead[n])
			n++
		}
		if _, err := r.d.store.Propose(ctx, &store.Batch{Ops: o.dead[:n]}); err != nil {
			return err
		}
		o.dead = o.dead[n:]
	}
	_, err := r.d.store.Propose(ctx, &o.cp)
	return err
}

// collect takes the retries that are due, and then users who have not had their turn. A retry whose user is asleep by now is put off, and a user who is asleep is passed over.
func (r *phoneRunner) collect(t *phoneTask, m *message, o *phoneOutcome) (batch []sending, err error) {
	cp, at := &o.cp, r.d.o.now()
	for _, x := range t.retries {
		if x.Due > at.UnixMilli() || len(cp.Settled) >= r.batch {
			continue
		}
		cp.Settled = append(cp.Settled, x)
		target, ok, err := r.d.store.PhoneTarget(t.seq, r.platform, t.always, &x)
		if err != nil {
			return nil, err
		}
		if !ok || !t.always && r.d.connected(x.Ordinal) {
			continue
		}
		end, err := r.putOff(at, &x, target.ID, m)
		switch {
		case err != nil:
			return nil, err
		case end.IsZero():
			batch = append(batch, sending{target, &x})
		default:
			later := x
			later.Due, later.Asleep = end.UnixMilli(), true
			cp.Retry = append(cp.Retry, later)
		}
	}
	if turn, more := o.walk.turn(); !more || turn.After(at) || t.full() {
		return batch, nil
	}
	w := store.PhoneWalk{Seq: t.seq, Platform: r.platform, Always: t.always, Recall: t.told != nil, Again: o.walk.scanned, From: o.walk.next}
	var since time.Time
	if w.Again {
		w.From, since = o.walk.again, time.UnixMilli(o.walk.slept)
	}
	look := at
	if r.quiet(m) {
		if w.Asleep, look, err = r.d.phones.night(r.ctx, at, since); err != nil {
			return nil, err
		}
	}
	for more, sets := true, 0; more && len(batch) < r.batch && sets < store.MaxStepSets && r.ctx.Err() == nil; {
		w.Targets = r.batch - len(batch)
		step, err := r.d.store.PhoneStep(&w)
		if err != nil {
			return nil, err
		}
		for _, target := range step.Targets {
			if t.always || !r.d.connected(target.Ordinal) {
				batch = append(batch, sending{target: target})
			}
		}
		cp.Asleep, cp.Awake = append(cp.Asleep, step.Asleep...), append(cp.Awake, step.Awake...)
		o.walk.advance(&step, at, look)
		w.From, more, sets = step.Next, step.More, sets+step.Sets
	}
	cp.Next, cp.At = o.walk.next, at.UnixMilli()
	return batch, nil
}

// quiet says whether quiet hours hold for a message.
func (r *phoneRunner) quiet(m *message) bool {
	q := &r.d.o.Quiet
	return q.From != q.To && !m.content().Urgent
}

// putOff returns when the quiet hours end that the user of a retry has, zero for none.
func (r *phoneRunner) putOff(now time.Time, x *store.PhoneRetry, user string, m *message) (time.Time, error) {
	if !r.quiet(m) {
		return time.Time{}, nil
	}
	u, err := r.d.store.User(user)
	if errors.Is(err, ErrUnknownUser) {
		return time.Time{}, nil
	}
	return r.d.o.Quiet.putOff(now, x.Asleep, u.Devices), err
}

// send sends one batch and adds its outcomes.
func (r *phoneRunner) send(m *message, batch []sending, o *phoneOutcome) {
	content, fill := m.content(), m.filler()
	list, sent := make([]transport.Notification, 0, len(batch)), make([]sending, 0, len(batch))
	var fault error
	for _, s := range batch {
		d := s.target.Device
		if fill != nil {
			values, err := r.d.values(s.target.ID)
			if err != nil { // that of this user waits, not those of all
				fault = err
				r.outcome(&s, transport.Result{Outcome: transport.Unsent}, r.d.o.now(), m, o)
				continue
			}
			content = fill.notification(values)
		}
		sent = append(sent, s)
		list = append(list, transport.Notification{
			UserID: s.target.ID, Message: m.m, Content: content, Attempt: 1 + s.attempts(),
			Device: transport.Device{Platform: d.Platform, Token: d.Token, Topic: d.Topic, Locale: d.Locale, TimeZone: d.TimeZone},
		})
	}
	if fault != nil {
		r.d.fault("read what fills notifications", fault, "platform", r.platform, "of", len(batch), "wait", len(batch)-len(sent))
	}
	if batch = sent; len(batch) == 0 {
		return
	}
	results := r.call(list)
	now := r.d.o.now()
	waiting, why := 0, transport.Result{}
	for i, s := range batch {
		res := transport.Result{Outcome: transport.Retry, Reason: "no result"}
		if i < len(results) {
			res = results[i]
		}
		r.outcome(&s, res, now, m, o)
		if res.Outcome == transport.Retry || res.Outcome == transport.Unsent {
			waiting++
			why = res
		}
	}
	if 2*waiting >= len(batch) && now.Sub(r.warned) >= warnEvery { // a few always do
		r.warned = now
		r.d.o.Logger.Warn("fanfare: notifications wait for another try", "platform", r.platform, "of", len(batch), "wait", waiting,
			"reason", why.Reason, "detail", why.Detail)
	}
}

// outcome adds what became of one notification.
func (r *phoneRunner) outcome(s *sending, res transport.Result, now time.Time, m *message, o *phoneOutcome) {
	cp := &o.cp
	switch res.Outcome {
	case transport.Unsent:
		after := max(res.RetryAfter, time.Second)
		if o.unsent++; o.unsent == 1 || after < o.after {
			o.after = after
		}
		cp.Retry = append(cp.Retry, s.unsent(now.Add(after)))
		return
	case transport.Denied:
		o.denied = &res
		cp.Retry = append(cp.Retry, s.unsent(now))
		return
	}
	cp.Stats.Sent++
	switch res.Outcome {
	case transport.Accepted:
		cp.Stats.Accepted++
	case transport.Unregistered:
		cp.Stats.Unregistered++
		if op, ok := s.drop(res); ok {
			o.dead = append(o.dead, op)
		}
	case transport.Rejected:
		cp.Stats.Rejected++
		cp.Stats.Reject(reasonOf(res.Reason), 1)
		r.d.o.Logger.Debug("fanfare: notification rejected", "platform", r.platform, "user", s.target.ID, "reason", res.Reason, "detail", res.Detail)
	default:
		cp.Stats.Retried++
		if next, ok := s.again(now, res.RetryAfter, m.expires); ok {
			cp.Retry = append(cp.Retry, next)
		} else {
			cp.Stats.GaveUp++
		}
	}
}

// call is Send with its promises made good.
func (r *phoneRunner) call(list []transport.Notification) (results []transport.Result) {
	ctx, cancel := context.WithTimeout(r.ctx, r.d.o.SendTimeout)
	defer cancel()
	defer func() {
		if x := recover(); x != nil {
			r.d.fault("mobile transport", &panicError{x}, "platform", r.platform)
			results = nil
		}
	}()
	results = r.mobile.Send(ctx, list)
	if len(results) > len(list) {
		results = nil // whose is whose?
	}
	return results
}
