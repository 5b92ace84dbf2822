package fanfare

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// recordScene is a Pusher with users and a phone each: user "a" has the token "ta".
func recordScene(t *testing.T, o Options, apns *transporttest.Phones, users ...string) (*Pusher, Message) {
	t.Helper()
	o.Mobile = []transport.Mobile{apns}
	p := testPusher(t, t.TempDir(), o)
	for _, u := range users {
		must(t, p.Register(context.Background(), u))
		must(t, p.RegisterDevice(context.Background(), u, Device{Platform: "apns", Token: "t" + u}))
	}
	return p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "hi"}}
}

// TestPhonesAreNotNotifiedAgainWithoutRoom: what cannot be recorded is remembered, not repeated.
func TestPhonesAreNotNotifiedAgainWithoutRoom(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.ENOSPC, errors.New("sync failed")} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				journal := new(testJournal)
				apns := transporttest.NewPhones("apns")
				p, m := recordScene(t, Options{wrap: journal.wrap}, apns, "a")
				mustTask(t, p, m)
				journal.failWith(cause)
				time.Sleep(5 * time.Minute)
				journal.failWith(nil)
				time.Sleep(time.Minute)
				if n := len(apns.Shown("ta")); n != 1 {
					t.Errorf("one phone was shown one message %d times", n)
				}
			})
		})
	}
}

// TestOutcomeOfAnEndedTask: a task that ends while the outcome of a batch is still to be recorded keeps its
// counts, and its dead tokens go.
func TestOutcomeOfAnEndedTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		journal := new(testJournal)
		apns := transporttest.NewPhones("apns")
		p, m := recordScene(t, Options{wrap: journal.wrap}, apns, "a", "b")
		apns.Kill(time.Time{}, "tb")
		release := apns.Block()
		task := mustTask(t, p, m)
		time.Sleep(11 * time.Second)
		journal.failWith(syscall.ENOSPC)
		release()
		time.Sleep(100 * time.Millisecond)
		journal.failWith(nil)
		must(t, p.Withdraw(ctx, task.ID))
		must(t, task.Wait(ctx))
		if g := progress(t, task); !sameStats(g.Phones["apns"], PhoneStats{Sent: 2, Accepted: 1, Unregistered: 1}) {
			t.Errorf("%+v", g)
		}
		if d, err := p.Devices(ctx, "b"); err != nil || len(d) != 0 {
			t.Error("a dead token stays", d, err)
		}
	})
}

// TestLargePhoneBatch: however large the batches that a transport asks for, all of one may have to be tried again.
func TestLargePhoneBatch(t *testing.T) {
	t.Parallel()
	apns := transporttest.NewPhones(strings.Repeat("p", maxPlatformBytes))
	apns.SetBatchSize(1 << 20)
	p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{apns}})
	n := p.delivery.phones.runners[apns.Platform()].batch
	cp := &store.Checkpoint{Seq: 1 << 62, Platform: apns.Platform(), Next: 1 << 40}
	for i := range 2 * n { // those that are due, and as many whose turn it is
		r := store.PhoneRetry{Ordinal: uint32(1<<32 - 1 - i), Attempt: maxAttempts, Due: 1 << 50}
		if cp.Retry = append(cp.Retry, r); i < n {
			cp.Settled = append(cp.Settled, r)
		}
	}
	// And so many are passed over that a step ends, behind one that almost had as many of whom all were connected.
	for block, size := uint16(0), 0; size < 2*store.MaxStepSets; block++ {
		set := roaring.New()
		for low := range uint32(1 << 15) {
			set.Add(2 * low)
		}
		size += int(set.GetSerializedSizeInBytes())
		cp.Asleep = append(cp.Asleep, store.BlockSet{Block: block, Low: set})
	}
	_, err := p.store.Propose(context.Background(), cp)
	must(t, err)
}

// TestPhonesAfterCloseWithinAStep: of a step that Close cuts in two, what was sent is not sent again, and the rest is.
func TestPhonesAfterCloseWithinAStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		apns := transporttest.NewPhones("apns")
		apns.SetBatchSize(2)
		o := Options{Mobile: []transport.Mobile{apns}}
		p := testPusher(t, dir, o)
		must(t, p.Register(ctx, "a", "b"))
		for _, d := range []struct{ user, token string }{{"a", "ta"}, {"b", "tb"}, {"b", "tb2"}} {
			must(t, p.RegisterDevice(ctx, d.user, Device{Platform: "apns", Token: d.token}))
		}
		var first atomic.Bool
		sends := map[string]int{}
		apns.OnSend(func(ctx context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			if !first.Swap(true) {
				<-ctx.Done() // Close is called while the first part is on its way; all of it is accepted
			}
			out := make([]transport.Result, len(batch))
			for i, n := range batch {
				out[i].Outcome = transport.Accepted
				sends[n.Device.Token]++
			}
			return out, true
		})
		task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "hi"}})
		time.Sleep(11 * time.Second)
		must(t, p.Close(ctx))
		p = testPusher(t, dir, o)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(sends); got != "map[ta:1 tb:1 tb2:1]" {
			t.Error(got)
		}
		task, err := p.Task(ctx, task.ID)
		must(t, err)
		must(t, p.Withdraw(ctx, task.ID)) // and Check finds no retry left over
	})
}

// TestPhoneQueue: the task first that has had something to do for the longest; one that has ended at once.
func TestPhoneQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		apns := transporttest.NewPhones("apns")
		p, m := recordScene(t, Options{}, apns, "a", "b")
		apns.RetryNext("ta", 1, 30*time.Second)
		m.To = Users("a")
		late := mustTask(t, p, m)
		time.Sleep(time.Second)
		m.To = Users("b")
		next, withdrawn := mustTask(t, p, m), mustTask(t, p, m)
		must(t, p.Withdraw(ctx, withdrawn.ID))
		start := time.Now()
		for _, want := range []struct {
			task *Task
			at   time.Duration
		}{{withdrawn, 0}, {next, 10 * time.Second}, {late, 39 * time.Second}} {
			must(t, want.task.Wait(ctx))
			if d := time.Since(start).Round(time.Second); d != want.at {
				t.Errorf("after %v, not %v", d, want.at)
			}
		}
		r := p.delivery.phones.runners["apns"]
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.queue) != 0 || len(r.tasks) != 0 {
			t.Error("tasks are left")
		}
	})
}
