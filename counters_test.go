package fanfare

import (
	"context"
	"errors"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// counts returns the counters since Open, without those of the store.
func counts(t *testing.T, p *Pusher) (Counters, map[string]PhoneCounters) {
	t.Helper()
	s, err := p.Stats(context.Background())
	must(t, err)
	c := s.Counters
	return Counters{
		Accepted: c.Accepted, Delivered: c.Delivered, Failed: c.Failed, Acked: c.Acked, Opened: c.Opened, Expired: c.Expired,
		Withdrawn: c.Withdrawn, Gone: c.Gone, CaughtUp: c.CaughtUp, Errors: c.Errors, EventsDropped: c.EventsDropped,
	}, s.Phones
}

// TestCountersFollowWhatHappens goes through everything that is counted of messages, and starts anew with the next process.
func TestCountersFollowWhatHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec, phones, dir := new(transporttest.Recorder), transporttest.NewPhones("apns"), t.TempDir()
		phones.Kill(time.Time{}, "dead")
		phones.Reject("Bad", "bad")
		phones.RetryNext("busy", 1, time.Second)
		o := Options{Online: rec, Mobile: []transport.Mobile{phones}, Grace: -1, blockBits: 2}
		p := testPusher(t, dir, o)
		must(t, p.Register(ctx, "a", "b", "c", "d", "e", "f"))
		for id, token := range map[string]string{"c": "dead", "d": "bad", "e": "busy", "f": "good"} {
			must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: token}))
		}
		for _, id := range []string{"a", "b"} {
			connect(t, p, rec, id)
		}
		synctest.Wait()
		rec.FailNext("b", 1, errUnreliable)
		m := Message{To: All(), Lifetime: time.Hour, Key: "k", Notification: &Notification{Title: "t"}}
		task := mustTask(t, p, m)
		mustTask(t, p, m)
		time.Sleep(time.Minute)
		must(t, p.Opened(ctx, "c", task.ID))
		must(t, p.Opened(ctx, "c", task.ID))
		must(t, p.Ack(ctx, "c", task.ID))
		must(t, p.Ack(ctx, "c", task.ID))
		must(t, p.AckThrough(ctx, "d", task.ID))
		must(t, p.Unregister(ctx, "e"))
		must(t, p.Withdraw(ctx, task.ID)) // from f, whose phone is told
		must(t, mustTask(t, p, Message{To: Users("a", "c")}).Wait(ctx))
		mustTask(t, p, Message{To: Users("c", "d", "f"), Lifetime: time.Minute})
		mustTask(t, p, Message{To: Tag("nobody's"), Lifetime: time.Minute})
		time.Sleep(2 * time.Minute)
		got, notified := counts(t, p)
		// a and b, b again, and a without retention; c was not there then.
		if want := (Counters{Accepted: 4, Delivered: 3, Failed: 1, Acked: 2, Opened: 1, Expired: 4, Withdrawn: 1, Gone: 1, CaughtUp: 3}); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
		if want := map[string]PhoneCounters{"apns": {Accepted: 3, Unregistered: 1, Rejected: 1, Retried: 1}}; !reflect.DeepEqual(notified, want) {
			t.Errorf("%+v, not %+v", notified, want)
		}
		must(t, p.Close(ctx))
		o.Online = nil
		p = testPusher(t, dir, o)
		if got, _ := counts(t, p); got != (Counters{}) {
			t.Errorf("the next process begins with %+v", got)
		}
	})
}

// TestCountersOfAcks: with clients that acknowledge, deliveries and acknowledgements are two things.
func TestCountersOfAcks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.AckRecorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		connect(t, p, &rec.Recorder, "a")
		synctest.Wait()
		var ids []string
		for range 5 {
			ids = append(ids, mustTask(t, p, Message{To: All(), Lifetime: week}).ID)
		}
		synctest.Wait()
		must(t, p.Ack(ctx, "a", ids[0], ids[2], ids[0]))
		must(t, p.AckThrough(ctx, "a", ids[3]))
		got, _ := counts(t, p)
		if got.Delivered != 5 || got.Acked != 4 {
			t.Fatalf("%+v", got)
		}
		time.Sleep(time.Minute) // the last comes again
		if got, _ := counts(t, p); got.Delivered < 6 || got.Acked != 4 {
			t.Fatalf("%+v", got)
		}
	})
}

// TestCountersOfTheStore counts durable steps, folds, and what is refused.
func TestCountersOfTheStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	journal := new(testJournal)
	p := testPusher(t, t.TempDir(), Options{wrap: journal.wrap})
	now := func() Counters {
		t.Helper()
		s, err := p.Stats(ctx)
		must(t, err)
		return s.Counters
	}
	before := now() // the limits were one
	journal.slow.Store(int64(5 * time.Millisecond))
	for _, id := range []string{"a", "b", "c"} {
		must(t, p.Register(ctx, id))
	}
	c := now()
	if c.Commits != before.Commits+3 || c.Commands != before.Commands+3 || c.CommitBytes < 3*20 || c.CommitTime < 15*time.Millisecond || c.Folds != 0 {
		t.Fatalf("%+v", c)
	}
	journal.failWith(&noSpace{})
	if err := p.Register(ctx, "d"); !errors.Is(err, ErrNoRoom) {
		t.Fatal(err)
	}
	journal.failWith(nil)
	must(t, p.Check(ctx)) // folds
	if c := now(); c.NoRoom != 1 || c.Unknown != 0 || c.Folds != 1 || c.FoldEntries < 3 || c.FoldBytes == 0 || c.FoldTime <= 0 || c.FoldErrors != 0 {
		t.Fatalf("%+v", c)
	}
}

// noSpace is what a full disk says.
type noSpace struct{}

func (*noSpace) Error() string { return "full" }
func (*noSpace) Unwrap() error { return syscall.ENOSPC }
