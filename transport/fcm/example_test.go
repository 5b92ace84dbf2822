package fcm_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// Two Android phones are notified, and the token of the one whose app is gone is removed. A server for tests stands for Google; without Endpoint and RootCAs it is Google itself.
func ExampleNew() {
	google, err := fcmtest.NewServer(fcmtest.Options{})
	check(err)
	defer google.Close()
	google.Kill(google.Token(2))

	ctx := context.Background()
	sender, err := fcm.New(ctx, fcm.Options{
		ServiceAccount: google.ServiceAccount(), // the file that comes from the Firebase console
		Endpoint:       google.URL() + "/v1", RootCAs: google.RootCAs(),
	})
	check(err)
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{Mobile: []transport.Mobile{sender}, Grace: -1}) // at once
	check(err)
	defer p.Close(ctx) // and with it the sender

	for i, user := range []string{"alice", "bob"} {
		check(p.Register(ctx, user))
		check(p.RegisterDevice(ctx, user, fanfare.Device{Platform: fcm.Platform, Token: google.Token(i + 1)}))
	}
	task, err := p.Push(ctx, fanfare.Message{
		Body: []byte("…"), To: fanfare.All(), Lifetime: time.Hour,
		Notification: &fanfare.Notification{Title: "Christmas offer"},
	})
	check(err)
	check(task.Wait(ctx))
	n, err := p.Count(ctx, fanfare.Platform(fcm.Platform))
	check(err)
	fmt.Println(google.Total(), "accepted,", n, "user has a phone")
	// Output:
	// 1 accepted, 1 user has a phone
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
