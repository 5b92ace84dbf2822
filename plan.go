package fanfare

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Plan is a push that is made later, again, bit by bit, or in several forms. See [Pusher.Plan].
type Plan struct {
	// Message is what is pushed, and to whom. Its audience is resolved when the plan fires, not before, and is
	// frozen then. Its lifetime begins for each user when the message is released. Its Key makes a retry of Plan harmless: a plan with the key of an earlier one, as long
	// as that is known, is that one; with other content it is [ErrKeyReused]. The keys of plans are one space, whatever the sender.
	Message Message
	// At is when it fires. Zero, or past when it is made: at once; but see Local.
	At time.Time
	// Local makes At, the times of Every, and Until readings of the clock on each user's wall: 18:00 is 18:00 there. A user's time zone is that of the device; of one who has several the
	// first of them to get there counts, and one who has none, or one that is not known here, is in Zone. The audience is frozen when it is that time in the first zone of the Earth. A reading that a
	// zone skips comes with the hour after it, and of two the first counts. Where it is later already by more than Tolerance it is missed. Not
	// without At or Every.
	Local bool
	// Every fires it again and again, from At on: a cron expression such as "0 9 * * 1-5", read by [Options].Cron in Zone. An occurrence that is
	// due while the one before is still being released waits for it. Empty: once.
	//
	// With Local the expression is read in no zone. Each occurrence has its own audience and goes round the Earth by itself, which takes 26 hours, beside those before and
	// behind it, 32 in all: an expression for more in 26 hours is refused, and what comes to more later on waits. Without At the first is what is to
	// come on the clock in Zone; what is over on the whole Earth, if At is past, is neither made nor missed.
	Every string
	// Zone is an IANA time zone, such as "Asia/Shanghai"; not "Local", which is another one on another machine. Default: UTC.
	Zone string
	// Until is when Every ends. Zero: never.
	Until time.Time
	// Tolerance is how late it may fire because the process was down, or the plan paused. What would be later is recorded as missed, and not made. What waits for the plan's own
	// pace is not late. Default: 1 h. Negative: however late.
	Tolerance time.Duration
	// Pace releases the message to at most so many users a second, so that a broadcast does not stampede what they turn to. 0: to all at once.
	Pace int
	// Variants are forms of the message. Each user gets one of them: of the user's language, or, where there is none, of those without a language; where there is none of these either,
	// the message as it is.
	Variants []Variant
}

// Variant is a form of a plan's message. The users of a variant are a stable random split: those of one plan are the same each time it fires.
type Variant struct {
	// Name tells it in statistics; at most 50 bytes, 1 at least, each once.
	Name string
	// Language is a BCP 47 tag, such as "zh-Hant": the variant is for users who have a device of that language, or of a narrower one, and for whom there is
	// no narrower variant. Empty: for those for whom there is none by language.
	Language string
	// Weight is its share of the users of the language beside that of the others; at most 1,000,000. Default: 1.
	Weight int
	// Body is what the user receives; empty: that of the message.
	Body []byte
	// Notification is what the phone shows; nil: that of the message.
	Notification *Notification
}

// PlanOutcome says how a plan ended.
type PlanOutcome string

// The outcomes. Empty: it has not ended.
const (
	PlanCompleted PlanOutcome = "completed" // all of it was released
	PlanCancelled PlanOutcome = "cancelled" // by Cancel, Withdraw or Replace
	PlanMissed    PlanOutcome = "missed"    // it never fired: the process was down, or the plan paused, for longer than the tolerance
	PlanFailed    PlanOutcome = "failed"    // the message was refused when it fired; see [PlanInfo].Error
)

// PlanInfo is a plan, and where it stands.
type PlanInfo struct {
	Plan              // as it was given, with the pace that was last set
	ID      string    // names the plan
	Created time.Time // when it was accepted, to the millisecond
	// Next is when it fires next, or goes on releasing; zero when it does not by itself.
	Next time.Time
	// Running says that it has fired and is being released.
	Running bool
	// Paused says that it was paused, and neither fires nor releases anything until it is resumed.
	Paused bool
	// Fired is how many times it has fired.
	Fired int
	// Missed are the last times, at most 100, at which it should have fired and the process was down or the plan paused for too long; of a Local one also when it was the time in places that
	// it was too late for.
	Missed []time.Time
	// Held is how many users of the frozen audience the message is still to be released to; of a Local plan that repeats, of those of all occurrences that are under way.
	Held int64
	// Gone is how many it was never released to: they were unregistered meanwhile, or the plan was cancelled.
	Gone    int64
	Ended   time.Time   // zero before
	Outcome PlanOutcome // how it ended; empty before
	Error   string      // why it has failed, or will when what it has fired is released
}

// PlanProgress is how far the tasks of a plan have come, those that are still known.
type PlanProgress struct {
	// Progress is the sum. Ended is zero as long as the plan or one of the tasks has not ended.
	Progress
	Held int64 // see PlanInfo
	Gone int64 // see PlanInfo; those who were unregistered while waiting count in the tasks
	// Variants are how far those are of which there are tasks, by name; "" is the message as it is. Nil for a plan without variants.
	Variants map[string]Progress
}

const (
	// maxMissed is how many times that were missed are told.
	maxMissed = 100
	// maxWeight keeps sums of weights far from where numbers end.
	maxWeight = 1_000_000
)

// Planned is a plan that was accepted. It is kept, with its statistics, for 30 days after its end. Its methods are safe for concurrent use, and return
// [ErrUnknownPlan] once it is forgotten.
type Planned struct {
	// ID names the plan.
	ID string
	// Duplicate says that Plan found the key of an earlier plan, and this is it.
	Duplicate bool

	p  *Pusher
	id uint64
}

// Plan accepts a push that is to be made as the plan says. When it returns without an error the plan is durable; it fires by itself, each time exactly once, and goes
// on after a crash where it was: a step of it, with the push that it makes, is one durable change. What it releases are tasks like others, with the plan's ID
// in their [TaskInfo]; without a pace and variants each time is one task.
//
// It returns the errors of [Pusher.Push], [ErrNoCron] for Every without [Options].Cron, and an error that says what is wrong with the zone, the expression or a variant.
func (p *Pusher) Plan(ctx context.Context, plan Plan) (*Planned, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	spec, state, err := p.newPlan(ctx, &plan)
	if err != nil {
		return nil, err
	}
	c := &store.PlanStep{Key: plan.Message.Key, Hash: planHash(spec), Spec: spec, State: state.encode(), Due: state.due(&plan, p.o.now(), 0)}
	r, err := p.store.Propose(ctx, c)
	if err != nil {
		return nil, err
	}
	res := r.(store.PlanResult)
	return &Planned{ID: store.PlanID(res.ID), Duplicate: res.Duplicate, p: p, id: res.ID}, nil
}

// newPlan checks a plan, and returns what is kept of it.
func (p *Pusher) newPlan(ctx context.Context, plan *Plan) (spec []byte, state *planState, err error) {
	if err := p.checkPlan(ctx, plan); err != nil {
		return nil, nil, err
	}
	if spec, err = json.Marshal(plan); err != nil {
		return nil, nil, err
	}
	first, err := p.first(plan)
	if err != nil {
		return nil, nil, err
	}
	if first.IsZero() {
		return nil, nil, &planError{fmt.Errorf("%q has no time before its end", plan.Every)}
	}
	return spec, &planState{At: first.UnixMilli(), Pace: plan.Pace}, nil
}

// first is when a plan that is made now fires first, in milliseconds; of a local one what clocks show then, as if they were in UTC. Zero: it ends before.
func (p *Pusher) first(plan *Plan) (time.Time, error) {
	zone, err := zoneToKeep(plan.Zone)
	if err != nil {
		return time.Time{}, &planError{fmt.Errorf("zone: %w", err)}
	}
	now := p.o.now()
	from := now
	switch {
	case plan.Local && plan.At.IsZero() && plan.Every == "":
		return time.Time{}, &planError{errors.New("neither At nor Every with Local")}
	case plan.Local && plan.Every == "":
		from = reading(plan.At)
	case plan.Local && plan.At.IsZero():
		from = reading(now.In(zone))
	case plan.Local:
		if from = reading(now.UTC()).Add(-zonesBehind); reading(plan.At).After(from) { // else it is over on the whole Earth
			from = reading(plan.At)
		}
	case plan.At.After(now):
		from = plan.At
	}
	if from = from.Truncate(time.Millisecond); plan.Every == "" {
		return from, nil
	}
	at, err := p.occurrence(plan, from.Add(-1))
	if err == nil && plan.Local && !at.IsZero() {
		err = p.checkRuns(plan, at)
	}
	return at, err
}

// checkRuns refuses a local plan that fires so often that it would wait for itself, going round the Earth.
func (p *Pusher) checkRuns(plan *Plan, first time.Time) error {
	at := first
	for range maxRuns {
		next, err := p.occurrence(plan, at)
		if err != nil || next.IsZero() {
			return err
		}
		at = next
	}
	if span := at.Sub(first); span < zonesBefore+zonesBehind {
		return &planError{fmt.Errorf("%q: %d times within %v, and it is under way for %v: too often with Local", plan.Every, maxRuns+1, span, zonesBefore+zonesBehind)}
	}
	return nil
}

// Times returns when a plan would fire next if it were made now, at most n times; fewer where it ends before. Of a Local one that is when it is the time in the first zone of the
// Earth, which may have been. Nothing is made, and only the time is looked at: it returns [ErrNoCron] for Every without [Options].Cron, and an error that says what is wrong with the zone or the
// expression.
func (p *Pusher) Times(plan Plan, n int) ([]time.Time, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	at, err := p.first(&plan)
	var out []time.Time
	for err == nil && !at.IsZero() && len(out) < n {
		if out = append(out, plan.fires(at.UnixMilli())); plan.Every == "" {
			break
		}
		at, err = p.occurrence(&plan, at)
	}
	return out, err
}

// zoneToKeep returns a time zone by its name, for what outlives the machine that it is said on.
func zoneToKeep(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errors.New(`"Local" is another time zone on another machine: an IANA name is needed`)
	}
	return time.LoadLocation(name)
}

func planHash(spec []byte) (sum [16]byte) {
	h := sha256.Sum256(spec)
	copy(sum[:], h[:])
	return sum
}

// checkPlan reports the first thing for which a plan cannot be made.
func (p *Pusher) checkPlan(ctx context.Context, plan *Plan) error {
	if plan.Pace < 0 {
		return &LimitError{What: "pace in users a second, from 0", Limit: 0, Got: int64(plan.Pace)}
	}
	if _, err := zoneToKeep(plan.Zone); err != nil {
		return &planError{fmt.Errorf("zone: %w", err)}
	}
	if err := validateText("key", plan.Message.Key, 0, maxIDBytes); err != nil { // the forms have none
		return err
	}
	names := make(map[string]bool, len(plan.Variants))
	for i := range plan.Variants {
		v := &plan.Variants[i]
		if err := validateText("name of a variant", v.Name, 1, 50); err != nil {
			return err
		}
		if names[v.Name] || v.Weight < 0 {
			return &planError{fmt.Errorf("variant %q is there twice, or has a weight below 0", v.Name)}
		}
		if v.Weight > maxWeight {
			return &LimitError{What: "weight of a variant", Limit: maxWeight, Got: int64(v.Weight)}
		}
		if err := Language(v.Language).validate(p.o.Limits); v.Language != "" && err != nil {
			return &planError{fmt.Errorf("variant %q: %w", v.Name, err)}
		}
		names[v.Name] = true
	}
	for _, form := range plan.forms(0) {
		if err := p.checkForm(ctx, plan, form); err != nil {
			return err
		}
	}
	to, err := p.expand(plan.Message.To)
	if err != nil {
		return err
	}
	if _, err := p.store.Count(ctx, to.expr); err != nil { // an attribute without a name is told now, not when it fires
		return err
	}
	return ctx.Err()
}

// checkForm reports for what a form of a plan cannot be pushed. Of a language are those who have a device of it; a narrower form may have some of them. Of none are those
// of no variant's language.
func (p *Pusher) checkForm(ctx context.Context, plan *Plan, form form) error {
	of := plan.Message.To
	if form.language != "" {
		of = of.And(Language(form.language))
	} else {
		for i := range plan.Variants {
			if language := plan.Variants[i].Language; language != "" {
				of = of.And(Language(language).Not())
			}
		}
	}
	form.message.To = of
	c, err := p.command(&form.message)
	if err != nil {
		return err
	}
	return p.checkFill(ctx, &form.message, Audience{c.To})
}

// occurrence returns the first time after another at which a plan fires, zero for none; of a local plan what clocks show then, as if they were in UTC.
func (p *Pusher) occurrence(plan *Plan, after time.Time) (time.Time, error) {
	if p.o.Cron == nil {
		return time.Time{}, ErrNoCron
	}
	every, err := p.o.Cron(plan.Every)
	if err != nil {
		return time.Time{}, &planError{fmt.Errorf("%q: %w", plan.Every, err)}
	}
	zone, until := time.UTC, plan.Until
	if !plan.Local {
		if zone, err = time.LoadLocation(plan.Zone); err != nil {
			return time.Time{}, &planError{err}
		}
	} else if !until.IsZero() {
		until = reading(until)
	}
	at := every.Next(after.In(zone))
	if at.IsZero() || !until.IsZero() && at.After(until) {
		return time.Time{}, nil
	}
	if !at.After(after) { // it would fire for ever
		return time.Time{}, &planError{fmt.Errorf("%q: the time after %v is %v", plan.Every, after, at)}
	}
	return at, nil
}

// Planned returns a plan by its ID, or [ErrUnknownPlan].
func (p *Pusher) Planned(ctx context.Context, id string) (*Planned, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	n, ok := store.ParsePlanID(id)
	if !ok {
		return nil, ErrUnknownPlan
	}
	rec, err := p.store.Plan(n)
	if err != nil {
		return nil, err
	}
	return p.planned(rec), nil
}

// PlannedOfKey returns the plan of an idempotency key, as long as a plan with that key would be the same one: until it is forgotten. Otherwise it returns [ErrUnknownPlan].
func (p *Pusher) PlannedOfKey(ctx context.Context, key string) (*Planned, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if key == "" {
		return nil, ErrUnknownPlan
	}
	rec, err := p.store.PlanOfKey(key)
	if err != nil {
		return nil, err
	}
	return p.planned(rec), nil
}

func (p *Pusher) planned(rec *store.Plan) *Planned {
	return &Planned{ID: store.PlanID(rec.ID), p: p, id: rec.ID}
}

// Plans yields the plans that are known, newest first: those to come, and those that have ended in the last 30 days. Nothing is held open between two of them. An error ends the
// iteration.
func (p *Pusher) Plans(ctx context.Context) iter.Seq2[*Planned, error] {
	return func(yield func(*Planned, error) bool) {
		err := p.open()
		if err == nil {
			for rec, e := range p.store.Plans() {
				if err = e; err == nil {
					err = ctx.Err()
				}
				if err != nil || !yield(p.planned(rec), nil) {
					break
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// read returns a plan as it is stored.
func (pl *Planned) read() (rec *store.Plan, plan *Plan, state *planState, err error) {
	if err := pl.p.open(); err != nil {
		return nil, nil, nil, err
	}
	if rec, err = pl.p.store.Plan(pl.id); err != nil {
		return nil, nil, nil, err
	}
	plan, state, err = decodePlan(rec)
	return rec, plan, state, err
}

func decodePlan(rec *store.Plan) (*Plan, *planState, error) {
	plan, state := new(Plan), new(planState)
	if err := json.Unmarshal(rec.Spec, plan); err != nil {
		return nil, nil, &store.FormatError{What: "plan", Detail: err.Error()}
	}
	if err := json.Unmarshal(rec.State, state); err != nil {
		return nil, nil, &store.FormatError{What: "state of a plan", Detail: err.Error()}
	}
	return plan, state, nil
}

// Info returns the plan, and where it stands now.
func (pl *Planned) Info(ctx context.Context) (PlanInfo, error) {
	rec, plan, s, err := pl.read()
	if err != nil {
		return PlanInfo{}, err
	}
	info := PlanInfo{
		Plan: *plan, ID: pl.ID, Created: time.UnixMilli(rec.Created), Running: len(s.Runs) > 0, Paused: s.Paused, Fired: s.Fired,
		Held: rec.Held, Gone: rec.Gone, Outcome: s.Outcome, Error: s.Error,
	}
	info.Pace = s.Pace
	for _, at := range s.Missed {
		info.Missed = append(info.Missed, time.UnixMilli(at))
	}
	if rec.Due != 0 {
		info.Next = time.UnixMilli(rec.Due)
	}
	if rec.Ended != 0 {
		info.Ended = time.UnixMilli(rec.Ended)
	}
	return info, nil
}

// Tasks yields the tasks of the plan that are known, newest first: each is until 30 days after its own end. An error ends the iteration.
func (pl *Planned) Tasks(ctx context.Context) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		err := pl.p.open()
		if err == nil {
			for s, e := range pl.p.store.PlanTasks(pl.id) {
				if err = e; err == nil {
					err = ctx.Err()
				}
				if err != nil || !yield(pl.p.taskOf(s), nil) {
					break
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// Progress returns how far the plan's tasks have come, those that are still known. It reads each of them, so it is slow for a plan with a small pace or many occurrences.
func (pl *Planned) Progress(ctx context.Context) (PlanProgress, error) {
	rec, plan, _, err := pl.read()
	if err != nil {
		return PlanProgress{}, err
	}
	out := PlanProgress{Held: rec.Held, Gone: rec.Gone}
	live := rec.Ended == 0
	if len(plan.Variants) > 0 {
		out.Variants = make(map[string]Progress, len(plan.Variants))
	}
	for s, err := range pl.p.store.PlanTasks(pl.id) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return PlanProgress{}, err
		}
		g := pl.p.progressOf(s)
		live = live || g.Ended.IsZero()
		out.Progress.add(g)
		if out.Variants != nil {
			of := out.Variants[s.Part]
			of.add(g)
			out.Variants[s.Part] = of
		}
	}
	if live {
		out.Ended = time.Time{}
	} else if ended := time.UnixMilli(rec.Ended); ended.After(out.Ended) {
		out.Ended = ended
	}
	return out, nil
}

// add adds what another task has.
func (g *Progress) add(o Progress) {
	g.Total += o.Total
	g.Delivered += o.Delivered
	g.Failed += o.Failed
	g.Pending += o.Pending
	g.Expired += o.Expired
	g.Withdrawn += o.Withdrawn
	g.Gone += o.Gone
	g.OptedOut += o.OptedOut
	g.Capped += o.Capped
	g.Opened += o.Opened
	if o.Ended.After(g.Ended) {
		g.Ended = o.Ended
	}
	addStats(&g.Phones, o.Phones)
	addStats(&g.Recalls, o.Recalls)
	g.Recalling = g.Recalling || o.Recalling
}

func addStats(to *map[string]PhoneStats, o map[string]PhoneStats) {
	for platform, n := range o {
		if *to == nil {
			*to = make(map[string]PhoneStats)
		}
		of := (*to)[platform]
		of.add(n)
		(*to)[platform] = of
	}
}

func (n *PhoneStats) add(o PhoneStats) {
	n.Sent += o.Sent
	n.Accepted += o.Accepted
	n.Unregistered += o.Unregistered
	n.Rejected += o.Rejected
	n.Retried += o.Retried
	n.GaveUp += o.GaveUp
	if o.Stopped != "" {
		n.Stopped = o.Stopped
	}
	for reason, count := range o.Reasons {
		if n.Reasons == nil {
			n.Reasons = make(map[string]int64)
		}
		n.Reasons[reason] += count
	}
}

// change makes a step that f describes, in a durable change, over what else the plan does meanwhile.
func (pl *Planned) change(ctx context.Context, f func(rec *store.Plan, plan *Plan, s *planState, c *store.PlanStep) error) error {
	if err := pl.p.writable(); err != nil {
		return err
	}
	for {
		rec, plan, state, err := pl.read()
		if err != nil {
			return err
		}
		if rec.Ended != 0 {
			return ErrPlanEnded
		}
		c := &store.PlanStep{ID: rec.ID, Version: rec.Version, Due: rec.Due}
		if err := f(rec, plan, state, c); err != nil {
			return err
		}
		c.State = state.encode()
		if _, err = pl.p.store.Propose(ctx, c); !errors.Is(err, ErrPlanChanged) {
			return err
		}
	}
}

// Change replaces a plan that has not fired, in one durable step. One that has is [ErrPlanStarted], one that has ended [ErrPlanEnded]; otherwise it returns the errors of
// [Pusher.Plan]. The key stays, and so does a pause.
func (pl *Planned) Change(ctx context.Context, plan Plan) error {
	spec, state, err := pl.p.newPlan(ctx, &plan)
	if err != nil {
		return err
	}
	return pl.change(ctx, func(_ *store.Plan, _ *Plan, s *planState, c *store.PlanStep) error {
		if s.Fired > 0 {
			return ErrPlanStarted
		}
		state.Paused = s.Paused
		*s = *state
		if c.Spec = spec; !s.Paused {
			c.Due = s.due(&plan, pl.p.o.now(), 0)
		}
		return nil
	})
}

// Pause stops a plan where it is: it does not fire, and releases nothing more. What was released goes on. Pausing again does nothing. It is durable when it
// returns. A plan that has ended is [ErrPlanEnded].
func (pl *Planned) Pause(ctx context.Context) error {
	return pl.change(ctx, func(_ *store.Plan, _ *Plan, s *planState, c *store.PlanStep) error {
		s.Paused, c.Due = true, 0
		return nil
	})
}

// Resume lets a plan that was paused go on. What it did not fire meanwhile it fires now, or it is recorded as missed, as its tolerance says. One that is
// not paused stays as it is, and one that has ended is [ErrPlanEnded].
func (pl *Planned) Resume(ctx context.Context) error {
	return pl.change(ctx, func(_ *store.Plan, plan *Plan, s *planState, c *store.PlanStep) error {
		if s.Paused {
			s.Paused, c.Due = false, s.due(plan, pl.p.o.now(), 0)
		}
		return nil
	})
}

// SetPace changes how many users a second the message is released to, from the next second on; 0: to all who are left at once. It is durable when it
// returns. A pace below 0 is a [*LimitError], a plan that has ended [ErrPlanEnded].
func (pl *Planned) SetPace(ctx context.Context, pace int) error {
	if pace < 0 {
		return &LimitError{What: "pace in users a second, from 0", Limit: 0, Got: int64(pace)}
	}
	return pl.change(ctx, func(_ *store.Plan, _ *Plan, s *planState, _ *store.PlanStep) error {
		s.Pace = pace
		return nil
	})
}

// Cancel ends a plan, with all occurrences that are under way: it does not fire any more, and the message is released to nobody more. What was released goes on; see
// [Planned.Withdraw]. Who was frozen and did not get it counts as Gone. One that has ended is [ErrPlanEnded].
func (pl *Planned) Cancel(ctx context.Context) error {
	return pl.change(ctx, func(_ *store.Plan, _ *Plan, s *planState, c *store.PlanStep) error {
		s.Outcome, s.Runs, c.End = PlanCancelled, nil, true
		return nil
	})
}

// Withdraw cancels the plan, if it has not ended, and withdraws those of its tasks that have not; see [Pusher.Withdraw]. Each of these is a step of its own: after an error some may have
// been withdrawn, and calling it again goes on with the others.
func (pl *Planned) Withdraw(ctx context.Context) error { return pl.withdraw(ctx, nil) }

// Replace is Withdraw with something else to see on the phones that were notified; see [Pusher.Replace]. A notification
// that would be refused for one of the plan's forms is refused before anything is done.
func (pl *Planned) Replace(ctx context.Context, n Notification) error { return pl.withdraw(ctx, &n) }

func (pl *Planned) withdraw(ctx context.Context, instead *Notification) error {
	if instead != nil {
		if err := pl.checkInstead(instead); err != nil {
			return err
		}
	}
	if err := pl.Cancel(ctx); err != nil && !errors.Is(err, ErrPlanEnded) {
		return err
	}
	for s, err := range pl.p.store.PlanTasks(pl.id) {
		if err != nil {
			return err
		}
		if s.Progress.Ended != 0 {
			continue
		}
		if err := pl.p.withdraw(ctx, store.MessageID(s.Seq, s.Random), instead); err != nil {
			return err
		}
	}
	return nil
}

// checkInstead reports, before anything is done, for what one of the tasks would not take a notification in the place of its own.
func (pl *Planned) checkInstead(instead *Notification) error {
	if _, err := pl.p.note(instead); err != nil {
		return err
	}
	_, plan, _, err := pl.read()
	if err != nil {
		return err
	}
	for _, form := range plan.forms(0) {
		if form.message.Notification == nil {
			continue
		}
		note, err := json.Marshal(form.message.Notification)
		if err == nil {
			_, err = pl.p.recallNote(&store.Message{Note: note}, instead)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Wait returns when the plan has ended, and what it released has gone out as [Task.Wait] says. A plan that is paused, or repeated without end, does not end. It
// returns the context's error if that ends first, and [ErrClosed] if the Pusher closes.
func (pl *Planned) Wait(ctx context.Context) error {
	if err := pl.p.writable(); err != nil {
		return err
	}
	for {
		changed := pl.p.planner.changes()
		rec, _, _, err := pl.read()
		if err != nil {
			return err
		}
		if rec.Ended != 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-pl.p.delivery.ctx.Done():
			return ErrClosed
		}
	}
	for task, err := range pl.Tasks(ctx) {
		if err != nil {
			return err
		}
		if err := task.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
