package fanfare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

const (
	defaultTolerance = time.Hour
	// missedAtOnce bounds the occurrences that one step records as missed.
	missedAtOnce = 1000
	// maxRuns bounds how many times of a local plan are released beside each other: each has an audience of its own.
	maxRuns = 32
)

// planState is where a plan stands.
type planState struct {
	// At is when it fires next, in milliseconds since 1970; of a local plan what clocks show then, as if they were in UTC.
	At      int64       `json:"at"`
	Over    bool        `json:"over,omitempty"` // it does not fire any more
	Runs    []planRun   `json:"runs,omitempty"` // what it has fired and is being released; more than one of a local plan alone
	Last    int64       `json:"last,omitempty"` // when it last released something: what waited for that is not late
	Fired   int         `json:"fired,omitempty"`
	Missed  []int64     `json:"missed,omitempty"`
	Paused  bool        `json:"paused,omitempty"`
	Pace    int         `json:"pace,omitempty"`
	Outcome PlanOutcome `json:"outcome,omitempty"`
	Error   string      `json:"error,omitempty"` // for which it does not fire any more
}

// planRun is one time that a plan has fired, with an audience of its own that is frozen.
type planRun struct {
	Number uint32  `json:"number"`           // which time it is, from 1 on
	At     int64   `json:"at"`               // for when, as in planState
	Place  int64   `json:"place"`            // when it is the time in the place that is being released, or the next one; places before that are done
	Begun  bool    `json:"begun,omitempty"`  // that place has had some of it
	Form   int     `json:"form,omitempty"`   // of the forms, which is being released there
	Round  bool    `json:"round,omitempty"`  // the last of all places has had its turn
	Missed []int64 `json:"missed,omitempty"` // the places that it was too late for
}

// fires is when a plan fires for a time as in planState.
func (plan *Plan) fires(at int64) time.Time {
	if plan.Local {
		return firstOnEarth(time.UnixMilli(at).UTC())
	}
	return time.UnixMilli(at)
}

// firing is when a plan fires next, if it does not wait for what it has fired.
func (s *planState) firing(plan *Plan) (at int64, ok bool) {
	most := 1
	if plan.Local {
		most = maxRuns
	}
	return plan.fires(s.At).UnixMilli(), !s.Over && len(s.Runs) < most
}

// turn is the run that is to be released next: the one whose place has waited for the longest.
func (s *planState) turn() *planRun {
	var first *planRun
	for i := range s.Runs {
		if r := &s.Runs[i]; first == nil || r.Place < first.Place {
			first = r
		}
	}
	return first
}

// due is when a plan is to be looked at, now or later: to fire, or, not before a time, to release.
func (s *planState) due(plan *Plan, now time.Time, release int64) int64 {
	at, fires := s.firing(plan)
	if r := s.turn(); r != nil {
		if release = max(release, r.Place); !fires || release < at {
			at = release
		}
	}
	return max(at, now.UnixMilli())
}

func (s *planState) miss(at int64) {
	if s.Missed = append(s.Missed, at); len(s.Missed) > maxMissed {
		s.Missed = s.Missed[1:]
	}
}

func (s *planState) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and strings
	}
	return b
}

// form is one of the forms of a plan's message, with those who get it among those who are left when the forms before were released.
type form struct {
	name     string
	language string // of those who get it, if it has one
	message  Message
}

// forms are the forms of a plan's message. The audience of each is a part of what is left after those before it.
func (plan *Plan) forms(id uint64) []form {
	plain := plan.Message
	plain.Key, plain.To = "", All()
	byLanguage := make(map[string][]*Variant)
	var languages []string
	for i := range plan.Variants {
		v := &plan.Variants[i]
		of := store.CanonicalLanguage(v.Language)
		if byLanguage[of] == nil {
			languages = append(languages, of)
		}
		byLanguage[of] = append(byLanguage[of], v)
	}
	slices.SortStableFunc(languages, func(x, y string) int { // the narrowest first, and what is without a language last
		return cmp.Compare(subtags(y), subtags(x))
	})
	var out []form
	for _, language := range languages {
		of := byLanguage[language]
		total, before := 0, 0
		for _, v := range of {
			total += v.weight()
		}
		for i, v := range of {
			m := plain
			if language != "" {
				m.To = Language(language)
			}
			if before += v.weight(); i < len(of)-1 {
				m.To = both(m.To, Sample(100*float64(before)/float64(total), store.PlanID(id)))
			}
			if len(v.Body) > 0 {
				m.Body = v.Body
			}
			if v.Notification != nil {
				m.Notification = v.Notification
			}
			out = append(out, form{v.Name, language, m})
		}
	}
	if byLanguage[""] == nil {
		out = append(out, form{message: plain})
	}
	return out
}

// both are those who are in x and in y. All is left out: a task says whom it is to.
func both(x, y Audience) Audience {
	switch {
	case x.expr.Op == store.OpAll:
		return y
	case y.expr.Op == store.OpAll:
		return x
	}
	return x.And(y)
}

// subtags is how many parts a language has.
func subtags(language string) int {
	if language == "" {
		return 0
	}
	return 1 + strings.Count(language, "-")
}

func (v *Variant) weight() int {
	if v.Weight == 0 {
		return 1
	}
	return v.Weight
}

func (plan *Plan) tolerance() time.Duration {
	if plan.Tolerance == 0 {
		return defaultTolerance
	}
	return plan.Tolerance
}

// planner makes the steps of plans when they are due.
type planner struct {
	p    *Pusher
	wake chan struct{}
	// When a plan with a pace released last, in milliseconds since 1970: a step is stamped behind the look at the clock that says
	// when the next one is due.
	released map[uint64]int64

	mu      sync.Mutex
	changed chan struct{} // closed at the next step
}

func newPlanner(p *Pusher) *planner {
	return &planner{p: p, wake: make(chan struct{}, 1), released: make(map[uint64]int64), changed: make(chan struct{})}
}

// changes returns a channel that is closed when a plan has made a step.
func (pl *planner) changes() <-chan struct{} {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.changed
}

// poke has the plans looked at.
func (pl *planner) poke() {
	pl.mu.Lock()
	close(pl.changed)
	pl.changed = make(chan struct{})
	pl.mu.Unlock()
	select {
	case pl.wake <- struct{}{}:
	default:
	}
}

func (pl *planner) run(ctx context.Context) {
	clear(pl.released) // another node may have been at work since
	for ctx.Err() == nil {
		wait, err := pl.look(ctx)
		if err != nil && ctx.Err() == nil {
			pl.p.o.Logger.Error("fanfare: plans", "error", err)
			wait = time.Second
		}
		var timer *time.Timer
		var due <-chan time.Time
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-due:
		case <-pl.wake:
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// look makes the steps that are due, and returns how long until one is; 0 for none.
func (pl *planner) look(ctx context.Context) (time.Duration, error) {
	failed := make(map[uint64]bool) // which hold up no other plan
	var first error
	for ctx.Err() == nil {
		now := pl.p.o.now().UnixMilli()
		moved := false
		var next int64
		for after := (store.PlanDue{}); ; {
			due, more, err := pl.p.store.PlansDue(after, now, 100)
			if err != nil {
				return 0, err
			}
			for _, d := range due {
				if failed[d.ID] || ctx.Err() != nil {
					continue
				}
				if err := pl.step(ctx, d.ID); err != nil {
					failed[d.ID] = true
					first = cmp.Or(first, err)
					continue
				}
				moved = true
			}
			if len(due) < 100 {
				next = more
				break
			}
			after = due[len(due)-1]
		}
		switch {
		case moved:
		case first != nil:
			return 0, first
		case next == 0:
			return 0, nil
		default: // the wall's clock may be set, which a timer does not see
			return time.Duration(min(max(next-pl.p.o.now().UnixMilli(), 1), time.Second.Milliseconds())) * time.Millisecond, nil
		}
	}
	return 0, nil
}

// step moves a plan on that is due.
func (pl *planner) step(ctx context.Context, id uint64) error {
	rec, err := pl.p.store.Plan(id)
	if err != nil {
		return ignoreEnded(err)
	}
	plan, s, err := decodePlan(rec)
	if err != nil { // which is damage, or of a newer version: it must not be in the way of others
		c := &store.PlanStep{ID: id, Version: rec.Version, State: rec.State, Due: pl.p.o.now().Add(time.Hour).UnixMilli()}
		_, late := pl.p.store.Propose(ctx, c)
		return errors.Join(err, ignoreEnded(late))
	}
	if _, known := pl.released[id]; !known { // by this process, but perhaps by the one before
		pl.released[id] = s.Last
	}
	m := &planMove{pl: pl, rec: rec, plan: plan, s: s}
	at, fires := s.firing(plan)
	switch {
	case rec.Ended != 0 || s.Paused || rec.Due == 0:
		return nil
	case fires && at <= pl.p.o.now().UnixMilli():
		err = m.fire(ctx)
		if refused(err) { // for good: it fires no more, and ends when what it has fired is released
			reason := err.Error()
			if m.plan, m.s, err = decodePlan(rec); err == nil {
				m.s.Over, m.s.Error = true, reason
				_, err = m.propose(ctx, new(store.PlanStep))
			}
		}
	case len(s.Runs) > 0:
		if err = m.release(ctx); refused(err) {
			m.s.Outcome, m.s.Error, m.s.Runs = PlanFailed, err.Error(), nil
			_, err = m.propose(ctx, new(store.PlanStep))
		}
	default: // somebody has set the clock back
		_, err = m.propose(ctx, new(store.PlanStep))
	}
	return ignoreEnded(err)
}

// ignoreEnded passes over what somebody else did to the plan meanwhile: if there is more to do, it is still due.
func ignoreEnded(err error) error {
	if errors.Is(err, ErrPlanChanged) || errors.Is(err, ErrPlanEnded) || errors.Is(err, ErrUnknownPlan) {
		return nil
	}
	return err
}

// planError is what is wrong with a plan itself.
type planError struct{ err error }

func (e *planError) Error() string { return "fanfare: plan: " + e.err.Error() }
func (e *planError) Unwrap() error { return e.err }

// refused says whether an error is of the plan, and not of the moment.
func refused(err error) bool {
	for _, known := range []error{ErrUnnamedAttribute, ErrNoCron, ErrUnknownAudience, ErrAudienceCycle, ErrNoAudience, ErrInvalidText, errNoJSON} {
		if errors.Is(err, known) {
			return true
		}
	}
	var (
		plan       *planError
		limit      *LimitError
		note       *NotificationError
		unresolved *UnresolvedError
		value      *ValueError
	)
	return errors.As(err, &plan) || errors.As(err, &limit) || errors.As(err, &note) || errors.As(err, &unresolved) || errors.As(err, &value)
}

// planMove is a plan that is moved on.
type planMove struct {
	pl   *planner
	rec  *store.Plan
	plan *Plan
	s    *planState
}

// propose makes a step. Where nothing is left to come, the plan ends with it; else it says when to look again, if c does not.
func (m *planMove) propose(ctx context.Context, c *store.PlanStep) (store.PlanResult, error) {
	switch s := m.s; {
	case s.Outcome != "" || s.Over && len(s.Runs) == 0:
		switch c.End = true; {
		case s.Error != "":
			s.Outcome = PlanFailed
		case s.Fired == 0:
			s.Outcome = PlanMissed
		default:
			s.Outcome = PlanCompleted
		}
	case c.Due == 0:
		c.Due = s.due(m.plan, m.pl.p.o.now(), 0)
	}
	c.ID, c.Version, c.State = m.rec.ID, m.rec.Version, m.s.encode()
	r, err := m.pl.p.store.Propose(ctx, c)
	if err != nil {
		return store.PlanResult{}, err
	}
	res := r.(store.PlanResult)
	m.rec.Version = res.Version
	if m.s.Pace > 0 && res.Push.Seq != 0 {
		m.pl.released[m.rec.ID] = res.Push.Accepted
	}
	if c.End {
		delete(m.pl.released, m.rec.ID)
	}
	if res.Push.Seq != 0 {
		m.pl.p.dueSoon(res.Push.Accepted + store.TaskRetention.Milliseconds())
	}
	return res, nil
}

// fire begins an occurrence, or records those that were missed.
func (m *planMove) fire(ctx context.Context) error {
	if missed, err := m.missed(); err != nil {
		return err
	} else if missed {
		_, err := m.propose(ctx, new(store.PlanStep))
		return err
	}
	forms := m.plan.forms(m.rec.ID)
	for _, form := range forms { // who has joined the audience since the plan was made may lack what is to be filled in
		if err := m.pl.p.checkForm(ctx, m.plan, form); err != nil {
			return err
		}
	}
	c := new(store.PlanStep)
	m.s.Fired++
	if m.s.Pace == 0 && len(forms) == 1 && !m.plan.Local { // nothing to be held
		form := forms[0]
		form.message.To = m.plan.Message.To
		push, err := m.pl.p.command(&form.message)
		if err != nil {
			return err
		}
		c.Push, c.Part = push, form.name
		m.s.Last = m.pl.p.o.now().UnixMilli()
	} else {
		to, err := m.pl.p.expand(m.plan.Message.To)
		if err != nil {
			return err
		}
		r := planRun{Number: uint32(m.s.Fired), At: m.s.At, Place: m.plan.fires(m.s.At).UnixMilli()}
		m.s.Runs = append(m.s.Runs, r)
		c.Freeze, c.Run = to.expr, r.Number
	}
	if err := m.onward(); err != nil {
		return err
	}
	_, err := m.propose(ctx, c)
	return err
}

// missed passes over occurrences that are too late.
func (m *planMove) missed() (any bool, err error) {
	tolerance := m.plan.tolerance()
	now := m.pl.p.o.now()
	for n := 0; n < missedAtOnce && !m.s.Over; n++ {
		at := time.UnixMilli(m.s.At)
		if m.plan.Local { // which is late in each zone, or not
			at = lastOnEarth(at.UTC())
		}
		if tolerance < 0 || now.Sub(m.waited(at)) <= tolerance {
			return any, nil
		}
		any = true
		m.s.miss(m.plan.fires(m.s.At).UnixMilli())
		if err := m.onward(); err != nil {
			return false, err
		}
	}
	return any, nil
}

// waited is since when something that is due at a time waits for nothing of the plan's own. What is later than the tolerance from then on was held up by a process that was
// down, or a plan that was paused.
func (m *planMove) waited(at time.Time) time.Time {
	if last := time.UnixMilli(m.s.Last); last.After(at) {
		return last
	}
	return at
}

// onward sets when the plan fires after it has, or has not.
func (m *planMove) onward() error {
	if m.plan.Every == "" {
		m.s.Over = true
		return nil
	}
	next, err := m.pl.p.occurrence(m.plan, time.UnixMilli(m.s.At))
	if err != nil {
		return err
	}
	if m.s.Over = next.IsZero(); !m.s.Over {
		m.s.At = next.UnixMilli()
	}
	return nil
}

// release pushes to those who are frozen: to as many as the pace allows in a second, form by form, and of a local plan place by place, in the order in which it gets to be
// the time there, whichever run that is of.
func (m *planMove) release(ctx context.Context) error {
	left := uint64(m.s.Pace)
	second := m.pl.p.o.paceEvery.Milliseconds()
	at := m.pl.released[m.rec.ID] + second
	if wait := at - m.pl.p.o.now().UnixMilli(); m.s.Pace > 0 && wait > 0 && wait <= second { // more is a clock that was set back
		_, err := m.propose(ctx, &store.PlanStep{Due: m.s.due(m.plan, m.pl.p.o.now(), at)})
		return err
	}
	for r := m.s.turn(); r != nil; r = m.s.turn() {
		places, i, err := m.pl.p.placesOf(ctx, m.plan, r)
		if err != nil {
			return err
		}
		if i == len(places) {
			number := r.Number
			m.s.Runs = slices.DeleteFunc(m.s.Runs, func(r planRun) bool { return r.Number == number })
			if _, err := m.propose(ctx, &store.PlanStep{Thaw: true, Run: number}); err != nil {
				return err
			}
			continue
		}
		at := time.UnixMilli(places[i].At)
		if r.Place != places[i].At { // another may come before it
			r.Place, r.Begun, r.Form = places[i].At, false, 0
			continue
		}
		now := m.pl.p.o.now()
		if now.Before(at) {
			_, err := m.propose(ctx, new(store.PlanStep))
			return err
		}
		if tolerance := m.plan.tolerance(); m.plan.Local && !r.Begun && tolerance >= 0 && now.Sub(m.waited(at)) > tolerance {
			r.Missed = append(r.Missed, r.Place)
			m.s.miss(r.Place)
		} else if more, err := m.releaseAt(ctx, r, whose(places, i), &left); more || err != nil {
			return err
		}
		r.Place++
		r.Begun, r.Form, r.Round = false, 0, m.plan.Local && i == len(places)-1
	}
	return nil
}

// releaseAt does it in one place. More says that it goes on there in the next second.
func (m *planMove) releaseAt(ctx context.Context, of *planRun, place Audience, left *uint64) (more bool, err error) {
	forms := m.plan.forms(m.rec.ID)
	for ; of.Form < len(forms); of.Form++ {
		form := forms[of.Form]
		push, err := m.pl.p.command(&form.message)
		if err != nil {
			return false, err
		}
		now := m.pl.p.o.now()
		of.Begun, m.s.Last = true, now.UnixMilli()
		c := &store.PlanStep{Push: push, Part: form.name, Run: of.Number, Take: true, Limit: *left}
		if place.expr.Op != store.OpAll {
			c.Among = place.expr
		}
		if m.s.Pace > 0 {
			c.Due = m.s.due(m.plan, now, now.Add(m.pl.p.o.paceEvery).UnixMilli())
		}
		r, err := m.propose(ctx, c)
		if err != nil {
			return false, err
		}
		switch got := uint64(r.Push.Total + r.Push.Skipped); {
		case m.s.Pace == 0:
		case got < *left:
			*left -= got
		case r.Held > 0:
			return true, nil // until the next second
		default:
			of.Form = len(forms)
		}
	}
	return false, nil
}
