package fcmtest_test

import (
	"runtime"
	"testing"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// One request per iteration, 100 at a time, the client in the same process.
func BenchmarkSend(b *testing.B) {
	s := newServer(b, fcmtest.Options{CountOnly: true})
	c := newClient(b, s)
	body := []byte(`{"message":{"token":"` + s.Token(1) + `","notification":{"title":"Christmas offer","body":"All things at half price until Monday."},` +
		`"data":{"id":"123456","kind":"offer"},"android":{"priority":"HIGH","ttl":"3600s","collapse_key":"offer"}}}`)
	b.SetParallelism(100 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := c.post("/v1/projects/fanfare-test/messages:send", "application/json", body)
			if err != nil || r.status != 200 {
				b.Error(err, r)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
	if s.Total() != b.N {
		b.Errorf("%d of %d accepted", s.Total(), b.N)
	}
}
