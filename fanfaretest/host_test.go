package fanfaretest_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// hub is a host's own transport.
type hub struct {
	got    chan string
	refuse atomic.Bool
	closes atomic.Int64
}

var errRefused = errors.New("refused")

func (h *hub) Deliver(_ context.Context, user string, m *transport.Message) error {
	if h.refuse.Swap(false) {
		return errRefused
	}
	h.got <- user + ": " + string(m.Body)
	return nil
}

func (h *hub) Close() error {
	h.closes.Add(1)
	return nil
}

type ackHub struct{ hub }

func (h *ackHub) ClientAcks() bool { return true }

// batchHub takes batches only.
type batchHub struct{ hub }

func (h *batchHub) Deliver(context.Context, string, *transport.Message) error {
	panic("a Batcher's Deliver is not called")
}
func (h *batchHub) MaxBatch() int { return 0 }
func (h *batchHub) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	if len(users) != 1 {
		return nil
	}
	if err := h.hub.Deliver(ctx, users[0], m); err != nil {
		return []error{err}
	}
	return nil
}

// TestHostsTransport: the host's own gets what is delivered, and may refuse it; faults come before it, and what it took is recorded.
func TestHostsTransport(t *testing.T) {
	t.Parallel()
	for _, batch := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &batchHub{hub: hub{got: make(chan string, 10)}}
			var host transport.Online = &h.hub
			if batch {
				host = h
			}
			p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Online: host}, ClientAcks: true})
			p.Login(t, "alice")
			synctest.Wait()
			p.Recorder.FailNext("alice", 1, nil)
			h.refuse.Store(true)
			one := p.MustPush(t, hello(fanfare.All(), "One"))
			p.WaitEnded(t, one.ID) // without an ack: the host's transport knows of none
			if got := <-h.got; got != "alice: One" || p.Recorder.Attempts("alice") != 3 {
				t.Errorf("%s, after %d tries", got, p.Recorder.Attempts("alice"))
			}
			p.RequireOnce(t, "alice")

			p.Crash(t)
			if n := h.closes.Load(); n != 0 {
				t.Errorf("the crash closed the transport %d times", n)
			}
			other := &hub{got: make(chan string, 1)}
			p.Reopen(t, fanfare.Options{Online: other})
			if n := h.closes.Load(); n != 1 {
				t.Errorf("closed %d times", n)
			}
			p.Login(t, "alice")
			two := p.MustPush(t, hello(fanfare.All(), "Two"))
			p.WaitEnded(t, two.ID)
			if got := <-other.got; got != "alice: Two" || len(h.got) != 0 {
				t.Errorf("%s, and %d by the one before", got, len(h.got))
			}
			p.Reopen(t, fanfare.Options{})
			p.Login(t, "alice")
			p.WaitDelivered(t, p.MustPush(t, hello(fanfare.All(), "Three")).ID, "alice") // which the closed one would not take
		})
	}
}

func TestHostsAcks(t *testing.T) {
	t.Parallel()
	h := &ackHub{hub{got: make(chan string, 10)}}
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Online: h, Grace: -1}})
	p.Login(t, "alice")
	one := p.MustPush(t, hello(fanfare.All(), "One"))
	p.WaitDelivered(t, one.ID, "alice")
	p.WaitTask(t, one.ID)
	if g, err := one.Progress(); err != nil || g.Pending != 1 {
		t.Errorf("delivered without an ack: %+v %v", g, err)
	}
	must(t, p.Ack(t.Context(), "alice", one.ID))
	p.WaitEnded(t, one.ID)
}

// TestHooks: those of the host are called, and options that cannot be are told.
func TestHooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		add := func(what string) func(fanfare.TaskEvent) {
			return func(fanfare.TaskEvent) { told = append(told, what) }
		}
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Hooks: fanfare.Hooks{
			Accepted: add("accepted"), Finished: add("finished"), Expired: add("expired"), Withdrawn: add("withdrawn"),
			Delivered: func(e fanfare.DeliveredEvent) { told = append(told, "delivered") },
		}}})
		p.Login(t, "alice")
		p.WaitEnded(t, p.MustPush(t, hello(fanfare.All(), "One")).ID)
		synctest.Wait()
		slices.Sort(told)
		if !slices.Equal(told, []string{"accepted", "delivered", "finished"}) {
			t.Errorf("told %q", told)
		}
	})
	for _, f := range []func(t testing.TB){
		func(t testing.TB) { fanfaretest.New(t, fanfaretest.Options{}, fanfaretest.Options{}) },
		func(t testing.TB) {
			fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{ReadOnly: true}})
		},
		func(t testing.TB) {
			fanfaretest.New(t).Reopen(t, fanfare.Options{}, fanfare.Options{})
		},
	} {
		if got := run(f); len(got) != 2 {
			t.Errorf("%q", got)
		}
	}
}

// TestPlatforms: the phones are those that are asked for, beside the host's own.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	own := transporttest.NewPhones("apns")
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1, Mobile: []transport.Mobile{own}}})
	p.MustRegister(t, "alice")
	registerPhone(t, p, "alice", "apns", "a")
	registerPhone(t, p, "alice", "fcm", "b")
	p.WaitTask(t, p.MustPush(t, hello(fanfare.All(), "One")).ID)
	if len(own.Shown("a")) != 1 || len(p.Service("fcm").Shown("b")) != 1 || p.Phone("alice").String() != "fcm b: To all: One" {
		t.Errorf("%v %v", own.Shown("a"), p.Phone("alice"))
	}
	defer func() {
		if recover() == nil {
			t.Error("a service that is not there")
		}
	}()
	p.Service("apns")
}

func TestNoPlatforms(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}, Platforms: []string{}})
	p.MustRegister(t, "alice")
	registerPhone(t, p, "alice", "apns", "a")
	one := p.MustPush(t, hello(fanfare.All(), "One"))
	p.WaitTask(t, one.ID)
	if g, err := one.Progress(); err != nil || g.Phones != nil {
		t.Errorf("%+v %v", g, err)
	}
}

// TestPhone: what is on a phone is what its user was sent: the last of a kind, without what was withdrawn.
func TestPhone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}})
		p.MustRegister(t, "alice", "bob")
		registerPhone(t, p, "alice", "apns", "a")
		score := func(text string) *fanfare.Task {
			m := hello(fanfare.All(), text)
			m.Notification = &fanfare.Notification{Title: text, Collapse: "score"}
			task := p.MustPush(t, m)
			p.WaitTask(t, task.ID)
			return task
		}
		phone := p.Phone("alice")
		if phone.String() != "nothing" {
			t.Errorf("showing %s", phone)
		}
		score("1:0")
		one := p.MustPush(t, hello(fanfare.All(), "One"))
		p.WaitTask(t, one.ID)
		score("2:0")
		if got := phone.String(); got != "apns a: 2:0\napns a: To all: One" || len(phone.Shown()) != 3 {
			t.Errorf("showing %s", got)
		}
		must(t, p.Withdraw(t.Context(), one.ID))
		p.WaitNotified(t, "alice", 4)
		if got := phone.String(); got != "apns a: 2:0" {
			t.Errorf("showing %s", got)
		}
		p.RequireNotified(t, one.ID, "alice") // it was there

		registerPhone(t, p, "bob", "apns", "a") // who gets the phone from her
		score("3:0")
		if a, b := phone.String(), p.Phone("bob").String(); a != "nothing" && a != "apns a: 2:0" || b != "apns a: 3:0" {
			t.Errorf("alice: %s; bob: %s", a, b)
		}

		p.Phone("bob").Throttle(1, 10*time.Minute)
		began := time.Now()
		score("4:0")
		if took := time.Since(began); took < 10*time.Minute || took > 12*time.Minute {
			t.Errorf("sent after %v", took)
		}
		p.Phone("bob").Die()
		last := score("5:0")
		p.RequireNotNotified(t, last.ID, "bob")
		if list, err := p.Devices(t.Context(), "bob"); err != nil || len(list) != 0 {
			t.Errorf("the dead token is there still: %v %v", list, err)
		}
	})
}

// TestHookThatWaits: the host's hook waits for the test, which waits for the end of the task first.
func TestHookThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := make(chan int)
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Hooks: fanfare.Hooks{Delivered: func(e fanfare.DeliveredEvent) { told <- e.Count }}}})
		p.Login(t, "alice")
		p.WaitEnded(t, p.MustPush(t, hello(fanfare.All(), "One")).ID)
		if n := <-told; n != 1 {
			t.Error(n)
		}
	})
}
