package fanfare

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestReadIn: when a clock shows a reading, also where it is set forward over it, or shows it twice.
func TestReadIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, reading, want string }{
		{"Asia/Shanghai", "2026-11-28T09:00:00Z", "2026-11-28T09:00:00+08:00"},
		{"America/New_York", "2026-07-01T09:00:00Z", "2026-07-01T09:00:00-04:00"},
		{"America/New_York", "2026-03-08T02:30:00Z", "2026-03-08T03:30:00-04:00"}, // there is no 02:30
		{"America/New_York", "2026-03-08T01:59:00Z", "2026-03-08T01:59:00-05:00"},
		{"America/New_York", "2026-03-08T03:00:00Z", "2026-03-08T03:00:00-04:00"},
		{"America/New_York", "2026-11-01T01:30:00Z", "2026-11-01T01:30:00-04:00"}, // and again an hour later
		{"America/New_York", "2026-11-01T02:00:00Z", "2026-11-01T02:00:00-05:00"},
		{"Pacific/Kiritimati", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00"},
		{"Australia/Lord_Howe", "2026-10-04T02:15:00Z", "2026-10-04T02:45:00+11:00"}, // half an hour forward
		{"Etc/GMT+12", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00-12:00"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.reading)
		if err != nil {
			t.Fatal(err)
		}
		if got := readIn(at, zone).In(zone).Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %s is %s, want %s", c.reading, c.zone, got, c.want)
		}
	}
}

// localScene has users by time zone, all connected, and notes when each gets something.
func localScene(t *testing.T, dir string, zones map[string][]string) (*Pusher, map[string]time.Time) {
	t.Helper()
	at := make(map[string]time.Time)
	rec := new(transporttest.Recorder)
	rec.OnDeliver(func(_ context.Context, user string, _ *transport.Message) error {
		at[user] = time.Now().UTC()
		return nil
	})
	p := testPusher(t, dir, Options{Online: rec, Workers: 1, blockBits: 2})
	for user, list := range zones {
		must(t, p.Register(t.Context(), user))
		for i, zone := range list {
			must(t, p.RegisterDevice(t.Context(), user, Device{Platform: "apns", Token: fmt.Sprint(user, i), TimeZone: zone}))
		}
		connect(t, p, rec, user)
	}
	synctest.Wait()
	return p, at
}

var localZones = map[string][]string{
	"tokyo": {"Asia/Tokyo"}, "shanghai": {"Asia/Shanghai"}, "berlin": {"Europe/Berlin"}, "newyork": {"America/New_York"}, "nowhere": nil, "odd": {"Mars/Olympus"},
	"two": {"America/New_York", "Asia/Tokyo"},
}

// TestPlanLocal: each user gets it when the clock on the wall shows the time, once; also at a pace, and over an end of the process.
func TestPlanLocal(t *testing.T) {
	t.Parallel()
	for _, pace := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			p, at := localScene(t, dir, localZones)
			day := time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC) // the bubble begins on the first
			planned := mustPlan(t, p, Plan{Message: hello(All()), At: day.Add(18 * time.Hour), Local: true, Zone: "Europe/Berlin", Pace: pace})
			time.Sleep(time.Until(day.Add(12 * time.Hour)))
			synctest.Wait()
			must(t, p.Close(t.Context()))
			first := at
			p, at = localScene(t, dir, localZones)
			planned, err := p.Planned(t.Context(), planned.ID)
			must(t, err)
			must(t, planned.Wait(t.Context()))
			for user, hour := range map[string]int{"tokyo": 9, "two": 9, "shanghai": 10, "berlin": 17, "nowhere": 17, "odd": 17, "newyork": 23} {
				got, before := first[user], !first[user].IsZero()
				if after := !at[user].IsZero(); after == before {
					t.Errorf("%s got it before: %v, and after: %v", user, before, after)
				} else if after {
					got = at[user]
				}
				if late := got.Sub(day.Add(time.Duration(hour) * time.Hour)); late < 0 || late > 3*time.Second {
					t.Errorf("%s got it at %v, want %d o'clock by UTC", user, got, hour)
				}
			}
			if i := info(t, planned); i.Outcome != PlanCompleted || i.Fired != 1 || i.Gone != 0 {
				t.Errorf("%+v", i)
			}
			for task, err := range planned.Tasks(t.Context()) { // there may be hundreds of zones
				must(t, err)
				if to := task.Info().To.String(); to != "all" {
					t.Errorf("a task is to %s", to)
				}
			}
		})
	}
}

// TestPlanLocalMissed: those for whom it is too late, because the plan was made late or the process was down, do not get it, and the others do.
func TestPlanLocalMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, at := localScene(t, t.TempDir(), localZones)
		day := time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(day.Add(10*time.Hour + 30*time.Minute)))
		planned := mustPlan(t, p, Plan{Message: hello(All()), At: day.Add(18 * time.Hour), Local: true, Zone: "Asia/Tokyo"})
		must(t, planned.Wait(t.Context()))
		for user, hour := range map[string]float64{"shanghai": 10.5, "berlin": 17, "two": 23, "newyork": 23} { // it was 19:30 in Tokyo, 18:30 in Shanghai
			if got := at[user].Sub(day).Hours(); got < hour || got > hour+0.01 {
				t.Errorf("%s got it at %v, want %v", user, got, hour)
			}
		}
		for _, user := range []string{"tokyo", "nowhere", "odd"} {
			if !at[user].IsZero() {
				t.Errorf("%s got it at %v", user, at[user])
			}
		}
		if i := info(t, planned); i.Gone != 3 || len(i.Missed) != 1 || i.Outcome != PlanCompleted {
			t.Errorf("%+v", i)
		}
	})
}

// TestPlanLanguages: each user gets the narrowest form of the user's language, else one without a language, else the plain one.
func TestPlanLanguages(t *testing.T) {
	t.Parallel()
	for _, withDefault := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			rec := new(transporttest.Recorder)
			p := testPusher(t, t.TempDir(), Options{Online: rec, blockBits: 2})
			for user, locale := range map[string]string{"taiwan": "zh-Hant-TW", "beijing": "zh_CN", "hans": "zh-hans", "lisbon": "pt-PT", "silent": ""} {
				must(t, p.Register(t.Context(), user))
				must(t, p.RegisterDevice(t.Context(), user, Device{Platform: "apns", Token: user, Locale: locale}))
				connect(t, p, rec, user)
			}
			must(t, p.Register(t.Context(), "none"))
			connect(t, p, rec, "none")
			synctest.Wait()
			plan := Plan{Message: hello(All()), Variants: []Variant{
				{Name: "zh", Language: "zh", Body: []byte("zh")}, {Name: "hant", Language: "zh-Hant", Body: []byte("hant")},
			}}
			other := "hello"
			if withDefault {
				other = "other"
				plan.Variants = append([]Variant{{Name: "other", Body: []byte("other")}}, plan.Variants...)
			}
			planned := mustPlan(t, p, plan)
			must(t, planned.Wait(t.Context()))
			for user, want := range map[string]string{"taiwan": "hant", "beijing": "zh", "hans": "zh", "lisbon": other, "silent": other, "none": other} {
				if got := bodies(rec.Received(user)); len(got) != 1 || got[0] != want {
					t.Errorf("%s got %v, want %s", user, got, want)
				}
			}
			g, err := planned.Progress(t.Context())
			must(t, err)
			if g.Variants["zh"].Delivered != 2 || g.Variants["hant"].Delivered != 1 || g.Delivered != 6 {
				t.Errorf("%+v", g)
			}
		})
	}
}

// TestZoneNamed: a zone is read once, one that is not known is not looked for again, and names without end are not all kept.
func TestZoneNamed(t *testing.T) {
	tokyo := zoneNamed("Asia/Tokyo")
	if tokyo == nil || tokyo.String() != "Asia/Tokyo" || zoneNamed("Asia/Tokyo") != tokyo {
		t.Error(tokyo)
	}
	if zoneNamed("") != time.UTC || zoneNamed("Asia/Tokio") != nil || zoneNamed("../etc/passwd") != nil {
		t.Error("zones that are none")
	}
	// Twice the same pointer and no allocation: nothing was read.
	if n := testing.AllocsPerRun(100, func() { zoneNamed("Asia/Tokyo"); zoneNamed("Asia/Tokio") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for i := range 2*maxZonesKept + 1 {
		zoneNamed(fmt.Sprint("junk/", i))
	}
	if n := len(zonesKept.byName); n > maxZonesKept {
		t.Errorf("%d are kept", n)
	}
	if zone := zoneNamed("Asia/Tokyo"); zone == nil || zone.String() != "Asia/Tokyo" {
		t.Error(zone)
	}
}
