package fanfare

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// naivePlan is what a plan promises. It makes its steps one by one, each of which is durable or was not made.
type naivePlan struct {
	id      string
	key     string
	content string // what its key stands for
	plan    Plan   // as it was made, or changed last
	created time.Time

	at      time.Time // when it fires next, or should have fired while it is running
	due     time.Time // when its next step is to be made; zero: not by itself
	pace    int
	paused  bool
	running bool
	held    []uint32    // who is frozen and waits, by ordinal
	place   time.Time   // when it is the time in the place that is being released, or comes next; places before that are done
	late    []time.Time // the places that it was too late for
	begun   bool        // the place has had some of it
	round   bool        // the last of all places has had its turn
	form    int
	begins  int       // the form that the last durable step began with: the next process goes on there
	last    time.Time // when it last released something
	fired   int
	missed  []time.Time
	gone    int
	ended   time.Time
	outcome PlanOutcome

	forgotten bool

	// What only the process knows.
	going    bool      // in the middle of a second of the pace, which has left so many
	left     int       //
	released time.Time // when it released something to a pace
}

// naivePlace is where clocks show the time of a local plan at a moment.
type naivePlace struct {
	at     time.Time
	zones  []string
	rest   bool
	missed bool
}

// naiveForm is a form of a plan's message: for those who have the language, and of these for those whose number is below.
type naiveForm struct {
	name, language, body string
	below                uint64 // in millionths
}

// naiveRelease is a push that a plan makes.
type naiveRelease struct {
	at   time.Time
	form naiveForm
	to   []*naiveUser
}

// modelZones are the zones of devices that there are, in hours before UTC. None has another time in summer.
var modelZones = map[string]int{"UTC": 0, "Asia/Shanghai": 8, "America/Phoenix": -7, "Pacific/Kiritimati": 14}

// secondly recurs every so many seconds.
type secondly int

func (s secondly) Next(after time.Time) time.Time {
	step := time.Duration(s) * time.Second
	return after.Truncate(step).Add(step)
}

func modelCron(expression string) (Recurrence, error) {
	var s secondly
	if _, err := fmt.Sscanf(expression, "every %d s", (*int)(&s)); err != nil || s < 1 {
		return nil, errors.New("not an expression")
	}
	return s, nil
}

func (x *naivePlan) clone() *naivePlan {
	c := *x
	c.held, c.missed, c.late = slices.Clone(x.held), slices.Clone(x.missed), slices.Clone(x.late)
	return &c
}

// begin sets a plan up that is made or changed now. It returns false if it would never fire.
func (x *naivePlan) begin(plan Plan, now time.Time) bool {
	first := latest(plan.At, now)
	if plan.Local {
		first = plan.At.Add(-14 * time.Hour)
	}
	y := naivePlan{id: x.id, key: x.key, content: x.content, created: x.created, paused: x.paused, plan: plan, pace: plan.Pace, at: first}
	if plan.Every != "" {
		if y.at = y.after(y.at.Add(-time.Millisecond)); y.at.IsZero() {
			return false
		}
	}
	if y.due = latest(y.at, now); y.paused {
		y.due = time.Time{}
	}
	*x = y
	return true
}

func latest(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

// after is the occurrence after a time, zero for none.
func (x *naivePlan) after(t time.Time) time.Time {
	if x.plan.Every == "" {
		return time.Time{}
	}
	every, err := modelCron(x.plan.Every)
	if err != nil {
		panic(err)
	}
	next := every.Next(t)
	if !x.plan.Until.IsZero() && next.After(x.plan.Until) {
		return time.Time{}
	}
	return next
}

// isLate says whether what was to be done at one time is too late at another. What waited for the plan itself is not late.
func (x *naivePlan) isLate(due, at time.Time) bool {
	tolerance := cmp.Or(x.plan.Tolerance, time.Hour)
	return tolerance >= 0 && at.Sub(latest(due, x.last)) > tolerance
}

func (x *naivePlan) end(at time.Time, outcome PlanOutcome) {
	x.thaw()
	x.ended, x.outcome, x.due, x.released = at, outcome, time.Time{}, time.Time{}
}

func (x *naivePlan) thaw() {
	x.gone += len(x.held)
	x.held, x.running, x.going = nil, false, false
}

// over ends an occurrence.
func (x *naivePlan) over(at time.Time) {
	x.thaw()
	next := x.after(x.at)
	if next.IsZero() {
		x.end(at, PlanCompleted)
		return
	}
	x.at, x.due = next, next
}

// forms are the forms of the plan's message, the narrowest language first. A user gets the first that fits.
func (x *naivePlan) forms() (list []naiveForm) {
	var languages []string
	for _, v := range x.plan.Variants {
		if !slices.Contains(languages, v.Language) {
			languages = append(languages, v.Language)
		}
	}
	if !slices.Contains(languages, "") {
		languages = append(languages, "")
	}
	width := func(language string) int {
		return len(strings.FieldsFunc(language, func(r rune) bool { return r == '-' }))
	}
	slices.SortStableFunc(languages, func(a, b string) int { return width(b) - width(a) })
	for _, language := range languages {
		sum, before := 0, 0
		for _, v := range x.plan.Variants {
			if v.Language == language {
				sum += max(v.Weight, 1)
			}
		}
		for _, v := range x.plan.Variants {
			if v.Language == language {
				before += max(v.Weight, 1)
				list = append(list, naiveForm{v.Name, language, string(v.Body), uint64((1_000_000*before + sum/2) / sum)})
			}
		}
		if sum == 0 {
			list = append(list, naiveForm{"", "", string(x.plan.Message.Body), 1_000_000})
		}
	}
	return list
}

func (x *naivePlan) fits(f naiveForm, u *naiveUser) bool {
	return (f.language == "" || u.speaks(f.language)) && naiveSample(x.id, u.ordinal, f.below)
}

func (x *naivePlan) miss(at time.Time) {
	if x.missed = append(x.missed, at); len(x.missed) > 100 {
		x.missed = x.missed[1:]
	}
}

// here says whether a user is in the place of a local plan that has a number, as far as it matters there.
func (x *naivePlan) here(places []naivePlace, place int, u *naiveUser) bool {
	if !x.plan.Local {
		return true
	}
	in := func(p *naivePlace) bool {
		return slices.ContainsFunc(u.devices, func(d Device) bool { return slices.Contains(p.zones, d.TimeZone) })
	}
	var known, missed, inTime, restMissed, anyMissed bool
	for i := range places {
		p := &places[i]
		known = known || in(p)
		missed = missed || p.missed && in(p)
		inTime = inTime || !p.missed && in(p)
		anyMissed = anyMissed || p.missed
		restMissed = restMissed || p.missed && p.rest
	}
	p := &places[place]
	switch {
	case place < len(places)-1:
		return in(p) || p.rest && !known
	case !anyMissed || inTime: // the last takes who is left
		return true
	}
	return !restMissed && !missed
}

// run makes the steps that are due, none before a time, and returns what they release.
func (n *naive) run(x *naivePlan, from, until time.Time) (list []naiveRelease) {
	for {
		at, more := x.next(from)
		if !more || at.After(until) {
			return list
		}
		from = at
		list = append(list, n.step(x, at)...)
	}
}

// runKilled is run with a kill on the way, when so many steps had been made of those that were due at its moment. More says that there were more.
func (n *naive) runKilled(x *naivePlan, from, kill time.Time, steps int, opened, until time.Time) (list []naiveRelease, more bool) {
	for {
		at, any := x.next(from)
		if !any || at.After(kill) {
			break
		}
		if at.Equal(kill) {
			if steps == 0 {
				more = true
				break
			}
			steps--
		}
		from = at
		list = append(list, n.step(x, at)...)
	}
	x.reopened()
	return append(list, n.run(x, opened, until)...), more
}

// next is when the plan makes its next step.
func (x *naivePlan) next(from time.Time) (at time.Time, more bool) {
	if x.going {
		return from, true
	}
	return latest(x.due, from), !x.due.IsZero()
}

func (x *naivePlan) reopened() { x.going, x.left, x.released, x.form = false, 0, x.last, x.begins }

func (n *naive) step(x *naivePlan, at time.Time) []naiveRelease {
	if x.running {
		return n.release(x, at)
	}
	return n.fire(x, at)
}

// fire begins an occurrence, or passes over those that are too late.
func (n *naive) fire(x *naivePlan, at time.Time) []naiveRelease {
	missed := false
	for {
		due := x.at
		if x.plan.Local {
			due = x.plan.At.Add(12 * time.Hour)
		}
		if !x.isLate(due, at) {
			break
		}
		missed = true
		x.miss(x.at)
		if x.at = x.after(x.at); x.at.IsZero() {
			outcome := PlanMissed
			if x.fired > 0 {
				outcome = PlanCompleted
			}
			x.end(at, outcome)
			return nil
		}
	}
	if x.due = x.at; missed {
		return nil
	}
	clock := n.clock
	n.clock = func() time.Time { return at }
	ids, err := n.members(x.plan.Message.To)
	n.clock = clock
	if err != nil {
		x.end(at, PlanFailed)
		return nil
	}
	x.fired++
	if forms := x.forms(); x.pace == 0 && len(forms) == 1 && !x.plan.Local {
		x.last = at
		r := naiveRelease{at: at, form: forms[0]}
		for _, id := range ids {
			r.to = append(r.to, n.users[id])
		}
		x.over(at)
		return []naiveRelease{r}
	}
	x.running, x.form, x.begins, x.place, x.late, x.begun, x.round = true, 0, 0, x.at, nil, false, false
	for _, id := range ids {
		x.held = append(x.held, n.users[id].ordinal)
	}
	return nil
}

// places are where it gets to be the time of a local plan, in that order.
func (n *naive) places(x *naivePlan) (list []naivePlace) {
	plan := x.plan
	if !plan.Local {
		return []naivePlace{{at: x.at}}
	}
	add := func(zone string) *naivePlace {
		at := plan.At.Add(-time.Duration(modelZones[zone]) * time.Hour)
		i := slices.IndexFunc(list, func(p naivePlace) bool { return p.at.Equal(at) })
		if i < 0 {
			i, list = len(list), append(list, naivePlace{at: at})
		}
		return &list[i]
	}
	add(plan.Zone).rest = true
	for zone := range modelZones {
		for _, u := range n.users {
			if slices.ContainsFunc(u.devices, func(d Device) bool { return d.TimeZone == zone }) {
				p := add(zone)
				p.zones = append(p.zones, zone)
				break
			}
		}
	}
	slices.SortFunc(list, func(x, y naivePlace) int { return x.at.Compare(y.at) })
	for i := range list {
		list[i].missed = slices.ContainsFunc(x.late, list[i].at.Equal)
	}
	return list
}

// release pushes one form in one place to those who are held, to as many as the second has left; or it waits, or finds that there is no more to do.
func (n *naive) release(x *naivePlan, at time.Time) []naiveRelease {
	if !x.going {
		if next := x.released.Add(time.Second); x.pace > 0 && !x.released.IsZero() && next.After(at) {
			x.due = next
			return nil
		}
		x.going, x.left = true, x.pace
	}
	forms := x.forms()
	for {
		places := n.places(x)
		i := slices.IndexFunc(places, func(p naivePlace) bool { return !p.at.Before(x.place) })
		if i < 0 && x.plan.Local && !x.round { // the last place has lost its users, who are elsewhere now
			i, places = len(places), append(places, naivePlace{at: x.place})
		}
		if i < 0 {
			x.over(at)
			return nil
		}
		p := places[i]
		if !p.at.Equal(x.place) {
			x.place, x.form, x.begun = p.at, 0, false
		}
		switch {
		case at.Before(p.at):
			x.due, x.going, x.begins = p.at, false, x.form
			return nil
		case x.plan.Local && !x.begun && x.isLate(p.at, at):
			x.late = append(x.late, p.at)
			x.miss(p.at)
		case x.form < len(forms):
			return n.releaseForm(x, forms, places, i, at)
		}
		x.place, x.form, x.begun, x.round = p.at.Add(time.Millisecond), 0, false, i == len(places)-1
	}
}

func (n *naive) releaseForm(x *naivePlan, forms []naiveForm, places []naivePlace, place int, at time.Time) (list []naiveRelease) {
	r := naiveRelease{at: at, form: forms[x.form]}
	x.begins = x.form
	var held []uint32
	for _, ordinal := range x.held {
		u := n.numbered(ordinal)
		if u != nil && (x.pace == 0 || len(r.to) < x.left) && x.here(places, place, u) && x.fits(r.form, u) {
			r.to = append(r.to, u)
		} else {
			held = append(held, ordinal)
		}
	}
	x.held, x.begun, x.last, x.due = held, true, at, at
	if x.pace > 0 {
		x.due = at.Add(time.Second)
	}
	if len(r.to) > 0 {
		list = append(list, r)
		if x.pace > 0 {
			x.released = at
		}
	}
	switch {
	case x.pace == 0:
		x.form++
	case len(r.to) < x.left:
		x.left -= len(r.to)
		x.form++
	case len(x.held) > 0:
		x.going = false
	default:
		x.form = len(forms)
	}
	return list
}

// numbered returns the user with an ordinal, nil for one who is gone.
func (n *naive) numbered(ordinal uint32) *naiveUser {
	for _, u := range n.users {
		if u.ordinal == ordinal {
			return u
		}
	}
	return nil
}

// keyed returns the plan that has a key, nil for none.
func (n *naive) keyed(key string) *naivePlan {
	for _, x := range n.plans {
		if !x.forgotten && key != "" && x.key == key {
			return x
		}
	}
	return nil
}
