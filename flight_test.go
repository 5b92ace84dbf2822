package fanfare

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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
