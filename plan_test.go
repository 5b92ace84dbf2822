package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// hourly is an expression of the tests: so many hours apart, on the hour.
type hourly int

func (h hourly) Next(after time.Time) time.Time {
	step := time.Duration(h) * time.Hour
	return after.Truncate(step).Add(step)
}

func testCron(expression string) (Recurrence, error) {
	var h hourly
	if _, err := fmt.Sscanf(expression, "every %d h", (*int)(&h)); err != nil || h < 1 {
		return nil, errors.New("not an expression")
	}
	return h, nil
}

// planScene is a Pusher with users u00, u01 and so on, who are all connected.
func planScene(t *testing.T, dir string, users int) (*Pusher, *transporttest.Recorder) {
	t.Helper()
	rec := new(transporttest.Recorder)
	p := testPusher(t, dir, Options{Online: rec, Cron: testCron, blockBits: 2, Grace: -1})
	var ids []string
	for i := range users {
		ids = append(ids, fmt.Sprintf("u%02d", i))
	}
	must(t, p.Register(t.Context(), ids...))
	for _, id := range ids {
		connect(t, p, rec, id)
	}
	synctest.Wait()
	return p, rec
}

// have is how many of the users have had how many messages.
func have(rec *transporttest.Recorder, users int) map[int]int {
	out := make(map[int]int)
	for i := range users {
		out[len(rec.Received(fmt.Sprintf("u%02d", i)))]++
	}
	return out
}

func mustPlan(t *testing.T, p *Pusher, plan Plan) *Planned {
	t.Helper()
	planned, err := p.Plan(t.Context(), plan)
	must(t, err)
	return planned
}

func info(t *testing.T, planned *Planned) PlanInfo {
	t.Helper()
	i, err := planned.Info(t.Context())
	must(t, err)
	return i
}

func hello(to Audience) Message { return Message{Body: []byte("hello"), To: to, Lifetime: time.Hour} }

// TestPlanAt: it fires at its time, once, also over an end of the process; the audience is that of then.
func TestPlanAt(t *testing.T) {
	t.Parallel()
	for _, reopen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			p, rec := planScene(t, dir, 3)
			at := time.Now().Add(time.Hour)
			planned := mustPlan(t, p, Plan{Message: hello(Tag("x")), At: at})
			if i := info(t, planned); !i.Next.Equal(at) || i.Fired != 0 || i.Outcome != "" {
				t.Fatalf("%+v", i)
			}
			must(t, p.AddTags(t.Context(), "u01", "x"))
			if reopen {
				must(t, p.Close(t.Context()))
				p, rec = planScene(t, dir, 3)
				var err error
				planned, err = p.Planned(t.Context(), planned.ID)
				must(t, err)
			}
			time.Sleep(time.Until(at) - time.Millisecond)
			synctest.Wait()
			if got := have(rec, 3); got[0] != 3 {
				t.Fatal("too early:", got)
			}
			time.Sleep(2 * time.Millisecond)
			must(t, planned.Wait(t.Context()))
			time.Sleep(3 * time.Hour)
			if got := have(rec, 3); got[1] != 1 || len(rec.Received("u01")) != 1 {
				t.Fatal(got)
			}
			if i := info(t, planned); i.Fired != 1 || i.Outcome != PlanCompleted || i.Ended.IsZero() || !i.Next.IsZero() {
				t.Fatalf("%+v", i)
			}
			for task, err := range planned.Tasks(t.Context()) {
				must(t, err)
				if got := task.Info(); got.Plan != planned.ID || got.Accepted.Before(at) {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// TestPlanPace: so many users a second and no more, changed, paused and resumed on the way, over ends of the process; each user once, in all.
func TestPlanPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const users = 23
		dir := t.TempDir()
		p, rec := planScene(t, dir, users)
		planned := mustPlan(t, p, Plan{Message: hello(All()), Pace: 3})
		got := func(want int) {
			t.Helper()
			synctest.Wait()
			if have := have(rec, users); have[1] != want || have[1]+have[0] != users {
				t.Fatalf("%v, want %d", have, want)
			}
		}
		synctest.Wait()
		got(3)
		time.Sleep(900 * time.Millisecond)
		got(3)
		time.Sleep(200 * time.Millisecond)
		got(6)
		must(t, p.Register(t.Context(), "late")) // who is not in the audience
		must(t, planned.Pause(t.Context()))
		time.Sleep(time.Minute)
		got(6)
		if i := info(t, planned); !i.Paused || i.Held != users-6 || !i.Running || i.Next != (time.Time{}) {
			t.Fatalf("%+v", i)
		}
		must(t, planned.Resume(t.Context()))
		got(9)
		time.Sleep(1100 * time.Millisecond)
		got(12)
		must(t, planned.SetPace(t.Context(), 5))
		time.Sleep(time.Second)
		got(17)
		must(t, p.Close(t.Context()))
		before := have(rec, users)
		p, rec = planScene(t, dir, users)
		planned, err := p.Planned(t.Context(), planned.ID)
		must(t, err)
		must(t, planned.Pause(t.Context()))
		must(t, planned.Resume(t.Context())) // looks at it at once, in the second in which the process before released
		synctest.Wait()
		if soon := have(rec, users); soon[1] != 0 {
			t.Fatal("before the second was over:", soon)
		}
		must(t, p.Unregister(t.Context(), "u22"))
		must(t, planned.Wait(t.Context()))
		after := have(rec, users)
		if before[1] != 17 || after[1] != users-1-17 {
			t.Fatal(before, after)
		}
		i := info(t, planned)
		g, err := planned.Progress(t.Context())
		must(t, err)
		if g.Total != users-1 || g.Delivered != users-1 || g.Gone != 1 || g.Held != 0 || g.Ended.IsZero() || i.Outcome != PlanCompleted || i.Gone != 1 {
			t.Fatalf("%+v\n%+v", g, i)
		}
	})
}

// TestPlanCancel: what was released stays, what was not is not, and a withdrawal takes what is pending too.
func TestPlanCancel(t *testing.T) {
	t.Parallel()
	for _, withdraw := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p, rec := planScene(t, t.TempDir(), 8)
			must(t, p.Register(t.Context(), "away"))
			planned := mustPlan(t, p, Plan{Message: hello(Users("u00", "u01", "u05", "away")), Pace: 2})
			waiting := mustPlan(t, p, Plan{Message: hello(Users("away")), Pace: 2})
			synctest.Wait()
			end := planned.Cancel
			if withdraw {
				end = planned.Withdraw
			}
			must(t, end(t.Context()))
			if err := planned.Cancel(t.Context()); !errors.Is(err, ErrPlanEnded) {
				t.Error(err)
			}
			if withdraw {
				must(t, waiting.Withdraw(t.Context()))
			}
			time.Sleep(time.Minute)
			if got := have(rec, 8); got[1] != 2 {
				t.Errorf("%v", got)
			}
			i, err := planned.Progress(t.Context())
			must(t, err)
			if info(t, planned).Outcome != PlanCancelled || i.Gone != 2 || i.Held != 0 || i.Delivered != 2 {
				t.Errorf("%+v", i)
			}
			g, err := waiting.Progress(t.Context())
			must(t, err)
			if withdraw && g.Withdrawn != 1 || !withdraw && g.Pending != 1 {
				t.Errorf("%+v", g)
			}
		})
	}
}

// TestPlanEvery: it fires at each time until its end, each once; what was due while the process was down for too long is recorded.
func TestPlanEvery(t *testing.T) {
	t.Parallel()
	for _, pace := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			p, rec := planScene(t, dir, 3)
			began := time.Now().Truncate(time.Hour)
			planned := mustPlan(t, p, Plan{Message: hello(All()), Every: "every 2 h", Until: began.Add(21 * time.Hour), Tolerance: 10 * time.Minute, Pace: pace})
			time.Sleep(4*time.Hour + time.Minute)
			fired := have(rec, 3)
			must(t, p.Close(t.Context()))
			time.Sleep(6 * time.Hour)
			p, rec = planScene(t, dir, 3)
			planned, err := p.Planned(t.Context(), planned.ID)
			must(t, err)
			synctest.Wait()
			i := info(t, planned)
			// It fired at 0, 2 and 4 h, was down at 6 and 8 h, and was a minute late at 10 h.
			if fired[3] != 3 || i.Fired != 4 || len(i.Missed) != 2 || !i.Missed[0].Equal(began.Add(6*time.Hour)) || !i.Missed[1].Equal(began.Add(8*time.Hour)) {
				t.Fatalf("%v %+v", fired, i)
			}
			must(t, planned.Wait(t.Context()))
			if i = info(t, planned); i.Fired != 9 || len(i.Missed) != 2 || i.Outcome != PlanCompleted {
				t.Fatalf("%+v", i)
			}
			if got := have(rec, 3); got[6] != 3 {
				t.Fatal(got)
			}
		})
	}
}

// TestPlanMissed: one that could not fire in time does not, and says so; with another tolerance it does.
func TestPlanMissed(t *testing.T) {
	t.Parallel()
	for tolerance, want := range map[time.Duration]PlanOutcome{0: PlanMissed, 3 * time.Hour: PlanCompleted, -1: PlanCompleted} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			p, _ := planScene(t, dir, 1)
			planned := mustPlan(t, p, Plan{Message: hello(All()), At: time.Now().Add(time.Hour), Tolerance: tolerance})
			must(t, p.Close(t.Context()))
			time.Sleep(3 * time.Hour)
			p, rec := planScene(t, dir, 1)
			planned, err := p.Planned(t.Context(), planned.ID)
			must(t, err)
			must(t, planned.Wait(t.Context()))
			i := info(t, planned)
			if i.Outcome != want || (len(i.Missed) == 1) != (want == PlanMissed) || (have(rec, 1)[1] == 1) != (want == PlanCompleted) {
				t.Errorf("%v: %+v", tolerance, i)
			}
		})
	}
}

// TestPlanVariants: each user gets one of the forms, by a split that is the same each time and in the shares that were said, also at a pace; statistics by form.
func TestPlanVariants(t *testing.T) {
	t.Parallel()
	for _, pace := range []int{0, 7} {
		synctest.Test(t, func(t *testing.T) {
			const users = 60
			p, rec := planScene(t, t.TempDir(), users)
			m := hello(All())
			planned := mustPlan(t, p, Plan{
				Message: m, Every: "every 1 h", Until: time.Now().Truncate(time.Hour).Add(time.Hour + time.Minute), Pace: pace,
				Variants: []Variant{{Name: "A", Weight: 3, Body: []byte("A")}, {Name: "B", Body: []byte("B")}, {Name: "plain"}},
			})
			must(t, planned.Wait(t.Context()))
			count := make(map[string]int64)
			for i := range users {
				got := bodies(rec.Received(fmt.Sprintf("u%02d", i)))
				if len(got) != 2 || got[0] != got[1] {
					t.Fatalf("u%02d got %v", i, got)
				}
				count[got[0]]++
			}
			g, err := planned.Progress(t.Context())
			must(t, err)
			for name, body := range map[string]string{"A": "A", "B": "B", "plain": "hello"} {
				if g.Variants[name].Delivered != 2*count[body] {
					t.Errorf("%s: %+v, want %d", name, g.Variants[name], 2*count[body])
				}
			}
			if n := count["A"]; n < 24 || n > 48 || count["B"] == 0 || count["hello"] == 0 { // of 60 in shares of 3, 1, 1
				t.Errorf("the split is %v", count)
			}
		})
	}
}

// TestPlanChange: until it fires it can be replaced, and then not.
func TestPlanChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, rec := planScene(t, t.TempDir(), 2)
		m := hello(All())
		m.Key = "k"
		plan := Plan{Message: m, At: time.Now().Add(time.Hour)}
		planned := mustPlan(t, p, plan)
		if again := mustPlan(t, p, plan); !again.Duplicate || again.ID != planned.ID {
			t.Errorf("%+v", again)
		}
		plan.Message.Body = []byte("other")
		if _, err := p.Plan(t.Context(), plan); !errors.Is(err, ErrKeyReused) {
			t.Error(err)
		}
		plan.At = time.Now().Add(2 * time.Hour)
		must(t, planned.Change(t.Context(), plan))
		time.Sleep(90 * time.Minute)
		if got := have(rec, 2); got[0] != 2 {
			t.Fatal(got)
		}
		must(t, planned.Pause(t.Context()))
		time.Sleep(time.Hour)
		must(t, planned.Resume(t.Context())) // half an hour late, which is within the tolerance
		must(t, planned.Wait(t.Context()))
		if got := bodies(rec.Received("u00")); !slices.Equal(got, []string{"other"}) {
			t.Fatal(got)
		}
		if err := planned.Change(t.Context(), plan); !errors.Is(err, ErrPlanEnded) {
			t.Error(err)
		}
		repeated := mustPlan(t, p, Plan{Message: hello(All()), Every: "every 1 h"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if err := repeated.Change(t.Context(), plan); !errors.Is(err, ErrPlanStarted) {
			t.Error(err)
		}
		must(t, repeated.Cancel(t.Context()))
		var ids []string
		for x, err := range p.Plans(t.Context()) {
			must(t, err)
			ids = append(ids, x.ID)
		}
		if !slices.Equal(ids, []string{repeated.ID, planned.ID}) {
			t.Error(ids)
		}
		time.Sleep(31 * 24 * time.Hour)
		synctest.Wait()
		if _, err := planned.Info(t.Context()); !errors.Is(err, ErrUnknownPlan) {
			t.Error(err)
		}
	})
}

// TestPlanRefused: what cannot be pushed is told when it is planned; what cannot any more when it fires is told by the plan.
func TestPlanRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := planScene(t, t.TempDir(), 1)
		large := hello(All())
		large.Body = make([]byte, 13<<10)
		for name, c := range map[string]struct {
			plan Plan
			want string
		}{
			"no audience":          {Plan{}, "empty of terms"},
			"an unnamed attribute": {Plan{Message: hello(Attr("tier", "x"))}, "no attribute"},
			"a large body":         {Plan{Message: large}, "body in bytes"},
			"a large variant":      {Plan{Message: hello(All()), Variants: []Variant{{Name: "A"}, {Name: "B", Body: large.Body}}}, "body in bytes"},
			"two of a name":        {Plan{Message: hello(All()), Variants: []Variant{{Name: "A"}, {Name: "A"}}}, `"A" is there twice`},
			"no name":              {Plan{Message: hello(All()), Variants: []Variant{{}}}, "name of a variant"},
			"a weight below 0":     {Plan{Message: hello(All()), Variants: []Variant{{Name: "A", Weight: -1}}}, "below 0"},
			"a weight too large":   {Plan{Message: hello(All()), Variants: []Variant{{Name: "A", Weight: 1_000_001}}}, "weight of a variant"},
			"a zone":               {Plan{Message: hello(All()), Zone: "Nowhere/At_All"}, "zone"},
			"the machine's zone":   {Plan{Message: hello(All()), Zone: "Local", At: time.Now().Add(time.Hour), Local: true}, `"Local" is another`},
			"an expression":        {Plan{Message: hello(All()), Every: "never"}, `"never"`},
			"an end before":        {Plan{Message: hello(All()), Every: "every 1 h", Until: time.Now().Add(-time.Hour)}, "no time"},
			"a pace below 0":       {Plan{Message: hello(All()), Pace: -1}, "pace"},
		} {
			if _, err := p.Plan(t.Context(), c.plan); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for range p.Plans(t.Context()) {
			t.Error("a plan that was refused is there")
		}
		must(t, p.SetAttributeNames(t.Context(), map[int]string{0: "tier"}))
		planned := mustPlan(t, p, Plan{Message: hello(Attr("tier", "x")), At: time.Now().Add(time.Hour)})
		paced := mustPlan(t, p, Plan{Message: hello(Attr("tier", "x")), At: time.Now().Add(time.Hour), Pace: 1})
		must(t, p.SetAttributeNames(t.Context(), map[int]string{0: "size"}))
		for _, x := range []*Planned{planned, paced} {
			must(t, x.Wait(t.Context()))
			if i := info(t, x); i.Outcome != PlanFailed || !strings.Contains(i.Error, "tier") {
				t.Errorf("%+v", i)
			}
		}
		if _, err := p.Planned(context.Background(), "plan-0000000000000099"); !errors.Is(err, ErrUnknownPlan) {
			t.Error(err)
		}
	})
}

// TestCaps: who has had enough of a category is left out, of plans too, and counted.
func TestCaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Caps: map[string]Cap{"offers": {PerDay: 2}}, blockBits: 2})
		must(t, p.Register(t.Context(), "u00", "u01", "u02", "u03", "u04"))
		for i := range 5 {
			connect(t, p, rec, fmt.Sprintf("u%02d", i))
		}
		offer := func(to Audience) Message {
			return Message{Body: []byte("x"), To: to, Lifetime: time.Hour, Category: "offers"}
		}
		mustTask(t, p, offer(Users("u00", "u03")))
		if g := progress(t, mustTask(t, p, offer(All()))); g.Capped != 0 || g.Total != 5 {
			t.Errorf("%+v", g)
		}
		planned := mustPlan(t, p, Plan{Message: offer(All()), Pace: 2})
		must(t, planned.Wait(t.Context()))
		g, err := planned.Progress(t.Context())
		must(t, err)
		if g.Capped != 2 || g.Total != 3 || g.Held != 0 || g.Gone != 0 {
			t.Errorf("%+v", g)
		}
		synctest.Wait()
		for i := range 5 {
			if n := len(rec.Received(fmt.Sprintf("u%02d", i))); n != 2 {
				t.Errorf("u%02d has %d", i, n)
			}
		}
		must(t, p.OptOut(t.Context(), "u03", "offers", "news"))
		must(t, p.OptOut(t.Context(), "u03", "news"))
		if u, err := p.User(t.Context(), "u03"); err != nil || !slices.Equal(u.OptOuts, []string{"news", "offers"}) || len(u.Tags) > 0 {
			t.Errorf("%+v, %v", u, err)
		}
		other := offer(All())
		other.Category = ""
		if task := mustTask(t, p, other); progress(t, task).Total != 5 || task.Info().Category != "" {
			t.Error(task.Info())
		}
		time.Sleep(24 * time.Hour)
		task := mustTask(t, p, offer(All()))
		if g := progress(t, task); g.Total != 4 || g.OptedOut != 1 || g.Capped != 0 || task.Info().Category != "offers" {
			t.Errorf("%+v, %+v", task.Info(), g)
		}
		must(t, p.OptIn(t.Context(), "u03", "offers", "other"))
		if g := progress(t, mustTask(t, p, offer(All()))); g.Total != 5 || g.OptedOut != 0 {
			t.Errorf("%+v", g)
		}
		var limit *LimitError
		for i := range 100 {
			if err := p.OptOut(t.Context(), "u04", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.OptOut(t.Context(), "u04", "one more"); !errors.As(err, &limit) {
			t.Error(err)
		}
		if err := p.OptOut(t.Context(), "nobody", "x"); !errors.Is(err, ErrUnknownUser) {
			t.Error(err)
		}
	})
}

// TestPlanOneVariant: a plan whose only form is a variant releases it under its name.
func TestPlanOneVariant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := planScene(t, t.TempDir(), 3)
		planned := mustPlan(t, p, Plan{Message: hello(All()), Variants: []Variant{{Name: "A", Body: []byte("a")}}})
		must(t, planned.Wait(t.Context()))
		for task, err := range planned.Tasks(t.Context()) {
			must(t, err)
			if got := task.Info().Variant; got != "A" {
				t.Errorf("variant %q", got)
			}
		}
		g, err := planned.Progress(t.Context())
		must(t, err)
		if len(g.Variants) != 1 || g.Variants["A"].Delivered != 3 {
			t.Errorf("%+v", g.Variants)
		}
	})
}

// TestPlanRefusedHasNotFired: a plan whose attribute has lost its name when it is time fails, and has not fired, with a pace or without.
func TestPlanRefusedHasNotFired(t *testing.T) {
	t.Parallel()
	for _, pace := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			p, rec := planScene(t, t.TempDir(), 2)
			must(t, p.SetAttributeNames(t.Context(), map[int]string{0: "tier"}))
			planned := mustPlan(t, p, Plan{Message: hello(Attr("tier", "gold").Not()), At: time.Now().Add(time.Minute), Pace: pace})
			must(t, p.SetAttributeNames(t.Context(), map[int]string{0: ""}))
			must(t, planned.Wait(t.Context()))
			if got, i := have(rec, 2), info(t, planned); got[0] != 2 || i.Outcome != PlanFailed || i.Error == "" || i.Fired != 0 {
				t.Errorf("pace %d: %v %+v", pace, got, i)
			}
		})
	}
}

// TestPlannedOfKey: a key names its plan, whatever becomes of it, until that is forgotten.
func TestPlannedOfKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := planScene(t, t.TempDir(), 1)
		unknown := func(key string) {
			t.Helper()
			if got, err := p.PlannedOfKey(t.Context(), key); !errors.Is(err, ErrUnknownPlan) {
				t.Errorf("%q is of %v, %v", key, got, err)
			}
		}
		unknown("k")
		unknown("")
		m := hello(All())
		m.Key = "k"
		mustPlan(t, p, Plan{Message: hello(All()), At: time.Now().Add(time.Hour)})
		planned := mustPlan(t, p, Plan{Message: m, At: time.Now().Add(time.Hour)})
		m.Body = []byte("another")
		must(t, planned.Change(t.Context(), Plan{Message: m, At: time.Now().Add(time.Hour)}))
		for range 2 {
			got, err := p.PlannedOfKey(t.Context(), "k")
			must(t, err)
			if got.ID != planned.ID {
				t.Errorf("the key is of %s, not of %s", got.ID, planned.ID)
			}
			time.Sleep(2 * time.Hour)
		}
		time.Sleep(31 * 24 * time.Hour)
		unknown("k")
		unknown("")
	})
}

// TestPlanTimes: it is told when a plan would fire, and what is wrong with its time, and nothing is made.
func TestPlanTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := planScene(t, t.TempDir(), 1)
		now := time.Now()
		hour := now.Truncate(time.Hour)
		for name, c := range map[string]struct {
			plan Plan
			want []time.Time
		}{
			"at once":    {Plan{}, []time.Time{now}},
			"past":       {Plan{At: now.Add(-time.Hour)}, []time.Time{now}},
			"at a time":  {Plan{At: now.Add(time.Minute)}, []time.Time{now.Add(time.Minute)}},
			"local":      {Plan{At: now.Add(48 * time.Hour).UTC(), Local: true}, []time.Time{now.Add(34 * time.Hour)}},
			"repeated":   {Plan{Every: "every 2 h", At: now.Add(time.Minute)}, []time.Time{hour.Add(2 * time.Hour), hour.Add(4 * time.Hour), hour.Add(6 * time.Hour)}},
			"with until": {Plan{Every: "every 2 h", At: now.Add(time.Minute), Until: hour.Add(5 * time.Hour)}, []time.Time{hour.Add(2 * time.Hour), hour.Add(4 * time.Hour)}},
			"local days": {Plan{Every: "every 24 h", At: now.Add(48 * time.Hour).UTC(), Local: true}, []time.Time{now.Add(34 * time.Hour), now.Add(58 * time.Hour), now.Add(82 * time.Hour)}},
			"never":      {Plan{Every: "every 2 h", At: now.Add(time.Minute), Until: now}, nil},
		} {
			got, err := p.Times(c.plan, 3)
			if err != nil || !slices.EqualFunc(got, c.want, time.Time.Equal) {
				t.Errorf("%s: %v, %v, not %v", name, got, err, c.want)
			}
		}
		for _, plan := range []Plan{{Every: "now and then"}, {Zone: "Mars/Olympus"}, {Zone: "Local"}} {
			if got, err := p.Times(plan, 3); err == nil {
				t.Errorf("%+v has the times %v", plan, got)
			}
		}
		without := testPusher(t, t.TempDir(), Options{})
		if _, err := without.Times(Plan{Every: "every 2 h"}, 3); !errors.Is(err, ErrNoCron) {
			t.Error(err)
		}
		for planned, err := range p.Plans(t.Context()) {
			t.Errorf("there is %v, %v", planned, err)
		}
	})
}
