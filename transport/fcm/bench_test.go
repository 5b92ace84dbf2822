package fcm

import (
	"context"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// BenchmarkSend sends batches of 2,000 to a simulator in this process.
func BenchmarkSend(b *testing.B) {
	s := testServer(b, fcmtest.Options{CountOnly: true})
	tokens := make([]string, 2000)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	sender := testSender(b, s, Options{Connections: 4, Concurrency: 256, PerSecond: -1})
	list := batch(&transport.Content{Title: "Tonight", Body: "The gates open at eight", Sound: "default", Data: map[string]string{"room": "7"}}, tokens...)
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
}
