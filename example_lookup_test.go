package fanfare_test

import (
	"context"
	"fmt"

	"github.com/fanfare-im/fanfare"
)

// All that is known of a user, in one call.
func ExamplePusher_User() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	check(p.Register(ctx, "alice"))
	check(p.AddTags(ctx, "alice", "stock B", "stock A"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"tier": "gold"}))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "fcm", Token: "token-1"}))

	user, err := p.User(ctx, "alice")
	check(err)
	fmt.Printf("%s: tags %q, attributes %v, %d device, registered: %v\n",
		user.ID, user.Tags, user.Attributes, len(user.Devices), !user.Registered.IsZero())
	// Output:
	// alice: tags ["stock A" "stock B"], attributes map[tier:gold], 1 device, registered: true
}

// A user's phones are listed in the order in which they were first registered.
func ExamplePusher_Devices() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "phone", Locale: "de-CH", TimeZone: "Europe/Zurich"}))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "fcm", Token: "tablet", Locale: "en"}))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "phone", Locale: "fr-CH", TimeZone: "Europe/Zurich"})) // again

	devices, err := p.Devices(ctx, "alice")
	check(err)
	for _, d := range devices {
		fmt.Println(d.Platform, d.Token, d.Locale)
	}
	check(p.RemoveDevice(ctx, "alice", "apns", "phone"))
	devices, err = p.Devices(ctx, "alice")
	fmt.Println(len(devices), err)
	// Output:
	// apns phone fr-CH
	// fcm tablet en
	// 1 <nil>
}

// An import of millions says how far it has come.
func ExampleImportOptions() {
	p, done := temporary(fanfare.Options{})
	defer done()
	users := func(yield func(fanfare.User, error) bool) {
		for i := range 1200 {
			if !yield(fanfare.User{ID: fmt.Sprintf("user-%04d", i)}, nil) {
				return
			}
		}
	}
	_, err := p.Import(context.Background(), users, &fanfare.ImportOptions{Progress: func(s fanfare.ImportStats) {
		fmt.Println(s.Users, "are in")
	}})
	check(err)
	// Output:
	// 1000 are in
	// 1200 are in
}

// An import that follows a table takes away what the table does not have any more.
func ExampleImportOptions_replace() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	for _, tags := range [][]string{{"beta", "vip"}, {"vip"}} {
		row := func(yield func(fanfare.User, error) bool) { yield(fanfare.User{ID: "alice", Tags: tags}, nil) }
		_, err := p.Import(ctx, row, &fanfare.ImportOptions{Replace: true})
		check(err)
	}
	tags, err := p.Tags(ctx, "alice")
	fmt.Println(tags, err)
	// Output:
	// [vip] <nil>
}

// How many a push would reach, before anything is sent.
func ExamplePusher_Count() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol"))
	check(p.AddTags(ctx, "alice", "stock A"))
	check(p.AddTags(ctx, "bob", "stock A", "stock B"))

	for _, a := range []fanfare.Audience{
		fanfare.All(), fanfare.Tag("stock A"), fanfare.Tag("stock A").And(fanfare.Tag("stock B").Not()), fanfare.Users("carol", "nobody"),
	} {
		n, err := p.Count(ctx, a)
		check(err)
		fmt.Println(n, "are in", a)
	}
	// Output:
	// 3 are in all
	// 2 are in tag:"stock A"
	// 1 are in tag:"stock A" and not tag:"stock B"
	// 1 are in user in ("carol", "nobody")
}

// Attributes are removed apart from each other. Who has none is no mistake.
func ExamplePusher_RemoveAttributes() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}))
	check(p.Register(ctx, "alice"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"tier": "gold", "city": "Bern"}))

	check(p.RemoveAttributes(ctx, "alice", "tier"))
	check(p.RemoveAttributes(ctx, "alice", "tier"))
	attributes, err := p.Attributes(ctx, "alice")
	fmt.Println(attributes, err)
	// Output:
	// map[city:Bern] <nil>
}
