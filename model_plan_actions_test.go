package fanfare

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
)

// drawPlan is some plan or other.
func (m *modelRun) drawPlan() Plan {
	m.plansMade++
	body := fmt.Sprintf("p%d", m.plansMade)
	msg := Message{Body: []byte(body), To: All(), Category: m.category(), Lifetime: rapid.SampledFrom([]time.Duration{
		0, 3 * time.Second, time.Minute, time.Hour, week, week, week,
	}).Draw(m.T, "lifetime")}
	saved := slices.Sorted(maps.Keys(m.n.saved))
	switch to := rapid.IntRange(0, 5).Draw(m.T, "to some"); {
	case to == 1 && len(saved) > 0:
		msg.To = Saved(rapid.SampledFrom(saved).Draw(m.T, "saved")).Or(HasAttr("city").Not())
	case to == 1, to == 2:
		msg.To = HasAttr("city").Not()
	case to > 2:
		msg.To = m.audience(2)
	}
	plan := Plan{
		Message: msg, Pace: rapid.SampledFrom([]int{1, 0, 2, 0, 3, 7}).Draw(m.T, "pace"), Variants: m.variants(body),
		Tolerance: rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Hour, 2 * time.Minute, 10 * time.Second, -1}).Draw(m.T, "tolerance"),
	}
	now := m.stamp()
	switch rapid.IntRange(0, 7).Draw(m.T, "when") {
	case 0:
		m.repeated(&plan, now)
	case 1, 2:
		m.local(&plan, now)
	case 3:
		plan.At = now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, 90 * time.Second}).Draw(m.T, "soon"))
	case 4:
		plan.At = now.Add(rapid.SampledFrom([]time.Duration{20 * time.Minute, time.Hour, 5 * time.Hour, 2 * 24 * time.Hour}).Draw(m.T, "later"))
	case 5:
		m.repeated(&plan, now)
	}
	return plan
}

func (m *modelRun) local(plan *Plan, now time.Time) {
	plan.Local = true
	plan.At = now.UTC().Add(time.Duration(rapid.SampledFrom([]int{-14, -9, -8, -3, 0, 4, 9, 13, 14, 15, 20}).Draw(m.T, "reading")) * time.Hour)
	plan.At = plan.At.Add(rapid.SampledFrom([]time.Duration{-5 * time.Minute, 0, time.Second, 20 * time.Second, time.Hour}).Draw(m.T, "and"))
	plan.Zone = rapid.SampledFrom([]string{"", "Asia/Shanghai", "America/Phoenix"}).Draw(m.T, "zone")
}

func (m *modelRun) repeated(plan *Plan, now time.Time) {
	step := rapid.SampledFrom([]int{4, 30, 3600, 2 * 3600}).Draw(m.T, "every")
	plan.Every = fmt.Sprintf("every %d s", step)
	if rapid.Bool().Draw(m.T, "from") {
		plan.At = now.Add(time.Duration(rapid.IntRange(1, 2*step).Draw(m.T, "first")) * time.Second)
	}
	times := rapid.SampledFrom([]int{5, 3, 1, 0}).Draw(m.T, "times")
	if times > 0 || step < 3600 || plan.Tolerance < 0 {
		plan.Until = now.Add(time.Duration(times*step) * time.Second)
	}
}

// variants are forms of a message, if any: a split, by language, or both.
func (m *modelRun) variants(body string) (list []Variant) {
	for i, language := range rapid.SampledFrom([][]string{
		nil, nil, nil, {""}, {"", ""}, {"", "", ""}, {"zh"}, {"zh", "", "zh-Hant", ""}, {"de", "zh", "de"}, {"zh-Hant", "zh-Hant", "de", "zh"},
	}).Draw(m.T, "variants") {
		name := string(rune('A' + i))
		list = append(list, Variant{Name: name, Language: language, Body: []byte(body + name), Weight: rapid.SampledFrom([]int{0, 1, 3}).Draw(m.T, "weight")})
	}
	return list
}

// errModelPlan is an error about a plan itself.
var errModelPlan = errors.New("not a plan that can be made")

// makes says with what error a plan is refused, as it is made or changed.
func (m *modelRun) makes(x *naivePlan, plan Plan) error {
	if _, err := m.n.members(plan.Message.To); err != nil {
		return err
	}
	if !x.begin(plan, m.stamp()) {
		return errModelPlan
	}
	return nil
}

func (m *modelRun) plan() {
	plan := m.drawPlan()
	if rapid.IntRange(0, 5).Draw(m.T, "keyed") == 1 {
		plan.Message.Key = rapid.SampledFrom([]string{"k1", "k1", "k2"}).Draw(m.T, "key")
		if m.plansMade%3 > 0 { // the same content again
			plan = Plan{Message: Message{Key: plan.Message.Key, Body: []byte("keyed plan"), To: All(), Lifetime: week}, Pace: 3}
		}
	}
	m.drain()
	x := &naivePlan{key: plan.Message.Key, content: planText(plan), created: m.stamp()}
	want := m.makes(x, plan)
	old := m.n.keyed(x.key)
	if want == nil && old != nil && old.content != x.content {
		want = ErrKeyReused
	}
	planned, err := m.p.Plan(m.ctx, plan)
	if m.sameError(err, want, "plan"); want != nil {
		return
	}
	if planned.Duplicate != (old != nil) || old != nil && planned.ID != old.id {
		m.Fatalf("plan: %s, duplicate %v; the model has %v", planned.ID, planned.Duplicate, old)
	}
	if m.floor = m.stamp(); old != nil {
		m.counts.add("the same plan again")
		return
	}
	x.id = planned.ID
	m.n.plans = append(m.n.plans, x)
	m.follow()
}

// firstPlans are what a script with more plans begins with.
func (m *modelRun) firstPlans() {
	m.importUsers()
	for _, id := range slices.Sorted(maps.Keys(m.n.users)) {
		if o := (modelOp{kind: store.OpOptOut, id: id, tags: []string{"offers"}}); rapid.IntRange(0, 4).Draw(m.T, "opts out") == 1 {
			m.change([]modelOp{o}, func() error { return m.p.OptOut(m.ctx, id, o.tags...) })
		}
	}
	for range 3 {
		m.plan()
	}
}

// aPlan is one of the plans, mostly one that has not ended. For a process that is to be killed it is mostly one with something pending.
func (m *modelRun) aPlan() (*naivePlan, *Planned) {
	m.Helper()
	var list []*naivePlan
	for _, x := range m.n.plans {
		if m.blind && slices.ContainsFunc(m.n.tasks, func(t *naiveTask) bool { return t.plan == x.id && t.pending() > 0 }) {
			list = append(list, x)
			continue
		}
		if x.ended.IsZero() || rapid.IntRange(0, 9).Draw(m.T, "ended") == 0 {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		_, err := m.p.Planned(m.ctx, "plan-00000000000000ff")
		m.sameError(err, ErrUnknownPlan, "planned")
		return nil, nil
	}
	x := list[rapid.IntRange(max(0, len(list)-6), len(list)-1).Draw(m.T, "plan")]
	planned, err := m.p.Planned(m.ctx, x.id)
	if x.forgotten {
		m.sameError(err, ErrUnknownPlan, "planned")
		return nil, nil
	}
	m.must(err, "planned")
	return x, planned
}

// steer does something with plans.
func (m *modelRun) steer() {
	if rapid.IntRange(0, 9).Draw(m.T, "take it back") == 1 {
		m.withdrawPlan()
		return
	}
	for range rapid.IntRange(1, 4).Draw(m.T, "steps") {
		m.steerOnce()
	}
}

// steerOnce does something with a plan, in one step.
func (m *modelRun) steerOnce() {
	x, planned := m.aPlan()
	if x == nil {
		return
	}
	m.drain()
	var err, want error
	if !x.ended.IsZero() {
		want = ErrPlanEnded
	}
	now := m.stamp()
	m.floor = now
	kinds := []string{"change", "pause", "pace", "change", "pause", "cancel", "resume"}
	if x.fired > 0 {
		kinds = []string{"pause", "pace", "cancel", "pause", "pace", "resume", "change"}
	}
	if x.paused {
		kinds = []string{"resume", "change", "resume", "resume", "pace", "cancel", "pause"}
	}
	kind := rapid.SampledFrom(kinds).Draw(m.T, "what")
	switch kind {
	case "pause":
		if err = planned.Pause(m.ctx); want == nil {
			x.paused, x.due = true, time.Time{}
		}
	case "resume":
		if err = planned.Resume(m.ctx); want == nil && x.paused {
			if x.paused, x.due = false, x.at; x.running {
				x.due = x.place
			}
		}
	case "pace":
		pace := rapid.IntRange(0, 4).Draw(m.T, "pace")
		if err = planned.SetPace(m.ctx, pace); want == nil {
			x.pace = pace
		}
	case "cancel":
		if err = planned.Cancel(m.ctx); want == nil {
			x.end(now, PlanCancelled)
		}
	case "change":
		plan := m.drawPlan()
		y := x.clone()
		if wrong := m.makes(y, plan); wrong != nil {
			want = wrong
		} else if want == nil && x.fired > 0 {
			want = ErrPlanStarted
		} else if want == nil {
			*x = *y
		}
		err = planned.Change(m.ctx, plan)
	}
	m.sameError(err, want, kind)
	if want == nil {
		m.counts.add("done: " + kind)
	}
	m.follow()
}

// spoil takes away what audiences of plans are made of, and lets time pass, or gives it back.
func (m *modelRun) spoil() {
	if slot, named := m.n.slot("city"); named {
		m.rename(map[int]string{slot: ""})
	} else {
		m.rename(map[int]string{1: "city"})
	}
	for _, name := range slices.Sorted(maps.Keys(m.n.saved)) {
		m.must(m.p.DeleteAudience(m.ctx, name), "delete an audience")
		delete(m.n.saved, name)
	}
	m.pass()
	m.settle()
}

// leave unregisters somebody whom a plan holds, and who may come back as somebody else.
func (m *modelRun) leave() {
	for _, x := range m.n.plans {
		for _, ordinal := range slices.Backward(x.held) {
			u := m.n.numbered(ordinal)
			if u == nil {
				continue
			}
			m.change([]modelOp{{kind: store.OpUnregister, id: u.id}}, func() error { return m.p.Unregister(m.ctx, u.id) })
			m.counts.add("held and unregistered")
			if rapid.Bool().Draw(m.T, "back") {
				m.change([]modelOp{{kind: store.OpRegister, id: u.id}}, func() error { return m.p.Register(m.ctx, u.id) })
			}
			return
		}
	}
}

// withdrawPlan takes a plan back, with all that it has released.
func (m *modelRun) withdrawPlan() {
	x, planned := m.aPlan()
	if x == nil {
		return
	}
	m.drain()
	m.must(planned.Withdraw(m.ctx), "withdraw a plan")
	m.counts.add("done: withdraw")
	m.withdrew = x.id
	if m.floor = m.stamp(); x.ended.IsZero() {
		x.end(m.floor, PlanCancelled)
	}
	for _, t := range m.n.tasks {
		if t.plan == x.id && !t.forgotten {
			m.withdrawn(t)
		}
	}
}

// halfWithdrawn finds out how far a plan's withdrawal had come when the process was killed in it: the newest task is taken back first.
func (m *modelRun) halfWithdrawn(before *naive) {
	m.Helper()
	far := true
	for _, t := range slices.Backward(m.n.tasks[:len(before.tasks)]) {
		old := before.tasks[t.seq-1]
		if t.plan != m.withdrew || old.pending() == 0 {
			continue
		}
		task, err := m.p.Task(m.ctx, t.id)
		m.must(err, "task")
		g, err := task.Progress()
		m.must(err, "progress")
		if g.Pending > 0 {
			*t, far = *old, false
			m.counts.add("killed in a withdrawal")
		} else if !far {
			m.Fatalf("%s of %s was withdrawn before one that is newer", t.id, m.withdrew)
		}
	}
}

// withdrawTask takes back one of the tasks that a plan has released, and leaves the plan alone.
func (m *modelRun) withdrawTask() {
	list := slices.DeleteFunc(slices.Clone(m.n.tasks), func(t *naiveTask) bool { return t.plan == "" || t.forgotten })
	if len(list) == 0 {
		return
	}
	t := list[rapid.IntRange(max(0, len(list)-8), len(list)-1).Draw(m.T, "task of a plan")]
	m.drain()
	m.must(m.p.Withdraw(m.ctx, t.id), "withdraw")
	m.withdrawn(t)
	m.counts.add("task of a plan withdrawn")
}
