package schedule_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/schedule"
)

// A letter on each working day at nine.
func ExampleCron() {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{Cron: schedule.Cron})
	check(err)
	ctx := context.Background()
	defer p.Close(ctx)

	letter := fanfare.Plan{
		Message: fanfare.Message{From: "news", Body: []byte("The day"), To: fanfare.Tag("reader"), Lifetime: 24 * time.Hour},
		Every:   "0 9 * * 1-5",
		At:      time.Date(2099, 12, 31, 12, 0, 0, 0, time.UTC), // a Thursday
	}
	_, err = p.Plan(ctx, letter)
	check(err)
	times, err := p.Times(letter, 3)
	check(err)
	for _, at := range times {
		fmt.Println(at.UTC().Format("Mon 2 Jan 2006 15:04"))
	}
	// Output:
	// Fri 1 Jan 2100 09:00
	// Mon 4 Jan 2100 09:00
	// Tue 5 Jan 2100 09:00
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
