// Package schedule reads the expressions of plans that repeat, for the option Cron of package fanfare. It is a package of its own so that those who need none
// do not get its library.
package schedule

import (
	"errors"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/fanfare-im/fanfare"
)

// Cron reads an expression of five fields (minute, hour, day of the month, month, day of the week), or a word such as "@daily", or "@every 90m", in the zone of the plan. A time of
// day that the zone skips in spring does not happen on that day; one that it has twice in autumn happens the first time, unless the expression is for every hour.
// "@every" counts elapsed seconds, whatever clocks show, from the plan's At, or, where that is zero or past, from when the plan is made; it fires then, in the first whole second, and every 90 minutes from there. For a
// Local plan it counts on a clock that is never set. See the documentation of github.com/robfig/cron, which reads it.
func Cron(expression string) (fanfare.Recurrence, error) {
	if strings.HasPrefix(expression, "TZ=") || strings.HasPrefix(expression, "CRON_TZ=") {
		return nil, errors.New("the zone is the plan's to say")
	}
	s, err := cron.ParseStandard(expression)
	switch spec := s.(type) {
	case *cron.SpecSchedule:
		if spec.Hour&everyHour != everyHour {
			return once{s}, err
		}
	case cron.ConstantDelaySchedule:
		return every{spec}, err
	}
	return s, err
}

// everyHour are the hours of an expression that is for each of them.
const everyHour = 1<<24 - 1

// every begins with the first whole second behind a time that is none, for a plan asks for what is behind the moment just before its At. What it has fired at are
// whole seconds, and the next is one delay behind such a one.
type every struct{ cron.ConstantDelaySchedule }

func (e every) Next(after time.Time) time.Time {
	if part := time.Duration(after.Nanosecond()); part != 0 {
		return after.Add(time.Second - part)
	}
	return e.ConstantDelaySchedule.Next(after)
}

// once passes over what a clock shows a second time, when it is set back.
type once struct{ cron.Schedule }

func (o once) Next(after time.Time) time.Time {
	next := o.Schedule.Next(after)
	for !next.IsZero() {
		back, until := again(next)
		if back == 0 {
			break
		}
		if first := next.Add(-back); first.After(after) { // the library finds the second midnight of a day that has two
			return first
		}
		next = o.Schedule.Next(until.Add(-1))
	}
	return next
}

// again returns by how much the clock was set back if it shows t a second time, and until when it shows such times; else 0.
func again(t time.Time) (back time.Duration, until time.Time) {
	start, _ := t.ZoneBounds()
	if start.IsZero() {
		return 0, until
	}
	_, was := start.Add(-1).Zone()
	_, is := t.Zone()
	back = time.Duration(was-is) * time.Second
	if until = start.Add(back); !t.Before(until) { // never before it, if the clock was set forward
		return 0, until
	}
	return back, until
}
