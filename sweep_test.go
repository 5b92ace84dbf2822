package fanfare

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestExpiriesShareACommit: the sweep is not held up by as many syncs as there are messages that expire.
func TestExpiriesShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		journal := new(testJournal)
		p := testPusher(t, t.TempDir(), Options{wrap: journal.wrap})
		must(t, p.Register(ctx, "a"))
		var last *Task
		for i := range 300 {
			last = mustTask(t, p, Message{Body: []byte(fmt.Sprint(i)), To: All(), Lifetime: time.Minute})
		}
		before := journal.appends.Load()
		time.Sleep(time.Minute + sweepEvery)
		synctest.Wait()
		if g := progress(t, last); g.Expired != 1 {
			t.Errorf("%+v", g)
		}
		if n := journal.appends.Load() - before; n > 10 {
			t.Errorf("%d commits", n)
		}
	})
}

// TestClockSetBackDuringASweep: what seemed due before is not, and is not tried again and again.
func TestClockSetBackDuringASweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		journal := new(testJournal)
		begin := time.Now()
		var shift atomic.Int64
		p := testPusher(t, t.TempDir(), Options{wrap: journal.wrap, now: func() time.Time {
			now := time.Now().Add(time.Duration(shift.Load()))
			if now.Sub(begin) >= 10*time.Minute { // the sweep reads it first
				shift.CompareAndSwap(0, -int64(time.Minute))
			}
			return now
		}})
		must(t, p.Register(ctx, "a"))
		task := mustTask(t, p, Message{Body: []byte("1"), To: All(), Lifetime: 10 * time.Minute})
		time.Sleep(9 * time.Minute)
		journal.slow.Store(int64(time.Millisecond))
		before := journal.appends.Load()
		time.Sleep(3 * time.Minute)
		if n := journal.appends.Load() - before; n > 10 {
			t.Errorf("%d commits for one expiry", n)
		}
		if g := progress(t, task); g.Expired != 1 {
			t.Errorf("%+v", g)
		}
	})
}
