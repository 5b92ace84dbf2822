package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// heard notes what hooks were told, in order.
type heard struct {
	mu   sync.Mutex
	list []string
	at   []time.Time
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.at = append(h.list, fmt.Sprintf(format, args...)), append(h.at, time.Now())
}

// take returns what came since the last call, in one line.
func (h *heard) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list, h.at = nil, nil
	return strings.Join(list, "; ")
}

// hooks are all hooks but Progress.
func (h *heard) hooks() Hooks {
	return Hooks{
		Accepted: func(e TaskEvent) { h.add("accepted %d", e.Task.seq) },
		Delivered: func(e DeliveredEvent) {
			seq := strings.TrimLeft(e.MessageID[:16], "0")
			var users []string
			for id, err := range e.Users() {
				if err != nil {
					h.add("users of %s: %v", seq, err)
				}
				users = append(users, id)
			}
			h.add("delivered %s to %d: %v", seq, e.Count, users)
		},
		Expired: func(e TaskEvent) { h.add("expired %d for %d", e.Task.seq, e.Progress.Expired) },
		Withdrawn: func(e TaskEvent) {
			h.add("withdrawn %d from %d", e.Task.seq, e.Progress.Withdrawn)
		},
		Finished: func(e TaskEvent) {
			if e.Progress.Ended.IsZero() {
				h.add("not ended")
			}
			h.add("finished %d with %d of %d", e.Task.seq, e.Progress.Delivered, e.Progress.Total)
		},
		Error: func(err error) { h.add("error: %v", err) },
	}
}

func (h *heard) want(t *testing.T, want ...string) {
	t.Helper()
	if got := h.take(); got != strings.Join(want, "; ") {
		t.Fatalf("told %q, not %q", got, want)
	}
}

// TestHooksTellTheStoryOfATask: what happens to a task is told in order, from its acceptance to its end, however it ends.
func TestHooksTellTheStoryOfATask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h, rec := new(heard), new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Hooks: h.hooks(), blockBits: 2})
		must(t, p.Register(ctx, "a", "b", "c", "d", "e"))
		for _, id := range []string{"a", "c"} {
			connect(t, p, rec, id)
		}
		synctest.Wait()
		h.want(t)

		mustTask(t, p, Message{To: Users("a", "b", "c"), Lifetime: time.Hour})
		synctest.Wait()
		h.want(t, "accepted 1", "delivered 1 to 2: [a c]")
		connect(t, p, rec, "b")
		synctest.Wait()
		h.want(t, "delivered 1 to 1: [b]", "finished 1 with 3 of 3")

		mustTask(t, p, Message{To: Users("d", "e"), Lifetime: time.Minute})
		must(t, p.Ack(ctx, "e", mustTask(t, p, Message{To: Users("e"), Lifetime: time.Minute}).ID))
		synctest.Wait()
		h.want(t, "accepted 2", "accepted 3", "delivered 3 to 1: [e]", "finished 3 with 1 of 1")
		time.Sleep(time.Minute + 2*sweepEvery)
		synctest.Wait()
		h.want(t, "expired 2 for 2", "finished 2 with 0 of 2")

		task := mustTask(t, p, Message{To: All(), Lifetime: time.Minute})
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		must(t, p.Withdraw(ctx, task.ID))
		synctest.Wait()
		h.want(t, "accepted 4", "delivered 4 to 3: [a b c]", "withdrawn 4 from 2", "finished 4 with 3 of 5")

		mustTask(t, p, Message{To: All()})
		synctest.Wait()
		h.want(t, "accepted 5", "delivered 5 to 3: [a b c]", "finished 5 with 3 of 5")

		mustTask(t, p, Message{To: Tag("nobody's"), Lifetime: time.Minute})
		m := Message{To: Users("e"), Lifetime: time.Minute, Key: "k"}
		mustTask(t, p, m)
		mustTask(t, p, m) // a duplicate
		must(t, p.Unregister(ctx, "e"))
		synctest.Wait()
		h.want(t, "accepted 6", "finished 6 with 0 of 0", "accepted 7", "finished 7 with 0 of 1")
	})
}

// TestHooksOfAWithdrawalWithoutRetention: a push with lifetime 0 that is withdrawn twice while it goes out is told of once, and then its end.
func TestHooksOfAWithdrawalWithoutRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h, rec := new(heard), new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Hooks: h.hooks()})
		for _, id := range []string{"a", "b"} {
			connect(t, p, rec, id)
		}
		synctest.Wait()
		release := rec.Block("a")
		task := mustTask(t, p, Message{To: All()})
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		must(t, p.Withdraw(ctx, task.ID))
		synctest.Wait()
		h.want(t, "accepted 1", "withdrawn 1 from 0")
		release()
		synctest.Wait()
		h.want(t, "delivered 1 to 1: [a]", "finished 1 with 1 of 2")
	})
}

// TestProgressIsToldOnceASecond has a task change all the time, end, and be opened after that.
func TestProgressIsToldOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h := new(heard)
		p := testPusher(t, t.TempDir(), Options{Hooks: Hooks{
			Progress: func(e TaskEvent) { h.add("%d, opened by %d", e.Progress.Delivered, e.Progress.Opened) },
			Finished: func(e TaskEvent) { h.add("finished") },
		}})
		ids := make([]string, 100)
		for i := range ids {
			ids[i] = fmt.Sprint(i)
		}
		must(t, p.Register(ctx, ids...))
		task := mustTask(t, p, Message{To: All(), Lifetime: time.Hour})
		synctest.Wait()
		h.want(t)
		for _, id := range ids {
			must(t, p.Ack(ctx, id, task.ID))
			synctest.Wait()
			time.Sleep(24 * time.Millisecond) // so that no two things are at the same time
		}
		synctest.Wait()
		h.want(t, "1, opened by 0", "42, opened by 0", "84, opened by 0", "finished")
		for _, id := range ids[:10] {
			must(t, p.Opened(ctx, id, task.ID))
		}
		time.Sleep(time.Hour)
		h.want(t, "100, opened by 10")
		must(t, p.Opened(ctx, ids[10], task.ID))
		synctest.Wait()
		h.want(t, "100, opened by 11")
		time.Sleep(time.Minute)
		h.want(t)
		e := p.delivery.events
		e.mu.Lock()
		defer e.mu.Unlock()
		if n := len(e.tasks) + len(e.resting) + len(e.queue); n != 0 {
			t.Fatalf("%d tasks are kept", n)
		}
	})
}

// TestHookThatBlocks blocks a hook for as long as the Pusher is open: deliveries and changes go on, what does not fit into the
// queue is counted, and Close returns.
func TestHookThatBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		release, told := make(chan struct{}), 0
		defer func() {
			close(release)
			synctest.Wait()
			if told != 1 {
				t.Errorf("%d calls, of which all but one began after Close", told)
			}
		}()
		block := func() { told++; <-release }
		p := testPusher(t, t.TempDir(), Options{Online: rec, Hooks: Hooks{
			Accepted: func(TaskEvent) { block() }, Progress: func(TaskEvent) { block() }, Delivered: func(DeliveredEvent) { block() },
			Finished: func(TaskEvent) { block() },
		}})
		connect(t, p, rec, "a")
		synctest.Wait()
		const pushes = 1100
		began := time.Now()
		for range pushes {
			must(t, mustTask(t, p, Message{To: All(), Lifetime: time.Hour}).Wait(ctx))
		}
		synctest.Wait()
		if n := len(rec.Received("a")); n != pushes || time.Since(began) > time.Minute {
			t.Fatalf("%d of %d delivered, in %v", n, pushes, time.Since(began))
		}
		stats, err := p.Stats(ctx)
		must(t, err)
		// Of each push there are three events beside its progress; one of them is being told.
		if c := stats.Counters; c.EventsDropped != 3*pushes-maxEvents-1+pushes-maxEvents || c.Accepted != pushes || c.Delivered != pushes {
			t.Fatalf("%+v", c)
		}
		began = time.Now()
		must(t, p.Close(ctx))
		if took := time.Since(began); took > 2*closePatience {
			t.Fatal("Close took", took)
		}
	})
}

// TestCloseTellsWhatWaits: hooks are called for what happened before Close, and none after it.
func TestCloseTellsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h := new(heard)
		hooks := h.hooks()
		hooks.Accepted = func(e TaskEvent) { time.Sleep(closePatience / 4); h.add("accepted %d", e.Task.seq) }
		p := testPusher(t, t.TempDir(), Options{Hooks: hooks})
		must(t, p.Register(ctx, "a"))
		for range 3 {
			mustTask(t, p, Message{To: All(), Lifetime: time.Hour})
		}
		must(t, p.Close(ctx))
		h.want(t, "accepted 1", "accepted 2", "accepted 3")
		time.Sleep(time.Hour)
		h.want(t)
	})
}

// TestHooksCallThePusher: a hook may call what it likes, and the users of a delivery are looked up as they are asked for, or later.
func TestHooksCallThePusher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		var p *Pusher
		var events []DeliveredEvent
		p = testPusher(t, t.TempDir(), Options{Online: rec, Hooks: Hooks{Delivered: func(e DeliveredEvent) {
			if n := p.store.Views(); n != 0 {
				t.Errorf("%d read transactions are open", n)
			}
			if events = append(events, e); len(events) == 1 {
				must(t, p.Unregister(ctx, "a"))
				must(t, mustTask(t, p, Message{To: Users("b"), Lifetime: time.Hour}).Wait(ctx))
			}
		}}})
		for _, id := range []string{"a", "b"} {
			connect(t, p, rec, id)
		}
		synctest.Wait()
		must(t, mustTask(t, p, Message{To: All(), Lifetime: time.Hour}).Wait(ctx))
		synctest.Wait()
		for _, e := range events {
			if got := collect(t, e); !slices.Equal(got, []string{"b"}) {
				t.Errorf("%d users, of whom there are %v", e.Count, got)
			}
		}
		if len(events) != 2 || events[0].Count != 2 || events[1].Count != 1 {
			t.Fatalf("%+v", events)
		}
		must(t, p.Close(ctx))
		for id, err := range events[0].Users() {
			if id != "" || !errors.Is(err, ErrClosed) {
				t.Fatal(id, err)
			}
		}
		for range (DeliveredEvent{}).Users() {
			t.Fatal("somebody")
		}
	})
}

func collect(t *testing.T, e DeliveredEvent) []string {
	t.Helper()
	var ids []string
	for id, err := range e.Users() {
		must(t, err)
		ids = append(ids, id)
	}
	return ids
}

// TestErrorHook: what fails in the background is told: a store that refuses changes, a service that denies its sender.
func TestErrorHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h, phones, journal := new(heard), transporttest.NewPhones("apns"), new(testJournal)
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			return slices.Repeat([]transport.Result{{Outcome: transport.Denied, Reason: "BadKey"}}, len(batch)), true
		})
		p := testPusher(t, t.TempDir(), Options{
			Mobile: []transport.Mobile{phones}, Grace: -1, Hooks: Hooks{Error: h.hooks().Error}, wrap: journal.wrap,
		})
		must(t, p.Register(ctx, "a"))
		must(t, p.RegisterDevice(ctx, "a", Device{Platform: "apns", Token: "t"}))
		must(t, mustTask(t, p, Message{To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "t"}}).Wait(ctx))
		synctest.Wait()
		h.want(t, "error: fanfare: the service of apns denies its sender: BadKey")
		journal.failWith(syscall.EIO)
		if err := p.Register(ctx, "b"); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.take(); !strings.Contains(got, "error: "+ErrOutcomeUnknown.Error()) || !strings.Contains(got, syscall.EIO.Error()) {
			t.Fatal(got)
		}
		stats, err := p.Stats(ctx)
		must(t, err)
		if c := stats.Counters; c.Errors != 2 || c.Unknown != 1 || stats.Phones["apns"].Stopped != 1 {
			t.Fatalf("%+v", stats)
		}
	})
}

// TestNoHooksNoQueue: without hooks that are told by it there is no queue, and no goroutine.
func TestNoHooksNoQueue(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{Hooks: Hooks{Stuck: func(string, string) {}, Failed: func(string, string, error) {}}})
	if p.delivery.events != nil {
		t.Fatal("a queue for nobody")
	}
}
