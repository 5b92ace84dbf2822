package fanfare

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPlanLocalPace: who waits for the pace of a local plan is not late, in the zone that is being released and in those behind it.
func TestPlanLocalPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users = 20
		p, rec := planScene(t, t.TempDir(), users)
		for i := range 5 {
			must(t, p.RegisterDevice(t.Context(), fmt.Sprintf("u%02d", i), Device{Platform: "apns", Token: fmt.Sprint("token", i), TimeZone: "Asia/Tokyo"}))
		}
		planned := mustPlan(t, p, Plan{
			Message: hello(All()), Local: true, At: time.Now().UTC().Add(20 * time.Hour), Pace: 1, Tolerance: 2 * time.Second,
		})
		must(t, planned.Wait(t.Context()))
		if i := info(t, planned); have(rec, users)[1] != users || i.Gone != 0 || len(i.Missed) != 0 || i.Outcome != PlanCompleted {
			t.Fatalf("%v: %+v", have(rec, users), i)
		}
	})
}

// TestPlanEverySlow: an occurrence that is due while the one before is being released waits for it, and does not count as late.
func TestPlanEverySlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users = 10
		p, rec := planScene(t, t.TempDir(), users)
		p.o.paceEvery = time.Hour // a second of the pace
		planned := mustPlan(t, p, Plan{Message: Message{Body: []byte("x"), To: All(), Lifetime: week}, Pace: 3, Every: "every 1 h", Until: time.Now().Add(5*time.Hour + time.Minute)})
		last := 0
		for range 40 {
			synctest.Wait()
			sum := 0
			for n, c := range have(rec, users) {
				sum += n * c
			}
			if sum-last > 3 {
				t.Fatalf("%d in a second of the pace", sum-last)
			}
			last = sum
			time.Sleep(time.Hour)
		}
		if i := info(t, planned); have(rec, users)[6] != users || i.Fired != 6 || len(i.Missed) != 0 || i.Outcome != PlanCompleted {
			t.Fatalf("%v: %+v", have(rec, users), i)
		}
	})
}

// TestPlanPauseHoldsPace: pausing and resuming releases nothing before the next second of the pace.
func TestPlanPauseHoldsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, rec := planScene(t, t.TempDir(), 20)
		planned := mustPlan(t, p, Plan{Message: hello(All()), Pace: 2})
		for range 4 {
			synctest.Wait()
			must(t, planned.Pause(t.Context()))
			must(t, planned.Resume(t.Context()))
		}
		synctest.Wait()
		if got := have(rec, 20); got[1] != 2 {
			t.Fatal(got)
		}
		must(t, planned.Cancel(t.Context()))
	})
}

// TestPlanClockSet: a plan fires within a second or two of its time also where the clock was set forward; and one for a time that no timer reaches costs nothing.
func TestPlanClockSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ahead, readings atomic.Int64
		p := testPusher(t, t.TempDir(), Options{Grace: -1, now: func() time.Time {
			readings.Add(1)
			return time.Now().Add(time.Duration(ahead.Load()))
		}})
		must(t, p.Register(t.Context(), "a"))
		far := mustPlan(t, p, Plan{Message: hello(All()), At: time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)})
		synctest.Wait()
		before := readings.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := readings.Load() - before; n > 1000 {
			t.Errorf("%d readings of the clock in a minute", n)
		}
		planned := mustPlan(t, p, Plan{Message: hello(All()), At: time.Now().Add(2 * time.Hour)})
		synctest.Wait()
		ahead.Store(int64(2*time.Hour + time.Second))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if i := info(t, planned); i.Fired != 1 || i.Outcome != PlanCompleted {
			t.Errorf("%+v", i)
		}
		if i := info(t, far); i.Fired != 0 {
			t.Errorf("%+v", i)
		}
	})
}

// TestPlansFail: a plan whose audience has gone fails, and says why; more of them than are looked at in one go are not in the way of the next plan.
func TestPlansFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, rec := planScene(t, t.TempDir(), 2)
		must(t, p.SaveAudience(t.Context(), "vip", All()))
		var planned *Planned
		at := time.Now().Add(time.Minute)
		for range 150 {
			planned = mustPlan(t, p, Plan{Message: hello(Saved("vip")), At: at, Tolerance: -1})
		}
		must(t, p.DeleteAudience(t.Context(), "vip"))
		time.Sleep(62 * time.Second)
		other := mustPlan(t, p, Plan{Message: hello(All())})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got, i := have(rec, 2), info(t, other); got[1] != 2 || i.Outcome != PlanCompleted {
			t.Error(got, i.Outcome)
		}
		if i := info(t, planned); i.Outcome != PlanFailed || !strings.Contains(i.Error, "vip") || i.Fired != 0 {
			t.Errorf("%+v", i)
		}
	})
}

// TestPlanSpecs: what cannot be kept, or would never or always fire, is refused when the plan is made.
func TestPlanSpecs(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{Cron: func(string) (Recurrence, error) { return standing{}, nil }})
	for name, plan := range map[string]Plan{
		"a key of no text":              {Message: Message{Body: []byte("x"), To: All(), Key: "\xff"}},
		"a key that is too long":        {Message: Message{Body: []byte("x"), To: All(), Key: strings.Repeat("k", 256)}},
		"local without a time":          {Message: hello(All()), Local: true},
		"a time that does not go on":    {Message: hello(All()), Every: "always"},
		"a language that cannot be one": {Message: hello(All()), Variants: []Variant{{Name: "x", Language: strings.Repeat("x", 1000)}}},
	} {
		if _, err := p.Plan(t.Context(), plan); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// standing is a recurrence that does not go on.
type standing struct{}

func (standing) Next(after time.Time) time.Time { return after }

// TestPlanFillByLanguage: a variant of a language needs what it is filled with of its own users alone, and the others of theirs.
func TestPlanFillByLanguage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := planScene(t, t.TempDir(), 3)
		must(t, p.SetAttributeNames(t.Context(), map[int]string{0: "vorname", 1: "name"}))
		must(t, p.RegisterDevice(t.Context(), "u00", Device{Platform: "apns", Token: "t", Locale: "de-DE"}))
		must(t, p.SetAttributes(t.Context(), "u00", map[string]string{"vorname": "Ada"}))
		for _, id := range []string{"u01", "u02"} {
			must(t, p.SetAttributes(t.Context(), id, map[string]string{"name": "Bea"}))
		}
		plan := Plan{Message: Message{Body: []byte("Dear {{attr.name}}"), To: All(), Lifetime: time.Hour, Fill: FillText}, Variants: []Variant{{Name: "de", Language: "de", Body: []byte("Liebe {{attr.vorname}}")}}}
		planned := mustPlan(t, p, plan)
		must(t, planned.Wait(t.Context()))
		if i := info(t, planned); i.Outcome != PlanCompleted {
			t.Errorf("%+v", i)
		}
		var unresolved *UnresolvedError
		must(t, p.RemoveAttributes(t.Context(), "u00", "vorname"))
		if _, err := p.Plan(t.Context(), plan); !errors.As(err, &unresolved) || unresolved.Name != "vorname" || unresolved.Users != 1 {
			t.Errorf("%v", err)
		}
	})
}
