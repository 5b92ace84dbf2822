package fanfare

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// importUsersNamed registers users by name, without the many writes of a Connect each.
func importUsersNamed(t testing.TB, p *Pusher, ids []string) {
	t.Helper()
	_, err := p.Import(context.Background(), func(yield func(User, error) bool) {
		for _, id := range ids {
			if !yield(User{ID: id}, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
}

func numberedUsers(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("u%04d", i)
	}
	return ids
}

// crowd is more users than calls may be left behind, all of whom hang.
type crowd struct {
	p       *Pusher
	dir     string
	rec     *transporttest.Recorder
	ids     []string
	release map[string]func()
	task    *Task
	mu      sync.Mutex
	stuck   int
}

const crowdWorkers = 8

// newCrowd pushes to all of them and waits until no more calls are left behind.
func newCrowd(t *testing.T) *crowd {
	c := &crowd{dir: t.TempDir(), rec: new(transporttest.Recorder), ids: numberedUsers(maxAbandoned + 40), release: make(map[string]func())}
	c.p = testPusher(t, c.dir, Options{
		Online: c.rec, Workers: crowdWorkers, DeliverTimeout: time.Second, blockBits: 4,
		Hooks: Hooks{Stuck: func(string, string) {
			c.mu.Lock()
			c.stuck++
			c.mu.Unlock()
		}},
	})
	importUsersNamed(t, c.p, c.ids)
	for _, id := range c.ids {
		c.release[id] = c.rec.Hang(id)
		connect(t, c.p, c.rec, id)
	}
	synctest.Wait()
	c.task = mustTask(t, c.p, Message{Body: []byte("x"), To: All(), Lifetime: week})
	time.Sleep(10 * time.Minute)
	stats, err := c.p.Stats(context.Background())
	must(t, err)
	if n := c.rec.TotalAttempts(); stats.Stuck != maxAbandoned || c.stuck != maxAbandoned || n != maxAbandoned+crowdWorkers {
		t.Fatalf("%d calls left behind, %d reported, of %d", stats.Stuck, c.stuck, n)
	}
	return c
}

// TestTooManyHang: of calls that hang 1,024 are left behind, and beyond that they take the workers. When some return, all
// goes on, and nobody gets anything twice.
func TestTooManyHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		for _, id := range c.ids[:len(c.ids)-10] {
			c.release[id]()
		}
		time.Sleep(time.Minute)
		for i, id := range c.ids {
			if i < len(c.ids)-10 {
				wantBodies(t, c.rec, id, "x")
			} else {
				wantBodies(t, c.rec, id)
			}
		}
		stats, err := c.p.Stats(context.Background())
		must(t, err)
		if g := progress(t, c.task); stats.Stuck != 10 || g.Pending != 10 || g.Delivered != int64(len(c.ids))-10 {
			t.Fatalf("%d stuck, %+v", stats.Stuck, g)
		}
		must(t, c.p.Close(context.Background())) // those ten are left behind
		for _, id := range c.ids[len(c.ids)-10:] {
			c.release[id]()
		}
		synctest.Wait()
		if v := c.rec.Violations(); len(v) > 0 {
			t.Fatal(v)
		}
	})
}

// TestCloseWithoutWorkers: when every worker waits in a call that hangs, Close leaves them all behind. What
// was under way is not lost: it comes again, with the same ID.
func TestCloseWithoutWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		from := time.Now()
		if err := c.p.Close(ctx); err != nil || time.Since(from) > time.Second {
			t.Fatalf("%v after %v", err, time.Since(from))
		}
		for _, free := range c.release {
			free() // the calls return into a Pusher that is closed
		}
		synctest.Wait()

		rec := new(transporttest.Recorder)
		q := testPusher(t, c.dir, Options{Online: rec})
		connect(t, q, rec, c.ids[0])
		synctest.Wait()
		if m := rec.Received(c.ids[0]); len(m) != 1 || m[0].ID != c.task.ID {
			t.Fatal(m)
		}
	})
}

// TestCloseDuringACallThatHangs: Close gives the call a moment to return, and no longer than its context, and leaves it behind.
func TestCloseDuringACallThatHangs(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{0, closePatience / 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				rec, dir := new(transporttest.Recorder), t.TempDir()
				p := testPusher(t, dir, Options{Online: rec})
				must(t, p.Register(ctx, "a", "b"))
				connect(t, p, rec, "a")
				connect(t, p, rec, "b")
				synctest.Wait()
				release := rec.Hang("a")
				task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: week})
				synctest.Wait()
				from, want := time.Now(), error(nil)
				if limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, limit)
					defer cancel()
					want = context.DeadlineExceeded
				}
				if err := p.Close(ctx); !errors.Is(err, want) {
					t.Fatal(err)
				}
				if d := time.Since(from); d > 2*closePatience || limit > 0 && d != limit {
					t.Fatal("Close took", d)
				}
				release()
				synctest.Wait()
				wantBodies(t, rec, "a") // which has been closed
				q := testPusher(t, dir, Options{})
				for m, err := range q.Pending(context.Background(), "a") {
					if err != nil || m.ID != task.ID {
						t.Fatal(m, err)
					}
				}
				again, err := q.Task(context.Background(), task.ID)
				must(t, err)
				if g := progress(t, again); g.Pending < 1 || g.Delivered+g.Pending != 2 {
					t.Fatalf("%+v", g)
				}
			})
		})
	}
}

// strangeBatcher is a Batcher that does what it is told once, and then delivers.
type strangeBatcher struct {
	transporttest.BatchRecorder
	mu      sync.Mutex
	strange func(users []string) []error
}

func (b *strangeBatcher) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	b.mu.Lock()
	f := b.strange
	b.strange = nil
	b.mu.Unlock()
	if f != nil {
		return f(users)
	}
	return b.BatchRecorder.DeliverBatch(ctx, users, m)
}

// TestStrangeBatcher: a DeliverBatch that returns a wrong number of results, panics or hangs has failed for all of its
// users. They get the message later, once; another block goes on at once.
func TestStrangeBatcher(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failed int
		errs   func(users []string, release <-chan struct{}) []error
	}{
		"one too few":  {4, func(users []string, _ <-chan struct{}) []error { return make([]error, len(users)-1) }},
		"none":         {4, func([]string, <-chan struct{}) []error { return []error{} }},
		"one too many": {4, func(users []string, _ <-chan struct{}) []error { return make([]error, len(users)+1) }},
		"panic":        {4, func([]string, <-chan struct{}) []error { panic("as told") }},
		"one error": {1, func(users []string, _ <-chan struct{}) []error {
			errs := make([]error, len(users))
			errs[1] = errors.New("as told")
			return errs
		}},
		"hang and success": {0, func(_ []string, release <-chan struct{}) []error { <-release; return nil }},
		"hang and failure": {4, func(_ []string, release <-chan struct{}) []error { <-release; return []error{} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				b := new(strangeBatcher)
				release := make(chan struct{})
				var failed []string
				var mu sync.Mutex
				p := testPusher(t, t.TempDir(), Options{
					Online: b, Workers: 2, blockBits: 2,
					Hooks: Hooks{Failed: func(user, _ string, _ error) { mu.Lock(); failed = append(failed, user); mu.Unlock() }},
				})
				users := []string{"a", "b", "c", "d", "other"} // the last in a block of its own
				must(t, p.Register(ctx, users...))
				for _, u := range users {
					connect(t, p, &b.Recorder, u)
				}
				synctest.Wait()
				b.strange = func(users []string) []error { return c.errs(users, release) }
				mustTask(t, p, Message{Body: []byte("one"), To: Users("a", "b", "c", "d"), Lifetime: week})
				synctest.Wait()
				task := mustTask(t, p, Message{Body: []byte("two"), To: All(), Lifetime: week})
				synctest.Wait()
				wantBodies(t, &b.Recorder, "other", "two")
				time.Sleep(time.Minute)
				close(release)
				time.Sleep(time.Minute)
				for i, u := range users[:4] {
					want := []string{"one", "two"}
					if name == "hang and success" || name == "one error" && i != 1 {
						want = want[1:] // the strange call said that they have the first, without a record
					}
					wantBodies(t, &b.Recorder, u, want...)
				}
				if len(failed) != c.failed {
					t.Fatal("failed for", failed)
				}
				if g := progress(t, task); g.Delivered != 5 {
					t.Fatalf("%+v", g)
				}
				if v := b.Violations(); len(v) > 0 {
					t.Fatal(v)
				}
			})
		})
	}
}
