package fcmtest_test

import (
	"context"
	"encoding/json"
	"fmt"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// Google's own client sends to the server. It gets an HTTP client that trusts
// the server and that asks it for access tokens.
func Example() {
	s, err := fcmtest.NewServer(fcmtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, s.Client())
	account, err := google.JWTConfigFromJSON(s.ServiceAccount(), "https://www.googleapis.com/auth/firebase.messaging")
	if err != nil {
		fmt.Println(err)
		return
	}
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: "fanfare-test"},
		option.WithHTTPClient(account.Client(ctx)), option.WithEndpoint(s.URL()+"/v1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := app.Messaging(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}

	s.Kill(s.Token(2)) // the app is gone from that phone
	for i := range 3 {
		_, err := client.Send(ctx, &messaging.Message{
			Token:        s.Token(i),
			Notification: &messaging.Notification{Title: "Christmas offer"},
		})
		fmt.Println(i, err, messaging.IsUnregistered(err))
	}
	var got messaging.Message
	if err := json.Unmarshal(s.Accepted(s.Token(1))[0].JSON, &got); err != nil {
		fmt.Println(err)
	}
	fmt.Println(got.Notification.Title)
	fmt.Println(s.Total(), "accepted of", s.Requests())
	// Output:
	// 0 <nil> false
	// 1 <nil> false
	// 2 Requested entity was not found. true
	// Christmas offer
	// 2 accepted of 3
}
