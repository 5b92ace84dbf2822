package apnstest

import (
	"bytes"
	"crypto/tls"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is a client that sees the frames.
type wire struct {
	t      testing.TB
	s      *Server
	jwt    string
	fr     *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	next   uint32
	limits []uint32
	status map[uint32]int
	reset  map[uint32]http2.ErrCode
}

func newWire(t testing.TB, s *Server, certs ...tls.Certificate) *wire {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{
		RootCAs: s.RootCAs(), ServerName: "api.push.apple.com", NextProtos: []string{"h2"}, Certificates: certs,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w := &wire{
		t: t, s: s, jwt: sign(t, s.Key(), time.Now()), fr: http2.NewFramer(conn, conn), next: 1,
		status: make(map[uint32]int), reset: make(map[uint32]http2.ErrCode),
	}
	w.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.enc = hpack.NewEncoder(&w.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := w.fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	w.until(func() bool { return len(w.limits) > 0 })
	return w
}

// begin sends the header of a push, finish its payload.
func (w *wire) begin(token, jwt string) uint32 {
	w.t.Helper()
	id := w.next
	w.next += 2
	w.block.Reset()
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", "/3/device/" + token}, {":authority", "a"},
		{"authorization", "bearer " + jwt}, {"apns-topic", topicOfTests}, {"apns-push-type", "alert"},
	} {
		if err := w.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.block.Bytes(), EndHeaders: true}); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *wire) finish(id uint32, payload string) {
	w.t.Helper()
	if err := w.fr.WriteData(id, true, []byte(payload)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) push(token, payload string) int {
	w.t.Helper()
	id := w.begin(token, w.jwt)
	w.finish(id, payload)
	w.until(func() bool { return w.status[id] != 0 })
	return w.status[id]
}

func (w *wire) until(done func() bool) {
	w.t.Helper()
	for !done() {
		f, err := w.fr.ReadFrame()
		if err != nil {
			w.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
				w.limits = append(w.limits, v)
			}
		case *http2.MetaHeadersFrame:
			w.status[f.Header().StreamID], _ = strconv.Atoi(f.PseudoValue("status"))
		case *http2.RSTStreamFrame:
			w.reset[f.Header().StreamID] = f.ErrCode
		}
	}
}

// wantLimits checks all limits that the server has announced so far.
func (w *wire) wantLimits(limits ...uint32) {
	w.t.Helper()
	if err := w.fr.WritePing(false, [8]byte{}); err != nil {
		w.t.Fatal(err)
	}
	for {
		f, err := w.fr.ReadFrame()
		if err != nil {
			w.t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok {
			if v, ok := s.Value(http2.SettingMaxConcurrentStreams); ok {
				w.limits = append(w.limits, v)
			}
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			break
		}
	}
	if !slices.Equal(w.limits, limits) {
		w.t.Errorf("stream limits %v, want %v", w.limits, limits)
	}
}

func TestFirstStreams(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Streams: 5, TokenUpdates: UpdatesUnlimited})
	w := newWire(t, s)
	good := w.jwt
	w.jwt = "x.y.z"
	if status := w.push(s.Token(1), hello); status != 403 {
		t.Errorf("status %d", status)
	}
	w.wantLimits(1)
	one, two := w.begin(s.Token(1), good), w.begin(s.Token(2), good)
	w.until(func() bool { return w.reset[two] == http2.ErrCodeRefusedStream })
	w.finish(two, hello)
	w.finish(one, hello)
	w.until(func() bool { return w.status[one] == 200 })
	w.wantLimits(1, 5)
	if s.Total() != 1 || s.Requests() != 2 {
		t.Errorf("Total %d, Requests %d", s.Total(), s.Requests())
	}
	cert, key := s.Certificate(topicOfTests)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	newWire(t, s, pair).wantLimits(5)
	newWire(t, newServer(t, Options{FirstStreams: -1})).wantLimits(1000)
}

// A good provider token opens the streams even if a test has ordered the answer.
func TestFirstStreamsOrdered(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	s.AnswerNext(1, Answer{Reason: "Shutdown"})
	w := newWire(t, s)
	if status := w.push(s.Token(1), hello); status != 503 {
		t.Errorf("status %d", status)
	}
	w.wantLimits(1, 1000)
}

func TestLowerStreams(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Streams: 8})
	s.LowerStreams(true)
	w := newWire(t, s)
	s.Kill(s.Token(2), time.Now())
	steps := []struct {
		token  int
		status int
	}{{1, 200}, {2, 410}, {2, 410}, {1, 200}, {2, 410}, {2, 410}, {2, 410}, {1, 200}}
	for _, step := range steps {
		if status := w.push(s.Token(step.token), hello); status != step.status {
			t.Errorf("status %d, want %d", status, step.status)
		}
	}
	w.wantLimits(1, 8, 4, 2, 3, 1, 2)
	s.AnswerNext(1, Answer{Reason: "TooManyRequests"})
	s.AnswerNext(1, Answer{Reason: "Shutdown"})
	w.push(s.Token(1), hello)
	w.push(s.Token(1), hello)
	w.wantLimits(1, 8, 4, 2, 3, 1, 2)
	s.LowerStreams(false)
	w.push(s.Token(2), hello)
	w.wantLimits(1, 8, 4, 2, 3, 1, 2)
}

// With limits that go up and down a client that sends refused streams again
// loses nothing.
func TestLowerStreamsLosesNothing(t *testing.T) {
	t.Parallel()
	const n = 200
	s := newServer(t, Options{Streams: 50})
	s.LowerStreams(true)
	c := newClient(t, s)
	for i := range n {
		if i%10 == 3 {
			s.Kill(s.Token(i), time.Now())
		}
	}
	failed, refused := c.pushAll(n, 1)
	if len(failed) > 0 || len(refused) != n/10 || s.Total() != n-n/10 {
		t.Errorf("failed %v, %d refused, Total %d", failed, len(refused), s.Total())
	}
}
