package fanfare

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

const (
	phoneBatch = 500 // notifications in a batch, unless the transport says otherwise
	// maxPhoneBatch bounds what a transport may say: all of a batch may have to be tried again, and
	// its checkpoint names each of those.
	maxPhoneBatch = 2000
	// maxRetries bounds the notifications of a task that wait for another try; at the
	// bound the task goes no further until some are settled, so that a service that is down does
	// not fill the store with them. Those that wait for the end of quiet hours do not count: in each time zone
	// there are at most as many as waited when its night began.
	maxRetries  = 2000
	maxAttempts = 10
)

// phones is the fan-out to phones: one runner a platform, so that one service does not
// hold up another.
type phones struct {
	d       *delivery
	runners map[string]*phoneRunner
	running sync.WaitGroup
}

// phoneTask is a task on a platform, as its last checkpoint has it.
type phoneTask struct {
	f        *flight
	seq      uint64
	always   bool      // all of the audience, now
	from     time.Time // after the grace, or a pause
	walk     phoneWalk
	retries  []store.PhoneRetry
	finished bool       // by the end of the task
	at       time.Time  // when it next has something to do
	told     *message   // what is sent, of a message that was withdrawn; nil: the message itself
	then     *phoneTask // which begins when this one is done: its message was withdrawn
	place    int        // in the queue
	// unsaved is what was sent and could not be made durable, for want of room say. Until it is, nothing
	// more is sent, lest phones be notified again and again.
	unsaved *phoneOutcome
}

// phoneOutcome is what became of a batch.
type phoneOutcome struct {
	cp     store.Checkpoint
	walk   phoneWalk
	dead   []store.UserOp // that remove dead tokens
	unsent int
	after  time.Duration // how long those wait, the shortest
	denied *transport.Result
}

func newPhones(d *delivery, mobile []transport.Mobile) (*phones, error) {
	p := &phones{d: d, runners: make(map[string]*phoneRunner, len(mobile))}
	for _, m := range mobile {
		platform := m.Platform()
		if platform == "" || len(platform) > maxPlatformBytes {
			return nil, fmt.Errorf("fanfare: mobile transport with platform %q: 1 to %d bytes", platform, maxPlatformBytes)
		}
		if p.runners[platform] != nil {
			return nil, fmt.Errorf("fanfare: two mobile transports for platform %q", platform)
		}
		r := &phoneRunner{d: d, platform: platform, mobile: m, batch: phoneBatch, tasks: make(map[uint64]*phoneTask), stopped: make(map[uint64]string), ctx: d.ctx, holds: d.cluster == nil, wake: make(chan struct{}, 1)}
		if s, ok := m.(transport.Sizer); ok && s.BatchSize() > 0 {
			r.batch = min(s.BatchSize(), maxPhoneBatch)
		}
		p.runners[platform] = r
	}
	return p, nil
}

// platforms returns where notifications can go, sorted.
func (p *phones) platforms() []string {
	list := make([]string, 0, len(p.runners))
	for platform := range p.runners {
		list = append(list, platform)
	}
	slices.Sort(list)
	return list
}

// check asks each transport that can say so whether its service would take a notification.
func (p *phones) check(c *transport.Content) error {
	for _, platform := range p.platforms() {
		if checker, ok := p.runners[platform].mobile.(transport.Checker); ok {
			if err := checker.Check(c); err != nil {
				return &NotificationError{platform, err}
			}
		}
	}
	return nil
}

func (p *phones) run() {
	for _, r := range p.runners {
		if p.d.cluster != nil {
			p.running.Go(func() { p.d.hold(peers.Phones(r.platform), r.hold) })
		} else {
			p.running.Go(r.run)
		}
	}
}

// resume takes up what is unfinished on a platform, or, without one, on all.
func (p *phones) resume(unfinished []store.PhoneWork, platform string) error {
	d := p.d
	for _, w := range unfinished {
		r := p.runners[w.Platform]
		if r == nil || platform != "" && w.Platform != platform {
			continue // waits for a process that has the transport, or for the task's end
		}
		t, err := d.store.Task(w.Seq)
		if errors.Is(err, ErrUnknownTask) && d.cluster != nil {
			continue // forgotten meanwhile
		}
		if err != nil {
			return err
		}
		f := d.again(w.Seq)
		again := &phoneTask{
			f: f, seq: w.Seq, always: t.Always, walk: phoneWalk{next: w.Next, slept: w.Slept, staying: w.Slept != 0}, retries: w.Retries, from: p.from(&t.Task),
		}
		if w.Recall {
			m, err := d.store.Recall(w.Seq)
			if err != nil || m == nil {
				f.release()
				if err != nil {
					return err
				}
				continue
			}
			again = p.recallTask(f, m)
			again.walk.next, again.retries = w.Next, w.Retries
		}
		r.add(again)
		f.release()
	}
	return nil
}

// start begins a task's work on a platform, if there is a transport for it.
func (p *phones) start(f *flight, platform string, t *store.Task) {
	if r := p.runners[platform]; r != nil {
		r.add(&phoneTask{f: f, seq: f.seq, always: t.Always, from: p.from(t)})
	}
}

// recall has those told whom a task has notified on a platform.
func (p *phones) recall(f *flight, platform string, m *store.Message) {
	r := p.runners[platform]
	if r == nil {
		return
	}
	t := p.recallTask(f, m)
	r.mu.Lock()
	if !r.holds {
		r.mu.Unlock()
		return
	}
	f.retain()
	if before := r.tasks[t.seq]; before != nil { // a batch of it may be under way
		before.then = t
	} else {
		r.put(t)
	}
	r.mu.Unlock()
	r.poke()
}

func (p *phones) recallTask(f *flight, m *store.Message) *phoneTask {
	told := newMessage(m)
	told.now = p.d.o.now
	return &phoneTask{f: f, seq: m.Seq, always: true, from: p.d.o.now(), told: told}
}

// notifying are the platforms on which a task may be notifying phones.
// Those that another node sees to may be doing so if mayRun is true.
func (p *phones) notifying(seq uint64, mayRun bool) (list []string) {
	for _, platform := range p.platforms() {
		r := p.runners[platform]
		r.mu.Lock()
		if r.tasks[seq] != nil || !r.holds && mayRun {
			list = append(list, platform)
		}
		r.mu.Unlock()
	}
	return list
}

// from is when a task's phones are notified at the earliest.
func (p *phones) from(t *store.Task) time.Time {
	at := time.UnixMilli(t.Accepted)
	if t.Always {
		return at
	}
	return at.Add(max(p.d.o.Grace, 0))
}

// stopped says why a task goes no further on a platform, if it does not.
func (p *phones) stopped(seq uint64, platform string) string {
	r := p.runners[platform]
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped[seq]
}

func (p *phones) end(seq uint64) {
	for _, r := range p.runners {
		r.mu.Lock()
		delete(r.stopped, seq)
		t := r.tasks[seq]
		if t != nil {
			t.finished, t.at = true, time.Time{}
			heap.Fix(&r.queue, t.place)
			if t.then != nil {
				t.then.finished = true
			}
		}
		r.mu.Unlock()
		if t != nil {
			r.poke()
		}
	}
}

// full says whether so many notifications wait for another try that no other is begun.
func (t *phoneTask) full() bool {
	n := 0
	for i := range t.retries {
		if !t.retries[i].Asleep {
			n++
		}
	}
	return n >= maxRetries
}

// due returns when the task next has something to do.
func (t *phoneTask) due() time.Time {
	first, more := t.walk.turn()
	more = more && !t.full()
	for _, x := range t.retries {
		if at := time.UnixMilli(x.Due); !more || at.Before(first) {
			first, more = at, true
		}
	}
	if more && first.After(t.from) {
		return first
	}
	return t.from
}

// sending is a notification of a batch, with the retry that it is, if it is one.
type sending struct {
	target store.PhoneTarget
	retry  *store.PhoneRetry
}

// empty says whether there is nothing in an outcome to make durable, but for the next ordinal.
func (o *phoneOutcome) empty() bool {
	c := &o.cp
	return !c.Done && len(c.Retry)+len(c.Settled)+len(c.Asleep)+len(c.Awake) == 0 && c.Stats.Sent == 0 && o.denied == nil
}

// retryID is which notification of a task a retry is.
type retryID struct {
	ordinal uint32
	token   [16]byte
}

func retryIDOf(x *store.PhoneRetry) retryID { return retryID{x.Ordinal, x.Token} }

// warnEvery is how often the log says that most wait for another try, on a platform.
const warnEvery = time.Minute

// maxReasonBytes bounds a service's word.
const maxReasonBytes = 64

// reasonOf is a reason as it is counted.
func reasonOf(reason string) string {
	if reason = strings.ToValidUTF8(reason, "?"); len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "")
	}
	return cmp.Or(reason, "no reason")
}

func (s *sending) attempts() int {
	if s.retry == nil {
		return 0
	}
	return int(s.retry.Attempt)
}

// drop is the command that removes a dead token, unless it was registered after its death, or
// is registered again before the command is applied.
func (s *sending) drop(res transport.Result) (op store.UserOp, ok bool) {
	d := s.target.Device
	if !res.Since.IsZero() && res.Since.UnixMilli() < d.Registered {
		return op, false
	}
	d.Registered++ // a bound: what was registered before it goes
	return store.UserOp{Kind: store.OpDropDevices, ID: s.target.ID, Devices: []store.Device{d}}, true
}

// again is the next try, unless there were too many, or the message ends before it.
func (s *sending) again(now time.Time, after time.Duration, expires int64) (p store.PhoneRetry, ok bool) {
	attempt := s.attempts() + 1
	if after <= 0 {
		after = min(time.Second<<attempt, 10*time.Minute)
		after += time.Duration(rand.Int64N(int64(after/4) + 1)) // so that a service that comes back is not hit by all at once
	}
	p = s.unsent(now.Add(after))
	p.Attempt = uint32(attempt)
	return p, attempt < maxAttempts && p.Due < expires
}

// unsent is a first or further try that is still to be made.
func (s *sending) unsent(now time.Time) store.PhoneRetry {
	return store.PhoneRetry{
		Ordinal: s.target.Ordinal, Token: store.HashToken(s.target.Device.Platform, s.target.Device.Token),
		Attempt: uint32(s.attempts()), Due: now.UnixMilli(),
	}
}

// content returns the notification, the same for all batches while the message is kept.
func (m *message) content() *transport.Content {
	m.decoded.Do(func() {
		m.shown = new(transport.Content)
		if err := json.Unmarshal(m.note, m.shown); err != nil {
			panic(err) // Push encoded it
		}
	})
	return m.shown
}
