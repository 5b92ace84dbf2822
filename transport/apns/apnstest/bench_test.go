package apnstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BenchmarkGoClient is Go's own client and the server on one machine.
func BenchmarkGoClient(b *testing.B) {
	s := newServer(b, Options{CountOnly: true, FirstStreams: -1})
	c := newClient(b, s)
	c.push(s.Token(0))
	tokens := make([]string, 1024)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(100)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			got, err := c.do(c.request(tokens[n.Add(1)%1024], hello))
			if err != nil || got.status != http.StatusOK {
				b.Errorf("%v %v", got, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkFrames is a client that does no more than write and count frames, so
// that the server's own cost shows.
func BenchmarkFrames(b *testing.B) {
	s := newServer(b, Options{CountOnly: true, FirstStreams: -1})
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{RootCAs: s.RootCAs(), NextProtos: []string{"h2"}})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	bw := bufio.NewWriterSize(conn, 32<<10)
	fr := http2.NewFramer(bw, bufio.NewReaderSize(conn, 32<<10))
	fr.SetReuseFrames()
	if _, err := io.WriteString(bw, http2.ClientPreface); err != nil {
		b.Fatal(err)
	}
	if err := fr.WriteSettings(); err != nil {
		b.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	jwt := "bearer " + sign(b, s.Key(), time.Now())
	tokens := make([]string, 1024)
	for i := range tokens {
		tokens[i] = "/3/device/" + s.Token(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	const window = 500
	slots := make(chan struct{}, window)
	done := make(chan error, 1)
	go func() {
		for n := 0; n < b.N; {
			f, err := fr.ReadFrame()
			if err != nil {
				done <- err
				return
			}
			if _, ok := f.(*http2.HeadersFrame); ok {
				n++
				<-slots
			}
		}
		done <- nil
	}()
	for i := range b.N {
		select {
		case slots <- struct{}{}:
		default:
			_ = bw.Flush()
			slots <- struct{}{}
		}
		block.Reset()
		for _, f := range [...]hpack.HeaderField{
			{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"},
			{Name: ":path", Value: tokens[i%1024], Sensitive: true}, {Name: ":authority", Value: "127.0.0.1"},
			{Name: "authorization", Value: jwt}, {Name: "apns-topic", Value: topicOfTests},
			{Name: "apns-push-type", Value: "alert"}, {Name: "apns-priority", Value: "10"},
			{Name: "apns-id", Value: "eabeae54-14a8-11e5-b60b-1697f925ec7b", Sensitive: true},
		} {
			_ = enc.WriteField(f)
		}
		id := uint32(2*i + 1)
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = fr.WriteData(id, true, []byte(hello))
	}
	_ = bw.Flush()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
