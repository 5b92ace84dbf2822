package fanfare

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

var stressSeeds = flag.Int("stress.seeds", 1, "how many scripts TestStress runs of each kind")

// TestStress does everything at once, to a transport that hangs, fails and panics, with room and without: what
// [TestModel] leaves out because it says exactly what is to happen. Here the rules of transport.Online
// hold all the while, and when all is quiet nothing is left under way.
func TestStress(t *testing.T) {
	t.Parallel()
	for _, acks := range []bool{false, true} {
		for _, batches := range []bool{false, true} {
			for seed := range *stressSeeds {
				t.Run(fmt.Sprintf("acks=%v batches=%v seed=%d", acks, batches, seed), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						s := newStress(t, uint64(seed), acks, batches)
						for range 200 {
							s.act()
						}
						s.quiet()
						s.check()
					})
				})
			}
		}
	}
}

// stress is a script under way, and its transport.
type stress struct {
	t        *testing.T
	p        *Pusher
	journal  *testJournal
	acks     bool
	rng      *rand.Rand // the script's
	users    []string
	sessions map[string][]*Session
	tasks    []string

	mu       sync.Mutex
	luck     *rand.Rand // the transport's
	wild     bool
	inside   map[string]bool
	last     map[string]uint64          // the highest that was delivered
	acked    map[string]map[uint64]bool // acknowledged, and applied
	renewed  map[string]bool            // was unregistered: a name is then of several users
	problems []string
}

func newStress(t *testing.T, seed uint64, acks, batches bool) *stress {
	s := &stress{
		t: t, acks: acks, journal: new(testJournal), rng: rand.New(rand.NewPCG(seed, 3)), sessions: make(map[string][]*Session),
		luck: rand.New(rand.NewPCG(seed, 7)), wild: true, inside: make(map[string]bool), last: make(map[string]uint64),
		acked: make(map[string]map[uint64]bool), renewed: make(map[string]bool),
	}
	var online transport.Online = s
	if batches {
		online = stressBatches{s}
	}
	s.p = testPusher(t, t.TempDir(), Options{
		Online: online, Workers: 1 + int(seed%4), blockBits: 3, DeltaEntries: 100 + int(seed%3)*1000, wrap: s.journal.wrap,
	})
	for i := range 20 {
		u := fmt.Sprint("u", i)
		s.users, s.acked[u] = append(s.users, u), make(map[uint64]bool)
	}
	must(t, s.p.Register(context.Background(), s.users...))
	return s
}

// act does one thing. What it does may fail for want of room.
func (s *stress) act() {
	ctx := context.Background()
	u := s.users[s.rng.IntN(len(s.users))]
	switch x := s.rng.IntN(20); {
	case x < 6:
		lifetime := []time.Duration{0, time.Hour, time.Hour}[s.rng.IntN(3)]
		if task, err := s.p.Push(ctx, Message{Body: []byte("x"), To: All(), Lifetime: lifetime}); err == nil {
			s.tasks = append(s.tasks, task.ID)
		}
	case x < 11:
		if session, err := s.p.Connect(ctx, u); err == nil {
			s.sessions[u] = append(s.sessions[u], session)
		}
	case x < 14:
		if l := s.sessions[u]; len(l) > 0 {
			l[0].Close()
			s.sessions[u] = l[1:]
		}
	case x == 14 && len(s.tasks) > 0:
		s.p.Withdraw(ctx, s.tasks[s.rng.IntN(len(s.tasks))])
	case x == 15:
		s.mu.Lock()
		s.renewed[u] = true
		s.mu.Unlock()
		s.p.Unregister(ctx, u)
	case x == 16:
		s.journal.failWith(syscall.ENOSPC)
	case x == 17:
		s.journal.failWith(nil)
	case x == 18 && s.rng.IntN(2) == 0:
		time.Sleep(10 * time.Second)
	default:
		time.Sleep(time.Duration(s.rng.IntN(500)) * time.Millisecond)
	}
}

// quiet lets everything come to its end.
func (s *stress) quiet() {
	s.journal.failWith(nil)
	s.mu.Lock()
	s.wild = false
	s.mu.Unlock()
	time.Sleep(40 * time.Minute)
	synctest.Wait()
}

func (s *stress) check() {
	for _, problem := range s.problems {
		s.t.Error(problem)
	}
	for _, u := range s.users {
		if len(s.sessions[u]) > 0 && !s.renewed[u] {
			for m, err := range s.p.Pending(context.Background(), u) {
				must(s.t, err)
				s.t.Errorf("%s, who is connected, waits for %d", u, m.Sequence)
			}
		}
	}
	for task, err := range s.p.Tasks(context.Background()) {
		must(s.t, err)
		if g := progress(s.t, task); g.Total != g.Delivered+g.Failed+g.Pending+g.Expired+g.Withdrawn+g.Gone {
			s.t.Errorf("%+v", g)
		}
	}
	checkIdle(s.t, s.p)
}

// checkIdle says what is under way, where nothing should be.
func checkIdle(t *testing.T, p *Pusher) {
	t.Helper()
	d := p.delivery
	d.eachLane(func(l *lane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.busy) + len(l.gone) + len(l.waiters) + len(l.hung) + len(l.unacked) + len(l.runs) + len(l.unsaved) + len(l.waiting); n > 0 || l.current != nil || l.scheduled {
			t.Errorf("lane %d: busy %v, gone %v, waiters %v, hung %v, unacked %d, runs %d, unsaved %v, waiting %d, current %v, scheduled %v",
				l.block, l.busy, l.gone, l.waiters, l.hung, len(l.unacked), len(l.runs), l.unsaved, len(l.waiting), l.current, l.scheduled)
		}
		for u := range l.users.all() {
			if !u.live || u.queued || u.stuck || u.full || len(u.fleeting)+len(u.unacked) > 0 {
				t.Errorf("%+v", u)
			}
		}
	})
	d.messages.mu.Lock()
	for seq, m := range d.messages.cached {
		if m.refs != 0 {
			t.Errorf("message %d is held %d times", seq, m.refs)
		}
	}
	d.messages.mu.Unlock()
	d.flightsMu.Lock()
	if len(d.flights)+len(d.owed) > 0 {
		t.Errorf("%d flights, %d outcomes", len(d.flights), len(d.owed))
	}
	d.flightsMu.Unlock()
	if n := d.pool.abandoned.Load(); n != 0 {
		t.Errorf("%d calls are left behind", n)
	}
	if d.pool.working() {
		t.Error("somebody works")
	}
}

func (s *stress) ClientAcks() bool { return s.acks }

func (s *stress) Deliver(_ context.Context, u string, m *transport.Message) error {
	wait, outcome := s.enter(u, m)
	time.Sleep(wait)
	if s.leave(u, m, outcome == nil); outcome == errStressPanic {
		panic(outcome)
	}
	return outcome
}

var errStress, errStressPanic = errors.New("as told"), errors.New("panic as told")

// enter notes what is against the rules, and decides what becomes of a delivery.
func (s *stress) enter(u string, m *transport.Message) (wait time.Duration, outcome error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.renewed[u] {
		switch {
		case s.inside[u]:
			s.problems = append(s.problems, "two calls at once for "+u)
		case !s.acks && m.Sequence <= s.last[u]:
			s.problems = append(s.problems, fmt.Sprintf("%s: %d after %d", u, m.Sequence, s.last[u]))
		case s.acked[u][m.Sequence]:
			s.problems = append(s.problems, fmt.Sprintf("%s: %d after its ack", u, m.Sequence))
		}
	}
	s.inside[u] = true
	if !s.wild {
		return 0, nil
	}
	switch x := s.luck.IntN(100); {
	case x < 3:
		wait = time.Duration(5000+s.luck.IntN(8000)) * time.Millisecond
	case x < 20:
		wait = time.Duration(s.luck.IntN(60)) * time.Millisecond
	case x == 50:
		outcome = errStressPanic
	}
	if outcome == nil && s.luck.IntN(10) == 0 {
		outcome = errStress
	}
	return wait, outcome
}

// leave notes what was delivered; the client acknowledges most of it, some time later.
func (s *stress) leave(u string, m *transport.Message, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside[u] = false
	if !ok {
		return
	}
	s.last[u] = max(s.last[u], m.Sequence)
	if s.acks && m.Expires.After(m.Accepted) && (!s.wild || s.luck.IntN(4) > 0) {
		time.AfterFunc(time.Duration(s.luck.IntN(3000))*time.Millisecond, func() {
			if s.p.Ack(context.Background(), u, m.ID) == nil {
				s.mu.Lock()
				s.acked[u][m.Sequence] = true
				s.mu.Unlock()
			}
		})
	}
}

// stressBatches is the same with several users in a call.
type stressBatches struct{ *stress }

func (s stressBatches) MaxBatch() int { return 3 }

func (s stressBatches) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	errs := make([]error, len(users))
	for i, u := range users {
		func() {
			defer func() {
				if recover() != nil {
					errs[i] = errStress
				}
			}()
			errs[i] = s.Deliver(ctx, u, m)
		}()
	}
	return errs
}
