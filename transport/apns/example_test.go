package apns_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
)

// An iPhone is notified. A simulator stands for Apple; without Endpoint and RootCAs it is Apple itself.
func ExampleNew() {
	apple, err := apnstest.NewServer(apnstest.Options{Topics: []string{"com.example.app"}})
	check(err)
	defer apple.Close()
	key := apple.Key() // as it comes from the developer account

	sender, err := apns.New(apns.Options{
		Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Topic: "com.example.app",
		Endpoint: apple.URL(), RootCAs: apple.RootCAs(),
	})
	check(err)
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{Mobile: []transport.Mobile{sender}, Grace: -1}) // at once
	check(err)
	ctx := context.Background()
	defer p.Close(ctx) // and with it the sender

	check(p.Register(ctx, "alice"))
	check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: apns.Platform, Token: apple.Token(1)}))
	task, err := p.Push(ctx, fanfare.Message{
		Body: []byte("…"), To: fanfare.All(), Lifetime: time.Hour,
		Notification: &fanfare.Notification{Title: "Christmas offer", Locales: map[string]transport.Text{"de": {Title: "Weihnachtsangebot"}}},
	})
	check(err)
	check(task.Wait(ctx))
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Phones[apns.Platform].Accepted, "accepted,", len(apple.Accepted(apple.Token(1))), "on the phone")
	// Output:
	// 1 accepted, 1 on the phone
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
