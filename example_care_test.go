package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// One offer a week is enough for anybody.
func ExampleCap() {
	p, done := temporary(fanfare.Options{Caps: map[string]fanfare.Cap{"offers": {PerWeek: 1}}})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	for _, to := range []fanfare.Audience{fanfare.Users("alice"), fanfare.All()} {
		task, err := p.Push(ctx, fanfare.Message{Body: []byte("Half price"), To: to, Category: "offers", Lifetime: week})
		check(err)
		progress, err := task.Progress()
		check(err)
		fmt.Println("for", progress.Total, "users,", progress.Capped, "left out")
	}
	// Output:
	// for 1 users, 0 left out
	// for 1 users, 1 left out
}

// Who wants none of a kind of message gets none, and the operator sees how many that are.
func ExamplePusher_OptOut() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.OptOut(ctx, "bob", "offers"))
	for _, category := range []string{"offers", "security"} {
		task, err := p.Push(ctx, fanfare.Message{Body: []byte("…"), To: fanfare.All(), Category: category, Lifetime: week})
		check(err)
		progress, err := task.Progress()
		check(err)
		fmt.Println(category+":", progress.Total, "get it,", progress.OptedOut, "do not want it")
	}
	// Output:
	// offers: 1 get it, 1 do not want it
	// security: 2 get it, 0 do not want it
}

// Phones stay silent at night, but for what is urgent.
func ExampleQuietHours() {
	now := time.Now().UTC()
	clock := now.Sub(now.Truncate(24 * time.Hour))
	night := func(d time.Duration) time.Duration { return (clock + d + 24*time.Hour) % (24 * time.Hour) }

	apns := transporttest.NewPhones("apns") // stands for a real service
	p, done := temporary(fanfare.Options{
		Mobile: []transport.Mobile{apns},
		Grace:  -1,                                                                // at once
		Quiet:  fanfare.QuietHours{From: night(-time.Hour), To: night(time.Hour)}, // a host would say 22*time.Hour and 8*time.Hour
	})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(p.Register(ctx, "alice"))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "phone"}))
	for _, n := range []fanfare.Notification{{Title: "A new film"}, {Title: "Somebody has logged in", Urgent: true}} {
		_, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: week, Notification: &n})
		check(err)
	}

	check(apns.Wait(ctx, "phone", 1))
	for _, n := range apns.Shown("phone") {
		fmt.Println(n.Content.Title)
	}
	// Output:
	// Somebody has logged in
}

// A mistake on phones is put right where it stands.
func ExamplePusher_Replace() {
	apns := transporttest.NewPhones("apns") // stands for a real service
	p, done := temporary(fanfare.Options{Mobile: []transport.Mobile{apns}, Grace: -1})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "phone"}))
	task, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: week, Notification: &fanfare.Notification{Title: "Opens at 9"}})
	check(err)
	check(task.Wait(ctx))

	check(p.Replace(ctx, task.ID, fanfare.Notification{Title: "Opens at 10, not at 9"}))
	check(task.Wait(ctx))
	for _, n := range apns.Showing("phone") {
		fmt.Println(n.Content.Title)
	}
	// Output:
	// Opens at 10, not at 9
}

// To each by name, and to those who have told none as to anybody.
func ExampleFill() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "name"}))
	check(p.Register(ctx, "alice", "bob"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"name": "Alice"}))
	_, err := p.Push(ctx, fanfare.Message{
		Body: []byte("Good morning, {{attr.name|dear customer}}!"), Fill: fanfare.FillText,
		To: fanfare.All(), Lifetime: week,
	})
	check(err)

	for _, user := range []string{"alice", "bob"} {
		for m, err := range p.Pending(ctx, user) {
			check(err)
			fmt.Printf("%s\n", m.Body)
		}
	}
	// Output:
	// Good morning, Alice!
	// Good morning, dear customer!
}

// A placeholder without a default is for audiences of whom all have a value; else nothing is pushed.
func ExampleUnresolvedError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "name"}))
	check(p.Register(ctx, "alice", "bob"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"name": "Alice"}))

	_, err := p.Push(ctx, fanfare.Message{Body: []byte("Dear {{attr.name}}"), Fill: fanfare.FillText, To: fanfare.All(), Lifetime: week})
	var lacking *fanfare.UnresolvedError
	if errors.As(err, &lacking) {
		fmt.Println(lacking.Users, "user has no", lacking.Name)
	}
	// Output:
	// 1 user has no name
}
