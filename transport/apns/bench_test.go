package apns

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
)

// BenchmarkSend sends batches of 2,000 to a simulator in this process, through a Sender and through a loop over apns2 with as many
// connections and requests at a time, which spreads over clients of one connection each.
func BenchmarkSend(b *testing.B) {
	const connections, concurrency = 4, 256
	s := testServer(b, apnstest.Options{CountOnly: true})
	tokens := make([]string, 2000)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	content := &transport.Content{Title: "Tonight", Body: "The gates open at eight", Sound: "default", Data: map[string]string{"room": "7"}}
	b.Run("fanfare", func(b *testing.B) {
		sender := testSender(b, s, Options{Connections: connections, Concurrency: concurrency})
		list := batch(content, tokens...)
		sender.Send(context.Background(), list)
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range sender.Send(context.Background(), list) {
				if r.Outcome != transport.Accepted {
					b.Fatalf("%+v", r)
				}
			}
		}
		b.ReportMetric(float64(b.N*len(tokens))/b.Elapsed().Seconds(), "sent/s")
	})
	b.Run("apns2", func(b *testing.B) {
		key, err := token.AuthKeyFromBytes(s.Key().PEM)
		if err != nil {
			b.Fatal(err)
		}
		auth := &token.Token{AuthKey: key, KeyID: s.Key().KeyID, TeamID: s.Key().TeamID}
		clients := make([]*apns2.Client, connections)
		for i := range clients {
			protocols := new(http.Protocols)
			protocols.SetHTTP2(true)
			tr := &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: s.RootCAs()}, Protocols: protocols, HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
			}
			defer tr.CloseIdleConnections()
			clients[i] = &apns2.Client{Host: s.URL(), Token: auth, HTTPClient: &http.Client{Transport: tr, Timeout: 20 * time.Second}}
		}
		e, err := testSender(b, s, Options{}).encode(&transport.Message{ID: anyID}, content, transport.Text{Title: content.Title, Body: content.Body})
		if err != nil {
			b.Fatal(err)
		}
		send := func() {
			var next atomic.Int64
			var workers sync.WaitGroup
			for w := range concurrency {
				workers.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= len(tokens) {
							return
						}
						r, err := clients[w%connections].Push(&apns2.Notification{
							DeviceToken: tokens[i], Topic: topic, CollapseID: anyID, Priority: 10, PushType: apns2.PushTypeAlert,
							Expiration: time.Now().Add(time.Hour), Payload: e.body,
						})
						if err != nil || !r.Sent() {
							b.Error(err, r)
							return
						}
					}
				})
			}
			workers.Wait()
		}
		send()
		b.ReportAllocs()
		for b.Loop() {
			send()
		}
		b.ReportMetric(float64(b.N*len(tokens))/b.Elapsed().Seconds(), "sent/s")
	})
}
