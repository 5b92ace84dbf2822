package fanfare

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestAckWhileALaneIsAtWork acks for users whose turn in a lane's run is still to come:
// between the lane's look at who is pending and its start, and from within the
// delivery for the user before. Neither may be delivered to any more.
func TestAckWhileALaneIsAtWork(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	users := []string{"ann", "bob", "cat", "dan"}
	scene := func(t *testing.T, o Options) (*Pusher, *transporttest.Recorder) {
		rec := new(transporttest.Recorder)
		o.Online, o.Workers = rec, 1
		p := testPusher(t, t.TempDir(), o)
		must(t, p.Register(ctx, append(users, "eve")...)) // eve stays away
		for _, u := range users {
			connect(t, p, rec, u)
		}
		synctest.Wait()
		return p, rec
	}
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var p *Pusher
			var acked atomic.Bool
			start := make(chan string, 1)
			p, rec := scene(t, Options{hook: func(point, _ string) {
				if point == "lane:start" && !acked.Swap(true) {
					must(t, p.Ack(ctx, "dan", <-start))
				}
			}})
			start <- mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour}).ID
			synctest.Wait()
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
		})
	})
	t.Run("within a chunk", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, rec := scene(t, Options{})
			rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
				if user == "ann" {
					return p.Ack(ctx, "dan", m.ID)
				}
				return nil
			})
			mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
			synctest.Wait()
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
		})
	})
	t.Run("behind a call that hangs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, rec := scene(t, Options{})
			release := rec.Hang("ann")
			defer sync.OnceFunc(release)()
			task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
			synctest.Wait()
			must(t, p.Ack(ctx, "dan", task.ID))
			time.Sleep(time.Minute)
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
			release()
			synctest.Wait()
		})
	})
}

// TestLanesTakeTurns: a lane that always has something to do gives its worker to others now and then.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, online := range map[string]func(deliver transport.OnlineFunc) transport.Online{
		"one by one": func(deliver transport.OnlineFunc) transport.Online { return deliver },
		"batches":    func(deliver transport.OnlineFunc) transport.Online { return oneByOne{deliver} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var bob, cat atomic.Int64 // when they got something
				start := time.Now()
				p := testPusher(t, t.TempDir(), Options{Workers: 1, blockBits: 1, Online: online(func(_ context.Context, user string, _ *transport.Message) error {
					time.Sleep(10 * time.Millisecond)
					switch user {
					case "bob":
						bob.CompareAndSwap(0, int64(time.Since(start)))
					case "cat":
						cat.CompareAndSwap(0, int64(time.Since(start)))
					}
					return nil
				})})
				must(t, p.Register(ctx, "ann", "away", "bob", "away too", "cat"))
				mustTask(t, p, Message{Body: []byte("x"), To: Users("bob"), Lifetime: time.Hour})
				for _, u := range []string{"ann", "cat"} {
					_, err := p.Connect(ctx, u)
					must(t, err)
				}
				synctest.Wait()
				for range 100 { // a second of work
					mustTask(t, p, Message{Body: []byte("x"), To: Users("ann"), Lifetime: time.Hour})
				}
				mustTask(t, p, Message{Body: []byte("x"), To: Users("cat"), Lifetime: time.Hour})
				_, err := p.Connect(ctx, "bob")
				must(t, err)
				time.Sleep(2 * time.Second)
				for user, at := range map[string]*atomic.Int64{"bob, who catches up,": &bob, "cat, of another lane,": &cat} {
					if d := time.Duration(at.Load()); d == 0 || d > 200*time.Millisecond {
						t.Errorf("%s waited %v behind ann", user, d)
					}
				}
			})
		})
	}
}

// TestCatchUpsTakeTurns: a slow one gives its worker to others within its round, and loses nothing by it.
func TestCatchUpsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		rec.OnDeliver(func(context.Context, string, *transport.Message) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		p := testPusher(t, t.TempDir(), Options{Online: rec, Workers: 1})
		must(t, p.Register(ctx, "ann", "bob"))
		var want []string
		push := func(user string, lifetime time.Duration) {
			if user == "ann" {
				want = append(want, fmt.Sprint(len(want)))
			}
			mustTask(t, p, Message{Body: []byte(want[len(want)-1]), To: Users(user), Lifetime: lifetime})
		}
		for range 30 {
			push("ann", time.Hour)
		}
		push("bob", time.Hour)
		ann := connect(t, p, rec, "ann")
		time.Sleep(5 * time.Millisecond)
		push("ann", 0) // waits in its place
		push("ann", time.Hour)
		for range 30 {
			push("ann", 0) // the last 16 of them do
		}
		want = append(want[:32], want[len(want)-maxFleeting:]...)
		want = append(want[:30], want[31:]...)
		time.Sleep(100 * time.Millisecond)
		connect(t, p, rec, "bob")
		time.Sleep(100 * time.Millisecond)
		if n := len(rec.Received("bob")); n != 1 {
			t.Error("bob waits for the end of ann's round")
		}
		for range 20 { // others want the worker all the while
			push("bob", time.Hour)
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Second)
		wantBodies(t, rec, "ann", want...)
		must(t, ann.Close())
		time.Sleep(time.Second)
		checkIdle(t, p)
	})
}

// oneByOne is a Batcher whose batches are small.
type oneByOne struct{ transport.OnlineFunc }

func (o oneByOne) MaxBatch() int { return 1 }

func (o oneByOne) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	return []error{o.Deliver(ctx, users[0], m)}
}

// TestTurnWithinAChunk: a lane hands its worker on in the middle of a chunk, and everyone gets the message once.
func TestTurnWithinAChunk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		rec.OnDeliver(func(context.Context, string, *transport.Message) error {
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		p := testPusher(t, t.TempDir(), Options{Online: rec, Workers: 1, blockBits: 6})
		var users []string
		for i := range 100 { // two blocks
			users = append(users, fmt.Sprintf("u%02d", i))
		}
		must(t, p.Register(ctx, users...))
		for _, u := range users {
			connect(t, p, rec, u)
		}
		synctest.Wait()
		task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
		time.Sleep(200 * time.Millisecond)
		if len(rec.Received("u00")) != 1 || len(rec.Received("u64")) != 1 || len(rec.Received("u63")) != 0 {
			t.Error("the second block waits for the end of the first")
		}
		must(t, task.Wait(ctx))
		for _, u := range users {
			wantBodies(t, rec, u, "x")
		}
		if g := progress(t, task); g.Delivered != 100 {
			t.Errorf("%+v", g)
		}
	})
}

// TestCommitDoesNotWaitForACall: what was delivered before a call that takes its time, in a lane or a
// catch-up, is made durable while it goes on.
func TestCommitDoesNotWaitForACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "ann", "bob", "cat"))
		connect(t, p, rec, "ann")
		connect(t, p, rec, "bob")
		synctest.Wait()
		release := rec.Block("bob")
		first := mustTask(t, p, Message{Body: []byte("1"), To: All(), Lifetime: time.Hour})
		second := mustTask(t, p, Message{Body: []byte("2"), To: All(), Lifetime: time.Hour})
		time.Sleep(commitAfter)
		synctest.Wait()
		wantBodies(t, rec, "ann", "1")
		if g := progress(t, first); g.Delivered != 1 {
			t.Errorf("%v after the delivery: %+v", commitAfter, g)
		}
		release()
		synctest.Wait()

		rec.OnDeliver(func(_ context.Context, _ string, m *transport.Message) error {
			if string(m.Body) == "2" {
				time.Sleep(time.Second)
			}
			return nil
		})
		connect(t, p, rec, "cat")
		time.Sleep(commitAfter)
		synctest.Wait()
		if g := progress(t, first); g.Delivered != 3 {
			t.Errorf("%v after the delivery in a catch-up: %+v", commitAfter, g)
		}
		time.Sleep(time.Second)
		if g := progress(t, second); g.Delivered != 3 {
			t.Errorf("at the end: %+v", g)
		}
	})
}

// TestAckTimeoutRunsFromTheDelivery, not from when the lane chose its next users, of whom the last may wait long
// for their turn. Afterwards the lane remembers nobody.
func TestAckTimeoutRunsFromTheDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.AckRecorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, AckTimeout: 5 * time.Second})
		var users []string
		for i := range 50 {
			users = append(users, fmt.Sprintf("u%02d", i))
		}
		must(t, p.Register(ctx, users...))
		for _, u := range users {
			connect(t, p, &rec.Recorder, u)
		}
		synctest.Wait()
		rec.OnDeliver(func(_ context.Context, u string, m *transport.Message) error {
			time.Sleep(200 * time.Millisecond) // 10 s for all
			time.AfterFunc(3*time.Second, func() { p.Ack(ctx, u, m.ID) })
			return nil
		})
		mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
		time.Sleep(time.Minute)
		for _, u := range users {
			wantBodies(t, &rec.Recorder, u, "x")
		}
		p.delivery.eachLane(func(l *lane) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.unacked) > 0 {
				t.Errorf("%d users are still looked at", len(l.unacked))
			}
		})
	})
}
