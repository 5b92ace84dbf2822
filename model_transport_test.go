package fanfare

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// health is how deliveries to a user go.
type health int

const (
	healthy health = iota
	failing
	panicking
	slow // takes its time, and succeeds
)

var errModelDeliver = errors.New("the transport fails as told")

// modelLog is what all transports of a check have been asked to do: its count of
// moments orders deliveries and the calls of the test.
type modelLog struct {
	now func() time.Time

	mu      sync.Mutex
	moment  int
	events  []modelEvent
	health  map[string]health
	once    map[string]int    // so many deliveries fail
	busy    map[modelCall]int // since which moment
	flying  int
	illegal []string
}

// modelCall is who is being called by what.
type modelCall struct {
	user string
	by   *modelOnline
}

// modelEvent is one delivery.
type modelEvent struct {
	user       string
	m          *transport.Message
	begin, end int
	at, until  time.Time
	ok         bool
	by         *modelOnline
	beside     []modelBeside // the deliveries to the user by other processes that were still under way when it began
	applied    uint64        // the position that its node had applied when it began; 0 without nodes
}

// modelBeside is a delivery that is under way when another one begins.
type modelBeside struct {
	by    *modelOnline
	begin int
}

func (l *modelLog) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moment++
	return l.moment
}

func (l *modelLog) set(user string, h health, once int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health[user], l.once[user] = h, once
}

func (l *modelLog) of(user string) (h health, once int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health[user], l.once[user]
}

func (l *modelLog) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying == 0
}

func (l *modelLog) take() (events []modelEvent, illegal []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, l.events = l.events, nil
	return events, l.illegal
}

func (l *modelLog) enter(o *modelOnline, user string, m *transport.Message) *modelEvent {
	applied := uint64(0)
	if o.applied != nil {
		applied = o.applied()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moment++
	if l.busy[modelCall{user, o}] > 0 {
		l.illegal = append(l.illegal, fmt.Sprintf("two deliveries to %s at the same time", user))
	}
	var beside []modelBeside
	for call, begin := range l.busy {
		if call.user == user && call.by.dead == 0 {
			beside = append(beside, modelBeside{call.by, begin})
		}
	}
	l.busy[modelCall{user, o}] = l.moment
	l.flying++
	return &modelEvent{user: user, m: m, begin: l.moment, at: l.now(), by: o, beside: beside, applied: applied}
}

func (l *modelLog) leave(e *modelEvent, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moment++
	delete(l.busy, modelCall{e.user, e.by})
	l.flying--
	if e.by.dead == 0 || e.begin < e.by.dead {
		e.end, e.until, e.ok = l.moment, l.now(), ok
		l.events = append(l.events, *e)
	}
}

func (l *modelLog) verdict(user string) health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.once[user] > 0 {
		l.once[user]--
		return failing
	}
	return l.health[user]
}

// modelOnline is a transport of a check, one for each Pusher it opens.
type modelOnline struct {
	log  *modelLog
	acks bool
	dead int // from this moment on the process does not exist any more; 0 while it does

	applied func() uint64 // of the node, nil for none
	cut     bool          // the node is cut off: what is delivered is not known elsewhere
	mortal  bool          // the process is to be killed
}

func (o *modelOnline) ClientAcks() bool { return o.acks }

func (o *modelOnline) Deliver(_ context.Context, user string, m *transport.Message) error {
	e := o.log.enter(o, user, m)
	ok := false
	defer func() { o.log.leave(e, ok) }()
	switch o.log.verdict(user) {
	case failing:
		return errModelDeliver
	case panicking:
		panic("as told")
	case slow:
		time.Sleep(70 * time.Millisecond)
	}
	ok = true
	return nil
}

// modelBatcher is the same with many users in a call.
type modelBatcher struct {
	*modelOnline
	most int
}

func (o *modelBatcher) MaxBatch() int { return o.most }

func (o *modelBatcher) DeliverBatch(_ context.Context, users []string, m *transport.Message) []error {
	if len(users) == 0 || len(users) > o.most {
		o.log.mu.Lock()
		o.log.illegal = append(o.log.illegal, fmt.Sprintf("a batch of %d", len(users)))
		o.log.mu.Unlock()
	}
	events, oks := make([]*modelEvent, len(users)), make([]bool, len(users))
	for i, u := range users {
		events[i] = o.log.enter(o.modelOnline, u, m)
	}
	defer func() {
		for i, e := range events {
			o.log.leave(e, oks[i])
		}
	}()
	errs := make([]error, len(users))
	verdicts := make([]health, len(users))
	for i, u := range users {
		if verdicts[i] = o.log.verdict(u); verdicts[i] == panicking {
			panic("as told")
		}
	}
	failed := false
	for i, v := range verdicts {
		switch v {
		case failing:
			errs[i], failed = errModelDeliver, true
			continue
		case slow:
			time.Sleep(70 * time.Millisecond)
		}
		oks[i] = true
	}
	if !failed {
		return nil
	}
	return errs
}
