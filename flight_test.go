package fanfare

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestStuckClientDoesNotKeepAPushOpen: a push with lifetime 0 ends though a call of it hangs, and so does one that
// comes when the client is back and the old call still hangs.
func TestStuckClientDoesNotKeepAPushOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "a", "b", "c"))
		a := connect(t, p, rec, "a")
		connect(t, p, rec, "b")
		synctest.Wait()
		release := rec.Hang("a")
		ends := func(body string) {
			task := mustTask(t, p, Message{Body: []byte(body), To: All()})
			limit, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			must(t, task.Wait(limit))
			if g := progress(t, task); g.Delivered != 1 || g.Failed != 1 || g.Expired != 1 {
				t.Errorf("%s: %+v", body, g)
			}
		}
		ends("while it hangs")
		must(t, a.Close())
		connect(t, p, rec, "a")
		ends("while it hangs, and the user is back")
		release()
		synctest.Wait()
		again := mustTask(t, p, Message{Body: []byte("afterwards"), To: All()})
		must(t, again.Wait(ctx))
		if g := progress(t, again); g.Delivered != 2 {
			t.Errorf("%+v", g)
		}
	})
}

// TestOutcomeWithoutRoom of a push with lifetime 0 is remembered until there is room.
func TestOutcomeWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		journal := new(testJournal)
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, wrap: journal.wrap})
		must(t, p.Register(ctx, "a", "b"))
		connect(t, p, rec, "a")
		synctest.Wait()
		rec.OnDeliver(func(context.Context, string, *transport.Message) error {
			journal.failWith(syscall.ENOSPC)
			return nil
		})
		task := mustTask(t, p, Message{Body: []byte("now"), To: All()})
		must(t, task.Wait(ctx))
		time.Sleep(2 * sweepEvery) // and the next tries fail too
		journal.failWith(nil)
		time.Sleep(2 * sweepEvery)
		if g := progress(t, task); g.Ended.IsZero() || g.Delivered != 1 {
			t.Errorf("when there is room again: %+v", g)
		}
	})
}

// TestPhonesAreCountedBeforeTheyRun: a platform may be done with a task, because its sender is denied, before the push
// has been handed to the lanes. Its part is counted before the runner can see it, or the fan-out would end twice.
func TestPhonesAreCountedBeforeTheyRun(t *testing.T) {
	t.Parallel()
	o := Options{Grace: -1}
	o.fill()
	d := newDelivery(t.Context(), &o)
	phones, err := newPhones(d, []transport.Mobile{transporttest.NewPhones("apns")})
	must(t, err)
	f := &flight{d: d, seq: 1, done: make(chan struct{})}
	f.retain() // as Accepted does, until it has handed the push to everyone
	phones.start(f, "apns", &store.Task{Seq: 1})
	phones.start(f, "fcm", &store.Task{Seq: 1}) // no transport
	r := phones.runners["apns"]
	r.remove(r.tasks[1])
	if left := f.left.Load(); left != 1 {
		t.Fatalf("%d parts left, want the push's own", left)
	}
	f.release()
	<-f.done
}
