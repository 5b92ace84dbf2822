package fanfare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestLargestLimits asks for more than there is of each limit, and imports a user with as much as that gives:
// in one step, which can be folded and read back.
func TestLargestLimits(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	most := math.MaxInt
	limits := Limits{
		Attributes: most, TagsPerUser: most, DevicesPerUser: most, TagBytes: most, ValueBytes: most, NameBytes: most,
		BodyBytes: most, TokenBytes: most,
	}
	p := testPusher(t, dir, Options{Limits: limits})
	text := func(what string, i int) string { return fmt.Sprintf("%s %0*d", what, 1023-len(what), i) }
	u := User{ID: strings.Repeat("u", maxIDBytes), Attributes: make(map[string]string)}
	names := make(map[int]string)
	for i := range mostAttributes {
		names[i] = text("name", i)
		u.Attributes[names[i]] = text("value", i)
	}
	must(t, p.SetAttributeNames(ctx, names))
	for i := range 100 {
		u.Tags = append(u.Tags, text("tag", i))
	}
	for i := range mostDevices {
		field := strings.Repeat("f", maxFieldBytes)
		u.Devices = append(u.Devices, Device{
			Platform: strings.Repeat("p", maxPlatformBytes), Token: fmt.Sprintf("%0*d", mostTokenBytes, i),
			Topic: field, Locale: field, TimeZone: field,
		})
	}
	_, err := p.Import(ctx, func(yield func(User, error) bool) { yield(u, nil) }, nil)
	must(t, err)
	_, err = p.Push(ctx, Message{Body: make([]byte, mostBodyBytes), To: All(), Lifetime: limits.Lifetime})
	must(t, err)
	must(t, p.Check(ctx))
	must(t, p.Close(ctx))
	p = testPusher(t, dir, Options{Limits: limits})
	got, err := p.User(ctx, u.ID)
	if err != nil || len(got.Tags) != 100 || len(got.Attributes) != mostAttributes || len(got.Devices) != mostDevices {
		t.Fatalf("%d tags, %d attributes, %d devices: %v", len(got.Tags), len(got.Attributes), len(got.Devices), err)
	}

	long := strings.Repeat("x", mostTextBytes+1)
	for what, err := range map[string]error{
		"tag":    p.AddTags(ctx, u.ID, long),
		"value":  p.SetAttributes(ctx, u.ID, map[string]string{names[0]: long}),
		"name":   p.SetAttributeNames(ctx, map[int]string{0: long}),
		"token":  p.RegisterDevice(ctx, u.ID, Device{Platform: "p", Token: strings.Repeat("x", mostTokenBytes+1)}),
		"device": p.RegisterDevice(ctx, u.ID, Device{Platform: "p", Token: "one more"}),
		"slot":   p.SetAttributeNames(ctx, map[int]string{mostAttributes: "one more"}),
	} {
		var limit *LimitError
		if !errors.As(err, &limit) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
