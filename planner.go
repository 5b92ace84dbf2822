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
)

// planState is where a plan stands.
type planState struct {
	At      int64       `json:"at"`                // when it fires next, or has fired while it is running, in milliseconds since 1970
	Running bool        `json:"running,omitempty"` // it has fired, and is being released
	Places  []place     `json:"places,omitempty"`  // of a local plan: where it is the time when
	Place   int         `json:"place,omitempty"`   // of these, which is next
	Begun   bool        `json:"begun,omitempty"`   // that place has had some of it
	Form    int         `json:"form,omitempty"`    // of the forms, which is being released
	Last    int64       `json:"last,omitempty"`    // when it last released something: what waited for that is not late
	Fired   int         `json:"fired,omitempty"`
	Missed  []int64     `json:"missed,omitempty"`
	Paused  bool        `json:"paused,omitempty"`
	Pace    int         `json:"pace,omitempty"`
	Outcome PlanOutcome `json:"outcome,omitempty"`
	Error   string      `json:"error,omitempty"`
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
				pl.poke()
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
	m := &planMove{pl: pl, rec: rec, plan: plan, s: s}
	fired := s.Fired
	switch {
	case rec.Ended != 0 || s.Paused || rec.Due == 0:
		return nil
	case s.Running:
		err = m.release(ctx)
	default:
		err = m.fire(ctx)
	}
	if refused(err) { // for good: the plan ends, and says why
		m.s.Outcome, m.s.Error, m.s.Running, m.s.Fired = PlanFailed, err.Error(), false, fired
		_, err = m.propose(ctx, &store.PlanStep{End: true})
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

func (m *planMove) propose(ctx context.Context, c *store.PlanStep) (store.PlanResult, error) {
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
	if c.End {
		m.pl.p.dueSoon(m.pl.p.o.now().UnixMilli() + store.TaskRetention.Milliseconds())
	}
	return res, nil
}

// fire begins an occurrence, or records those that were missed.
func (m *planMove) fire(ctx context.Context) error {
	if missed, err := m.missed(); err != nil {
		return err
	} else if missed {
		c := &store.PlanStep{End: m.s.Outcome != "", Due: m.s.At}
		_, err := m.propose(ctx, c)
		return err
	}
	forms := m.plan.forms(m.rec.ID)
	for _, form := range forms { // who has joined the audience since the plan was made may lack what is to be filled in
		if err := m.pl.p.checkForm(ctx, m.plan, form); err != nil {
			return err
		}
	}
	if m.s.Pace == 0 && len(forms) == 1 && !m.plan.Local { // nothing to be held
		form := forms[0]
		form.message.To = m.plan.Message.To
		push, err := m.pl.p.command(&form.message)
		if err != nil {
			return err
		}
		c, err := m.next()
		if err != nil {
			return err
		}
		c.Push, c.Part = push, form.name
		m.s.Fired++
		m.s.Last = m.pl.p.o.now().UnixMilli()
		_, err = m.propose(ctx, c)
		return err
	}
	to, err := m.pl.p.expand(m.plan.Message.To)
	if err != nil {
		return err
	}
	m.s.Fired++
	m.s.Running, m.s.Form, m.s.Place, m.s.Begun = true, 0, 0, false
	if m.plan.Local {
		if m.s.Places, err = m.pl.p.places(ctx, m.plan); err != nil {
			return err
		}
	}
	_, err = m.propose(ctx, &store.PlanStep{Freeze: to.expr, Due: m.s.At})
	return err
}

// missed passes over occurrences that are too late.
func (m *planMove) missed() (any bool, err error) {
	tolerance := m.plan.tolerance()
	now := m.pl.p.o.now()
	for range missedAtOnce {
		at := time.UnixMilli(m.s.At)
		if m.plan.Local { // which is late in each zone, or not
			at = lastOnEarth(m.plan.At)
		}
		if tolerance < 0 || now.Sub(m.waited(at)) <= tolerance {
			return any, nil
		}
		any = true
		if m.s.Missed = append(m.s.Missed, m.s.At); len(m.s.Missed) > maxMissed {
			m.s.Missed = m.s.Missed[1:]
		}
		next, err := m.after(at)
		if err != nil {
			return false, err
		}
		if next.IsZero() {
			if m.s.Outcome = PlanMissed; m.s.Fired > 0 {
				m.s.Outcome = PlanCompleted
			}
			return true, nil
		}
		m.s.At = next.UnixMilli()
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

// after returns the occurrence after a time, zero for none.
func (m *planMove) after(at time.Time) (time.Time, error) {
	if m.plan.Every == "" {
		return time.Time{}, nil
	}
	return m.pl.p.occurrence(m.plan, at)
}

// next is the step with which an occurrence is over.
func (m *planMove) next() (*store.PlanStep, error) {
	at, err := m.after(time.UnixMilli(m.s.At))
	if err != nil {
		return nil, err
	}
	m.s.Running, m.s.Form, m.s.Places, m.s.Place = false, 0, nil, 0
	if at.IsZero() {
		m.s.Outcome = PlanCompleted
		return &store.PlanStep{End: true, Thaw: true}, nil
	}
	m.s.At = at.UnixMilli()
	return &store.PlanStep{Due: m.s.At, Thaw: true}, nil
}

// release pushes to those who are frozen: to as many as the pace allows in a second, form by form, and of a local plan place by place.
func (m *planMove) release(ctx context.Context) error {
	left := uint64(m.s.Pace)
	second := m.pl.p.o.paceEvery.Milliseconds()
	at := m.pl.released[m.rec.ID] + second
	if wait := at - m.pl.p.o.now().UnixMilli(); m.s.Pace > 0 && wait > 0 && wait <= second { // more is a clock that was set back
		_, err := m.propose(ctx, &store.PlanStep{Due: at})
		return err
	}
	places := m.s.Places
	if !m.plan.Local {
		places = []place{{At: m.s.At}}
	}
	for ; m.s.Place < len(places); m.s.Place++ {
		at := &places[m.s.Place]
		now := m.pl.p.o.now()
		if late := now.Sub(m.waited(time.UnixMilli(at.At))); now.UnixMilli() < at.At {
			_, err := m.propose(ctx, &store.PlanStep{Due: at.At})
			return err
		} else if tolerance := m.plan.tolerance(); m.plan.Local && !m.s.Begun && tolerance >= 0 && late > tolerance {
			at.Missed = true
			m.s.Missed = append(m.s.Missed, at.At)
			continue
		}
		more, err := m.releaseAt(ctx, whose(places, m.s.Place), &left)
		if more || err != nil {
			return err
		}
		m.s.Form, m.s.Begun = 0, false
	}
	c, err := m.next()
	if err != nil {
		return err
	}
	_, err = m.propose(ctx, c)
	return err
}

// releaseAt does it in one place. More says that it goes on there in the next second.
func (m *planMove) releaseAt(ctx context.Context, place Audience, left *uint64) (more bool, err error) {
	forms := m.plan.forms(m.rec.ID)
	for ; m.s.Form < len(forms); m.s.Form++ {
		form := forms[m.s.Form]
		form.message.To = both(form.message.To, place)
		push, err := m.pl.p.command(&form.message)
		if err != nil {
			return false, err
		}
		now := m.pl.p.o.now()
		c := &store.PlanStep{Push: push, Part: form.name, Take: true, Limit: *left, Due: now.UnixMilli()}
		if m.s.Pace > 0 {
			c.Due = now.Add(m.pl.p.o.paceEvery).UnixMilli()
		}
		m.s.Begun, m.s.Last = true, now.UnixMilli()
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
			m.s.Form = len(forms)
		}
	}
	return false, nil
}
