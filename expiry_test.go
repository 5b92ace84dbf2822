package fanfare

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// endScene is a message, x, that has not come to a user, b, when it ends.
type endScene struct {
	p       *Pusher
	rec     *transporttest.Recorder
	task    *Task
	release func()   // goes on with what x waits for
	had     []string // what b has by then
}

// x is the message that ends.
func x(to Audience) Message { return Message{Body: []byte("x"), To: to, Lifetime: 30 * time.Second} }

// endScenes are the places where a message may be when it ends. There is one worker, who waits in a call for longer
// than the lifetime.
var endScenes = map[string]func(t *testing.T) *endScene{
	"in a run": func(t *testing.T) *endScene {
		s := newEndScene(t, "a", "b")
		s.release = s.rec.Block("a")
		s.task = mustTask(t, s.p, x(All())) // a comes first
		return s
	},
	"in a lane's queue": func(t *testing.T) *endScene {
		s := newEndScene(t, "a", "b")
		s.release = s.rec.Block("a")
		mustTask(t, s.p, Message{To: Users("a"), Lifetime: week})
		s.task = mustTask(t, s.p, x(Users("b", "away")))
		return s
	},
	"in a catch-up": func(t *testing.T) *endScene {
		s := newEndScene(t)
		mustTask(t, s.p, later("before"))
		s.task = mustTask(t, s.p, x(All()))
		s.release = s.rec.Block("b")
		connect(t, s.p, s.rec, "b")
		s.had = []string{"before"}
		return s
	},
	"behind a batch": func(t *testing.T) *endScene {
		b := &transporttest.BatchRecorder{Max: 1}
		s := &endScene{rec: &b.Recorder}
		s.p = testPusher(t, t.TempDir(), Options{Online: b, Workers: 1, DeliverTimeout: 10 * time.Minute})
		s.connect(t, "a", "b")
		s.release = s.rec.Block("a")
		s.task = mustTask(t, s.p, x(All()))
		return s
	},
	"behind a call that hangs": func(t *testing.T) *endScene {
		s := newEndScene(t, "a", "b")
		free := s.rec.Hang("a")
		s.task = mustTask(t, s.p, x(All()))
		s.release = func() {
			time.Sleep(15 * time.Minute) // the watchdog's
			t.Cleanup(free)
		}
		return s
	},
	"in a pause": func(t *testing.T) *endScene {
		s := newEndScene(t, "b")
		s.rec.FailNext("b", 1, nil)
		s.task = mustTask(t, s.p, x(All()))
		s.release = func() { time.Sleep(15 * time.Minute) }
		return s
	},
	"unacknowledged": func(t *testing.T) *endScene {
		a := new(transporttest.AckRecorder)
		s := &endScene{rec: &a.Recorder}
		s.p = testPusher(t, t.TempDir(), Options{Online: a, Workers: 1, AckTimeout: 20 * time.Minute})
		s.connect(t, "b")
		s.task = mustTask(t, s.p, x(All()))
		s.release = func() { time.Sleep(25 * time.Minute) }
		s.had = []string{"x"} // and not again
		return s
	},
	"not begun": func(t *testing.T) *endScene {
		s := newEndScene(t)
		s.task = mustTask(t, s.p, x(All()))
		s.release = func() { connect(t, s.p, s.rec, "b") }
		return s
	},
}

func newEndScene(t *testing.T, live ...string) *endScene {
	s := &endScene{rec: new(transporttest.Recorder)}
	s.p = testPusher(t, t.TempDir(), Options{
		Online: s.rec, Workers: 1, DeliverTimeout: 10 * time.Minute, retryPause: func(int) time.Duration { return 10 * time.Minute },
	})
	s.connect(t, live...)
	return s
}

// connect makes a, b, and away known, who never comes, and connects some of them.
func (s *endScene) connect(t *testing.T, live ...string) {
	t.Helper()
	must(t, s.p.Register(context.Background(), "a", "b", "away"))
	for _, u := range live {
		connect(t, s.p, s.rec, u)
	}
	synctest.Wait()
}

// TestMessageEndsWhileItWaits: a message that expires, is withdrawn, or is acknowledged somewhere else, while it waits for
// its turn, is not delivered any more; and then all goes on.
func TestMessageEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for how, end := range map[string]func(t *testing.T, s *endScene) (Progress, bool){
		"expires": func(t *testing.T, s *endScene) (Progress, bool) {
			time.Sleep(30*time.Second - 1)
			if g := progress(t, s.task); g.Expired != 0 {
				t.Fatalf("too soon: %+v", g)
			}
			time.Sleep(2 * sweepEvery)
			g := progress(t, s.task)
			return g, g.Expired > 0
		},
		"expires before the sweep": func(*testing.T, *endScene) (Progress, bool) {
			time.Sleep(30 * time.Second) // to the moment; whoever looks first
			return Progress{}, true
		},
		"is withdrawn": func(t *testing.T, s *endScene) (Progress, bool) {
			must(t, s.p.Withdraw(ctx, s.task.ID))
			g := progress(t, s.task)
			return g, g.Withdrawn > 0 && !g.Ended.IsZero()
		},
		"is acknowledged": func(t *testing.T, s *endScene) (Progress, bool) {
			must(t, s.p.Ack(ctx, "b", s.task.ID))
			g := progress(t, s.task)
			return g, g.Delivered == 1
		},
	} {
		for where, scene := range endScenes {
			t.Run(how+" "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := scene(t)
					synctest.Wait()
					if g, ok := end(t, s); !ok {
						t.Fatalf("at its end: %+v", g)
					}
					s.release()
					time.Sleep(time.Minute)
					mustTask(t, s.p, Message{Body: []byte("next"), To: Users("b"), Lifetime: time.Hour})
					time.Sleep(15 * time.Minute)
					wantBodies(t, s.rec, "b", append(s.had, "next")...)
					g := progress(t, s.task)
					if how == "is acknowledged" {
						if g.Pending != 0 || g.Expired == 0 {
							t.Fatalf("%+v", g)
						}
					} else if g.Ended.IsZero() || g.Pending != 0 {
						t.Fatalf("%+v", g)
					}
					if v := s.rec.Violations(); len(v) > 0 {
						t.Fatal(v)
					}
				})
			})
		}
	}
}

// TestExpiresWhileClosed: the time goes on while no process has the directory open.
func TestExpiresWhileClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		p := testPusher(t, dir, Options{})
		must(t, p.Register(ctx, "b"))
		short, long := mustTask(t, p, x(All())), mustTask(t, p, later("long"))
		must(t, p.Close(ctx))
		time.Sleep(30 * time.Second)
		rec := new(transporttest.Recorder)
		p = testPusher(t, dir, Options{Online: rec})
		for m, err := range p.Pending(ctx, "b") {
			if err != nil || m.ID != long.ID {
				t.Fatal(m, err)
			}
		}
		connect(t, p, rec, "b")
		synctest.Wait()
		wantBodies(t, rec, "b", "long")
		time.Sleep(2 * sweepEvery)
		task, err := p.Task(ctx, short.ID)
		must(t, err)
		if g := progress(t, task); g.Expired != 1 || g.Delivered != 0 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestWithdrawDuringACatchUp of more messages than one round takes: those withdrawn meanwhile are left out, the others come in
// order.
func TestWithdrawDuringACatchUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s := newEndScene(t)
		var tasks []*Task
		var want []string
		for i := range maxUnacked + 10 {
			body := string(rune('A' + i))
			tasks = append(tasks, mustTask(t, s.p, later(body)))
			if i == 0 || i%3 != 0 {
				want = append(want, body)
			}
		}
		release := s.rec.Block("b")
		connect(t, s.p, s.rec, "b")
		synctest.Wait()
		for i, task := range tasks {
			if i > 0 && i%3 == 0 {
				must(t, s.p.Withdraw(ctx, task.ID))
			}
		}
		release()
		synctest.Wait()
		wantBodies(t, s.rec, "b", want...)
	})
}
