package schedule

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
)

// TestCron: the next times of expressions, in zones and over the edges of daylight saving.
func TestCron(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expression, zone, after string
		want                    []string
	}{
		{"0 9 * * 1-5", "Asia/Shanghai", "2026-11-27T09:00:00+08:00", []string{"2026-11-30T09:00:00+08:00", "2026-12-01T09:00:00+08:00"}},
		{"@daily", "UTC", "2026-12-31T12:00:00Z", []string{"2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"}},
		{"@every 90m", "UTC", "2026-01-01T00:00:00Z", []string{"2026-01-01T01:30:00Z", "2026-01-01T03:00:00Z"}},
		{"@every 90m", "UTC", "2026-01-01T11:59:59.999Z", []string{"2026-01-01T12:00:00Z", "2026-01-01T13:30:00Z"}},
		{"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
		// 02:30 does not exist in Berlin on 29 March 2026, and is there twice on 25 October.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00", []string{"2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", []string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"*/30 0-12 * * *", "Europe/Berlin", "2026-10-25T01:30:00+02:00", []string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00"}},
		{"0 */2 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", []string{"2026-10-25T02:00:00+02:00", "2026-10-25T04:00:00+01:00"}},
		// From between the two, it has been.
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T02:45:00+02:00", []string{"2026-10-26T02:30:00+01:00"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T02:15:00+01:00", []string{"2026-10-26T02:30:00+01:00"}},
		// Friday 29 October 2021 has two midnights in Amman, 7 November 2021 in Havana.
		{"*/30 0 * * 5", "Asia/Amman", "2021-10-28T12:00:00+03:00", []string{"2021-10-29T00:00:00+03:00", "2021-10-29T00:30:00+03:00", "2021-11-05T00:00:00+02:00"}},
		{"@daily", "America/Havana", "2021-11-06T12:00:00-04:00", []string{"2021-11-07T00:00:00-04:00", "2021-11-08T00:00:00-05:00"}},
		// A quarter of an hour passes whatever the clock shows.
		{"@every 15m", "Europe/Berlin", "2026-10-25T02:50:00+02:00", []string{"2026-10-25T02:05:00+01:00", "2026-10-25T02:20:00+01:00"}},
		{"30 * * * *", "Europe/Berlin", "2026-10-25T01:45:00+02:00", []string{"2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"}},
	} {
		r, err := Cron(c.expression)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range c.want {
			at = r.Next(at.In(zone))
			got = append(got, at.Format(time.RFC3339))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s after %s: %v, want %v", c.expression, c.after, got, c.want)
		}
	}
}

// TestEveryFromAt: a plan with @every fires at its At, or in the first whole second from there or from now on, and then one delay behind that.
func TestEveryFromAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Cron: Cron}})
		noon := time.Now().Add(12 * time.Hour)
		for _, c := range []struct{ at, first time.Time }{
			{noon, noon},
			{noon.Add(300 * time.Millisecond), noon.Add(time.Second)},
			{time.Time{}, noon.Add(2 * time.Second)}, // made 1.1 s after noon
			{noon.Add(3*time.Second + time.Millisecond), noon.Add(4 * time.Second)},
		} {
			planned, err := p.Plan(t.Context(), fanfare.Plan{
				Message: fanfare.Message{From: "news", Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, At: c.at, Every: "@every 90m",
			})
			if err != nil {
				t.Fatal(err)
			}
			next := func(want time.Time) {
				t.Helper()
				if info, err := planned.Info(t.Context()); err != nil || !info.Next.Equal(want) {
					t.Errorf("at %v: next is %v, %v, want %v", c.at, info.Next, err, want)
				}
			}
			next(c.first)
			time.Sleep(time.Until(c.first) + 100*time.Millisecond)
			synctest.Wait()
			next(c.first.Add(90 * time.Minute))
			if err := planned.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestBadExpressions(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "* * * *", "60 * * * *", "@never", "TZ=UTC", "CRON_TZ=UTC 0 9 * * *", "TZ=UTC 0 9 * * *", "@every x"} {
		if _, err := Cron(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
