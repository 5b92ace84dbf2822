package fanfaretest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
)

// withPhone is a Pusher with one user, who has a phone, and whom it notifies at once.
func withPhone(t testing.TB) *fanfaretest.Pusher {
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}})
	p.MustRegister(t, "alice")
	if err := p.RegisterDevice(t.Context(), "alice", fanfare.Device{Platform: "apns", Token: "phone-1"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func notify(title string) fanfare.Message {
	return fanfare.Message{Body: []byte(title), To: fanfare.All(), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: title}}
}

// A phone shows the last of the notifications that are about the same.
func ExamplePhone() {
	example(func(t testing.TB) {
		p := withPhone(t)
		for i, score := range []string{"1:0", "2:0"} {
			m := notify("Score")
			m.Notification.Body, m.Notification.Collapse = score, "match 7"
			p.MustPush(t, m)
			p.WaitNotified(t, "alice", i+1)
		}
		fmt.Println(p.Phone("alice"))
	})
	// Output:
	// apns phone-1: Score: 2:0
	// PASS
}

// What is withdrawn goes from the screen, and has been there.
func ExamplePhone_Showing() {
	example(func(t testing.TB) {
		p := withPhone(t)
		offer := p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
		fmt.Println(len(p.Phone("alice").Showing()), p.Phone("alice").Showing()[0].Content.Title)

		if err := p.Withdraw(t.Context(), offer.ID); err != nil {
			t.Fatal(err)
		}
		p.WaitNotified(t, "alice", 2) // the second tells the app to take it away
		fmt.Println(len(p.Phone("alice").Showing()))
	})
	// Output:
	// 1 Half price
	// 0
	// PASS
}

func ExamplePhone_Shown() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
		for _, n := range p.Phone("alice").Shown() {
			fmt.Println(n.Device.Token, n.Content.Title, "try", n.Attempt)
		}
	})
	// Output:
	// phone-1 Half price try 1
	// PASS
}

func ExamplePhone_String() {
	example(func(t testing.TB) {
		p := withPhone(t)
		fmt.Println(p.Phone("alice"))
		p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
		fmt.Println(p.Phone("alice"))
	})
	// Output:
	// nothing
	// apns phone-1: Half price
	// PASS
}

// A dead token is forgotten when the service says so.
func ExamplePhone_Die() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.Phone("alice").Die()
		offer := p.MustPush(t, notify("Half price"))
		p.WaitTask(t, offer.ID)
		p.RequireNotNotified(t, offer.ID, "alice")
		devices, err := p.Devices(t.Context(), "alice")
		fmt.Println(len(devices), "devices", err)
	})
	// Output:
	// 0 devices <nil>
	// PASS
}

// The service wants to be left alone for a while; the notification comes after it. In a bubble of testing/synctest it may be an hour.
func ExamplePhone_Throttle() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.Phone("alice").Throttle(1, 50*time.Millisecond)
		offer := p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
		p.WaitTask(t, offer.ID)
		progress, err := offer.Progress()
		fmt.Println(progress.Phones["apns"].Retried, "told to try again,", progress.Phones["apns"].Accepted, "accepted", err)
	})
	// Output:
	// 1 told to try again, 1 accepted <nil>
	// PASS
}

// A service that is down loses nothing.
func ExamplePusher_Outage() {
	example(func(t testing.TB) {
		p := withPhone(t)
		over := p.Outage("apns")
		offer := p.MustPush(t, notify("Half price"))
		p.RequireNotNotified(t, offer.ID, "alice")
		over()
		p.WaitNotified(t, "alice", 1)
	})
	// Output:
	// PASS
}

// The service can be told more than what a Phone can, such as why it refuses a token.
func ExamplePusher_Service() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.Service("apns").Reject("TopicDisallowed", "phone-1")
		offer := p.MustPush(t, notify("Half price"))
		p.WaitTask(t, offer.ID)
		progress, err := offer.Progress()
		fmt.Println(progress.Phones["apns"].Reasons, err)
	})
	// Output:
	// map[TopicDisallowed:1] <nil>
	// PASS
}

func ExamplePusher_Phone() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
		fmt.Println("On the phone of alice:", p.Phone("alice"))
	})
	// Output:
	// On the phone of alice: apns phone-1: Half price
	// PASS
}

func ExamplePusher_WaitNotified() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.MustPush(t, notify("Half price"))
		p.WaitNotified(t, "alice", 1)
	})
	// Output:
	// PASS
}

// The fan-out is finished when whoever was connected has been tried, and each phone notified: those of alice, while bob has none.
func ExamplePusher_WaitTask() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.MustRegister(t, "bob")
		offer := p.MustPush(t, notify("Half price"))
		p.WaitTask(t, offer.ID)
		progress, err := offer.Progress()
		fmt.Println(progress.Pending, "pending,", progress.Phones["apns"].Accepted, "notified", err)
	})
	// Output:
	// 2 pending, 1 notified <nil>
	// PASS
}

func ExamplePusher_RequireNotified() {
	example(func(t testing.TB) {
		p := withPhone(t)
		p.MustRegister(t, "bob")
		offer := p.MustPush(t, notify("Half price"))
		p.WaitTask(t, offer.ID)
		p.RequireNotified(t, offer.ID, "alice", "bob")
	})
	// Output:
	// fanfaretest: no phone of bob has shown the notification of #1 "Half price"
	// 	bob has no phone of apns, fcm
	// FAIL
}

func ExamplePusher_RequireNotNotified() {
	example(func(t testing.TB) {
		p := withPhone(t)
		offer := p.MustPush(t, notify("Half price"))
		p.WaitTask(t, offer.ID)
		p.RequireNotNotified(t, offer.ID, "alice")
	})
	// Output:
	// fanfaretest: a phone of alice has shown the notification of #1 "Half price"
	// 	shown: apns phone-1: Half price
	// 	apns phone-1: 1 notification sent, 1 shown
	// FAIL
}
