package fanfare

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// sleep lets time pass, and follows what plans do in it.
func (m *modelRun) sleep(d time.Duration) {
	m.Helper()
	time.Sleep(d)
	m.follow()
}

// see follows plans again after a time in which that was left alone.
func (m *modelRun) see() {
	m.Helper()
	m.blind = false
	m.follow()
}

// follow has the plans of the model do what was due, and wants the Pusher to have released the same: plan by plan, for
// plans that are due at the same time may go in any order.
func (m *modelRun) follow() {
	m.Helper()
	now := m.stamp()
	if m.blind || m.killed.IsZero() && !slices.ContainsFunc(m.n.plans, func(x *naivePlan) bool { return !x.due.IsZero() && !x.due.After(now) }) {
		return
	}
	synctest.Wait()
	released := m.released()
	todo := make(map[string][]naiveRelease)
	for _, x := range m.n.plans {
		before := x.clone()
		if m.killed.IsZero() {
			todo[x.id] = m.n.run(x, m.floor, now)
		} else {
			todo[x.id] = m.overKill(x, released, now)
		}
		m.countSteps(before, x)
	}
	m.killed = time.Time{}
	for _, task := range released {
		list := todo[task.Info().Plan]
		if len(list) == 0 {
			m.Fatalf("%+v was released, and was not due", task.Info())
		}
		todo[task.Info().Plan] = list[1:]
		m.accepted(task, list[0])
	}
	for id, list := range todo {
		if len(list) > 0 {
			m.Fatalf("%s did not release %+v at %v, and it is %v", id, list[0].form, list[0].at, now)
		}
	}
}

// released are the tasks that are not known to the model yet, oldest first.
func (m *modelRun) released() (list []*Task) {
	m.Helper()
	for task, err := range m.p.Tasks(m.ctx) {
		m.must(err, "tasks")
		if seq, _, ok := store.ParseMessageID(task.ID); !ok || seq <= uint64(len(m.n.tasks)) {
			break
		}
		list = append(list, task)
	}
	slices.Reverse(list)
	return list
}

// accepted is a task that a plan has released, as the model has it.
func (m *modelRun) accepted(task *Task, r naiveRelease) {
	m.Helper()
	x := m.planNamed(task.Info().Plan)
	msg := x.plan.Message
	msg.Body = []byte(r.form.body)
	t := m.n.accept(msg, r.to, r.at)
	t.id, t.plan, t.variant = task.ID, x.id, r.form.name
	i := task.Info()
	seq, _, _ := store.ParseMessageID(task.ID)
	if seq != t.seq || i.Variant != t.variant || !i.Accepted.Equal(t.accepted) || !i.Expires.Equal(t.expires) || i.Category != msg.Category || i.From != msg.From {
		m.Fatalf("%s released %+v; the model has number %d, %q at %v until %v", x.id, i, t.seq, t.variant, t.accepted, t.expires)
	}
	m.counts.add("released")
	if t.variant != "" {
		m.counts.add("released a variant")
	}
	if t.optedOut > 0 {
		m.counts.add("released and passed over who opted out")
	}
	if t.capped > 0 {
		m.counts.add("released and passed over who had enough")
	}
}

// countSteps notes what has happened to a plan.
func (m *modelRun) countSteps(before, x *naivePlan) {
	for what, is := range map[string]bool{
		"fired": x.fired > before.fired, "fired again": before.fired > 0 && x.fired > before.fired, "missed": len(x.missed) > len(before.missed) && x.fired == before.fired,
		"missed some, and fired": len(x.missed) > len(before.missed) && x.fired > before.fired, "frozen users gone": x.gone > before.gone, "waited for the pace": x.running && x.pace > 0,
		"fired locally": x.plan.Local && x.fired > before.fired, "missed in a zone": x.plan.Local && x.fired > 0 && len(x.missed) > len(before.missed),
		"failed": x.outcome == PlanFailed && before.outcome == "", "completed": x.outcome == PlanCompleted && before.outcome == "",
		"missed for good":             x.outcome == PlanMissed && before.outcome == "",
		"killed while a plan was due": !m.killed.IsZero() && !before.due.IsZero() && !before.due.After(m.killed),
	} {
		if is {
			m.counts.add(what)
		}
	}
}

// overKill finds out which of the steps that were due at the moment of a kill were made before: of each plan some, and then no more of them. It returns what
// the plan has released before and since.
func (m *modelRun) overKill(x *naivePlan, released []*Task, now time.Time) []naiveRelease {
	m.Helper()
	if !x.ended.IsZero() && now.Sub(x.ended) >= store.TaskRetention {
		return nil // it may be forgotten already
	}
	var tried []string
	for steps := 0; ; steps++ {
		y := x.clone()
		list, more := m.n.runKilled(y, m.before, m.killed, steps, m.floor, now)
		wrong := m.planDiffers(y)
		if wrong == "" {
			wrong = releasedDiffers(y, list, released)
		}
		if wrong == "" {
			*x = *y
			if steps > 0 {
				m.counts.add("killed between two steps")
			}
			return list
		}
		if tried = append(tried, wrong); !more {
			m.Fatalf("%s, killed at %v and opened at %v: %q", x.id, m.killed, m.floor, tried)
		}
	}
}

// releasedDiffers says how what a plan has released differs from what it should have, as far as that does not depend on other plans.
func releasedDiffers(x *naivePlan, want []naiveRelease, released []*Task) string {
	for _, task := range released {
		i := task.Info()
		if i.Plan != x.id {
			continue
		}
		if len(want) == 0 {
			return fmt.Sprintf("%+v is too many", i)
		}
		g, err := task.Progress()
		if err != nil {
			return err.Error()
		}
		if r := want[0]; !i.Accepted.Equal(r.at) || i.Variant != r.form.name || g.Total+g.OptedOut+g.Capped != int64(len(r.to)) {
			return fmt.Sprintf("%+v: %+v, want %q for %d at %v", i, g, r.form.name, len(r.to), r.at)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		return fmt.Sprintf("%+v is missing", want)
	}
	return ""
}

func (m *modelRun) planNamed(id string) *naivePlan {
	m.Helper()
	i := slices.IndexFunc(m.n.plans, func(x *naivePlan) bool { return x.id == id })
	if i < 0 {
		m.Fatalf("%q is no plan", id)
	}
	return m.n.plans[i]
}

func (m *modelRun) comparePlans() {
	m.Helper()
	var want, got []string
	for _, x := range slices.Backward(m.n.plans) {
		if wrong := m.planDiffers(x); wrong != "" {
			m.Fatalf("%s: %s", x.id, wrong)
		}
		if !x.forgotten {
			want = append(want, x.id)
			m.comparePlanProgress(x)
		}
	}
	for planned, err := range m.p.Plans(m.ctx) {
		m.must(err, "plans")
		got = append(got, planned.ID)
	}
	if !slices.Equal(got, want) {
		m.Fatalf("plans %v, not %v", got, want)
	}
}

// planDiffers says how a plan differs from what it should be.
func (m *modelRun) planDiffers(x *naivePlan) string {
	planned, err := m.p.Planned(m.ctx, x.id)
	if x.forgotten {
		if !errors.Is(err, ErrUnknownPlan) {
			return fmt.Sprintf("%v, and it is forgotten", err)
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	i, err := planned.Info(m.ctx)
	if err != nil {
		return err.Error()
	}
	plan := x.plan
	plan.Pace = x.pace
	have := fmt.Sprint(planText(i.Plan), i.Created.UTC(), i.Next.UTC(), i.Running, i.Paused, i.Fired, inUTC(i.Missed), i.Held, i.Gone, i.Ended.UTC(), i.Outcome, i.Error != "")
	want := fmt.Sprint(planText(plan), x.created.UTC(), x.due.UTC(), x.running, x.paused, x.fired, inUTC(x.missed), len(x.held), x.gone, x.ended.UTC(), x.outcome, x.outcome == PlanFailed)
	if have != want {
		return fmt.Sprintf("\n%s, not\n%s", have, want)
	}
	return ""
}

func planText(plan Plan) string {
	b, err := json.Marshal(&plan)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func inUTC(list []time.Time) (out []time.Time) {
	for _, at := range list {
		out = append(out, at.UTC())
	}
	return out
}

// comparePlanProgress wants the sum of the plan's tasks. What there is to find out of these is known by then.
func (m *modelRun) comparePlanProgress(x *naivePlan) {
	m.Helper()
	want := PlanProgress{Held: int64(len(x.held)), Gone: int64(x.gone)}
	if len(x.plan.Variants) > 0 {
		want.Variants = map[string]Progress{}
	}
	live := x.ended.IsZero()
	for _, t := range m.n.tasks {
		if t.plan != x.id || t.forgotten {
			continue
		}
		g := t.progress()
		live = live || g.Ended.IsZero()
		want.Progress.add(g)
		if want.Variants != nil {
			of := want.Variants[t.variant]
			of.add(g)
			want.Variants[t.variant] = of
		}
	}
	if want.Ended = latest(want.Ended, x.ended); live {
		want.Ended = time.Time{}
	}
	planned, err := m.p.Planned(m.ctx, x.id)
	m.must(err, "planned")
	got, err := planned.Progress(m.ctx)
	m.must(err, "progress of a plan")
	if !samePlanProgress(got, want) {
		m.Fatalf("%s:\n%+v, not\n%+v", x.id, got, want)
	}
}

func samePlanProgress(x, y PlanProgress) bool {
	ended := x.Ended.Equal(y.Ended)
	x.Ended, y.Ended = time.Time{}, time.Time{}
	same := func(x, y Progress) bool { return fmt.Sprint(x) == fmt.Sprint(y) }
	return ended && same(x.Progress, y.Progress) && x.Held == y.Held && x.Gone == y.Gone && maps.EqualFunc(x.Variants, y.Variants, same)
}
