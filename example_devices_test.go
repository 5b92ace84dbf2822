package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// A token belongs to the last user who registered it.
func ExamplePusher_RegisterDevice() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))

	phone := fanfare.Device{Platform: "apns", Token: "token-1", Topic: "com.example.app", Locale: "de-CH"}
	check(p.RegisterDevice(ctx, "alice", phone))
	check(p.RegisterDevice(ctx, "bob", phone)) // bob logs in on the same phone
	for _, user := range []string{"alice", "bob"} {
		devices, err := p.Devices(ctx, user)
		fmt.Println(user, len(devices), err)
	}
	n, err := p.Count(ctx, fanfare.Platform("apns"))
	fmt.Println(n, err)

	check(p.RemoveDevice(ctx, "bob", "apns", "token-1"))
	n, err = p.Count(ctx, fanfare.Platform("apns"))
	fmt.Println(n, err)
	// Output:
	// alice 0 <nil>
	// bob 1 <nil>
	// 1 <nil>
	// 0 <nil>
}

// What a device says of itself is asked for in audiences.
func ExampleDevice() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "phone", Locale: "de-CH", TimeZone: "Europe/Zurich"}))
	check(p.RegisterDevice(ctx, "bob", fanfare.Device{Platform: "fcm", Token: "tablet", Locale: "de", TimeZone: "Europe/Berlin"}))

	for _, a := range []fanfare.Audience{fanfare.Language("de"), fanfare.Language("de-CH"), fanfare.TimeZone("Europe/Berlin"), fanfare.Platform("fcm")} {
		n, err := p.Count(ctx, a)
		check(err)
		fmt.Println(a, n)
	}
	// Output:
	// language:de 2
	// language:de-CH 1
	// timezone:"Europe/Berlin" 1
	// platform:fcm 1
}

// strict is a service that takes no title of more than 30 characters.
type strict struct{ *transporttest.Phones }

func (strict) Check(c *transport.Content) error {
	if n := utf8.RuneCountInString(c.Title); n > 30 {
		return fmt.Errorf("a title of %d characters", n)
	}
	return nil
}

// What a service would never take is refused at the push, not after a million tries.
func ExampleNotificationError() {
	p, done := temporary(fanfare.Options{Mobile: []transport.Mobile{strict{transporttest.NewPhones("apns")}}})
	defer done()
	_, err := p.Push(context.Background(), fanfare.Message{
		To: fanfare.All(), Lifetime: week,
		Notification: &fanfare.Notification{Title: "Read everything about our Christmas offers"},
	})
	var wrong *fanfare.NotificationError
	if errors.As(err, &wrong) {
		fmt.Println(wrong.Platform, "does not take it:", wrong.Err)
	}
	// Output:
	// apns does not take it: a title of 42 characters
}

// The phones of those who are not connected are notified. The message itself
// goes on waiting for them. A token that the service reports dead is removed.
func ExampleNotification() {
	apns := transporttest.NewPhones("apns") // stands for a real service
	apns.Kill(time.Time{}, "lost phone")
	p, done := temporary(fanfare.Options{
		Online: new(transporttest.Recorder),
		Mobile: []transport.Mobile{apns},
		Grace:  -1, // at once
	})
	defer done()
	ctx := context.Background()
	for user, token := range map[string]string{"alice": "phone of alice", "bob": "phone of bob", "carol": "lost phone"} {
		check(p.Register(ctx, user))
		check(p.RegisterDevice(ctx, user, fanfare.Device{Platform: "apns", Token: token}))
	}
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()

	task, err := p.Push(ctx, fanfare.Message{
		Body:         []byte(`{"kind": "offer", "id": 17}`),
		To:           fanfare.All(),
		Lifetime:     week,
		Notification: &fanfare.Notification{Title: "Christmas offer", Body: "Half price until Friday."},
	})
	check(err)
	check(task.Wait(ctx))

	fmt.Println("alice's phone:", len(apns.Shown("phone of alice")))
	fmt.Println("bob's phone:", apns.Shown("phone of bob")[0].Content.Title)
	devices, err := p.Devices(ctx, "carol")
	fmt.Println("carol's devices:", len(devices), err)
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Phones["apns"].Accepted, "accepted,", progress.Phones["apns"].Unregistered, "dead")
	// Output:
	// alice's phone: 0
	// bob's phone: Christmas offer
	// carol's devices: 0 <nil>
	// 1 accepted, 1 dead
}
