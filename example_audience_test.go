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
