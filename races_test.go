package fanfare

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// raceScene is a user who is live, ann, and one who comes back to two pending
// messages, bob, with an intruder that does something at one interleaving point.
type raceScene struct {
	t     *testing.T
	p     *Pusher
	rec   *transporttest.Recorder
	shift atomic.Int64 // of the clock

	mu       sync.Mutex
	tasks    []*Task // the pushes of the script, "1", "2" and "3"
	bob, ann *Session
	banned   map[string]bool // user/body that must not begin any more
	illegal  []string
	extra    []string // bodies pushed by the intruder to all, retained
	gone     bool     // bob was unregistered
	excused  string   // may be missed
	now      bool     // a push without retention came
	underWay string   // the body of a delivery under way
}

func (s *raceScene) pushed() []*Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tasks)
}

// session swaps a session for what f makes of it.
func (s *raceScene) session(which **Session, f func(*Session) *Session) {
	s.mu.Lock()
	old := *which
	s.mu.Unlock()
	fresh := f(old)
	s.mu.Lock()
	*which = fresh
	s.mu.Unlock()
}

func (s *raceScene) ban(user string, tasks ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range tasks {
		s.banned[user+"/"+b] = true
	}
}

// raceActions are what intrudes. Each runs to its end while the point waits.
var raceActions = map[string]func(s *raceScene){
	"push": func(s *raceScene) {
		s.extra = append(s.extra, "extra")
		mustTask(s.t, s.p, Message{Body: []byte("extra"), To: All(), Lifetime: week})
	},
	"push twice": func(s *raceScene) {
		s.extra = append(s.extra, "extra", "more")
		mustTask(s.t, s.p, Message{Body: []byte("extra"), To: All(), Lifetime: week})
		mustTask(s.t, s.p, Message{Body: []byte("more"), To: All(), Lifetime: week})
	},
	"push now": func(s *raceScene) {
		mustTask(s.t, s.p, Message{Body: []byte("now"), To: All()})
		s.mu.Lock()
		s.now = true
		s.mu.Unlock()
	},
	"bob reconnects": func(s *raceScene) {
		s.session(&s.bob, func(old *Session) *Session {
			if old == nil {
				return nil
			}
			must(s.t, old.Close())
			return connect(s.t, s.p, s.rec, "bob")
		})
	},
	"bob connects twice": func(s *raceScene) {
		s.session(&s.bob, func(old *Session) *Session {
			second := connect(s.t, s.p, s.rec, "bob")
			if old != nil {
				must(s.t, old.Close())
			}
			return second
		})
	},
	"ann reconnects": func(s *raceScene) {
		s.session(&s.ann, func(old *Session) *Session {
			must(s.t, old.Close())
			return connect(s.t, s.p, s.rec, "ann")
		})
	},
	"bob acks": func(s *raceScene) {
		for i, task := range s.pushed() {
			must(s.t, s.p.Ack(context.Background(), "bob", task.ID))
			s.ban("bob", fmt.Sprint(i+1))
		}
	},
	"withdraw": func(s *raceScene) {
		for i, task := range s.pushed() {
			must(s.t, s.p.Withdraw(context.Background(), task.ID))
			s.ban("bob", fmt.Sprint(i+1))
			s.ban("ann", fmt.Sprint(i+1))
		}
	},
	"expire": func(s *raceScene) {
		n := len(s.pushed())
		s.shift.Add(int64(week + time.Minute))
		s.mu.Lock()
		underWay := s.underWay // to ann, say, and with it to bob: this clock jumps, and that of a run does not
		s.mu.Unlock()
		for i := range n {
			if body := fmt.Sprint(i + 1); body != underWay {
				s.ban("bob", body)
				s.ban("ann", body)
			}
		}
		s.mu.Lock()
		s.excused = "3" // accepted perhaps, while its Push has not returned
		s.mu.Unlock()
	},
	"bob is unregistered": func(s *raceScene) {
		n := len(s.pushed())
		must(s.t, s.p.Unregister(context.Background(), "bob"))
		for i := range n {
			s.ban("bob", fmt.Sprint(i+1))
		}
		s.mu.Lock()
		s.gone = true
		s.mu.Unlock()
	},
	"bob fails": func(s *raceScene) { s.rec.FailNext("bob", 1, fmt.Errorf("a wet wire")) },
	"ann fails": func(s *raceScene) { s.rec.FailNext("ann", 1, fmt.Errorf("a wet wire")) },
	"fold":      func(s *raceScene) { must(s.t, s.p.store.Checkpoint(context.Background())) },
	"compact":   func(s *raceScene) { must(s.t, s.p.Compact(context.Background())) },
}

// racePoints are where the deliveries can be interrupted, and how often each is tried.
var racePoints = []string{
	"connect:found", "lane:start", "lane:started", "lane:commit",
	"catchup:limit", "catchup:read", "catchup:plan", "catchup:delivered", "deliver",
}

// raceEnds are the actions after which something must not begin any more. They are tried with one worker only: with
// several, another may be between its check and its call while the intruder acts.
var raceEnds = []string{"bob acks", "withdraw", "expire", "bob is unregistered"}

// TestRaces drives connect against push through every interleaving point with
// every intruder: nothing may be missed, doubled or reordered, and nothing may begin to
// go out after an ack, the end of its task, or the unregistering of its user.
func TestRaces(t *testing.T) {
	t.Parallel()
	for _, kind := range []raceKind{{workers: 1}, {workers: 1, batch: true}, {workers: 3}} {
		for _, point := range racePoints {
			if kind.batch && point == "deliver" {
				continue // within the call for one user, that for the next has begun
			}
			for name, act := range raceActions {
				if kind.workers > 1 && slices.Contains(raceEnds, name) {
					continue
				}
				for nth := 1; nth <= 3; nth++ {
					t.Run(fmt.Sprintf("%+v/%s/%s/%d", kind, point, name, nth), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { race(t, kind, point, nth, act) })
					})
				}
			}
		}
	}
}

type raceKind struct {
	workers int
	batch   bool
}

func race(t *testing.T, kind raceKind, point string, nth int, act func(*raceScene)) {
	ctx := context.Background()
	s := &raceScene{t: t, banned: make(map[string]bool)}
	armed, intruding := false, false
	var mu sync.Mutex
	at := func(here string) {
		mu.Lock()
		intrude := armed && here == point && !intruding
		if intrude {
			nth--
			intrude = nth == 0
		}
		if intrude {
			intruding = true // what the intruder sets off does not intrude again
		}
		mu.Unlock()
		if intrude {
			act(s)
			if kind.workers > 1 {
				time.Sleep(time.Millisecond) // of the bubble: until everything else has come to rest
			}
		}
	}
	var online transport.Online
	if kind.batch {
		r := new(transporttest.BatchRecorder)
		s.rec, online = &r.Recorder, r
	} else {
		s.rec = new(transporttest.Recorder)
		online = s.rec
	}
	s.rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
		s.mu.Lock()
		if s.banned[user+"/"+string(m.Body)] {
			s.illegal = append(s.illegal, user+"/"+string(m.Body))
		}
		s.underWay = string(m.Body)
		s.mu.Unlock()
		at("deliver")
		s.mu.Lock()
		s.underWay = ""
		s.mu.Unlock()
		return nil
	})
	s.p = testPusher(t, t.TempDir(), Options{
		Online: online, Workers: kind.workers,
		hook: func(here, _ string) { at(here) },
		now:  func() time.Time { return time.Now().Add(time.Duration(s.shift.Load())) },
	})
	must(t, s.p.Register(ctx, "ann", "bob", "cat")) // cat stays away, so that no task is complete
	push := func(body string) {
		task := mustTask(t, s.p, Message{Body: []byte(body), To: All(), Lifetime: week})
		s.mu.Lock()
		s.tasks = append(s.tasks, task)
		s.mu.Unlock()
	}
	s.ann = connect(t, s.p, s.rec, "ann")
	synctest.Wait()
	push("1")
	push("2")
	synctest.Wait()
	mu.Lock()
	armed = true
	mu.Unlock()
	bob := connect(t, s.p, s.rec, "bob")
	s.mu.Lock()
	before := s.bob
	if before == nil {
		s.bob = bob
	}
	s.mu.Unlock()
	if before != nil { // the intruder connected before the script did
		must(t, bob.Close())
	}
	push("3")
	synctest.Wait()
	time.Sleep(time.Minute) // for retries
	synctest.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.illegal) > 0 {
		t.Fatalf("began after their end: %v", s.illegal)
	}
	if v := s.rec.Violations(); len(v) > 0 {
		t.Fatal(v)
	}
	for _, user := range []string{"ann", "bob"} {
		s.check(user)
		if s.now && (user == "ann" || point != "connect:found") && !slices.Contains(bodies(s.rec.Received(user)), "now") {
			t.Fatalf("%s was online and missed the push without retention", user)
		}
	}
}

// check compares what a user received with what the user had to receive.
func (s *raceScene) check(user string) {
	t := s.t
	t.Helper()
	list := s.rec.Received(user)
	got := bodies(list)
	for i := 1; i < len(list); i++ {
		if list[i].Sequence <= list[i-1].Sequence {
			t.Fatalf("%s: doubled or out of order: %q", user, got)
		}
	}
	if user == "bob" && s.gone {
		return
	}
	for _, body := range append([]string{"1", "2", "3"}, s.extra...) {
		if !slices.Contains(got, body) && !s.banned[user+"/"+body] && body != s.excused {
			t.Fatalf("%s missed %s: %q", user, body, got)
		}
	}
	for m, err := range s.p.Pending(context.Background(), user) {
		must(t, err)
		t.Fatalf("%s is connected and still waits for %q", user, m.Body)
	}
}
