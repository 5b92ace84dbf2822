package fanfare

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestTransportCallsThePusher: a Deliver, a DeliverBatch and a Send may call every method of the Pusher but Close, and
// of a task but Wait, with one worker only, in a lane as well as in a catch-up.
func TestTransportCallsThePusher(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"lane", "catch-up", "batch", "lane, lifetime 0", "phone"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { transportCalls(t, from) })
		})
	}
}

func transportCalls(t *testing.T, from string) {
	ctx := context.Background()
	b := new(transporttest.BatchRecorder)
	rec := &b.Recorder
	var online transport.Online = rec
	if from == "batch" {
		online = b
	}
	phones := transporttest.NewPhones("apns")
	p := testPusher(t, t.TempDir(), Options{
		Online: online, Mobile: []transport.Mobile{phones}, Grace: -1, Workers: 1,
		DeliverTimeout: 24 * time.Hour, // nothing that waits for itself is saved by the watchdog
	})
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	must(t, p.Register(ctx, "a", "b", "phone"))
	must(t, p.RegisterDevice(ctx, "phone", Device{Platform: "apns", Token: "phone"}))
	connect(t, p, rec, "b")

	called := map[string]bool{}
	var once sync.Once
	callAll := func(messageID string) {
		calls := closedCalls(p, messageID)
		delete(calls, "Close") // which wait for deliveries
		delete(calls, "Drain")
		calls["Online"] = func() error { p.Online(); return nil }
		calls["Session.Close"] = func() error {
			s, err := p.Connect(ctx, "b")
			return errors.Join(err, s.Close())
		}
		calls["Progress"] = func() error {
			task, err := p.Task(ctx, messageID)
			if err == nil {
				_, err = task.Progress()
			}
			return err
		}
		inTurn(calls, func(name string, call func() error) {
			// The iterators are called for their first error, and what they yield is one here; the key is nobody's, and nothing is saved at first.
			yields := []string{"Members", "Plans", "Postings", "Tasks", "Pending", "TaskOfKey", "TagNames", "AttributeValues", "Languages", "TimeZones", "SavedAudiences"}
			if err := call(); err != nil && !slices.Contains(yields, name) && !errors.Is(err, ErrUnknownUser) && !errors.Is(err, ErrUnknownAudience) {
				t.Errorf("%s: %v", name, err)
			}
			called[name] = true
		})
	}
	rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
		if user == "a" {
			once.Do(func() { callAll(m.ID) })
		}
		return nil
	})
	if from == "phone" {
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			once.Do(func() { callAll(batch[0].Message.ID) })
			return nil, false
		})
	}
	m := Message{Body: []byte("x"), To: Users("a"), Lifetime: time.Hour}
	switch from {
	case "phone":
		m.To, m.Notification = Users("phone"), &Notification{Title: "t"}
	case "catch-up":
	default:
		connect(t, p, rec, "a")
		synctest.Wait()
	}
	if from == "lane, lifetime 0" {
		m.Lifetime = 0
	}
	mustTask(t, p, m)
	if from == "catch-up" {
		connect(t, p, rec, "a")
	}
	synctest.Wait()
	time.Sleep(time.Minute)
	for name := range closedCalls(p, "") {
		if !called[name] && name != "Close" && name != "Drain" {
			t.Errorf("%s was not called", name)
		}
	}
	// The worker is free.
	mustTask(t, p, Message{Body: []byte("next"), To: Users("b"), Lifetime: time.Hour})
	synctest.Wait()
	got := bodies(rec.Received("b"))
	if len(got) == 0 || got[len(got)-1] != "next" {
		t.Fatal(got)
	}
}

// TestDeliverAcknowledges: with clients that acknowledge, the acknowledgement may come from within Deliver, of this message
// and of earlier ones.
func TestDeliverAcknowledges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.AckRecorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Workers: 1})
		must(t, p.Register(ctx, "a"))
		rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
			if m.Sequence%3 == 0 {
				return p.AckThrough(ctx, user, m.ID)
			}
			if m.Sequence%3 == 1 {
				return p.Ack(ctx, user, m.ID)
			}
			return nil
		})
		var tasks []*Task
		for i := range 2 * maxUnacked {
			if i == maxUnacked {
				connect(t, p, &rec.Recorder, "a")
				synctest.Wait()
			}
			tasks = append(tasks, mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour}))
		}
		mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour}) // the one with AckThrough
		time.Sleep(time.Minute)
		if n := len(rec.Received("a")); n != 2*maxUnacked+1 {
			t.Fatal("received", n)
		}
		for _, task := range tasks {
			if g := progress(t, task); g.Delivered != 1 || g.Pending != 0 {
				t.Fatalf("%+v", g)
			}
		}
	})
}
