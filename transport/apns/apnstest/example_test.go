package apnstest_test

import (
	"crypto/tls"
	"fmt"
	"net/http"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/payload"
	"github.com/sideshow/apns2/token"

	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
)

// A push by a client library that knows nothing of the simulator.
func Example() {
	s, err := apnstest.NewServer(apnstest.Options{Topics: []string{"com.example.app"}})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	key := s.Key()
	private, err := token.AuthKeyFromBytes(key.PEM)
	if err != nil {
		panic(err)
	}
	client := apns2.NewTokenClient(&token.Token{AuthKey: private, KeyID: key.KeyID, TeamID: key.TeamID})
	client.Host = s.URL()
	client.HTTPClient = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.RootCAs()}, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()

	for _, topic := range []string{"com.example.app", "com.example.other"} {
		r, err := client.Push(&apns2.Notification{
			DeviceToken: s.Token(1), Topic: topic, Payload: payload.NewPayload().Alert("hello").Badge(1),
		})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %q\n", r.StatusCode, r.Reason)
	}
	for _, n := range s.Accepted(s.Token(1)) {
		fmt.Println(n.Topic, string(n.Payload))
	}
	fmt.Println(s.Problems())
	// Output:
	// 200 ""
	// 400 "TopicDisallowed"
	// com.example.app {"aps":{"alert":"hello","badge":1}}
	// []
}
