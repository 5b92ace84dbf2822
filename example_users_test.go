package fanfare_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/fanfare-im/fanfare"
)

// An import takes its users from an iterator, however many they are. Importing
// again updates.
func ExamplePusher_Import() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}))

	users := func(yield func(fanfare.User, error) bool) {
		for i, city := range []string{"Shenzhen", "Guangzhou", "Shenzhen"} {
			u := fanfare.User{
				ID:         fmt.Sprintf("user-%d", i),
				Tags:       []string{"beta"},
				Attributes: map[string]string{"city": city},
			}
			if !yield(u, nil) {
				return
			}
		}
	}
	for range 2 {
		stats, err := p.Import(ctx, users, nil)
		check(err)
		fmt.Println(stats.Users, "users,", stats.Registered, "new,", stats.Updated, "updated")
	}
	n, err := p.Count(ctx, fanfare.Attr("city", "Shenzhen"))
	fmt.Println(n, err)
	// Output:
	// 3 users, 3 new, 0 updated
	// 3 users, 0 new, 3 updated
	// 2 <nil>
}

// A user who comes from elsewhere, with all that is known of them.
func ExampleUser() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "city"}))
	alice := fanfare.User{
		ID: "alice", Tags: []string{"vip"}, OptOuts: []string{"offers"}, Attributes: map[string]string{"city": "Bern"},
		Devices: []fanfare.Device{{Platform: "apns", Token: "phone", Locale: "de-CH"}},
	}
	_, err := p.Import(ctx, func(yield func(fanfare.User, error) bool) { yield(alice, nil) }, nil)
	check(err)

	user, err := p.User(ctx, "alice")
	check(err)
	fmt.Println(user.ID, user.Tags, user.OptOuts, user.Attributes, user.Devices[0].Locale)
	// Output:
	// alice [vip] [offers] map[city:Bern] de-CH
}

// The night's import, which says what it changed.
func ExampleImportStats() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	stats, err := p.Import(ctx, func(yield func(fanfare.User, error) bool) {
		_ = yield(fanfare.User{ID: "alice", Tags: []string{"vip"}}, nil) && yield(fanfare.User{ID: "bob"}, nil)
	}, nil)
	check(err)
	fmt.Println(stats.Registered, "new,", stats.Updated, "known")
	// Output:
	// 1 new, 1 known
}

// A bad user ends an import. What came before stays.
func ExampleImportError() {
	p, done := temporary(fanfare.Options{})
	defer done()

	users := func(yield func(fanfare.User, error) bool) {
		for _, id := range []string{"alice", "bob", ""} {
			if !yield(fanfare.User{ID: id}, nil) {
				return
			}
		}
	}
	stats, err := p.Import(context.Background(), users, nil)
	var wrong *fanfare.ImportError
	if errors.As(err, &wrong) {
		fmt.Println("user", wrong.Index, "is wrong:", wrong.Err)
	}
	fmt.Println(stats.Users, "users are in")
	// Output:
	// user 2 is wrong: fanfare: user ID in bytes, at least: limit 1, got 0
	// 2 users are in
}

// The changes of a form that somebody has filled in: what is wrong is told with its place.
func ExampleBatchError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	var b fanfare.Batch
	b.Register("alice")
	b.AddTags("alice", "vip")
	b.AddTags("alice", "")

	err := p.Apply(context.Background(), &b)
	var wrong *fanfare.BatchError
	var limit *fanfare.LimitError
	if errors.As(err, &wrong) && errors.As(err, &limit) {
		fmt.Printf("change %d, of %s: %s: %d\n", wrong.Index, wrong.ID, limit.What, limit.Limit)
	}
	// Output:
	// change 2, of alice: tag in bytes, at least: 1
}

// Unregistering removes every trace. The same ID registered again is a new user.
func ExamplePusher_Unregister() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	check(p.AddTags(ctx, "alice", "vip"))
	check(p.Unregister(ctx, "alice"))

	_, err := p.User(ctx, "alice")
	fmt.Println(errors.Is(err, fanfare.ErrUnknownUser))
	check(p.Register(ctx, "alice"))
	tags, err := p.Tags(ctx, "alice")
	fmt.Println(tags, err)
	// Output:
	// true
	// [] <nil>
}

func ExamplePusher_AddTags() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))

	check(p.AddTags(ctx, "alice", "stock A", "stock B"))
	check(p.AddTags(ctx, "alice", "stock B")) // is there: no error
	check(p.RemoveTags(ctx, "alice", "stock A", "stock C"))
	tags, err := p.Tags(ctx, "alice")
	fmt.Printf("%q %v\n", tags, err)

	check(p.ClearTags(ctx, "alice"))
	tags, err = p.Tags(ctx, "alice")
	fmt.Printf("%q %v\n", tags, err)
	// Output:
	// ["stock B"] <nil>
	// [] <nil>
}

// An attribute has one value: moving to another city is one call.
func ExamplePusher_SetAttributes() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}))
	check(p.Register(ctx, "alice"))

	check(p.SetAttributes(ctx, "alice", map[string]string{"tier": "platinum", "city": "Shenzhen"}))
	members := fanfare.Attr("tier", "platinum").And(fanfare.Attr("city", "Shenzhen"))
	n, err := p.Count(ctx, members)
	fmt.Println(n, err)

	check(p.SetAttributes(ctx, "alice", map[string]string{"city": "Guangzhou"}))
	n, err = p.Count(ctx, members)
	fmt.Println(n, err)
	attributes, err := p.Attributes(ctx, "alice")
	fmt.Println(attributes, err)
	// Output:
	// 1 <nil>
	// 0 <nil>
	// map[city:Guangzhou tier:platinum] <nil>
}

// Values belong to the slot: under a new name they are all still there.
func ExamplePusher_SetAttributeNames() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	check(p.Register(ctx, "alice"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"tier": "gold"}))

	check(p.SetAttributeNames(ctx, map[int]string{0: "membership"}))
	names, err := p.AttributeNames(ctx)
	fmt.Println(names, err)
	attributes, err := p.Attributes(ctx, "alice")
	fmt.Println(attributes, err)
	n, err := p.Count(ctx, fanfare.Attr("membership", "gold"))
	fmt.Println(n, err)
	// Output:
	// map[0:membership] <nil>
	// map[membership:gold] <nil>
	// 1 <nil>
}

// A batch is one durable step: all of it or nothing.
func ExampleBatch() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "tier"}))

	var b fanfare.Batch
	b.Register("alice", "bob")
	b.AddTags("alice", "vip")
	b.SetAttributes("bob", map[string]string{"tier": "gold"})
	fmt.Println(p.Apply(ctx, &b))

	b = fanfare.Batch{}
	b.AddTags("bob", "vip")
	b.AddTags("carol", "vip") // whom nobody knows
	err := p.Apply(ctx, &b)
	var wrong *fanfare.BatchError
	if errors.As(err, &wrong) {
		fmt.Println("change", wrong.Index, "is refused:", wrong.Err)
	}
	n, err := p.Count(ctx, fanfare.Tag("vip"))
	fmt.Println(n, err)
	// Output:
	// <nil>
	// change 1 is refused: fanfare: unknown user
	// 1 <nil>
}

// Before anything is sent: how many, and who.
func ExamplePusher_Members() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol"))
	check(p.AddTags(ctx, "bob", "muted"))

	audience := fanfare.All().And(fanfare.Tag("muted").Not())
	n, err := p.Count(ctx, audience)
	fmt.Println(n, err)
	for id, err := range p.Members(ctx, audience) {
		check(err)
		fmt.Println(id)
	}
	// Output:
	// 2 <nil>
	// alice
	// carol
}
