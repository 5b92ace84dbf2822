package fanfaretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// life is one process' worth of a Pusher, from its opening to its close or crash. The transports outlive it; what
// is wired to them through it does not.
type life struct {
	p  *Pusher
	mu sync.Mutex
	// over: it has crashed. What goes on in it is heard of no more.
	over   bool
	inside map[*string]bool // the calls of transports under way, in words
}

func newLife(p *Pusher) *life { return &life{p: p, inside: make(map[*string]bool)} }

var errOver = errors.New("fanfaretest: the process has crashed")

// enter notes a call of a transport until leave is called.
func (l *life) enter(call string) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil, errOver
	}
	l.inside[&call] = true
	return func() {
		l.mu.Lock()
		delete(l.inside, &call)
		l.mu.Unlock()
		l.p.news.tell()
	}, nil
}

// calls returns those under way, in words and sorted.
func (l *life) calls() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for call := range l.inside {
		list = append(list, *call)
	}
	slices.Sort(list)
	return list
}

func (l *life) crash() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}

func (l *life) crashed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// hooks are those of the host as long as the life lasts, and tell of the end of tasks.
func (l *life) hooks(h fanfare.Hooks) fanfare.Hooks {
	if f := h.Stuck; f != nil {
		h.Stuck = func(user, id string) {
			if !l.crashed() {
				f(user, id)
			}
		}
	}
	if f := h.Failed; f != nil {
		h.Failed = func(user, id string, err error) {
			if !l.crashed() {
				f(user, id, err)
			}
		}
	}
	h.Accepted, h.Progress, h.Expired, h.Withdrawn = during(l, h.Accepted), during(l, h.Progress), during(l, h.Expired), during(l, h.Withdrawn)
	h.Delivered, h.Error = during(l, h.Delivered), during(l, h.Error)
	finished := during(l, h.Finished)
	h.Finished = func(e fanfare.TaskEvent) {
		if finished != nil {
			finished(e)
		}
		l.p.news.tell()
	}
	return h
}

func during[T any](l *life, f func(T)) func(T) {
	if f == nil {
		return nil
	}
	return func(v T) {
		if !l.crashed() {
			f(v)
		}
	}
}

// online is the transport of a life: the Recorder, and behind it the host's own, if it has one.
type online struct {
	*life
	host transport.Online
	acks bool
}

func (l *life) online(host transport.Online, acks bool) transport.Online {
	o := &online{l, host, acks}
	if host == nil {
		return o
	}
	a, is := host.(transport.ClientAcker)
	o.acks = is && a.ClientAcks()
	l.p.Recorder.OnDeliver(func(ctx context.Context, user string, m *transport.Message) error {
		b, is := host.(transport.Batcher)
		if !is {
			return host.Deliver(ctx, user, m)
		}
		switch errs := b.DeliverBatch(ctx, []string{user}, m); len(errs) {
		case 0:
			return nil
		case 1:
			return errs[0]
		default:
			return fmt.Errorf("fanfaretest: DeliverBatch returned %d errors for one user", len(errs))
		}
	})
	return o
}

func (o *online) Deliver(ctx context.Context, user string, m *transport.Message) error {
	leave, err := o.enter(fmt.Sprintf("Deliver of %s to %s", label(m), user))
	if err != nil {
		return err
	}
	defer leave()
	return o.p.Recorder.Deliver(ctx, user, m)
}

func (o *online) ClientAcks() bool { return o.acks }

// Close closes the host's transport, and tells who waits that nothing more comes. The Recorder is open for the next life.
func (o *online) Close() error {
	defer o.p.news.tell()
	if c, is := o.host.(transport.Closer); is && !o.crashed() {
		return c.Close()
	}
	return nil
}

// service is the phones of a platform in a life.
type service struct {
	*life
	phones *transporttest.Phones
}

func (s *service) Platform() transport.Platform { return s.phones.Platform() }
func (s *service) BatchSize() int               { return s.phones.BatchSize() }

func (s *service) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	platform := s.phones.Platform()
	unsent := slices.Repeat([]transport.Result{{Outcome: transport.Unsent, Reason: "down", RetryAfter: time.Second}}, len(batch))
	leave, err := s.enter(fmt.Sprintf("Send of %s to %s", count(len(batch), "notification"), platform))
	if err != nil {
		return unsent
	}
	defer leave()
	if s.p.isDown(platform) {
		return unsent
	}
	s.p.noteTokens(batch)
	return s.phones.Send(ctx, batch)
}
