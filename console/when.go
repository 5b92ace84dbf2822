package console

import (
	"strconv"
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

// clock is how a browser sends a date and a time of day.
const clock = "2006-01-02T15:04"

// planned says whether what the form says is a plan, and not a push at once.
func (d *draft) planned() bool { return d.When != whenNow || d.Pace != "" }

// Planned is it for the templates.
func (d *draft) Planned() bool { return d.planned() }

// plan makes a plan of a form, but for its message. What is wrong is added to the mistakes; the library has the last word.
func (h *handler) plan(v *view, d *draft, m *mistakes) (plan fanfare.Plan) {
	zone := h.o.Location
	if d.Zone != "" {
		var err error
		if zone, err = time.LoadLocation(d.Zone); err != nil || strings.EqualFold(d.Zone, "local") {
			m.add("zone", v.T("This time zone is not known: one is called such as Asia/Shanghai."))
			return plan
		}
		plan.Zone = d.Zone
	}
	switch d.When {
	case whenAt, whenLocal:
		at, err := time.ParseInLocation(clock, d.At, zone)
		switch {
		case err != nil:
			m.add("at", v.T("Say on which day, and at what time."))
		case d.When == whenAt && at.Before(time.Now()):
			m.add("at", v.T("This time is past."))
		}
		plan.At, plan.Local = at, d.When == whenLocal
	case whenEvery:
		plan.Local = d.EveryLocal
		if plan.Every = d.Every; d.Every == "" {
			m.add("every", v.T("Say when it repeats, such as 0 9 * * 1-5: minute, hour, day, month, day of the week."))
		}
	}
	if d.Pace != "" {
		n, ok := counted(d.Pace)
		if !ok || n < 1 || n > 1<<30 {
			m.add("pace", v.T("How many people a second: a number from 1 on."))
		}
		plan.Pace = int(n)
	}
	return plan
}

// WhenText is when a form is sent, as the confirmation says it.
func (d *draft) WhenText(v page) string {
	at := strings.Replace(d.At, "T", " ", 1)
	var text string
	switch d.When {
	case whenAt:
		text = at
	case whenLocal:
		text = v.T("%s by the clock on each person's wall", at)
	case whenEvery:
		if text = v.T("again and again: %s", d.Every); d.EveryLocal {
			text = v.T("again and again by the clock on each person's wall: %s", d.Every)
		}
	default:
		text = v.T("now")
	}
	if d.Zone != "" && d.When != whenNow {
		text += " · " + d.Zone
	}
	return text
}

// PaceText is how fast a form is sent.
func (d *draft) PaceText(v page) string {
	n, _ := strconv.ParseInt(d.Pace, 10, 64)
	if d.Pace == "" {
		return v.T("to all at once")
	}
	return v.T("to at most %s a second", v.People(n))
}
