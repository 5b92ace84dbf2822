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
// day that the zone skips in spring does not happen on that day; one that it has twice in autumn happens once, unless it is for every hour. See the documentation of github.com/robfig/cron, which reads it.
func Cron(expression string) (fanfare.Recurrence, error) {
	if strings.HasPrefix(expression, "TZ=") || strings.HasPrefix(expression, "CRON_TZ=") {
		return nil, errors.New("the zone is the plan's to say")
	}
	s, err := cron.ParseStandard(expression)
	if spec, is := s.(*cron.SpecSchedule); is && spec.Hour&everyHour != everyHour {
		return once{s}, err
	}
	return s, err
}

// everyHour are the hours of an expression that is for each of them.
const everyHour = 1<<24 - 1

// once passes over the second of two times that a clock shows one behind the other, when it is set back.
type once struct{ cron.Schedule }

func (o once) Next(after time.Time) time.Time {
	const clock = "2006-01-02 15:04:05"
	next := o.Schedule.Next(after)
	if next.Format(clock) == after.Format(clock) {
		return o.Schedule.Next(next)
	}
	return next
}
