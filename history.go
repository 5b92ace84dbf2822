package fanfare

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Moment is how far a task, or a plan, was at a moment.
type Moment struct {
	At time.Time // to the millisecond
	// Delivered, Failed, Pending and Opened are what they are in [Progress].
	Delivered, Failed, Pending, Opened int64
	// Notified is how many notifications the services had accepted, by platform; nil without any.
	Notified map[string]int64
}

// History returns how far the task was from its acceptance until now, or until its end and what was opened since, oldest first. Moments are
// kept with the task. They are taken when something changes: the first minute has one a second at most, and whatever comes later some twenty in each
// doubling of the task's age, so that a week has less than four hundred; what changed too soon behind one of these has come by the next that may be. The last one is what [Task.Progress] says. It returns [ErrUnknownTask] once the task is forgotten.
func (t *Task) History(ctx context.Context) ([]Moment, error) {
	if err := t.p.open(); err != nil {
		return nil, err
	}
	return t.p.history(t.seq)
}

func (p *Pusher) history(seq uint64) ([]Moment, error) {
	s, kept, err := p.store.History(seq)
	if err != nil {
		return nil, err
	}
	first := Moment{At: time.UnixMilli(s.Accepted)}
	if s.Expires > s.Accepted {
		first.Pending = s.Progress.Total
	}
	out := append(make([]Moment, 0, len(kept)+2), first)
	for _, x := range kept {
		one := Moment{At: time.UnixMilli(x.At), Delivered: x.Delivered, Failed: x.Failed, Pending: x.Pending, Opened: x.Opened}
		for i, n := range x.Notified {
			one.notified(s.Platforms[i], n)
		}
		out = append(out, one)
	}
	g := s.Progress
	now := Moment{At: time.UnixMilli(p.o.now().UnixMilli()), Delivered: g.Delivered, Failed: g.Failed, Pending: g.Pending, Opened: g.Opened}
	for platform, n := range s.Phones {
		now.notified(platform, n.Accepted)
	}
	last := &out[len(out)-1]
	if now.At.Before(last.At) {
		now.At = last.At
	}
	same := now.same(last)
	if settled := time.UnixMilli(store.NextSample(s.Accepted, last.At.UnixMilli())); !same && settled.Before(now.At) {
		// What has changed since did so before that, or there would be a sample of it; it must not look as if it went on until now.
		then := now
		then.At, then.Notified = settled, maps.Clone(now.Notified)
		out = append(out, then)
	}
	if g.Ended == 0 || !same {
		out = append(out, now)
	}
	return out, nil
}

func (s *Moment) notified(platform string, n int64) {
	if n == 0 {
		return
	}
	if s.Notified == nil {
		s.Notified = make(map[string]int64)
	}
	s.Notified[platform] += n
}

// same says whether two moments differ in nothing but their times.
func (s *Moment) same(o *Moment) bool {
	return s.Delivered == o.Delivered && s.Failed == o.Failed && s.Pending == o.Pending && s.Opened == o.Opened && maps.Equal(s.Notified, o.Notified)
}

// add adds what another task has come to since an earlier sample of it.
func (s *Moment) add(o, since *Moment) {
	s.Delivered += o.Delivered - since.Delivered
	s.Failed += o.Failed - since.Failed
	s.Pending += o.Pending - since.Pending
	s.Opened += o.Opened - since.Opened
	for platform, n := range o.Notified {
		s.notified(platform, n-since.Notified[platform])
	}
}

// PlanHistory is how far a plan was over time: all of its tasks that are still known, and those of each variant.
type PlanHistory struct {
	Moments  []Moment            // oldest first
	Variants map[string][]Moment // by the name of the variant, without those who got the message as it is; nil without any
}

// maxPlanMoments is how many moments a [PlanHistory] has of each.
const maxPlanMoments = 400

// History returns how far the plan was since it first fired: at each moment the sum of its tasks, as [Task.History] has them; at most
// 400 moments, and as many of each variant. It reads each of the tasks.
func (pl *Planned) History(ctx context.Context) (PlanHistory, error) {
	_, plan, _, err := pl.read()
	if err != nil {
		return PlanHistory{}, err
	}
	var all timeline
	variants := make(map[string]*timeline, len(plan.Variants))
	for i := range plan.Variants {
		variants[plan.Variants[i].Name] = new(timeline)
	}
	for s, err := range pl.p.store.PlanTasks(pl.id) {
		if err == nil {
			err = ctx.Err()
		}
		var moments []Moment
		if err == nil {
			moments, err = pl.p.history(s.Seq)
		}
		if errors.Is(err, ErrUnknownTask) { // forgotten meanwhile
			continue
		}
		if err != nil {
			return PlanHistory{}, err
		}
		all.add(moments)
		if of := variants[s.Part]; of != nil {
			of.add(moments)
		}
	}
	out := PlanHistory{Moments: all.moments()}
	for name, of := range variants {
		if out.Variants == nil {
			out.Variants = make(map[string][]Moment, len(variants))
		}
		out.Variants[name] = of.moments()
	}
	return out, nil
}

// timeline adds up tasks.
type timeline struct {
	steps []Moment // what was added when
}

func (l *timeline) add(moments []Moment) {
	var before Moment
	for i := range moments {
		step := Moment{At: moments[i].At}
		step.add(&moments[i], &before)
		before = moments[i]
		l.steps = append(l.steps, step)
	}
	if len(l.steps) > 20*maxPlanMoments {
		l.merge()
	}
}

// merge makes one step of those that are near to each other, at the time of the last of them.
func (l *timeline) merge() {
	slices.SortStableFunc(l.steps, func(x, y Moment) int { return x.At.Compare(y.At) })
	if len(l.steps) <= maxPlanMoments {
		return
	}
	first := l.steps[0].At
	width := l.steps[len(l.steps)-1].At.Sub(first)/(maxPlanMoments-1) + 1
	merged := l.steps[:0]
	place := time.Duration(-1)
	for _, step := range l.steps {
		if at := step.At.Sub(first) / width; at != place || len(merged) == 0 {
			place = at
			merged = append(merged, step)
			continue
		}
		last := &merged[len(merged)-1]
		last.add(&step, new(Moment))
		last.At = step.At
	}
	l.steps = merged
}

func (l *timeline) moments() []Moment {
	l.merge()
	sum := Moment{}
	out := make([]Moment, len(l.steps))
	for i := range l.steps {
		sum.add(&l.steps[i], new(Moment))
		sum.At = l.steps[i].At
		out[i] = sum
		out[i].Notified = maps.Clone(sum.Notified)
	}
	return out
}
