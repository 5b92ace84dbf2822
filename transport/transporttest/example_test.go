package transporttest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// The fakes stand where the Pusher's transports would; here they are called by
// hand.
func ExampleRecorder() {
	var online transporttest.Recorder
	online.FailNext("alice", 1, nil)

	ctx := context.Background()
	m := &transport.Message{ID: "1", Body: []byte("Merry Christmas")}
	for range 2 {
		fmt.Println(online.Deliver(ctx, "alice", m))
	}
	if err := online.Wait(ctx, "alice", 1); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%d attempts, received %q\n", online.Attempts("alice"), online.Received("alice")[0].Body)
	// Output:
	// transporttest: delivery fails as told
	// <nil>
	// 2 attempts, received "Merry Christmas"
}

func ExamplePhones() {
	phones := transporttest.NewPhones("apns")
	phones.Kill(time.Time{}, "old phone")
	phones.RetryNext("busy phone", 1, time.Minute)

	content := &transport.Content{Title: "Christmas offer"}
	m := &transport.Message{ID: "1"}
	var batch []transport.Notification
	for _, token := range []string{"old phone", "busy phone", "new phone"} {
		batch = append(batch, transport.Notification{
			Device:  transport.Device{Platform: "apns", Token: token},
			Message: m, Content: content, Attempt: 1,
		})
	}
	for i, result := range phones.Send(context.Background(), batch) {
		fmt.Println(batch[i].Device.Token+":", result.Outcome, result.RetryAfter)
	}
	fmt.Println("shown:", phones.Shown("new phone")[0].Content.Title)
	// Output:
	// old phone: unregistered 0s
	// busy phone: retry 1m0s
	// new phone: accepted 0s
	// shown: Christmas offer
}
