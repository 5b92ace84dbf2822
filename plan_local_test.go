package fanfare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// wallTime is an expression of the tests: each day at a time such as 09:00.
type wallTime time.Duration

func (w wallTime) Next(after time.Time) time.Time {
	midnight := time.Date(after.Year(), after.Month(), after.Day(), 0, 0, 0, 0, after.Location())
	next := midnight.Add(time.Duration(w))
	if !next.After(after) {
		next = next.Add(24 * time.Hour)
	}
	return next
}

func wallCron(expression string) (Recurrence, error) {
	at, err := time.Parse("15:04", expression)
	if err != nil {
		return testCron(expression)
	}
	return wallTime(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute), nil
}

// earth is a Pusher with users in time zones, all connected, and when each of them gets something. It may be closed and opened again.
type earth struct {
	t     *testing.T
	p     *Pusher
	o     Options
	rec   *transporttest.Recorder
	dir   string
	zones map[string]string // by user; empty: none
	ahead atomic.Int64      // nanoseconds, of the bubble's clock

	mu  sync.Mutex
	got map[string][]time.Time
}

func newEarth(t *testing.T, o Options, zones map[string]string) *earth {
	t.Helper()
	e := &earth{t: t, o: o, dir: t.TempDir(), zones: zones, got: make(map[string][]time.Time)}
	e.open()
	return e
}

func (e *earth) now() time.Time { return time.Now().UTC().Add(time.Duration(e.ahead.Load())) }

func (e *earth) open() {
	e.t.Helper()
	e.rec = new(transporttest.Recorder)
	e.rec.OnDeliver(func(_ context.Context, user string, _ *transport.Message) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got[user] = append(e.got[user], e.now())
		return nil
	})
	o := e.o
	o.Online, o.Workers, o.blockBits, o.Cron, o.now = e.rec, 1, 2, wallCron, func() time.Time { return e.now() }
	e.p = testPusher(e.t, e.dir, o)
	for user := range e.zones {
		e.user(user)
	}
	synctest.Wait()
}

func (e *earth) user(user string) {
	e.t.Helper()
	must(e.t, e.p.Register(e.t.Context(), user))
	if e.zones[user] != "" {
		must(e.t, e.p.RegisterDevice(e.t.Context(), user, Device{Platform: "apns", Token: user, TimeZone: e.zones[user]}))
	}
	connect(e.t, e.p, e.rec, user)
}

func (e *earth) reopen(planned *Planned) *Planned {
	e.t.Helper()
	must(e.t, e.p.Close(e.t.Context()))
	e.open()
	planned, err := e.p.Planned(e.t.Context(), planned.ID)
	must(e.t, err)
	return planned
}

// pass lets time pass until a moment, in jumps of the clock of five minutes: plans look at it each second.
func (e *earth) pass(to time.Time) {
	synctest.Wait()
	for now := e.now(); now.Before(to); now = e.now() {
		next := now.Truncate(5 * time.Minute).Add(5 * time.Minute)
		if to.Before(next) {
			next = to
		}
		last := min(next.Sub(now), time.Second)
		e.ahead.Add(int64(next.Sub(now) - last))
		time.Sleep(last)
		synctest.Wait()
	}
}

// until lets time pass to a day of the month at a time of day by UTC.
func (e *earth) until(day int, clock string) {
	e.t.Helper()
	at, err := time.Parse("15:04", clock)
	must(e.t, err)
	now := e.now()
	e.pass(time.Date(now.Year(), now.Month(), day, at.Hour(), at.Minute(), 0, 0, time.UTC))
}

// end lets time pass until a plan has ended.
func (e *earth) end(planned *Planned) {
	e.t.Helper()
	for info(e.t, planned).Ended.IsZero() {
		e.pass(e.now().Add(5 * time.Minute))
	}
	must(e.t, planned.Wait(e.t.Context()))
}

// want compares when users got something with days of the month and times of day by UTC.
func (e *earth) want(want map[string]string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for user := range e.zones {
		var got []string
		for _, at := range e.got[user] {
			got = append(got, at.Format("2 15:04"))
		}
		if have := strings.Join(got, ", "); have != want[user] {
			e.t.Errorf("%s got it on %s; want %s", user, have, want[user])
		}
	}
}

// count is how often a user got something; empty: all of them together.
func (e *earth) count(of string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for user, got := range e.got {
		if of == "" || user == of {
			n += len(got)
		}
	}
	return n
}

func january(day, hour int) time.Time { return time.Date(2000, 1, day, hour, 0, 0, 0, time.UTC) }

// TestPlanLocalEvery: each user gets each of the days' at the time on the user's own wall, once, though each day begins on the first place of the Earth before the one before is
// over on the last; its audience is of the moment when it begins there. Processes end in the middle.
func TestPlanLocalEvery(t *testing.T) {
	t.Parallel()
	for _, reopen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEarth(t, Options{}, map[string]string{
				"kiritimati": "Pacific/Kiritimati", "tokyo": "Asia/Tokyo", "berlin": "Europe/Berlin", "newyork": "America/New_York", "last": "Etc/GMT+12", "nowhere": "", "odd": "Mars/Olympus",
			})
			planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: "09:00", At: january(3, 0), Until: january(6, 9), Zone: "Europe/Berlin"})
			if i := info(t, planned); !i.Next.Equal(january(2, 19)) {
				t.Errorf("%+v", i)
			}
			e.until(3, "20:00") // the fourth is under way, and the third is still to come in the last zone
			i := info(t, planned)
			if i.Fired != 2 || !i.Running || i.Held != 7 || !i.Next.Equal(january(3, 21)) {
				t.Errorf("%+v", i)
			}
			e.zones["late"] = "Etc/GMT+12"
			e.user("late")
			for reopen && info(t, planned).Ended.IsZero() {
				planned = e.reopen(planned)
				e.pass(e.now().Add(time.Hour))
			}
			e.end(planned)
			e.want(map[string]string{
				"kiritimati": "2 19:00, 3 19:00, 4 19:00, 5 19:00", "tokyo": "3 00:00, 4 00:00, 5 00:00, 6 00:00",
				"berlin": "3 08:00, 4 08:00, 5 08:00, 6 08:00", "nowhere": "3 08:00, 4 08:00, 5 08:00, 6 08:00", "odd": "3 08:00, 4 08:00, 5 08:00, 6 08:00",
				"newyork": "3 14:00, 4 14:00, 5 14:00, 6 14:00", "last": "3 21:00, 4 21:00, 5 21:00, 6 21:00", "late": "5 21:00, 6 21:00",
			})
			g, err := planned.Progress(t.Context())
			must(t, err)
			if i := info(t, planned); i.Fired != 4 || i.Outcome != PlanCompleted || i.Gone != 0 || len(i.Missed) != 0 || g.Delivered != 4*7+2 {
				t.Errorf("%+v\n%+v", i, g)
			}
			must(t, e.p.Check(t.Context()))
		})
	}
}

// TestPlanLocalEveryClockSet: a time that a zone skips comes with the hour after it, and of two the first counts, each day once.
func TestPlanLocalEveryClockSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		begin                   time.Time
		every, newyork, phoenix string
	}{ // New York's clocks are set forward on 2 April 2000 at 2:00, and back on 29 October at 2:00. Those of Phoenix are not.
		{time.Date(2000, 4, 1, 0, 0, 0, 0, time.UTC), "02:30", "1 07:30, 2 07:30, 3 06:30", "1 09:30, 2 09:30, 3 09:30"},
		{time.Date(2000, 10, 28, 0, 0, 0, 0, time.UTC), "01:30", "28 05:30, 29 05:30, 30 06:30", "28 08:30, 29 08:30, 30 08:30"},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEarth(t, Options{}, map[string]string{})
			e.ahead.Store(int64(time.Until(c.begin.Add(-24 * time.Hour))))
			e.zones = map[string]string{"newyork": "America/New_York", "phoenix": "America/Phoenix"}
			e.user("newyork")
			e.user("phoenix")
			synctest.Wait()
			planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: c.every, At: c.begin, Until: c.begin.Add(3 * 24 * time.Hour)})
			e.end(planned)
			e.want(map[string]string{"newyork": c.newyork, "phoenix": c.phoenix})
			if i := info(t, planned); i.Fired != 3 || len(i.Missed) != 0 {
				t.Errorf("%+v", i)
			}
		})
	}
}

// TestPlanLocalEveryPause: while it is paused it does not begin anywhere; when it goes on, the places are missed for which it is too late, of whichever day.
func TestPlanLocalEveryPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, Options{}, map[string]string{
			"kiritimati": "Pacific/Kiritimati", "tokyo": "Asia/Tokyo", "shanghai": "Asia/Shanghai", "berlin": "Europe/Berlin", "newyork": "America/New_York", "last": "Etc/GMT+12",
		})
		planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: "09:00", At: january(3, 0), Until: january(7, 0), Zone: "Europe/Berlin"})
		e.until(3, "12:00")
		must(t, planned.Pause(t.Context()))
		e.until(4, "02:00") // Shanghai's is an hour late
		if i := info(t, planned); i.Fired != 1 || i.Held != 2 || !i.Paused || !i.Next.IsZero() {
			t.Errorf("%+v", i)
		}
		must(t, planned.Resume(t.Context()))
		must(t, planned.Pause(t.Context()))
		must(t, planned.Resume(t.Context()))
		e.until(5, "12:00")
		must(t, planned.Pause(t.Context())) // for more than the whole of the sixth
		e.until(9, "00:00")
		must(t, planned.Resume(t.Context()))
		e.end(planned)
		e.want(map[string]string{
			"kiritimati": "2 19:00, 4 19:00", "tokyo": "3 00:00, 5 00:00", "shanghai": "3 01:00, 4 02:00, 5 01:00", "berlin": "3 08:00, 4 08:00, 5 08:00",
			"newyork": "4 14:00", "last": "4 21:00",
		})
		i := info(t, planned)
		want := []time.Time{
			january(3, 14), january(3, 19), january(3, 21), january(4, 0), // two places of the third, two of the fourth
			january(5, 19), january(5, 14), january(5, 21), // all of the sixth, and two places of the fifth
		}
		if !slices.EqualFunc(i.Missed, want, time.Time.Equal) || i.Gone != 6 || i.Fired != 3 || i.Outcome != PlanCompleted {
			t.Errorf("%+v", i)
		}
	})
}

// TestPlanLocalMover: who goes from one zone to another gets each day's once: who went before the time of the old zone and after that of the new one last of all.
func TestPlanLocalMover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, Options{}, map[string]string{
			"tokyo": "Asia/Tokyo", "newyork": "America/New_York", "last": "Etc/GMT+12", "east": "America/New_York", "west": "Asia/Tokyo", "new": "America/New_York", "gone": "Etc/GMT+12",
		})
		planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: "09:00", At: january(3, 0), Until: january(5, 0)})
		e.until(3, "12:00")
		for user, zone := range map[string]string{"east": "Asia/Tokyo", "west": "America/New_York", "new": "America/Los_Angeles"} { // to which nobody has been before
			must(t, e.p.RegisterDevice(t.Context(), user, Device{Platform: "apns", Token: user, TimeZone: zone}))
		}
		e.until(3, "19:30")
		must(t, e.p.Unregister(t.Context(), "gone"))
		delete(e.zones, "gone")
		e.end(planned)
		e.want(map[string]string{
			"tokyo": "3 00:00, 4 00:00", "newyork": "3 14:00, 4 14:00", "last": "3 21:00, 4 21:00",
			"east": "3 21:00, 4 00:00", "west": "3 00:00, 4 14:00", "new": "3 17:00, 4 17:00",
		})
		if i := info(t, planned); i.Gone != 2 || i.Fired != 2 { // one of each day
			t.Errorf("%+v", i)
		}
	})
}

// TestPlanLocalLastZoneLeft: who was the last in the last zone and goes to one where it was the time already gets it all the same; not when the process was down by then.
func TestPlanLocalLastZoneLeft(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEarth(t, Options{}, map[string]string{"tokyo": "Asia/Tokyo", "mover": "America/Los_Angeles"})
			planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, At: january(3, 9)})
			e.until(3, "12:00")
			e.zones["mover"] = "Asia/Tokyo"
			e.user("mover")
			want, gone := map[string]string{"tokyo": "3 00:00", "mover": "3 17:00"}, int64(0)
			if down {
				must(t, e.p.Close(t.Context()))
				e.ahead.Add(int64(9 * time.Hour))
				e.open()
				var err error
				planned, err = e.p.Planned(t.Context(), planned.ID)
				must(t, err)
				want["mover"], gone = "", 1
			}
			e.end(planned)
			e.want(want)
			if i := info(t, planned); i.Gone != gone || len(i.Missed) != int(gone) || i.Fired != 1 || i.Outcome != PlanCompleted {
				t.Errorf("%+v", i)
			}
			must(t, e.p.Check(t.Context()))
		})
	}
}

// TestPlanLocalEveryPace: the pace bounds what all of the days that are under way release together.
func TestPlanLocalEveryPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zones := make(map[string]string)
		for i := range 3 { // It is 9:00 in both at the same moment, a day apart.
			zones[fmt.Sprint("early", i)], zones[fmt.Sprint("late", i)] = "Etc/GMT-13", "Etc/GMT+11"
		}
		e := newEarth(t, Options{}, zones)
		planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: "09:00", At: january(3, 0), Until: january(5, 0), Pace: 1, Tolerance: time.Second})
		e.until(3, "20:00")
		last := 0
		for second := range 6 {
			n := e.count("")
			if second > 0 && n != last+1 {
				t.Errorf("%d in a second", n-last)
			}
			last = n
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if i := info(t, planned); i.Held != 3 || len(i.Missed) != 0 {
			t.Errorf("%+v", i)
		}
		must(t, planned.Cancel(t.Context()))
		if i := info(t, planned); i.Held != 0 || i.Gone != 3 || i.Running || i.Outcome != PlanCancelled {
			t.Errorf("%+v", i)
		}
		must(t, e.p.Check(t.Context()))
	})
}

// TestPlanLocalEveryFails: a plan whose audience has gone fires no more, and what it has fired goes round the Earth to the end.
func TestPlanLocalEveryFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, Options{}, map[string]string{"tokyo": "Asia/Tokyo", "last": "Etc/GMT+12"})
		must(t, e.p.SaveAudience(t.Context(), "vip", All()))
		planned := mustPlan(t, e.p, Plan{Message: hello(Saved("vip")), Local: true, Every: "09:00", At: january(3, 0)})
		e.until(3, "12:00")
		must(t, e.p.DeleteAudience(t.Context(), "vip"))
		e.until(3, "20:00")
		if i := info(t, planned); i.Outcome != "" || !strings.Contains(i.Error, "vip") || !i.Running {
			t.Errorf("%+v", i)
		}
		e.end(planned)
		e.want(map[string]string{"tokyo": "3 00:00", "last": "3 21:00"})
		if i := info(t, planned); i.Outcome != PlanFailed || i.Fired != 1 || i.Gone != 0 || !i.Ended.Equal(january(3, 21)) {
			t.Errorf("%+v", i)
		}
	})
}

// TestPlanLocalFrom: without At it begins with what is to come on the clock of its zone, and with one that is past with what is not over everywhere.
func TestPlanLocalFrom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, Options{}, map[string]string{"auckland": "Pacific/Auckland", "tokyo": "Asia/Tokyo", "shanghai": "Asia/Shanghai", "newyork": "America/New_York"})
		e.until(3, "00:30") // 8:30 in Shanghai, 9:30 in Tokyo
		m := hello(All())
		here := mustPlan(t, e.p, Plan{Message: m, Local: true, Every: "09:00", Zone: "Asia/Shanghai", Until: january(3, 23)})
		e.end(here)
		e.want(map[string]string{"tokyo": "3 00:30", "shanghai": "3 01:00", "newyork": "3 14:00"})
		if i := info(t, here); i.Fired != 1 || len(i.Missed) != 1 || !i.Missed[0].Equal(january(2, 20)) {
			t.Errorf("%+v", i)
		}
		e.mu.Lock()
		clear(e.got)
		e.mu.Unlock()
		e.until(4, "01:30")
		past := mustPlan(t, e.p, Plan{Message: m, Local: true, Every: "09:00", At: january(1, 0), Until: january(4, 9)})
		e.end(past)
		e.want(map[string]string{"shanghai": "4 01:30", "newyork": "4 14:00"})
		if i := info(t, past); i.Fired != 1 || len(i.Missed) != 2 {
			t.Errorf("%+v", i)
		}
	})
}

// flood is a recurrence that is for each hour at first, and for each minute of an hour then.
type flood struct{ from time.Time }

func (f flood) Next(after time.Time) time.Time {
	switch {
	case after.Before(f.from.Add((maxRuns + 1) * time.Hour)):
		return after.Truncate(time.Hour).Add(time.Hour)
	case after.Before(f.from.Add((maxRuns+1)*time.Hour + 10*time.Minute)):
		return after.Truncate(time.Minute).Add(time.Minute)
	}
	return time.Time{}
}

// TestPlanLocalTooOften: what would wait for itself is refused; what does nevertheless waits, and is not missed.
func TestPlanLocalTooOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, Options{}, map[string]string{"first": "Pacific/Kiritimati", "last": "Etc/GMT+12"})
		e.p.o.Cron = func(expression string) (Recurrence, error) {
			if expression == "flood" {
				return flood{january(3, 0)}, nil
			}
			return halfHourly{}, nil
		}
		if _, err := e.p.Plan(t.Context(), Plan{Message: hello(All()), Local: true, Every: "*/30 * * * *"}); err == nil || !strings.Contains(err.Error(), "too often") {
			t.Error(err)
		}
		planned := mustPlan(t, e.p, Plan{Message: hello(All()), Local: true, Every: "flood", At: january(3, 0), Tolerance: 10 * time.Minute})
		most := 0
		for info(t, planned).Ended.IsZero() {
			_, _, s, err := planned.read()
			must(t, err)
			most = max(most, len(s.Runs))
			e.pass(e.now().Add(5 * time.Minute))
		}
		i := info(t, planned)
		if i.Fired != maxRuns+2+10 || len(i.Missed) != 0 || i.Gone != 0 || most != maxRuns || e.count("first") != i.Fired || e.count("last") != i.Fired {
			t.Errorf("%d at a time, %d and %d: %+v", most, e.count("first"), e.count("last"), i)
		}
	})
}

type halfHourly struct{}

func (halfHourly) Next(after time.Time) time.Time {
	return after.Truncate(30 * time.Minute).Add(30 * time.Minute)
}

// TestPlanLocalModel lets a plan of some days go round the Earth while users come, move from zone to zone and go, it is paused, resumed and given another pace, and processes end. In the
// end each user waits once for each day that began anywhere while the user was known.
func TestPlanLocalModel(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	zones := []string{"", "Etc/GMT-14", "Asia/Tokyo", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Etc/GMT+11", "Etc/GMT+12", "Mars/Olympus"}
	checkModel(t, modelChecks, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		ctx := context.Background()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var ahead atomic.Int64
		var p *Pusher
		var planned *Planned
		open := func() {
			var err error
			p, err = Open(dir, Options{Cron: wallCron, blockBits: 1, DeltaEntries: 20, Online: new(transporttest.AckRecorder), now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
			ok(err)
			if planned != nil {
				planned, err = p.Planned(ctx, planned.ID)
				ok(err)
			}
			synctest.Wait()
		}
		open()
		defer func() { p.Close(ctx) }()
		where := func(user string) {
			ok(p.RegisterDevice(ctx, user, Device{Platform: "apns", Token: user, TimeZone: rapid.SampledFrom(zones).Draw(t, "zone")}))
		}
		since := make(map[string]int) // by user: how often it had fired when the user was registered
		come := func() {
			user := fmt.Sprint("u", len(since))
			ok(p.Register(ctx, user))
			where(user)
			since[user] = 0
			if planned != nil {
				i, err := planned.Info(ctx)
				ok(err)
				since[user] = i.Fired
			}
		}
		for range 6 {
			come()
		}
		planned, err = p.Plan(ctx, Plan{
			Message: Message{Body: []byte("x"), To: All(), Lifetime: week}, Local: true, Every: "09:00", At: january(2, 0), Until: january(5, 0), Tolerance: -1,
			Zone: rapid.SampledFrom([]string{"", "Asia/Tokyo", "America/New_York"}).Draw(t, "home"), Pace: rapid.IntRange(0, 2).Draw(t, "pace"),
		})
		ok(err)
		gone := make(map[string]bool)
		some := func() string {
			var there []string
			for user := range since {
				if !gone[user] {
					there = append(there, user)
				}
			}
			slices.Sort(there)
			return rapid.SampledFrom(there).Draw(t, "user")
		}
		pass := func(d time.Duration) {
			ahead.Add(int64(d))
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		for range rapid.IntRange(10, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				come()
			case 1:
				if user := some(); len(since)-len(gone) > 3 {
					ok(p.Unregister(ctx, user))
					gone[user] = true
				}
			case 2, 3:
				where(some())
			case 4:
				ok(p.Close(ctx))
				open()
			case 5:
				err = planned.Pause(ctx)
			case 6:
				err = planned.Resume(ctx)
			case 7:
				err = planned.SetPace(ctx, rapid.IntRange(0, 2).Draw(t, "pace"))
			default:
				pass(time.Duration(rapid.IntRange(1, 900).Draw(t, "minutes")) * time.Minute)
			}
			if err != nil && !errors.Is(err, ErrPlanEnded) {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := planned.Resume(ctx); err != nil && !errors.Is(err, ErrPlanEnded) {
			t.Fatal(err)
		}
		synctest.Wait()
		var i PlanInfo
		for i.Ended.IsZero() {
			pass(time.Hour)
			i, err = planned.Info(ctx)
			ok(err)
		}
		if i.Fired != 3 || len(i.Missed) != 0 || i.Outcome != PlanCompleted {
			t.Fatalf("%+v", i)
		}
		for user, from := range since {
			if gone[user] {
				continue
			}
			have := 0
			for _, err := range p.Pending(ctx, user) {
				ok(err)
				have++
			}
			if have != i.Fired-from {
				t.Fatalf("%s waits for %d, and was there for %d", user, have, i.Fired-from)
			}
		}
		ok(p.Check(ctx))
	})
}
