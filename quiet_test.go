package fanfare

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestQuietHoursEnd: when quiet hours end, over midnight and over the edges of daylight saving.
func TestQuietHoursEnd(t *testing.T) {
	t.Parallel()
	night, noon := QuietHours{From: 22 * time.Hour, To: 8 * time.Hour}, QuietHours{From: 12 * time.Hour, To: 13*time.Hour + 30*time.Minute}
	for _, c := range []struct {
		q             QuietHours
		zone, at, end string // no end: it is not quiet
	}{
		{night, "UTC", "2026-01-01T21:59:59Z", ""},
		{night, "UTC", "2026-01-01T22:00:00Z", "2026-01-02T08:00:00Z"},
		{night, "UTC", "2026-01-02T00:00:00Z", "2026-01-02T08:00:00Z"},
		{night, "UTC", "2026-01-02T07:59:59Z", "2026-01-02T08:00:00Z"},
		{night, "UTC", "2026-01-02T08:00:00Z", ""},
		{noon, "UTC", "2026-01-02T13:00:00Z", "2026-01-02T13:30:00Z"},
		{noon, "UTC", "2026-01-02T13:30:00Z", ""},
		{night, "Asia/Tokyo", "2026-01-02T13:00:00Z", "2026-01-03T08:00:00+09:00"},
		{night, "Europe/Berlin", "2026-03-28T23:00:00+01:00", "2026-03-29T08:00:00+02:00"}, // a night of nine hours
		{night, "Europe/Berlin", "2026-10-24T23:00:00+02:00", "2026-10-25T08:00:00+01:00"}, // and one of eleven
		{QuietHours{From: time.Hour, To: 150 * time.Minute}, "Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"},
		{QuietHours{From: 22 * time.Hour, To: 90 * time.Minute}, "America/New_York", "2026-11-01T01:10:00-04:00", "2026-11-01T01:30:00-04:00"}, // 01:30 is there twice
		{QuietHours{From: 22 * time.Hour, To: 90 * time.Minute}, "America/New_York", "2026-11-01T01:40:00-04:00", ""},
		{QuietHours{From: 22 * time.Hour, To: 90 * time.Minute}, "America/New_York", "2026-11-01T01:10:00-05:00", "2026-11-01T01:30:00-05:00"},
		{QuietHours{From: 22 * time.Hour, To: 90 * time.Minute}, "America/New_York", "2026-11-01T01:30:00-05:00", ""},
		{QuietHours{From: 22 * time.Hour, To: 8*time.Hour + time.Second/2}, "UTC", "2026-01-02T08:00:00.4Z", "2026-01-02T08:00:00Z"}, // and half a second
		{QuietHours{From: 22 * time.Hour, To: 8*time.Hour + time.Second/2}, "UTC", "2026-01-02T08:00:00.7Z", ""},
		{QuietHours{}, "UTC", "2026-01-01T00:00:00Z", ""},
		{QuietHours{From: 5 * time.Hour, To: 5 * time.Hour}, "UTC", "2026-01-01T05:00:00Z", ""},
	} {
		zone, err := time.LoadLocation(c.zone)
		must(t, err)
		at, err := time.Parse(time.RFC3339, c.at)
		must(t, err)
		got := ""
		if end := c.q.end(at, zone); !end.IsZero() && !end.After(at) {
			t.Errorf("%v to %v in %s at %s: %v is past", c.q.From, c.q.To, c.zone, c.at, end)
		}
		if end := c.q.end(at, zone); !end.IsZero() {
			got = end.In(zone).Format(time.RFC3339)
		}
		if got != c.end {
			t.Errorf("%v to %v in %s at %s: %q, want %q", c.q.From, c.q.To, c.zone, c.at, got, c.end)
		}
	}
}

// TestQuietHours: a phone is notified when its night has ended, once, also over an end of the process; the message itself does not wait, and what is urgent neither.
func TestQuietHours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ urgent, always, reopen bool }{{}, {urgent: true}, {always: true}, {reopen: true}, {always: true, reopen: true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				shown, mu := make(map[string]time.Time), new(sync.Mutex)
				open := func() *Pusher {
					phones := transporttest.NewPhones("apns")
					phones.SetBatchSize(1)
					phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
						mu.Lock()
						defer mu.Unlock()
						for _, n := range batch {
							if !shown[n.UserID].IsZero() {
								t.Errorf("%s was notified again", n.UserID)
							}
							shown[n.UserID] = time.Now().UTC()
						}
						return nil, false
					})
					return testPusher(t, dir, Options{
						Mobile: []transport.Mobile{phones}, Grace: -1, blockBits: 2, Quiet: QuietHours{From: 22 * time.Hour, To: 8 * time.Hour, Zone: "Asia/Shanghai"},
					})
				}
				p := open()
				for user, zones := range localZones { // places_test.go
					must(t, p.Register(t.Context(), user))
					for i, zone := range append(zones, "")[:max(1, len(zones))] {
						must(t, p.RegisterDevice(t.Context(), user, Device{Platform: "apns", Token: fmt.Sprint(user, i), TimeZone: zone}))
						break
					}
				}
				must(t, p.RegisterDevice(t.Context(), "two", Device{Platform: "fcm", Token: "other", TimeZone: "Asia/Tokyo"}))
				day := time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC)
				time.Sleep(time.Until(day.Add(14*time.Hour + 30*time.Minute))) // 23:30 in Tokyo, 22:30 in Shanghai, 15:30 in Berlin, 9:30 in New York
				m := notice(week)
				m.Notification.Urgent, m.Notification.Always = c.urgent, c.always
				task := mustTask(t, p, m)
				synctest.Wait()
				if g := progress(t, task); g.Total != 7 || g.Pending != 7 {
					t.Errorf("%+v", g)
				}
				if c.reopen {
					time.Sleep(time.Hour)
					must(t, p.Close(t.Context()))
					p = open()
				}
				time.Sleep(48 * time.Hour)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				want := map[string]float64{"berlin": 14.5, "newyork": 14.5, "tokyo": 23, "two": 23, "shanghai": 24, "nowhere": 24, "odd": 24}
				for user, hour := range want {
					if c.urgent {
						hour = 14.5
					}
					if got := shown[user].Sub(day).Hours(); got < hour || got > hour+0.1 {
						t.Errorf("%s was notified at %v, want %v", user, got, hour)
					}
				}
				task, err := p.Task(t.Context(), task.ID)
				must(t, err)
				if g := progress(t, task).Phones["apns"]; g.Accepted != 7 || g.Sent != 7 {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestQuietHoursEndTwice: a task that waits for the end of quiet hours, in the second of two hours that a clock shows alike, writes nothing meanwhile.
func TestQuietHoursEndTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		second := time.Date(2000, 10, 29, 6, 10, 0, 0, time.UTC) // 01:10 for the second time
		time.Sleep(time.Until(second))
		phones := transporttest.NewPhones("apns")
		var at atomic.Pointer[time.Time]
		phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
			now := time.Now()
			at.Store(&now)
			return nil, false
		})
		p := testPusher(t, t.TempDir(), Options{
			Mobile: []transport.Mobile{phones}, Grace: -1, Quiet: QuietHours{From: 22 * time.Hour, To: 90 * time.Minute, Zone: "America/New_York"},
		})
		must(t, p.Register(t.Context(), "a"))
		must(t, p.RegisterDevice(t.Context(), "a", Device{Platform: "apns", Token: "x"}))
		mustTask(t, p, notice(week))
		synctest.Wait()
		before, err := p.Stats(t.Context())
		must(t, err)
		time.Sleep(19 * time.Minute)
		synctest.Wait()
		after, err := p.Stats(t.Context())
		must(t, err)
		if after.Position != before.Position || at.Load() != nil {
			t.Errorf("%d commits; notified at %v", after.Position-before.Position, at.Load())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if want := second.Add(20 * time.Minute); at.Load() == nil || !at.Load().Equal(want) {
			t.Errorf("notified at %v, not %v", at.Load(), want)
		}
	})
}

// TestQuietHoursRetry: another try whose time comes at night waits for the end of the night, durably and with its number; that of what is urgent does not.
func TestQuietHoursRetry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone           string
		urgent, reopen bool
		outcome        transport.Outcome
		attempt, again int // the second, and its hour
	}{
		{outcome: transport.Retry, attempt: 2, again: 32}, {outcome: transport.Retry, attempt: 2, reopen: true, again: 32}, {outcome: transport.Unsent, attempt: 1, again: 32},
		{zone: "no/zone", outcome: transport.Retry, attempt: 2, again: 32}, {urgent: true, outcome: transport.Retry, attempt: 2, again: 24},
		{zone: "Europe/London", outcome: transport.Retry, attempt: 2, again: 32}, {zone: "America/New_York", outcome: transport.Retry, attempt: 2, again: 24},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now() // at midnight by UTC
				dir, mu := t.TempDir(), new(sync.Mutex)
				var tries []phoneTry
				open := func() *Pusher {
					phones := transporttest.NewPhones("apns")
					phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
						mu.Lock()
						defer mu.Unlock()
						list := make([]transport.Result, len(batch))
						for i, n := range batch {
							list[i].Outcome = transport.Accepted
							if n.UserID == "well" { // without one that is sent a batch of Unsent is not recorded
								continue
							}
							if tries = append(tries, phoneTry{n.Device.Token, n.Attempt, time.Since(start).Round(time.Hour)}); len(tries) == 1 {
								list[i] = transport.Result{Outcome: c.outcome, RetryAfter: 3 * time.Hour}
							}
						}
						return list, true
					})
					return testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1, Quiet: QuietHours{From: 22 * time.Hour, To: 8 * time.Hour}})
				}
				p := open()
				for _, user := range []string{"busy", "well"} {
					must(t, p.Register(t.Context(), user))
					must(t, p.RegisterDevice(t.Context(), user, Device{Platform: "apns", Token: user, TimeZone: c.zone}))
				}
				time.Sleep(21 * time.Hour)
				m := notice(week)
				m.Notification.Urgent = c.urgent
				id := mustTask(t, p, m).ID
				time.Sleep(3*time.Hour + time.Minute)
				if c.reopen {
					must(t, p.Close(t.Context()))
					time.Sleep(time.Hour)
					p = open()
				}
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				want := []phoneTry{{"busy", 1, 21 * time.Hour}, {"busy", c.attempt, time.Duration(c.again) * time.Hour}}
				if !slices.Equal(tries, want) {
					t.Errorf("%v, not %v", tries, want)
				}
				task, err := p.Task(t.Context(), id)
				must(t, err)
				if g := progress(t, task).Phones["apns"]; g.Accepted != 2 {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestPutOff: another try for a user with devices in several zones waits for the end of the last of the nights that it is in them, and for no other night behind it.
func TestPutOff(t *testing.T) {
	t.Parallel()
	q := &QuietHours{From: 20 * time.Hour, To: 8 * time.Hour, Zone: "Asia/Tokyo"} // 11:00 to 23:00 by UTC
	const none, tokyo, london, berlin, hawaii = "", "Asia/Tokyo", "Europe/London", "Europe/Berlin", "Pacific/Honolulu"
	for _, c := range []struct {
		now    float64 // hours by UTC
		waited bool
		zones  []string
		want   float64 // 0: at once
	}{
		{12, false, []string{none}, 23}, {10, false, []string{none}, 0}, {12, false, []string{"no/zone"}, 23}, {12, false, []string{none, london}, 0}, {12, false, nil, 23},
		{22, false, []string{london, berlin}, 32}, {22, false, []string{berlin, london}, 32}, {22, false, []string{berlin, tokyo}, 31}, {12, false, []string{berlin, tokyo}, 23},
		{23, true, []string{berlin, tokyo}, 0}, // it waited for the night in Tokyo
		{23.5, true, []string{tokyo, berlin}, 0}, {25, true, []string{berlin, tokyo}, 0},
		{23, true, []string{berlin}, 31}, {22, true, []string{berlin, london}, 32}, // who has moved
		{12, false, []string{tokyo, hawaii}, 23}, {23, true, []string{tokyo, hawaii}, 0}, // where it is always night in one of them
	} {
		at := func(hours float64) time.Time {
			return time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC).Add(time.Duration(hours * float64(time.Hour)))
		}
		var devices []store.Device
		for _, zone := range c.zones {
			devices = append(devices, store.Device{TimeZone: zone})
		}
		var want time.Time
		if c.want > 0 {
			want = at(c.want)
		}
		if got := q.putOff(at(c.now), c.waited, devices); !got.Equal(want) {
			t.Errorf("at %v, waited before: %v, in %q: %v, not %v", c.now, c.waited, c.zones, got, want)
		}
	}
}
