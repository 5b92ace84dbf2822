package fanfare

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// place is where on Earth a clock shows the time of a local plan at a moment: time zones.
type place struct {
	At     int64    // milliseconds since 1970
	Zones  []string // by name
	Rest   bool     // and users in none of the zones of any place
	Missed bool
}

// The zones of the Earth go from 14 hours before UTC to 12 behind.
const (
	zonesBefore = 14 * time.Hour
	zonesBehind = 12 * time.Hour
)

// reading is what a clock shows, as if it were in UTC.
func reading(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// firstOnEarth is when a clock shows a reading first somewhere, lastOnEarth when last.
func firstOnEarth(t time.Time) time.Time { return reading(t).Add(-zonesBefore) }
func lastOnEarth(t time.Time) time.Time  { return reading(t).Add(zonesBehind) }

// readIn is when a clock in a zone shows the reading of t: of two times the first, and where there is none, because the clock is set forward over it, as many
// minutes behind that as the reading is.
func readIn(t time.Time, zone *time.Location) time.Time {
	want := reading(t)
	_, before := want.Add(-24 * time.Hour).In(zone).Zone()
	_, after := want.Add(24 * time.Hour).In(zone).Zone()
	for _, offset := range []int{max(before, after), min(before, after)} { // the greater is the earlier moment
		if at := want.Add(-time.Duration(offset) * time.Second); reading(at.In(zone)).Equal(want) {
			return at
		}
	}
	return want.Add(-time.Duration(before) * time.Second)
}

// zonesKept are the time zones that were looked up, nil for a name that is not known: LoadLocation reads files each time, and each task asks for each zone.
var zonesKept struct {
	sync.Mutex
	byName map[string]*time.Location
}

// maxZonesKept bounds them: the devices say the names, and there are some 600 true ones.
const maxZonesKept = 4096

// zoneNamed returns a time zone by its name, nil if it is not known. What it found once holds as long as the process lives.
func zoneNamed(name string) *time.Location {
	z := &zonesKept
	z.Lock()
	zone, has := z.byName[name]
	z.Unlock()
	if has {
		return zone
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		zone = nil
	}
	z.Lock()
	defer z.Unlock()
	if z.byName == nil || len(z.byName) >= maxZonesKept {
		z.byName = make(map[string]*time.Location)
	}
	z.byName[name] = zone
	return zone
}

// placesOf are the places of a run, and which of them is next. They are looked up each time, and not kept: a plan would be written with hundreds of names at each of
// its steps. A zone that is new, because somebody has got there meanwhile, is a place of its own, if its time is behind that of the place that is next.
func (p *Pusher) placesOf(ctx context.Context, plan *Plan, r *planRun) (list []place, next int, err error) {
	if !plan.Local {
		list = []place{{At: r.At}}
	} else if list, err = p.places(ctx, plan, time.UnixMilli(r.At).UTC()); err != nil {
		return nil, 0, err
	}
	for i := range list {
		list[i].Missed = slices.Contains(r.Missed, list[i].At)
	}
	next, _ = slices.BinarySearchFunc(list, r.Place, func(x place, at int64) int { return cmp.Compare(x.At, at) })
	return list, next, nil
}

// places are where the users are, in the order in which clocks get to show what read says there.
func (p *Pusher) places(ctx context.Context, plan *Plan, read time.Time) ([]place, error) {
	zone, err := time.LoadLocation(plan.Zone)
	if err != nil {
		return nil, err
	}
	byTime := make(map[int64]*place)
	at := func(t time.Time) *place {
		ms := t.UnixMilli()
		if byTime[ms] == nil {
			byTime[ms] = &place{At: ms}
		}
		return byTime[ms]
	}
	at(readIn(read, zone)).Rest = true
	for z, err := range p.TimeZones(ctx) {
		if err != nil {
			return nil, err
		}
		if local := zoneNamed(z.Name); local != nil { // else they are of the rest
			of := at(readIn(read, local))
			of.Zones = append(of.Zones, z.Name)
		}
	}
	list := make([]place, 0, len(byTime))
	for _, x := range byTime {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(x, y place) int { return cmp.Compare(x.At, y.At) })
	return list, nil
}

// whose are the users of a place. At the last one they are all that are left, but for those who have been in places alone that were missed: somebody may have gone from one
// place to another meanwhile.
func whose(places []place, i int) Audience {
	zones := func(of func(*place) bool) (list []Audience) {
		for k := range places {
			if of(&places[k]) {
				for _, name := range places[k].Zones {
					list = append(list, TimeZone(name))
				}
			}
		}
		return list
	}
	nobody := Users()
	rest := func(but []Audience) Audience { return nobody.Or(but...).Not() }
	if i < len(places)-1 {
		here := nobody.Or(zones(func(x *place) bool { return x == &places[i] })...)
		if places[i].Rest {
			here = here.Or(rest(zones(func(*place) bool { return true })))
		}
		return here
	}
	if !slices.ContainsFunc(places, func(x place) bool { return x.Missed }) {
		return All()
	}
	inTime := nobody.Or(zones(func(x *place) bool { return !x.Missed })...)
	if slices.ContainsFunc(places, func(x place) bool { return x.Rest && x.Missed }) {
		return inTime
	}
	return inTime.Or(rest(zones(func(x *place) bool { return x.Missed })))
}
