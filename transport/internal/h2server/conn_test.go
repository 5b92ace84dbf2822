package h2server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, path, field, body string
		header                    string
		tooLarge                  bool
	}
	got := make(chan seen, 1)
	s := newServer(t, Options{Handler: func(r *Request) Response {
		got <- seen{r.Method, r.Path, r.Get("x-field"), string(r.Body), r.Header().Get("X-Field"), r.TooLarge}
		return Response{Status: 418, Fields: []hpack.HeaderField{{Name: "x", Value: "y"}}, Body: []byte("no")}
	}})
	p := dial(t, s)
	// The header comes in three frames, the body in two, one padded.
	b := p.encode(":method", "PUT", ":scheme", "https", ":path", "/p", ":authority", "a", "x-field", "v")
	p.do(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3]}))
	p.do(p.fr.WriteContinuation(1, false, b[3:5]))
	p.do(p.fr.WriteContinuation(1, true, b[5:]))
	p.do(p.fr.WriteData(1, false, []byte("one ")))
	p.do(p.fr.WriteDataPadded(1, true, []byte("two"), make([]byte, 9)))
	a := p.untilAnswer(1)
	if a.status != 418 || string(a.body) != "no" || a.broken {
		t.Errorf("answer %+v", a)
	}
	if had, want := <-got, (seen{"PUT", "/p", "v", "one two", "v", false}); had != want {
		t.Errorf("request %+v", had)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	p := dial(t, newServer(t, Options{}))
	p.do(p.fr.WritePing(false, [8]byte{1}))
	p.until(func() bool { return p.answer[0].ended })
}

func TestBounds(t *testing.T) {
	t.Parallel()
	large := make(chan bool, 1)
	s := newServer(t, Options{MaxBody: 10, MaxHeader: 500, Handler: func(r *Request) Response {
		large <- r.TooLarge && string(r.Body) == "0123456789"
		return Response{Status: 413}
	}})
	p := dial(t, s)
	p.headers(1, true, "x", strings.Repeat("x", 500))
	if a := p.untilAnswer(1); a.status != 431 {
		t.Errorf("large header: %+v", a)
	}
	p.headers(3, false)
	p.do(p.fr.WriteData(3, false, []byte("0123456789a")))
	if a := p.untilAnswer(3); a.status != 413 || !<-large {
		t.Errorf("large body: %+v", a)
	}
	p.until(func() bool { return p.answer[3].broken })
	if p.answer[3].reset != http2.ErrCodeNo {
		t.Errorf("stream 3 reset with %v", p.answer[3].reset)
	}
	p.do(p.fr.WriteData(3, true, []byte("more"))) // is allowed to be under way
	p.headers(5, false)
	p.do(p.fr.WriteData(5, true, []byte("0123456789")))
	if a := p.untilAnswer(5); a.status != 413 || <-large {
		t.Errorf("largest body: %+v", a)
	}
}

// A client that sends far more than the connection's window goes on: it gets
// its credit back.
func TestCredit(t *testing.T) {
	t.Parallel()
	var sum int
	s := newServer(t, Options{Handler: func(r *Request) Response { sum += len(r.Body); return Response{} }})
	p := dial(t, s)
	chunk := bytes.Repeat([]byte("x"), 1<<14)
	const n = 200
	for i := range uint32(n) {
		p.headers(2*i+1, false)
		p.do(p.fr.WriteData(2*i+1, true, chunk))
		p.untilAnswer(2*i + 1)
	}
	if sum != n<<14 {
		t.Errorf("%d bytes", sum)
	}
}

func TestClientWindows(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Handler: func(r *Request) Response {
		return Response{Body: bytes.Repeat([]byte("x"), 100000)}
	}})
	p := dial(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.headers(1, true)
	got := func(id uint32) int {
		if p.answer[id] == nil {
			return 0
		}
		return len(p.answer[id].body)
	}
	p.until(func() bool { return got(1) == 1000 })
	p.do(p.fr.WriteWindowUpdate(1, 500))
	p.until(func() bool { return got(1) == 1500 })
	p.do(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 200000}))
	p.until(func() bool { return got(1) == 65535 }) // what the connection's window allows
	p.headers(3, true)
	p.do(p.fr.WriteWindowUpdate(0, 200000))
	p.untilAnswer(1)
	p.untilAnswer(3)
	if got(1) != 100000 || got(3) != 100000 {
		t.Errorf("%d and %d bytes", got(1), got(3))
	}
}

func TestStreamLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{
		Opened: func(c *Conn) { c.SetMaxStreams(2) },
		Handler: func(r *Request) Response {
			if r.Path == "/1" {
				r.Conn.SetMaxStreams(1)
			}
			return Response{}
		},
	})
	p := dial(t, s)
	p.headers(1, false)
	p.headers(3, false)
	p.headers(5, true) // one too many
	if a := p.untilAnswer(5); !a.broken || a.reset != http2.ErrCodeRefusedStream {
		t.Errorf("third stream: %+v", a)
	}
	p.do(p.fr.WriteData(1, true, nil))
	p.until(func() bool { return len(p.limits) == 2 })
	p.headers(7, false) // stream 3 is open still
	if a := p.untilAnswer(7); !a.broken || a.reset != http2.ErrCodeRefusedStream {
		t.Errorf("second stream at limit 1: %+v", a)
	}
	p.do(p.fr.WriteData(7, true, []byte("x"))) // was under way
	p.do(p.fr.WriteData(3, true, nil))
	if a := p.untilAnswer(3); a.status != 200 {
		t.Errorf("stream that was open: %+v", a)
	}
	p.headers(9, true)
	if a := p.untilAnswer(9); a.status != 200 {
		t.Errorf("only stream: %+v", a)
	}
	if p.limits[0] != 2 || p.limits[1] != 1 {
		t.Errorf("limits %v", p.limits)
	}
}

// The last stream of a GOAWAY is the last that came: it is answered, and so are
// those before it, and no later one reaches the handler.
func TestGoAway(t *testing.T) {
	t.Parallel()
	var handled []string
	s := newServer(t, Options{Handler: func(r *Request) Response {
		handled = append(handled, r.Path)
		if r.Path == "/3" {
			r.Conn.GoAway(http2.ErrCodeEnhanceYourCalm, "why")
			r.Conn.GoAway(http2.ErrCodeNo, "again")
		}
		return Response{}
	}})
	p := dial(t, s)
	p.headers(1, false)
	p.headers(3, true)
	p.until(func() bool { return p.away != nil })
	if p.awayID != 3 || p.away.ErrCode != http2.ErrCodeEnhanceYourCalm || string(p.away.DebugData()) != "why" {
		t.Errorf("GOAWAY %v %q", p.away, p.away.DebugData())
	}
	p.headers(5, false)
	p.do(p.fr.WriteData(5, true, []byte("x")))
	p.do(p.fr.WriteData(1, true, nil))
	p.untilEnd()
	if a := p.answer[1]; a == nil || a.status != 200 || p.answer[3].status != 200 || p.answer[5] != nil {
		t.Errorf("answers %+v", p.answer)
	}
	_ = p.conn.Close()
	_ = s.Close()
	if len(handled) != 2 || handled[0] != "/3" || handled[1] != "/1" {
		t.Errorf("handled %v", handled)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	s := newServer(t, Options{Handler: func(r *Request) Response {
		body := []byte("0123456789")
		switch r.Get("x") {
		case "reset":
			return Response{Fault: FaultReset, Code: http2.ErrCodeInternal}
		case "cut":
			return Response{Body: body, Fault: FaultCut}
		case "half":
			return Response{Body: body, Fault: FaultCutBody}
		case "held":
			return Response{Body: body, Until: held, Delay: 1}
		}
		return Response{Body: body}
	}})
	p := dial(t, s)
	p.headers(1, true, "x", "reset")
	if a := p.untilAnswer(1); a.reset != http2.ErrCodeInternal || a.status != 0 {
		t.Errorf("reset: %+v", a)
	}
	p.headers(3, true, "x", "held")
	p.headers(5, true)
	p.untilAnswer(5)
	if p.answer[3] != nil {
		t.Errorf("held: %+v", p.answer[3])
	}
	p.headers(7, true, "x", "held")
	p.do(p.fr.WriteRSTStream(7, http2.ErrCodeCancel))
	p.headers(9, true) // by its answer the RST_STREAM has been read
	p.untilAnswer(9)
	close(held)
	if a := p.untilAnswer(3); string(a.body) != "0123456789" {
		t.Errorf("held: %+v", a)
	}
	p.headers(11, true, "x", "half")
	p.untilEnd()
	if a := p.answer[11]; a.status != 200 || string(a.body) != "01234" || a.ended {
		t.Errorf("half: %+v", a)
	}
	if p.answer[7] != nil {
		t.Errorf("reset by the client, and answered: %+v", p.answer[7])
	}
	p = dial(t, s)
	p.headers(1, true, "x", "cut")
	p.untilEnd()
	if p.answer[1] != nil {
		t.Errorf("cut: %+v", p.answer[1])
	}
}

// What breaks the protocol ends the connection, or the stream, and says why.
func TestViolations(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{MaxHeader: 1000})
	for name, row := range map[string]struct {
		do     func(*peer)
		away   http2.ErrCode // or
		stream uint32        // reset with PROTOCOL_ERROR
	}{
		"even stream":      {do: func(p *peer) { p.headers(2, true) }, away: http2.ErrCodeProtocol},
		"idle stream":      {do: func(p *peer) { p.do(p.fr.WriteData(9, true, nil)) }, away: http2.ErrCodeProtocol},
		"bad compression":  {do: func(p *peer) { p.raw(1, []byte{0xff, 0xff, 0xff}, true) }, away: http2.ErrCodeCompression},
		"endless header":   {do: func(p *peer) { p.raw(1, make([]byte, 4001), false) }, away: http2.ErrCodeEnhanceYourCalm},
		"no path":          {do: func(p *peer) { p.raw(1, p.encode(":method", "GET"), true) }, stream: 1},
		"path twice":       {do: func(p *peer) { p.headers(1, true, ":path", "/") }, stream: 1},
		"upper case":       {do: func(p *peer) { p.headers(1, true, "X", "y") }, stream: 1},
		"window overflow":  {do: func(p *peer) { p.do(p.fr.WriteWindowUpdate(0, 1<<31-1)) }, away: http2.ErrCodeFlowControl},
		"push by a client": {do: func(p *peer) { p.headers(1, false); p.pushPromise() }, away: http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := dial(t, s)
			row.do(p)
			if row.stream != 0 {
				if a := p.untilAnswer(row.stream); a.reset != http2.ErrCodeProtocol {
					t.Errorf("stream: %+v", a)
				}
				p.headers(101, true)
				p.untilAnswer(101) // the connection, and its compression, goes on
				return
			}
			p.untilEnd()
			if p.away == nil || p.away.ErrCode != row.away {
				t.Errorf("GOAWAY %v", p.away)
			}
		})
	}
}

func (p *peer) raw(id uint32, block []byte, end bool) {
	p.do(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: end, EndStream: true}))
}

func (p *peer) pushPromise() {
	p.do(p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode("a", "b"), EndHeaders: true}))
}

// The rest of a body that was too large comes while the answer is on its way.
func TestLargeBodyAnsweredLate(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	s := newServer(t, Options{MaxBody: 1, Handler: func(r *Request) Response { return Response{Until: held} }})
	p := dial(t, s)
	const n = 50
	for i := range uint32(n) {
		p.headers(2*i+1, false)
		p.do(p.fr.WriteData(2*i+1, false, []byte("xx")))
	}
	close(held)
	for i := range uint32(n) {
		if i%2 == 0 {
			p.do(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.encode("a", "b"), EndHeaders: true, EndStream: i%4 == 0}))
		} else {
			p.do(p.fr.WriteData(2*i+1, true, []byte("xx")))
		}
	}
	for i := range uint32(n) {
		if a := p.untilAnswer(2*i + 1); a.status != 200 && a.reset != http2.ErrCodeProtocol {
			t.Fatalf("stream %d: %+v", 2*i+1, a)
		}
	}
	p.headers(1001, false)
	p.headers(1003, false)
	p.do(p.fr.WriteData(1001, true, nil))
	p.do(p.fr.WriteData(1003, true, nil))
	p.untilAnswer(1001)
	p.untilAnswer(1003)
}

// Trailers end a request as DATA does.
func TestTrailers(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Handler: func(r *Request) Response {
		return Response{Body: []byte(string(r.Body) + r.Get("a"))}
	}})
	p := dial(t, s)
	p.headers(1, false)
	p.do(p.fr.WriteData(1, false, []byte("body")))
	p.do(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode("a", "b"), EndHeaders: true, EndStream: true}))
	if a := p.untilAnswer(1); string(a.body) != "body" {
		t.Errorf("answer %+v", a)
	}
}

// An answer's header may be larger than a frame.
func TestLargeAnswerHeader(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Handler: func(r *Request) Response {
		return Response{Fields: []hpack.HeaderField{{Name: "x", Value: strings.Repeat("~", 40000)}}}
	}})
	p := dial(t, s)
	p.headers(1, true)
	if a := p.untilAnswer(1); a.status != 200 {
		t.Errorf("answer %+v", a)
	}
}

// Who does not speak HTTP/2 is sent away, and Close does not wait for those who
// say nothing.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	for _, protos := range [][]string{{"h2"}, nil} {
		conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: %v", protos, err)
		}
	}
	silent, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if open, _ := s.Connections(); open != 0 {
		t.Errorf("%d connections after Close", open)
	}
}

// Everything at once, from many goroutines, for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	s := newServer(t, Options{Handler: func(r *Request) Response { return Response{Until: held, Body: []byte("x")} }})
	p := dial(t, s)
	const n = 100
	for i := range uint32(n) {
		p.headers(2*i+1, true)
	}
	p.do(p.fr.WritePing(false, [8]byte{}))
	p.until(func() bool { return p.answer[0].ended })
	var wg sync.WaitGroup
	for i := range uint32(10) {
		wg.Go(func() {
			for _, c := range s.Conns() {
				c.SetMaxStreams(10 + i)
			}
		})
	}
	wg.Go(func() { close(held) })
	wg.Go(func() {
		for _, c := range s.Conns() {
			c.GoAway(http2.ErrCodeNo, "")
		}
	})
	p.untilEnd()
	wg.Wait()
	for i := range uint32(n) {
		if a := p.answer[2*i+1]; a == nil || !a.ended {
			t.Fatalf("stream %d: %+v", 2*i+1, a)
		}
	}
	if p.awayID != 2*n-1 {
		t.Errorf("last stream %d", p.awayID)
	}
	if open, ever := s.Connections(); open > 1 || ever != 1 {
		t.Errorf("Connections = %d, %d", open, ever)
	}
}
