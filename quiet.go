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
// Whoever moves to another time zone while a task waits is notified once: when the night ends where the devices are by then, or within an hour where it is day. Who has devices in several zones is notified on all of them when the last of the nights has ended
// that it was when the task came to the user, though it may be night in another of the zones by then.
type QuietHours struct {
	// From and To are times of day, since midnight: 22*time.Hour and 8*time.Hour are the night. The same: no quiet hours. [Open] refuses what is not from
	// 0 to less than 24 hours.
	From, To time.Duration
	// Zone is where users are whose devices do not say, or say something that is not known: an IANA name. Default: UTC. [Open] refuses one that is not known, and "Local".
	Zone string
}

const day = 24 * time.Hour

func (q *QuietHours) check() error {
	if _, err := zoneToKeep(q.Zone); err != nil {
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

// putOff returns until when another try waits for a user with some devices, zero if it does not: until it is day in all of their zones for which it is night now. One that has waited for that
// does so again only where it is night in all of them, as for who has moved meanwhile: who is on both sides of the Earth would wait for ever.
func (q *QuietHours) putOff(now time.Time, waited bool, devices []store.Device) (last time.Time) {
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
		end := q.end(now, zone)
		if end.IsZero() && waited {
			return time.Time{}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}

// lookAgain is how long those who are asleep are not looked at, at the most: they may have moved to where it is day.
const lookAgain = time.Hour

// night returns who is asleep now, nil for nobody, and when to look at them again. At first, with a since of zero, those are all for whom it is night in one of the time zones that their devices are in. Who
// has been found asleep since is so as long as one of the nights lasts that it was then, or it is night in all of their zones: else who is on both sides of the Earth would wait for ever.
func (p *phones) night(ctx context.Context, now, since time.Time) (asleep *store.Expr, look time.Time, err error) {
	q := &p.d.o.Quiet
	zones := []string{restOfZones}
	for z, err := range p.d.store.TimeZones() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, now, err
		}
		if q.zoneOf(z.Name) != nil { // else its users are of the rest
			zones = append(zones, z.Name)
		}
	}
	look = now.Add(lookAgain)
	var nights, lasting, days []string
	for _, name := range zones {
		end := q.end(now, q.zoneOf(name))
		if end.IsZero() {
			days = append(days, name)
			continue
		}
		if nights = append(nights, name); end.Before(look) {
			look = end
		}
		if since.IsZero() || q.end(since, q.zoneOf(name)).After(now) {
			lasting = append(lasting, name)
		}
	}
	if len(nights) == 0 {
		return nil, now, nil
	}
	who := inZones(lasting, zones)
	if len(lasting) < len(nights) {
		who = who.Or(inZones(nights, zones).And(inZones(days, zones).Not()))
	}
	return who.expr, look, nil
}

// inZones are the users who are in one of some zones, of all that there are.
func inZones(some, all []string) Audience {
	list := func(of []string) (list []Audience) {
		for _, name := range of {
			if name != restOfZones {
				list = append(list, TimeZone(name))
			}
		}
		return list
	}
	in := Users().Or(list(some)...)
	if slices.Contains(some, restOfZones) {
		in = in.Or(Users().Or(list(all)...).Not())
	}
	return in
}
