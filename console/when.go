package console

import (
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

// The ways in which a form says when.
const (
	whenNow   = "now"
	whenAt    = "at"
	whenLocal = "local"
	whenEvery = "every"
)

// How a browser sends a date and a time of day.
const (
	clock        = "2006-01-02T15:04"
	clockSeconds = "2006-01-02T15:04:05"
)

// firstZone and lastZone are where a clock shows a time first and last on Earth.
var (
	firstZone = time.FixedZone("", 14*60*60)
	lastZone  = time.FixedZone("", -12*60*60)
)

// over says whether a clock has shown the reading of t everywhere.
func over(t time.Time) bool {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, lastZone).Before(time.Now())
}

// shownTimes is how many of the next times of what repeats are told before it is planned.
const shownTimes = 3

// usualLate is the library's default of how late a plan may fire.
const usualLate = time.Hour

// tolerances are those that can be chosen.
var tolerances = []choice{
	{"1m", "1 minute", time.Minute},
	{"10m", "10 minutes", 10 * time.Minute},
	{"1h", "1 hour, as usual", usualLate},
	{"6h", "6 hours", 6 * time.Hour},
	{"24h", "1 day", 24 * time.Hour},
	{"any", "however late it is", -1},
}

// lateOf is a tolerance as the form has it.
func lateOf(d time.Duration) string {
	switch {
	case d == 0:
		d = usualLate
	case d < 0:
		return "any"
	}
	return plainDuration(d)
}

// toleranceOf reads one, also one of a plan that was made elsewhere.
func toleranceOf(value string) (time.Duration, bool) {
	for _, t := range tolerances {
		if t.Value == value {
			return t.d, true
		}
	}
	d, err := time.ParseDuration(value)
	return d, err == nil && d > 0
}

// withValue are choices, and the value that is chosen, if it is none of them.
func withValue(of []choice, value string, d time.Duration) []choice {
	for _, one := range of {
		if one.Value == value {
			return of
		}
	}
	return append(of[:len(of):len(of)], choice{value, plainDuration(d), d})
}

// Planned says whether what the form says is a plan, and not a push at once.
func (d *draft) Planned() bool {
	return d.When != whenNow || d.Pace != "" || len(d.Variants) > 0 || d.Changes != ""
}

// plan makes a plan of a form, but for the audience of its message. What is wrong is added to the mistakes; the library has the last word.
func (h *handler) plan(v *view, d *draft, m *mistakes) (plan fanfare.Plan) {
	plan.Message = h.message(v, d, m)
	plan.Variants = h.variants(v, d, &plan.Message, m)
	if d.Pace != "" {
		n, ok := counted(d.Pace)
		if !ok || n < 1 || n > 1<<30 {
			m.add("pace", v.T("How many people a second: a number from 1 on."))
		}
		plan.Pace = int(n)
	}
	h.planTime(v, d, &plan, m)
	return plan
}

func (h *handler) planTime(v *view, d *draft, plan *fanfare.Plan, m *mistakes) {
	var ok bool
	if plan.Tolerance, ok = toleranceOf(d.Late); !ok {
		m.add("late", v.T("Choose one of them."))
	}
	zone := h.o.Location
	switch {
	case d.When == whenNow:
		return
	case d.Zone != "":
		var err error
		if zone, err = time.LoadLocation(d.Zone); err != nil || strings.EqualFold(d.Zone, "local") {
			m.add("zone", v.T("This time zone is not known: one is called such as Asia/Shanghai."))
			return
		}
		plan.Zone = d.Zone
	case d.When != whenAt: // the library looks it up by its name
		plan.Zone = zone.String()
		if !sameZone(plan.Zone, zone) {
			m.add("zone", v.T("Say in which time zone: that of this page has no name."))
			return
		}
	}
	moment := func(field, text string) time.Time {
		at, err := time.ParseInLocation(clock, text, zone)
		if err != nil {
			at, err = time.ParseInLocation(clockSeconds, text, zone)
		}
		if err != nil {
			m.add(field, v.T("Say on which day, and at what time."))
		}
		return at
	}
	past := func(t time.Time) bool {
		if plan.Local {
			return over(t)
		}
		return t.Before(time.Now())
	}
	switch d.When {
	case whenAt, whenLocal:
		plan.At, plan.Local = moment("at", d.At), d.When == whenLocal
		if past(plan.At) {
			m.add("at", v.T("This time is past."))
		}
	case whenEvery:
		plan.Local = d.EveryLocal
		if plan.Every = d.Every; d.Every == "" {
			m.add("every", v.T("Say when it repeats, such as 0 9 * * 1-5: minute, hour, day, month, day of the week."))
		}
		if d.Begin != "" {
			plan.At = moment("begin", d.Begin)
		}
		if d.Until != "" {
			plan.Until = moment("until", d.Until)
			if past(plan.Until) {
				m.add("until", v.T("This time is past."))
			}
		}
	}
}

// sameZone says whether a name leads to a time zone, wherever it is looked up.
func sameZone(name string, zone *time.Location) bool {
	named, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return false
	}
	now := time.Now()
	_, x := now.In(named).Zone()
	_, y := now.In(zone).Zone()
	return x == y
}

// Moment is a moment in words, on a clock in its zone.
func (v *view) Moment(t time.Time) string { return v.lang.moment(t) }

// zoneOf says which zone the times of a plan are in.
func (v *view) zoneOf(plan *fanfare.Plan) (zone *time.Location, name string) {
	if plan.Zone != "" && plan.Zone != v.h.o.Location.String() {
		if zone, err := time.LoadLocation(plan.Zone); err == nil {
			return zone, plan.Zone
		}
	}
	if plan.Zone == "" && (plan.Every != "" || plan.Local) {
		return time.UTC, "UTC"
	}
	if plan.Zone == "Local" { // as plans once could be; it is no name to show
		return v.h.o.Location, ""
	}
	return v.h.o.Location, plan.Zone
}

// Firing says in words when a plan fires, with the times that are next, if they are known.
func (v *view) Firing(plan *fanfare.Plan, next []time.Time) []string {
	zone, name := v.zoneOf(plan)
	in := func(t time.Time) string {
		if name != "" {
			return name
		}
		return zoneText(t.In(zone))
	}
	var out []string
	switch {
	case plan.Every != "":
		shown := func(t time.Time) string { return v.Moment(t.In(zone)) }
		nextZone := zone
		if plan.Local {
			shown, nextZone = v.Moment, firstZone
			out = append(out, v.T("Again and again, by %s on the clock on each person's wall. Who is in no zone that is known goes by %s.", plan.Every, in(time.Now())))
		} else {
			out = append(out, v.T("Again and again, by %s, in the zone %s.", plan.Every, in(time.Now())))
		}
		if !plan.At.IsZero() {
			out = append(out, v.T("From %s on.", shown(plan.At)))
		}
		if len(next) > 0 {
			var times []string
			for _, t := range next {
				times = append(times, v.Moment(t.In(nextZone)))
			}
			out = append(out, v.T("Next: %s.", strings.Join(times, "; ")))
		}
		if plan.Until.IsZero() {
			out = append(out, v.T("Without an end, until it is cancelled."))
		} else {
			out = append(out, v.T("Until %s.", shown(plan.Until)))
		}
	case plan.Local:
		out = append(out, v.T("When the clock on each person's wall shows %s. Who is in no zone that is known goes by %s.", v.Moment(plan.At), in(plan.At)))
	case plan.At.IsZero():
		return []string{v.T("At once.")}
	default:
		at := plan.At.In(zone)
		out = append(out, v.T("On %s, in the zone %s.", v.Moment(at), in(at)))
		here := at.In(v.h.o.Location)
		_, there := at.Zone()
		if _, offset := here.Zone(); offset != there {
			out = append(out, v.T("Here that is %s, %s.", v.Moment(here), zoneText(here)))
		}
	}
	return append(out, v.late(plan))
}

// late says how late a plan may fire.
func (v *view) late(plan *fanfare.Plan) string {
	switch {
	case plan.Tolerance < 0:
		return v.T("However late, if the server was down or the plan paused.")
	case plan.Tolerance == 0:
		return v.T("At most %s late, if the server was down or the plan paused.", v.span(usualLate))
	}
	return v.T("At most %s late, if the server was down or the plan paused.", v.span(plan.Tolerance))
}

// span is a duration in words.
func (v *view) span(d time.Duration) string {
	switch {
	case d == time.Minute:
		return v.T("1 minute")
	case d == time.Hour:
		return v.T("1 hour")
	case d == 24*time.Hour:
		return v.T("1 day")
	case d%time.Hour == 0:
		return v.T("%s hours", v.N(int64(d/time.Hour)))
	case d%time.Minute == 0:
		return v.T("%s minutes", v.N(int64(d/time.Minute)))
	}
	return plainDuration(d)
}

// zoneText is the zone of a moment.
func zoneText(t time.Time) string {
	if _, offset := t.Zone(); offset == 0 {
		return "UTC"
	}
	return t.Format("MST, UTC-07:00")
}

// PaceText is how fast a form is sent.
func (d *draft) PaceText(v page) string {
	n, _ := counted(d.Pace)
	if d.Pace == "" {
		return v.T("to all at once")
	}
	return v.T("to at most %s a second", v.People(n))
}
