package fanfare

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestMaintenance: a plan that is due, a message that has expired and phones that are still to be notified wait for the server while somebody imports.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := t.Context(), t.TempDir()
		phones := transporttest.NewPhones("apns")
		o := Options{Online: new(transporttest.Recorder), Mobile: []transport.Mobile{phones}, Grace: time.Minute, Limits: Limits{TagsPerUser: 3, DevicesPerUser: 4}}
		p := testPusher(t, dir, o)
		must(t, p.Register(ctx, "a"))
		must(t, p.RegisterDevice(ctx, "a", Device{Platform: "apns", Token: "t"}))
		notified := mustTask(t, p, Message{To: All(), Lifetime: 7 * 24 * time.Hour, Notification: &Notification{Title: "n"}})
		short := mustTask(t, p, Message{To: All(), Lifetime: time.Second / 2})
		plan := mustPlan(t, p, Plan{Message: Message{To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "planned"}}, At: time.Now().Add(time.Minute)})
		must(t, p.Close(ctx))

		time.Sleep(2 * time.Minute)
		p = testPusher(t, dir, Options{Maintenance: true})
		s, err := p.Stats(ctx)
		must(t, err)
		if l := s.Limits; l.TagsPerUser != 3 || l.DevicesPerUser != 4 || l.TagBytes != 50 {
			t.Errorf("limits %+v", l)
		}
		var of *LimitError
		if _, err := p.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "b", Tags: []string{"1", "2", "3", "4"}}, nil) }, nil); !errors.As(err, &of) {
			t.Error("a tag more than the stored limit:", err)
		}
		_, err = p.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "b", Tags: []string{"1"}}, nil) }, nil)
		must(t, err)
		must(t, p.Compact(ctx))
		meanwhile := mustTask(t, p, Message{To: Users("a"), Lifetime: time.Hour, Notification: &Notification{Title: "m"}})
		must(t, meanwhile.Wait(ctx))
		must(t, taskAgain(t, p, notified).Wait(ctx))
		soon, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		if err := plan.again(t, p).Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		if i := info(t, plan.again(t, p)); i.Fired != 0 || len(i.Missed) != 0 {
			t.Errorf("%+v", i)
		}
		if g := progress(t, taskAgain(t, p, short)); g.Pending != 1 {
			t.Errorf("%+v", g)
		}
		must(t, p.Close(ctx))
		if n := len(phones.Shown("t")); n != 0 {
			t.Errorf("%d are shown", n)
		}

		o.Mobile = []transport.Mobile{transporttest.NewPhones("apns")} // the others are closed
		p = testPusher(t, dir, o)
		time.Sleep(5 * time.Minute)
		if g := progress(t, taskAgain(t, p, short)); g.Expired != 1 {
			t.Errorf("%+v", g)
		}
		if g := progress(t, taskAgain(t, p, notified)); g.Phones["apns"].Accepted != 1 {
			t.Errorf("%+v", g)
		}
		if g := progress(t, taskAgain(t, p, meanwhile)); g.Pending != 1 || len(g.Phones) != 0 {
			t.Errorf("pushed meanwhile: %+v", g)
		}
		if i := info(t, plan.again(t, p)); i.Fired != 1 {
			t.Errorf("%+v", i)
		}
		if n, err := p.Count(ctx, Tag("1")); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
}

// again is the plan of another Pusher on the directory.
func (pl *Planned) again(t *testing.T, p *Pusher) *Planned {
	t.Helper()
	planned, err := p.Planned(t.Context(), pl.ID)
	must(t, err)
	return planned
}

func taskAgain(t *testing.T, p *Pusher, of *Task) *Task {
	t.Helper()
	task, err := p.Task(t.Context(), of.ID)
	must(t, err)
	return task
}

// TestMaintenanceLimits: limits that are given are stored, as at any Open, and it has no transports.
func TestMaintenanceLimits(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	must(t, testPusher(t, dir, Options{}).Close(ctx))
	must(t, testPusher(t, dir, Options{Maintenance: true, Limits: Limits{TagsPerUser: 500}}).Close(ctx))
	for _, o := range []Options{{Maintenance: true}, {ReadOnly: true}, {ReadOnly: true, Limits: Limits{TagsPerUser: 7}}} {
		p := testPusher(t, dir, o)
		s, err := p.Stats(ctx)
		must(t, err)
		if s.Limits.TagsPerUser != 500 || s.Limits.DevicesPerUser != 20 {
			t.Errorf("%+v: %+v", o, s.Limits)
		}
		must(t, p.Close(ctx))
	}
	for _, o := range []Options{{Maintenance: true, Online: new(transporttest.Recorder)}, {Maintenance: true, Mobile: []transport.Mobile{transporttest.NewPhones("apns")}}} {
		if _, err := Open(dir, o); err == nil {
			t.Error("transports")
		}
	}
}
