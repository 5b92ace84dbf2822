package apnstest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// pushAll pushes to the devices 0 to n-1, at most atOnce at a time, and returns
// the errors and the answers that are not 200.
func (c *client) pushAll(n, atOnce int) (failed []error, refused []result) {
	c.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range n {
		r := c.request(c.s.Token(i), hello)
		slots <- struct{}{}
		wg.Go(func() {
			got, err := c.do(r)
			mu.Lock()
			if err != nil {
				failed = append(failed, err)
			} else if got.status != 200 {
				refused = append(refused, got)
			}
			mu.Unlock()
			<-slots
		})
	}
	wg.Wait()
	return failed, refused
}

func (c *client) wantOneEach(n int) {
	c.t.Helper()
	for i := range n {
		if got := c.s.Count(c.s.Token(i)); got != 1 {
			c.t.Errorf("device %d was sent %d notifications", i, got)
		}
	}
}

func TestMany(t *testing.T) {
	t.Parallel()
	const n = 2000
	// Go's client waits for ever when more requests begin at once than the
	// limit allows; so the first comes alone, and then there is room for all.
	s := newServer(t, Options{Streams: 2 * n})
	c := newClient(t, s)
	want(t, c.push(s.Token(n)), 200, "")
	failed, refused := c.pushAll(n, n)
	if len(failed) > 0 || len(refused) > 0 {
		t.Fatalf("failed %v, refused %v", failed, refused)
	}
	if err := s.Wait(patience(t), n+1); err != nil {
		t.Fatal(err)
	}
	c.wantOneEach(n)
	if _, ever := s.Connections(); ever != 1 {
		t.Errorf("%d connections", ever)
	}
}

// GOAWAY loses nothing: what comes after it is not processed, and the client
// sends it again on a new connection.
func TestGoAwayEvery(t *testing.T) {
	t.Parallel()
	const n = 300
	s := newServer(t, Options{FirstStreams: -1})
	s.GoAwayEvery(20)
	c := newClient(t, s)
	failed, refused := c.pushAll(n, 8)
	if len(failed) > 0 || len(refused) > 0 {
		t.Fatalf("failed %v, refused %v", failed, refused)
	}
	c.wantOneEach(n)
	if _, ever := s.Connections(); ever < n/20 {
		t.Errorf("%d connections", ever)
	}
}

func TestGoAway(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	want(t, c.push(s.Token(1)), 200, "")
	resume := s.Stall()
	answered := make(chan result, 1)
	r := c.request(s.Token(2), hello)
	go func() {
		got, err := c.do(r)
		if err != nil {
			t.Error(err)
		}
		answered <- got
	}()
	if err := s.Wait(patience(t), 2); err != nil {
		t.Fatal(err)
	}
	s.GoAway()
	resume()
	want(t, <-answered, 200, "")
	want(t, c.push(s.Token(3)), 200, "")
	if _, ever := s.Connections(); ever != 2 {
		t.Errorf("%d connections", ever)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	want(t, c.push(s.Token(1)), 200, "")
	s.CutNext(1)
	if got, err := c.do(c.request(s.Token(1), hello)); err == nil {
		t.Errorf("cut in the middle of the answer, but the client has %v", got)
	}
	if s.Count(s.Token(1)) != 2 {
		t.Errorf("Count = %d: a cut answer is that of an accepted notification", s.Count(s.Token(1)))
	}
	want(t, c.push(s.Token(1)), 200, "")
	s.AnswerNext(1, Answer{Cut: true})
	if got, err := c.do(c.request(s.Token(1), hello)); err == nil {
		t.Errorf("cut before the answer, but the client has %v", got)
	}
	s.CutEvery(2)
	want(t, c.push(s.Token(1)), 200, "")
	if got, err := c.do(c.request(s.Token(1), hello)); err == nil {
		t.Errorf("second cut, but the client has %v", got)
	}
	s.CutEvery(0)
	want(t, c.push(s.Token(1)), 200, "")
	if _, ever := s.Connections(); ever != 4 || s.Count(s.Token(1)) != 6 {
		t.Errorf("%d connections, count %d", ever, s.Count(s.Token(1)))
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	s.AnswerNext(1, Answer{Reset: true})
	_, err := c.do(c.request(s.Token(1), hello))
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal {
		t.Errorf("error %v", err)
	}
	want(t, c.push(s.Token(1)), 200, "")
	if _, ever := s.Connections(); ever != 1 || s.Total() != 1 {
		t.Errorf("%d connections, total %d", ever, s.Total())
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	want(t, c.push(s.Token(1)), 200, "")
	one, two := s.Stall(), s.Stall()
	answered := make(chan result, 1)
	r := c.request(s.Token(1), hello)
	go func() {
		got, err := c.do(r)
		if err != nil {
			t.Error(err)
		}
		answered <- got
	}()
	if err := s.Wait(patience(t), 2); err != nil {
		t.Fatal(err)
	}
	two()
	two()
	select {
	case got := <-answered:
		t.Fatalf("answered %v in a stall", got)
	default:
	}
	ctx, cancel := context.WithCancel(patience(t))
	r = c.request(s.Token(1), hello).WithContext(ctx)
	gone := make(chan error, 1)
	go func() { _, err := c.do(r); gone <- err }()
	if err := s.Wait(patience(t), 3); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	one()
	want(t, <-answered, 200, "")
	want(t, c.push(s.Token(1)), 200, "")
}

// Close does not wait for a stall to end.
func TestCloseInStall(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	resume := s.Stall()
	s.Delay(time.Hour)
	failed := make(chan error, 1)
	r := c.request(s.Token(1), hello)
	go func() { _, err := c.do(r); failed <- err }()
	if err := s.Wait(patience(t), 1); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- s.Wait(context.Background(), 2) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("answered after Close")
	}
	if err := <-waited; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait: %v", err)
	}
	resume()
	s.GoAway()
	s.LowerStreams(true)
	s.Kill(s.Token(1), time.Now())
	if err := s.Close(); err != nil || s.Count(s.Token(1)) != 1 {
		t.Errorf("second Close: %v, Count %d", err, s.Count(s.Token(1)))
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	want(t, c.push(s.Token(1)), 200, "")
	s.Delay(time.Hour)
	ctx, cancel := context.WithCancel(patience(t))
	r := c.request(s.Token(1), hello).WithContext(ctx)
	failed := make(chan error, 1)
	go func() { _, err := c.do(r); failed <- err }()
	if err := s.Wait(patience(t), 2); err != nil {
		t.Fatal(err)
	}
	s.Delay(time.Millisecond)
	began := time.Now()
	want(t, c.push(s.Token(1)), 200, "") // overtakes the one before
	if time.Since(began) < time.Millisecond {
		t.Error("not delayed")
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	if len(s.waiting) != 0 {
		t.Error("a Wait that ended is still kept")
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	s.Answer(strings.ToUpper(s.Token(1)), Answer{Reason: "TooManyRequests", RetryAfter: 1500 * time.Millisecond})
	got := c.push(s.Token(1))
	want(t, got, 429, "TooManyRequests")
	if got.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	want(t, c.push(s.Token(2)), 200, "")
	s.AnswerNext(2, Answer{Status: 502, Body: "<html>"})
	s.AnswerNext(1, Answer{Reason: "NoSuchReason"})
	for range 2 {
		if got := c.push(s.Token(1)); got.status != 502 || got.body != "<html>" {
			t.Errorf("got %+v", got)
		}
	}
	want(t, c.push(s.Token(2)), 500, "NoSuchReason")
	want(t, c.push(s.Token(1)), 429, "TooManyRequests")
	s.Answer(s.Token(1), Answer{})
	want(t, c.push(s.Token(1)), 200, "")
	s.AnswerNext(5, Answer{Reason: "Shutdown"})
	s.AnswerNext(0, Answer{})
	want(t, c.push(s.Token(1)), 200, "")
	// A body larger than the client's first window comes through, too.
	large := strings.Repeat("x", 5<<20)
	s.AnswerNext(1, Answer{Status: 500, Body: large})
	if got := c.push(s.Token(1)); got.body != large {
		t.Errorf("%d of %d bytes", len(got.body), len(large))
	}
}

func TestOnRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	var seen []*Request
	s.OnRequest(func(r *Request) *Answer {
		seen = append(seen, r)
		if len(seen) == 1 {
			return nil
		}
		return &Answer{Reason: "Forbidden"}
	})
	want(t, c.push(s.Token(1)), 200, "")
	want(t, c.push(s.Token(2)), 403, "Forbidden")
	s.OnRequest(nil)
	want(t, c.push(s.Token(2)), 200, "")
	if len(seen) != 2 || seen[0].Token != s.Token(1) || seen[1].Method != http.MethodPost ||
		seen[1].Path != "/3/device/"+s.Token(2) || string(seen[0].Payload) != hello ||
		seen[0].Header.Get("apns-topic") != topicOfTests || seen[0].Connection != 1 {
		t.Errorf("seen %+v", seen)
	}
}
