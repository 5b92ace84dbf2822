package fanfare_test

import (
	"context"
	"fmt"
	"os"

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

// What takes the space of a directory: the files, and the sets of users that are kept in them.
func ExamplePusher_Postings() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "vip"))
	check(p.AddTags(ctx, "bob", "stock A", "vip"))

	for posting, err := range p.Postings(ctx) {
		check(err)
		if posting.Kind == fanfare.PostingUser || posting.Kind == fanfare.PostingTag {
			fmt.Printf("%s %q: %d\n", posting.Kind, posting.Value, posting.Users)
		}
	}
	// Output:
	// user "": 2
	// tag "stock A": 1
	// tag "vip": 2
}

// The files of a directory. What is free in them is used before they grow, or given back by Compact.
func ExamplePusher_Files() {
	p, done := temporary(fanfare.Options{})
	defer done()
	files, err := p.Files(context.Background())
	check(err)
	for _, f := range files {
		fmt.Printf("%s, format %d, less free than large: %v\n", f.Name, f.Format, f.Free < f.Bytes)
	}
	// Output:
	// blocks.db, format 1, less free than large: true
	// journal.db, format 1, less free than large: true
}

// What takes the space: here the set of those who have a tag, once Check has brought it into the blocks.
func ExamplePosting() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	check(p.AddTags(ctx, "alice", "vip"))
	check(p.Check(ctx))

	for posting, err := range p.Postings(ctx) {
		check(err)
		if posting.Kind == fanfare.PostingTag {
			fmt.Println(posting.Value, "takes space:", posting.Bytes > 0)
		}
	}
	// Output:
	// vip takes space: true
}

// How many sets there are of each kind.
func ExamplePostingKind() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "vip", "stock A"))
	check(p.OptOut(ctx, "bob", "offers"))

	sets := make(map[fanfare.PostingKind]int)
	for posting, err := range p.Postings(ctx) {
		check(err)
		sets[posting.Kind]++
	}
	fmt.Println(sets[fanfare.PostingTag], "tags,", sets[fanfare.PostingOptOut], "category that somebody wants nothing of")
	// Output:
	// 2 tags, 1 category that somebody wants nothing of
}

// Whether it is worth to compact a directory.
func ExampleFile() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	sizes := func() (all, free int64) {
		files, err := p.Files(ctx)
		check(err)
		for _, f := range files {
			all, free = all+f.Bytes, free+f.Free
		}
		return all, free
	}
	before, free := sizes()
	if free > 100<<20 {
		check(p.Compact(ctx))
	}
	after, _ := sizes()
	fmt.Println("given back:", before-after, "bytes")
	// Output:
	// given back: 0 bytes
}

// Whether the last process came to its end.
func ExampleFound() {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()
	p, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	check(p.Register(ctx, "alice"))
	late, cancel := context.WithCancel(ctx)
	cancel()
	_ = p.Close(late) // no time to bring all into the blocks, as in a process that is killed

	p, err = fanfare.Open(dir, fanfare.Options{})
	check(err)
	defer p.Close(ctx)
	stats, err := p.Stats(ctx)
	check(err)
	fmt.Println("something was left:", stats.Found != fanfare.Found{}, "- users:", stats.Users)
	// Output:
	// something was left: true - users: 1
}
