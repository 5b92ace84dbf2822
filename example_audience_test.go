package fanfare_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fanfare-im/fanfare"
)

// Whoever follows one of two stocks, on one push.
func ExampleAudience() {
	followers := fanfare.Tag("stock A").Or(fanfare.Tag("stock B"))
	members := fanfare.Attr("tier", "platinum").And(fanfare.Attr("city", "Shenzhen"))

	fmt.Println(followers)
	fmt.Println(members)
	fmt.Println(followers.And(members, fanfare.Tag("muted").Not()))
	// Output:
	// tag:"stock A" or tag:"stock B"
	// attr.tier = "platinum" and attr.city = "Shenzhen"
	// (tag:"stock A" or tag:"stock B") and attr.tier = "platinum" and attr.city = "Shenzhen" and not tag:"muted"
}

// The text form is for people: for an operator's page, a command line, a log.
func ExampleParseAudience() {
	a, err := fanfare.ParseAudience(`attr.tier in (gold, platinum) and not (tag:muted or platform:apns)`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a)
	// Output:
	// (attr.tier = "gold" or attr.tier = "platinum") and not (tag:"muted" or platform:apns)
}

// An attribute that is a number or a date has an order. What people often ask for is saved under a name.
func ExamplePusher_SetAttributeTypes() {
	ctx := context.Background()
	p, done := temporary(fanfare.Options{})
	defer done()
	check(p.SetAttributeNames(ctx, map[int]string{0: "age", 1: "born"}))
	check(p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{0: fanfare.Number(0), 1: fanfare.Date}))
	check(p.Register(ctx, "alice", "bob", "carol"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"age": "30", "born": "1996-03-08"}))
	check(p.SetAttributes(ctx, "bob", map[string]string{"age": "17"}))
	check(p.SaveAudience(ctx, "adults", fanfare.AttrAtLeast("age", "18")))

	for _, text := range []string{`saved:adults`, `attr.age between 10 and 20`, `attr.born < 2000-01-01`, `not attr.age exists`, `seen within 7 days`} {
		a, err := fanfare.ParseAudience(text)
		check(err)
		n, err := p.Count(ctx, a)
		check(err)
		fmt.Println(n, a)
	}
	fmt.Println(p.SetAttributes(ctx, "carol", map[string]string{"age": "unknown"}))
	// Output:
	// 1 saved:"adults"
	// 1 attr.age between 10 and 20
	// 1 attr.born < 2000-01-01
	// 1 not attr.age exists
	// 0 seen within 7 days
	// fanfare: attribute "age": "unknown" is not a whole number of at most 18 digits
}

// A number is compared as one, and read back as it is usually written.
func ExampleAttributeType() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "balance", 1: "born"}))
	check(p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{0: fanfare.Number(2), 1: fanfare.Date}))
	check(p.Register(ctx, "alice"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"balance": "09.50"}))

	n, err := p.Count(ctx, fanfare.AttrLess("balance", "10"))
	fmt.Println(n, "has less than 10", err)
	attributes, err := p.Attributes(ctx, "alice")
	fmt.Println(attributes, err)
	types, err := p.AttributeTypes(ctx)
	fmt.Println(types, err)
	// Output:
	// 1 has less than 10 <nil>
	// map[balance:9.5] <nil>
	// map[0:number(2) 1:date] <nil>
}

// A value that is none of its type is refused, where it is set and where it is asked for.
func ExampleValueError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "age", 1: "city"}))
	check(p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{0: fanfare.Number(0)}))
	_, err := p.Count(ctx, fanfare.AttrAtLeast("age", "eighteen"))
	var wrong *fanfare.ValueError
	if errors.As(err, &wrong) {
		fmt.Printf("%s is a %s, not %q\n", wrong.Name, wrong.Type, wrong.Value)
	}
	_, err = p.Count(ctx, fanfare.AttrMore("city", "Bern"))
	fmt.Println(err)
	// Output:
	// age is a number(0), not "eighteen"
	// fanfare: attribute "city" is text, which cannot be compared with "Bern"
}

// A type is chosen before there are values of it.
func ExampleTypeInUseError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "age"}))
	check(p.Register(ctx, "alice"))
	check(p.SetAttributes(ctx, "alice", map[string]string{"age": "30"}))

	err := p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{0: fanfare.Number(0)})
	var used *fanfare.TypeInUseError
	if errors.As(err, &used) {
		fmt.Println("slot", used.Slot, "has values of type", used.Have)
	}
	fmt.Println(p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{1: fanfare.Number(0)})) // another slot
	// Output:
	// slot 0 has values of type text
	// <nil>
}

// A name stands for one slot.
func ExampleDuplicateNameError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.SetAttributeNames(ctx, map[int]string{0: "city"}))
	err := p.SetAttributeNames(ctx, map[int]string{1: "city"})
	var twice *fanfare.DuplicateNameError
	if errors.As(err, &twice) {
		fmt.Println(twice.Name, twice.Slots)
	}
	fmt.Println(p.SetAttributeNames(ctx, map[int]string{0: "home", 1: "city"})) // both at once
	// Output:
	// city [0 1]
	// <nil>
}

// What a company often asks for, with how many that are now.
func ExampleSavedAudience() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "vip"))
	check(p.SaveAudience(ctx, "vips", fanfare.Tag("vip")))
	check(p.SaveAudience(ctx, "others", fanfare.Saved("vips").Not()))

	for saved, err := range p.SavedAudiences(ctx) {
		check(err)
		n, err := p.Count(ctx, fanfare.Saved(saved.Name))
		check(err)
		fmt.Printf("%s (%s): %d\n", saved.Name, saved.Audience, n)
	}
	// Output:
	// others (not saved:"vips"): 1
	// vips (tag:"vip"): 1
}

// The tags that begin with what somebody has typed so far.
func ExampleNameCount() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "stock A", "stock B", "vip"))
	check(p.AddTags(ctx, "bob", "stock A"))
	for tag, err := range p.TagNames(ctx, "st") {
		check(err)
		fmt.Println(tag.Name, tag.Users)
	}
	// Output:
	// stock A 2
	// stock B 1
}

// A mistake is reported with its place, which here is pointed at.
func ExampleParseError() {
	const text = `attr.城市 = and tag:vip`
	_, err := fanfare.ParseAudience(text)
	fmt.Println(err)

	var wrong *fanfare.ParseError
	if errors.As(err, &wrong) {
		fmt.Printf("%s<here>%s\n", text[:wrong.Offset], text[wrong.Offset:])
	}
	// Output:
	// audience: column 11: expected a quoted string or a word after "attr.城市 =", found the keyword "and"
	// attr.城市 = <here>and tag:vip
}

func ExampleAudience_MarshalJSON() {
	a := fanfare.Tag("vip").And(fanfare.Sample(2.5, "spring").Not())
	b, err := json.Marshal(a)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(b))

	var back fanfare.Audience
	if err := json.Unmarshal(b, &back); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(back)
	// Output:
	// {"and":[{"tag":"vip"},{"not":{"sample":{"percent":2.5,"salt":"spring"}}}]}
	// tag:"vip" and not sample(2.5%, "spring")
}

// A tenth of the users first, and when all is well the others, by the same salt.
func ExampleSample() {
	first := fanfare.Sample(10, "new year")
	fmt.Println(first)
	fmt.Println(first.Not())
	// Output:
	// sample(10%, "new year")
	// not sample(10%, "new year")
}

// The zero Audience is nobody's, and so is whatever it becomes part of.
func ExampleAudience_IsZero() {
	var to fanfare.Audience
	fmt.Println(to.IsZero(), to.Or(fanfare.All()).IsZero(), fanfare.All().IsZero())
	// Output:
	// true true false
}
