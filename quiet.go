package fanfare

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// QuietHours are those of a day in which phones are not notified, by the clock on each user's wall: what is pushed in them waits for their end, if the message does. The message itself
// does not wait: who connects has it. The zero value has none.
type QuietHours struct {
	// From and To are times of day, since midnight: 22*time.Hour and 8*time.Hour are the night. The same: no quiet hours. [Open] refuses what is not from
	// 0 to less than 24 hours.
	From, To time.Duration
	// Zone is where users are whose devices do not say, or say something that is not known: an IANA name. Default: UTC. [Open] refuses one that is not known.
	Zone string
}

const day = 24 * time.Hour

func (q *QuietHours) check() error {
	if _, err := time.LoadLocation(q.Zone); err != nil {
		return fmt.Errorf("fanfare: quiet hours: zone: %w", err)
	}
	if q.From < 0 || q.From >= day || q.To < 0 || q.To >= day {
		return fmt.Errorf("fanfare: quiet hours from %v to %v: times of day are from 0 to less than 24 hours", q.From, q.To)
	}
	return nil
}

// end is when the quiet hours end that a zone has at a moment, zero if it has none then. It is after that moment.
func (q *QuietHours) end(now time.Time, zone *time.Location) time.Time {
	local := reading(now.In(zone))
	midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
	at, end := local.Sub(midnight), midnight.Add(q.To)
	switch {
	case q.From < q.To && q.From <= at && at < q.To, q.From > q.To && at < q.To:
	case q.From > q.To && at >= q.From:
		end = end.Add(day)
	default:
		return time.Time{}
	}
	if first := readIn(end, zone); first.After(now) {
		return first
	}
	return now.Add(end.Sub(local)) // in the second of two hours that show the same
}

// restOfZones stands for the users who are in no zone that is known.
const restOfZones = ""

// zoneOf returns a zone by its name; the rest is in that of the quiet hours.
func (q *QuietHours) zoneOf(name string) *time.Location {
	if name == restOfZones {
		name = q.Zone
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	return zone
}

// asleep returns those of some zones that have quiet hours now, and when the first of these ends.
func (q *QuietHours) asleep(now time.Time, zones []string) (asleep []string, first time.Time) {
	for _, name := range zones {
		zone := q.zoneOf(name)
		if zone == nil {
			continue // of the rest
		}
		if end := q.end(now, zone); !end.IsZero() {
			if asleep = append(asleep, name); first.IsZero() || end.Before(first) {
				first = end
			}
		}
	}
	return asleep, first
}

// zones returns the time zones that are in use, and the rest.
func (p *phones) zones(ctx context.Context) (list []string, err error) {
	for z, err := range p.d.store.TimeZones() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, z.Name)
	}
	return append(list, restOfZones), nil
}

// awake are the users who are in one of some zones, or anywhere if there are none, and in none of those that sleep; nil for everyone.
func (p *phones) awake(ctx context.Context, awake, asleep []string) (*store.Expr, error) {
	if len(awake) == 0 && len(asleep) == 0 {
		return nil, nil
	}
	known, err := p.zones(ctx)
	if err != nil {
		return nil, err
	}
	in := func(zones []string) Audience {
		of := Users()
		for _, name := range zones {
			if name != restOfZones {
				of = of.Or(TimeZone(name))
				continue
			}
			anywhere := Users()
			for _, name := range known {
				if name != restOfZones && p.d.o.Quiet.zoneOf(name) != nil {
					anywhere = anywhere.Or(TimeZone(name))
				}
			}
			of = of.Or(anywhere.Not())
		}
		return of
	}
	who := in(asleep).Not()
	if len(awake) > 0 {
		who = who.And(in(awake))
	}
	return who.expr, nil
}

// without are those of a list that are not in another.
func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}
