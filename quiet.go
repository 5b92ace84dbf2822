package fanfare

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// QuietHours are those of a day in which phones are not notified, by the clock on each user's wall: what is pushed in them waits for their end, if the message does. The message itself
// does not wait: who connects has it. Another try of what went out before waits too. The zero value has none.
//
// Who has devices in several time zones is notified when the last of the nights has ended in which the task found them when it began, though it may be night in another of the zones by then.
// Who registers devices anew in another zone while a task waits may be notified twice, or not at all: not at all where that zone is not waited for any more, again where it still is.
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

// zoneOf returns a zone by its name, nil if it is not known; the rest is in that of the quiet hours.
func (q *QuietHours) zoneOf(name string) *time.Location {
	if name == restOfZones {
		name = q.Zone
	}
	return zoneNamed(name)
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

// putOff returns until when a user with some devices sleeps, zero if the user does not: in the last of the devices' zones in which it is night, as for a pass. What was due
// when such a night ended has waited for one, and does not wait for that of another zone too: who is on both sides of the Earth would wait for ever.
func (q *QuietHours) putOff(now, due time.Time, devices []store.Device) (last time.Time) {
	var in []*time.Location
	for _, d := range devices {
		if d.TimeZone == restOfZones {
			continue
		}
		if zone := q.zoneOf(d.TimeZone); zone != nil {
			in = append(in, zone)
		}
	}
	if len(in) == 0 {
		in = append(in, q.zoneOf(restOfZones))
	}
	for _, zone := range in {
		waited := q.end(due.Add(-time.Millisecond), zone)
		if now.Sub(due) < time.Hour && !waited.IsZero() && waited.UnixMilli() == due.UnixMilli() { // else the process was down meanwhile
			return time.Time{}
		}
		if end := q.end(now, zone); end.After(last) {
			last = end
		}
	}
	return last
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
		var list []Audience
		for _, name := range zones {
			if name != restOfZones {
				list = append(list, TimeZone(name))
				continue
			}
			var anywhere []Audience
			for _, name := range known {
				if name != restOfZones && p.d.o.Quiet.zoneOf(name) != nil {
					anywhere = append(anywhere, TimeZone(name))
				}
			}
			list = append(list, Users().Or(anywhere...).Not())
		}
		return Users().Or(list...)
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
