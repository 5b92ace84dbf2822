package fanfare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// recallScene is a Pusher with users u0 and so on, who each have a phone of the same token, and nobody connected.
func recallScene(t *testing.T, dir string, users int, phones ...*transporttest.Phones) *Pusher {
	t.Helper()
	o := Options{Online: new(transporttest.Recorder), Grace: -1, blockBits: 2}
	for _, ph := range phones {
		o.Mobile = append(o.Mobile, ph)
	}
	p := testPusher(t, dir, o)
	for i := range users {
		id := fmt.Sprint("u", i)
		must(t, p.Register(t.Context(), id))
		for _, ph := range phones {
			must(t, p.RegisterDevice(t.Context(), id, Device{Platform: ph.Platform(), Token: id}))
		}
	}
	return p
}

// screens are the titles on the phones of u0 and so on.
func screens(phones *transporttest.Phones, users int) string {
	var all []string
	for i := range users {
		var titles []string
		for _, n := range phones.Showing(fmt.Sprint("u", i)) {
			titles = append(titles, n.Content.Title)
		}
		all = append(all, strings.Join(titles, "+"))
	}
	return strings.Join(all, " ")
}

// TestWithdrawTakesAway: who was notified and does not have the message sees the notification no more, or what comes in its place; who was not is told nothing.
func TestWithdrawTakesAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		note    Notification
		instead *Notification
		want    string // on the phones of u0, who has the message, u1 and u2
		told    int64
	}{
		{"removed", Notification{Title: "old"}, nil, "old  ", 2},
		{"replaced", Notification{Title: "old"}, &Notification{Title: "new"}, "old new new", 2},
		{"under a name", Notification{Title: "old", Collapse: "offer"}, &Notification{Title: "new", Collapse: "other", Always: true}, "old new new", 2},
		{"a silent one shows nothing", Notification{Silent: true}, nil, "  ", 0},
		{"of all", Notification{Title: "old", Always: true}, nil, "  ", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				phones := transporttest.NewPhones("apns")
				p := recallScene(t, t.TempDir(), 4, phones)
				m := hello(Users("u0", "u1", "u2"))
				m.Notification = &c.note
				task := mustTask(t, p, m)
				must(t, task.Wait(ctx))
				must(t, p.Ack(ctx, "u0", task.ID))
				if n, err := task.Notification(ctx); err != nil || (n == nil) != c.note.Silent || n != nil && !reflect.DeepEqual(*n, c.note) {
					t.Errorf("phones show %+v, %v", n, err)
				}
				if c.instead == nil {
					must(t, p.Withdraw(ctx, task.ID))
				} else {
					must(t, p.Replace(ctx, task.ID, *c.instead))
				}
				if g := progress(t, task); g.Ended.IsZero() || g.Withdrawn != 2 {
					t.Errorf("%+v", g)
				}
				must(t, task.Wait(ctx))
				if got := screens(phones, 3); got != c.want {
					t.Errorf("the phones show %q", got)
				}
				for i := range 3 {
					for _, n := range phones.Shown(fmt.Sprint("u", i))[1:] {
						if n.Content.Data[transport.WithdrawnKey] != task.ID || n.Content.Collapse != c.note.Collapse || n.Message.ID != task.ID || !n.Content.Urgent {
							t.Errorf("told: %+v", n.Content)
						}
					}
				}
				if got := progress(t, task); got.Recalls["apns"].Accepted != c.told || got.Phones["apns"].Accepted != 3 || got.Recalling {
					t.Errorf("%+v", got)
				}
				total := phones.Total()
				if n, err := task.Notification(ctx); n != nil || err != nil {
					t.Errorf("of a message that is not kept any more: %+v, %v", n, err)
				}
				must(t, p.Withdraw(ctx, task.ID)) // again: nothing
				time.Sleep(2 * time.Hour)
				if phones.Total() != total || len(phones.Shown("u3")) != 0 {
					t.Errorf("%d, and then %d", total, phones.Total())
				}
				must(t, p.Check(ctx))
			})
		})
	}
}

// TestWithdrawDuringABatch: those of a batch that is under way are told, and nobody behind it.
func TestWithdrawDuringABatch(t *testing.T) {
	t.Parallel()
	for _, batches := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			phones := transporttest.NewPhones("apns")
			phones.SetBatchSize(3)
			p := recallScene(t, t.TempDir(), 9, phones)
			var id string
			phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
				if n := len(phones.Batches()); n == batches && id != "" {
					must(t, p.Withdraw(ctx, id))
				}
				return nil, false
			})
			release := phones.Block()
			m := hello(All())
			m.Notification = &Notification{Title: "old"}
			task := mustTask(t, p, m)
			id = task.ID
			release()
			must(t, task.Wait(ctx))
			synctest.Wait()
			if flight := p.delivery.flight(task.seq); flight != nil {
				must(t, task.Wait(ctx))
			}
			g := progress(t, task)
			if sent := int64(3 * batches); g.Phones["apns"].Sent != sent || g.Recalls["apns"].Sent != sent || strings.TrimSpace(screens(phones, 9)) != "" {
				t.Errorf("%+v, the phones show %q", g, screens(phones, 9))
			}
			must(t, p.Check(ctx))
		})
	}
}

// TestWithdrawOfTheLargest: phones are told also where the notification was as large as one may be.
func TestWithdrawOfTheLargest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := recallScene(t, t.TempDir(), 1, phones)
		m := hello(All())
		m.Notification = &Notification{Overrides: map[transport.Platform]json.RawMessage{"apns": json.RawMessage(`{"x":""}`)}}
		small, err := json.Marshal(m.Notification)
		must(t, err)
		m.Notification.Overrides["apns"] = json.RawMessage(`{"x":"` + strings.Repeat("x", maxNoteBytes-len(small)) + `"}`)
		task := mustTask(t, p, m)
		must(t, task.Wait(ctx))
		must(t, p.Withdraw(ctx, task.ID))
		must(t, task.Wait(ctx))
		if g := progress(t, task); g.Phones["apns"].Accepted != 1 || g.Recalls["apns"].Accepted != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// TestRecallEndsDuringABatch: a batch that is under way when its message is withdrawn, and until the message would have expired, leaves nothing behind that waits for ever.
func TestRecallEndsDuringABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := recallScene(t, t.TempDir(), 3, phones)
		release := phones.Block()
		m := hello(All())
		m.Notification, m.Lifetime = &Notification{Title: "old"}, 10*time.Second
		task := mustTask(t, p, m)
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		time.Sleep(12 * time.Second)
		release()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if f := p.delivery.flight(task.seq); f != nil {
			t.Error("phones are still to be told")
		}
		if g := progress(t, task); g.Phones["apns"].Accepted != 3 || g.Recalls["apns"].Sent != 0 {
			t.Errorf("%+v", g)
		}
		must(t, p.Check(ctx))
	})
}

// TestRecallIsForgotten: a recall ends with what is known of its task, where the message would live for longer.
func TestRecallIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1, Limits: Limits{Lifetime: 60 * 24 * time.Hour}})
		importPhones(t, p, "apns", "ann", "ben")
		task := mustTask(t, p, notice(60*24*time.Hour))
		must(t, task.Wait(ctx))
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			all := make([]transport.Result, len(batch))
			for i := range all {
				if batch[i].UserID == "ben" {
					all[i] = transport.Result{Outcome: transport.Unsent, RetryAfter: time.Hour}
				}
			}
			return all, true
		})
		p.dueSoon(1) // what is due is looked for before the task has ended
		time.Sleep(2 * sweepEvery)
		must(t, p.Withdraw(ctx, task.ID))
		time.Sleep(29 * 24 * time.Hour)
		if p.delivery.flight(task.seq) == nil {
			t.Error("it does not wait for the service")
		}
		time.Sleep(2 * 24 * time.Hour)
		if _, err := p.Task(ctx, task.ID); !errors.Is(err, ErrUnknownTask) {
			t.Error(err)
		}
		if p.delivery.flight(task.seq) != nil {
			t.Error("phones are still to be told")
		}
		must(t, p.Check(ctx))
	})
}

// TestRecallWhileDenied: a service that denies its sender stops a recall in this process, and the next one tells the phones, each that of its owner: not one that was
// registered by somebody else meanwhile, and not that of who was unregistered, though it is the same person's again.
func TestRecallWhileDenied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		dir := t.TempDir()
		phones := transporttest.NewPhones("apns")
		p := recallScene(t, dir, 4, phones)
		m := hello(All())
		m.Notification = &Notification{Title: "old", Always: true}
		task := mustTask(t, p, m)
		must(t, task.Wait(ctx))
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			return slices.Repeat([]transport.Result{{Outcome: transport.Denied, Reason: "BadKey"}}, len(batch)), true
		})
		later := mustTask(t, p, m) // nobody is notified of it
		must(t, later.Wait(ctx))
		for _, of := range []*Task{task, later} {
			must(t, p.Withdraw(ctx, of.ID))
			must(t, of.Wait(ctx))
		}
		g := progress(t, task)
		if n := g.Recalls["apns"]; n.Sent != 0 || n.Stopped != "BadKey" || g.Phones["apns"].Stopped != "" {
			t.Errorf("%+v", g)
		}
		if g := progress(t, later); g.Recalls != nil || g.Phones["apns"].Stopped != "" {
			t.Errorf("nobody was notified: %+v", g)
		}
		must(t, p.Register(ctx, "new"))
		must(t, p.RegisterDevice(ctx, "new", Device{Platform: "apns", Token: "u1"}))
		must(t, p.Unregister(ctx, "u2"))
		must(t, p.Register(ctx, "u2"))
		must(t, p.RegisterDevice(ctx, "u2", Device{Platform: "apns", Token: "u2"}))
		must(t, p.Check(ctx))
		must(t, p.Close(ctx))

		next := transporttest.NewPhones("apns")
		p = testPusher(t, dir, Options{Mobile: []transport.Mobile{next}, blockBits: 2})
		task, err := p.Task(ctx, task.ID)
		must(t, err)
		must(t, task.Wait(ctx))
		if n := progress(t, task).Recalls["apns"]; n.Accepted != 2 || n.Stopped != "" || len(next.Shown("u0")) != 1 || len(next.Shown("u3")) != 1 || next.Total() != 2 {
			t.Errorf("%+v", n)
		}
		must(t, p.Check(ctx))
	})
}

// TestWaitForARecall: Wait that was called before the withdrawal waits for the phones that are told of it, too.
func TestWaitForARecall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := recallScene(t, t.TempDir(), 3, phones)
		release := phones.Block()
		m := hello(All())
		m.Notification = &Notification{Title: "old"}
		task := mustTask(t, p, m)
		waited := make(chan int64)
		go func() {
			must(t, task.Wait(ctx))
			waited <- progress(t, task).Recalls["apns"].Accepted
		}()
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		release()
		if n := <-waited; n != 3 {
			t.Errorf("Wait returned with %d told", n)
		}
	})
}

// TestWithdrawBeforePhones: in the grace nobody was notified, and nobody is told.
func TestWithdrawBeforePhones(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}})
		importPhones(t, p, "apns", "ann", "ben")
		task := mustTask(t, p, notice(week))
		must(t, p.Withdraw(ctx, task.ID))
		must(t, task.Wait(ctx))
		time.Sleep(time.Hour)
		if g := progress(t, task); phones.Total() != 0 || g.Withdrawn != 2 || g.Recalls["apns"].Sent != 0 {
			t.Errorf("%d, %+v", phones.Total(), g)
		}
		if err := p.Replace(ctx, task.ID, Notification{Title: strings.Repeat("x", 1<<20)}); !errors.As(err, new(*LimitError)) {
			t.Error("too large:", err)
		}
		must(t, p.Check(ctx))
	})
}

// TestRecallGoesOn: at the next Open, on each platform from where it was, and to the message's end at most.
func TestRecallGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		dir := t.TempDir()
		apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		p := recallScene(t, dir, 6, apns, fcm)
		m := hello(All())
		m.Notification = &Notification{Title: "old"}
		first := mustTask(t, p, m)
		must(t, first.Wait(ctx))
		second := mustTask(t, p, m)
		must(t, second.Wait(ctx))
		apns.Overload(1000, time.Second)
		fcm.RetryNext("u2", 1, 10*time.Minute)
		must(t, p.Replace(ctx, first.ID, Notification{Title: "new"}))
		time.Sleep(time.Second)
		if g := progress(t, first); !g.Recalling {
			t.Errorf("with tries to come: %+v", g)
		}
		if got := screens(fcm, 6); got != "new+old new+old old+old new+old new+old new+old" {
			t.Error(got)
		}
		must(t, p.Check(ctx))
		must(t, p.Close(ctx))

		apns, fcm2 := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		p = recallScene(t, dir, 6, apns, fcm2)
		time.Sleep(11 * time.Minute)
		if got, again := screens(apns, 6), screens(fcm2, 6); got != "new new new new new new" || again != "  new   " {
			t.Errorf("%q, %q", got, again)
		}
		task, err := p.Task(ctx, first.ID)
		must(t, err)
		if g := progress(t, task); g.Recalls["apns"].Accepted != 6 || g.Recalls["fcm"].Accepted != 6 || g.Recalling {
			t.Errorf("%+v", g)
		}
		apns.Overload(1<<30, time.Minute)
		must(t, p.Withdraw(ctx, second.ID))
		time.Sleep(2 * time.Hour) // beyond its end
		must(t, p.Check(ctx))
		if n := apns.Total(); n != 6 {
			t.Errorf("%d", n)
		}
		tries := len(apns.Batches())
		time.Sleep(time.Hour)
		if n := len(apns.Batches()); n != tries {
			t.Errorf("tried %d times, and then %d", tries, n)
		}
		time.Sleep(31 * 24 * time.Hour)
		if _, err := p.Task(ctx, first.ID); !errors.Is(err, ErrUnknownTask) {
			t.Error(err)
		}
	})
}

// TestWithdrawPlan takes back what a plan has released from phones, too.
func TestWithdrawPlan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		phones := transporttest.NewPhones("apns")
		p := recallScene(t, t.TempDir(), 6, phones)
		m := hello(All())
		m.Notification = &Notification{Title: "old"}
		planned := mustPlan(t, p, Plan{Message: m, Pace: 2})
		time.Sleep(1500 * time.Millisecond)
		if got := screens(phones, 6); got != "old old old old  " {
			t.Fatal(got)
		}
		release := phones.Block()
		must(t, planned.Replace(ctx, Notification{Title: "new"}))
		synctest.Wait()
		if g, err := planned.Progress(ctx); err != nil || !g.Recalling {
			t.Errorf("%+v, %v", g, err)
		}
		release()
		must(t, planned.Wait(ctx))
		if got := screens(phones, 6); got != "new new new new  " {
			t.Error(got)
		}
		if g, err := planned.Progress(ctx); err != nil || g.Recalls["apns"].Accepted != 4 || g.Withdrawn != 4 || g.Recalling {
			t.Errorf("%+v, %v", g, err)
		}
	})
}

// narrowPhones take no notification that is not what was pushed, if it has the collapse ID "offer".
type narrowPhones struct{ *transporttest.Phones }

func (narrowPhones) Check(c *transport.Content) error {
	if c.Collapse == "offer" && c.Data[transport.WithdrawnKey] != "" && !c.Withdrawn {
		return errors.New("too narrow")
	}
	return nil
}

// TestReplaceRefused: what one of the forms of a plan would not take is refused before anything is done.
func TestReplaceRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{narrowPhones{phones}}, Grace: -1})
		importPhones(t, p, "apns", "ann", "ben")
		m := hello(All())
		planned := mustPlan(t, p, Plan{Message: m, Pace: 1, Variants: []Variant{{Name: "A"}, {Name: "B", Notification: &Notification{Title: "old", Collapse: "offer"}}}})
		synctest.Wait()
		var refused *NotificationError
		if err := planned.Replace(t.Context(), Notification{Title: "new"}); !errors.As(err, &refused) {
			t.Errorf("%v", err)
		}
		if i := info(t, planned); !i.Ended.IsZero() || i.Held == 0 {
			t.Errorf("%+v", i)
		}
		must(t, planned.Withdraw(t.Context()))
		if i := info(t, planned); i.Outcome != PlanCancelled {
			t.Errorf("%+v", i)
		}
	})
}

// TestWithdrawAtNight: who was passed over because of quiet hours is told nothing, and who was notified is told in them, too.
func TestWithdrawAtNight(t *testing.T) {
	t.Parallel()
	for _, reopen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			dir := t.TempDir()
			phones := transporttest.NewPhones("apns")
			o := Options{Mobile: []transport.Mobile{phones}, Grace: -1, blockBits: 2, Quiet: QuietHours{From: 22 * time.Hour, To: 8 * time.Hour}}
			p := testPusher(t, dir, o)
			for i, zone := range []string{"Asia/Tokyo", "Europe/London", "Asia/Tokyo", "Europe/London", "Asia/Tokyo", "Europe/London"} {
				id := fmt.Sprint("u", i)
				must(t, p.Register(ctx, id))
				must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: id, TimeZone: zone}))
			}
			time.Sleep(15 * time.Hour) // midnight in Tokyo
			m := hello(All())
			m.Notification, m.Lifetime = &Notification{Title: "old"}, week
			task := mustTask(t, p, m)
			time.Sleep(8 * time.Hour) // 23:00 in London, and 8:00 in Tokyo
			other := mustTask(t, p, m)
			time.Sleep(time.Minute)
			if got := screens(phones, 6); got != "old+old old old+old old old+old old" {
				t.Fatal(got)
			}
			release := phones.Block()
			must(t, p.Replace(ctx, other.ID, Notification{Title: "new", Sound: "x"}))
			if reopen {
				must(t, p.Check(ctx))
				must(t, p.Close(ctx))
				next := transporttest.NewPhones("apns")
				o.Mobile = []transport.Mobile{next}
				testPusher(t, dir, o)
				time.Sleep(48 * time.Hour)
				if got := screens(next, 6); got != "new  new  new " {
					t.Error(got)
				}
				return
			}
			release()
			time.Sleep(48 * time.Hour)
			if got := screens(phones, 6); got != "old+new old old+new old old+new old" {
				t.Error(got)
			}
			if g := progress(t, task); g.Pending != 6 {
				t.Error(g)
			}
			must(t, p.Check(ctx))
		})
	}
}
