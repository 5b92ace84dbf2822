package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/schedule"
)

// A push for Christmas Eve, made in advance. Whom it is for is asked when it fires.
func ExamplePlan() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	planned, err := p.Plan(ctx, fanfare.Plan{
		Message: fanfare.Message{From: "shop", Body: []byte("Merry Christmas"), To: fanfare.All(), Lifetime: week},
		At:      time.Date(2099, 12, 24, 18, 0, 0, 0, time.UTC),
		Pace:    20_000, // users a second
	})
	check(err)

	info, err := planned.Info(ctx)
	check(err)
	fmt.Println("fires", info.Next.UTC().Format(time.RFC3339), "to", info.Message.To)
	// Output:
	// fires 2099-12-24T18:00:00Z to all
}

// At six in the evening, wherever people are: it goes round the Earth, beginning where it is six first.
func ExamplePlan_local() {
	p, done := temporary(fanfare.Options{})
	defer done()
	times, err := p.Times(fanfare.Plan{At: time.Date(2099, 12, 24, 18, 0, 0, 0, time.UTC), Local: true}, 1)
	check(err)
	fmt.Println("begins", times[0].UTC().Format(time.RFC3339))
	// Output:
	// begins 2099-12-24T04:00:00Z
}

// Before a plan that repeats is made: when it would fire.
func ExamplePusher_Times() {
	p, done := temporary(fanfare.Options{Cron: schedule.Cron})
	defer done()
	times, err := p.Times(fanfare.Plan{
		Every: "0 9 * * 1-5",
		At:    time.Date(2099, 12, 24, 12, 0, 0, 0, time.UTC),
		Until: time.Date(2099, 12, 30, 0, 0, 0, 0, time.UTC),
	}, 10)
	check(err)
	for _, at := range times {
		fmt.Println(at.UTC().Format("Mon 2 Jan 15:04"))
	}
	// Output:
	// Fri 25 Dec 09:00
	// Mon 28 Dec 09:00
	// Tue 29 Dec 09:00
}

// A plan is found by its ID, in any later process, and can be another one until it fires.
func ExamplePlanned() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	plan := fanfare.Plan{
		Message: fanfare.Message{Body: []byte("Sale"), To: fanfare.All(), Lifetime: week},
		At:      time.Date(2099, 12, 24, 18, 0, 0, 0, time.UTC),
	}
	made, err := p.Plan(ctx, plan)
	check(err)

	planned, err := p.Planned(ctx, made.ID)
	check(err)
	plan.At = plan.At.AddDate(0, 0, 1)
	check(planned.Change(ctx, plan))
	info, err := planned.Info(ctx)
	check(err)
	fmt.Println("fires", info.Next.UTC().Format(time.DateOnly))

	check(planned.Cancel(ctx))
	fmt.Println(errors.Is(planned.Change(ctx, plan), fanfare.ErrPlanEnded))
	// Output:
	// fires 2099-12-25
	// true
}

// A list of what is to come.
func ExamplePlanInfo() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	for month := time.October; month <= time.December; month++ {
		planned, err := p.Plan(ctx, fanfare.Plan{
			Message: fanfare.Message{From: month.String(), Body: []byte("News"), To: fanfare.All(), Lifetime: week},
			At:      time.Date(2099, month, 1, 0, 0, 0, 0, time.UTC),
		})
		check(err)
		if month == time.November {
			check(planned.Pause(ctx))
		}
	}

	for planned, err := range p.Plans(ctx) {
		check(err)
		info, err := planned.Info(ctx)
		check(err)
		if info.Paused {
			fmt.Println(info.Message.From, "is paused")
		} else {
			fmt.Println(info.Message.From, "comes on", info.Next.UTC().Format("2 Jan 2006"))
		}
	}
	// Output:
	// December comes on 1 Dec 2099
	// November is paused
	// October comes on 1 Oct 2099
}

// How a plan ended, once it has.
func ExamplePlanOutcome() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	message := fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week}
	now, err := p.Plan(ctx, fanfare.Plan{Message: message})
	check(err)
	later, err := p.Plan(ctx, fanfare.Plan{Message: message, At: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)})
	check(err)
	check(now.Wait(ctx))
	check(later.Cancel(ctx))

	for _, planned := range []*fanfare.Planned{now, later} {
		info, err := planned.Info(ctx)
		check(err)
		fmt.Println(info.Outcome, "after firing", info.Fired, "times")
	}
	// Output:
	// completed after firing 1 times
	// cancelled after firing 0 times
}

// bilingual pushes a greeting in two languages, and waits until it is out.
func bilingual(ctx context.Context, p *fanfare.Pusher) *fanfare.Planned {
	for user, locale := range map[string]string{"alice": "zh-Hant-TW", "bob": "de-CH", "carol": "fr"} {
		check(p.Register(ctx, user))
		check(p.RegisterDevice(ctx, user, fanfare.Device{Platform: "apns", Token: "phone of " + user, Locale: locale}))
	}
	planned, err := p.Plan(ctx, fanfare.Plan{
		Message: fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week},
		Variants: []fanfare.Variant{
			{Name: "Chinese", Language: "zh", Body: []byte("你好")},
			{Name: "German", Language: "de", Body: []byte("Hallo")},
		},
	})
	check(err)
	check(planned.Wait(ctx))
	return planned
}

// To each in their own language, by that of their devices. Variants without a language, of different weight, are for finding out which text does better.
func ExampleVariant() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	bilingual(ctx, p)

	for _, user := range []string{"alice", "bob", "carol"} {
		for m, err := range p.Pending(ctx, user) {
			check(err)
			fmt.Printf("%s: %s\n", user, m.Body)
		}
	}
	// Output:
	// alice: 你好
	// bob: Hallo
	// carol: Hello
}

// How each variant does.
func ExamplePlanProgress() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	planned := bilingual(ctx, p)
	for task, err := range planned.Tasks(ctx) {
		check(err)
		if task.Info().Variant == "German" {
			check(p.Opened(ctx, "bob", task.ID))
		}
	}

	progress, err := planned.Progress(ctx)
	check(err)
	for _, name := range []string{"Chinese", "German"} {
		fmt.Println(name+":", progress.Variants[name].Opened, "of", progress.Variants[name].Total, "opened it")
	}
	fmt.Println("all:", progress.Opened, "of", progress.Total)
	// Output:
	// Chinese: 0 of 1 opened it
	// German: 1 of 1 opened it
	// all: 1 of 3
}

// The same over time, for a chart.
func ExamplePlanHistory() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	planned := bilingual(ctx, p)
	for task, err := range planned.Tasks(ctx) {
		check(err)
		if task.Info().Variant == "German" {
			check(p.Ack(ctx, "bob", task.ID))
		}
	}

	history, err := planned.History(ctx)
	check(err)
	now := func(moments []fanfare.Moment) fanfare.Moment { return moments[len(moments)-1] }
	fmt.Println(now(history.Moments).Delivered, "has it,", now(history.Moments).Pending, "wait")
	fmt.Println("German:", now(history.Variants["German"]).Delivered, "has it,", now(history.Variants["German"]).Pending, "wait")
	// Output:
	// 1 has it, 2 wait
	// German: 1 has it, 0 wait
}

// payday is the last day of each month, at noon.
type payday struct{}

func (payday) Next(after time.Time) time.Time {
	month := time.Date(after.Year(), after.Month(), 1, 12, 0, 0, 0, after.Location())
	for {
		month = month.AddDate(0, 1, 0)
		if last := month.AddDate(0, 0, -1); last.After(after) {
			return last
		}
	}
}

// Plans repeat by whatever the program reads in their expressions. Package schedule has the usual ones; a program may have its own.
func ExampleRecurrence() {
	p, done := temporary(fanfare.Options{
		Cron: func(expression string) (fanfare.Recurrence, error) {
			if expression == "@payday" {
				return payday{}, nil
			}
			return schedule.Cron(expression)
		},
	})
	defer done()
	times, err := p.Times(fanfare.Plan{Every: "@payday", At: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}, 3)
	check(err)
	for _, at := range times {
		fmt.Println(at.UTC().Format(time.DateOnly))
	}
	// Output:
	// 2099-01-31
	// 2099-02-28
	// 2099-03-31
}
