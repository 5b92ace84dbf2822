package fcmtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// sendMany sends n messages, each to a token of its own, so many at a time, and
// returns those that were not answered with 200.
func sendMany(c *client, n, parallel int) (failed []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range parallel {
		wg.Go(func() {
			for i := range next {
				if r, err := c.trySend(hello(c.s.Token(i))); err != nil || r.status != 200 {
					mu.Lock()
					failed = append(failed, fmt.Sprint(r, err))
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return failed
}

func TestManyAtATime(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	// A thousand connections that are made at once take longer than the two seconds in which net/http wants to see a
	// client's first settings.
	c.http = s.Client()
	c.http.Transport.(*http.Transport).MaxConnsPerHost = 10
	if failed := sendMany(c, 1000, 1000); len(failed) > 0 {
		t.Error(len(failed), "failed:", failed[0])
	}
	for i := range 1000 {
		if n := s.Count(s.Token(i)); n != 1 {
			t.Fatalf("token %d has %d messages", i, n)
		}
	}
	if p := s.Problems(); p != nil {
		t.Error(p)
	}
}

// A client that sees no answer sends again; with GOAWAY each is answered.
func TestGoAwayLosesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	s.GoAwayEvery(50)
	if failed := sendMany(c, 1000, 20); len(failed) > 0 {
		t.Error(len(failed), "failed:", failed[0])
	}
	for i := range 1000 {
		if n := s.Count(s.Token(i)); n != 1 {
			t.Fatalf("token %d has %d messages", i, n)
		}
	}
	if _, ever := s.Connections(); ever < 5 {
		t.Error(ever, "connections")
	}
}

// http1 is a client that speaks HTTP/1.1 only.
func http1(s *fcmtest.Server) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.RootCAs()}}}
}

func TestGoAwayOnHTTP1(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	c.http = http1(s)
	_, before := s.Connections()
	s.GoAwayEvery(2)
	for i := range 6 {
		if r := c.send(hello(s.Token(i))); r.status != 200 {
			t.Error(r.status)
		}
	}
	if _, ever := s.Connections(); ever-before != 3 {
		t.Error(ever-before, "connections")
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprint(http2), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, fcmtest.Options{})
			c := newClient(t, s)
			if !http2 {
				c.http = http1(s)
			}
			s.CutNext(2)
			for i, want := range []bool{false, false, true} {
				r, err := c.trySend(hello(s.Token(i)))
				if (err == nil) != want {
					t.Error(i, r, err)
				}
				if n := s.Count(s.Token(i)); n != 1 {
					t.Errorf("token %d has %d messages", i, n)
				}
			}
			s.CutEvery(3) // the sends are counted from the server's beginning
			for i, want := range []bool{true, true, false, true} {
				if r, err := c.trySend(hello(s.Token(i))); (err == nil) != want {
					t.Error(i, r, err)
				}
			}
			s.CutNext(1)
			s.CutNext(0)
			s.CutEvery(0)
			if r, err := c.trySend(hello(s.Token(1))); err != nil || r.status != 200 {
				t.Error(r, err)
			}
		})
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	resume := s.Stall()
	done := make(chan error, 1)
	go func() {
		r, err := c.trySend(hello(s.Token(1)))
		if err == nil && r.status != 200 {
			err = fmt.Errorf("status %d", r.status)
		}
		done <- err
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.WaitRequests(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if g := c.renew(time.Now()); g.status != 200 {
		t.Error("the token endpoint stands still too")
	}
	if s.Total() != 0 {
		t.Error("it was accepted")
	}
	select {
	case err := <-done:
		t.Error("it was answered", err)
	default:
	}
	resume()
	resume()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Wait(ctx, 1); err != nil {
		t.Error(err)
	}
}

// A client that has given up has sent nothing.
func TestStallForgets(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	resume := s.Stall()
	ended := make(chan context.Context, 1)
	s.OnRequest(func(r *fcmtest.Request) *fcmtest.Answer {
		ended <- r.Context
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := postContext(ctx, c, c.access, "/v1/projects/fanfare-test/messages:send", "application/json", []byte(hello(s.Token(1))))
		done <- err
	}()
	if err := s.WaitRequests(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	resume()
	if s.Total() != 0 || len(ended) != 0 {
		t.Error(s.Total(), len(ended))
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	const delay = 30 * time.Millisecond
	s.Delay(delay)
	before := time.Now()
	if r := c.send(hello(s.Token(1))); r.status != 200 || time.Since(before) < delay {
		t.Error(r.status, time.Since(before))
	}
	s.Delay(time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		s.WaitRequests(ctx, 2)
		cancel()
	}()
	if _, err := postContext(ctx, c, c.access, "/v1/projects/fanfare-test/messages:send", "application/json", []byte(hello(s.Token(1)))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Delay(0)
	if r := c.send(hello(s.Token(1))); r.status != 200 || s.Total() != 2 {
		t.Error(r.status, s.Total())
	}
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	defer s.Stall()()
	const n = 10
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := c.trySend(hello(s.Token(i)))
			errs <- err
		}()
	}
	if err := s.WaitRequests(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	if open, _ := s.Connections(); open < 1 {
		t.Error(open, "connections")
	}
	s.Disconnect()
	for range n {
		if err := <-errs; err == nil {
			t.Error("it was answered")
		}
	}
	if g := c.renew(time.Now()); g.status != 200 {
		t.Error("a new connection:", g)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{Streams: 3})
	c := newClient(t, s)
	resume := s.Stall()
	done := make(chan []string)
	go func() { done <- sendMany(c, 10, 10) }()
	if err := s.WaitRequests(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	// Ten at a time, three on a connection.
	if open, ever := s.Connections(); open < 4 || ever < 4 {
		t.Error(open, ever)
	}
	resume()
	if failed := <-done; len(failed) > 0 {
		t.Error(len(failed), "failed:", failed[0])
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := s.Wait(ctx, 1); err != cause {
		t.Error(err)
	}
	if err := s.Wait(ctx, 0); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- s.Wait(context.Background(), 1) }()
	c.send(hello(s.Token(1)))
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- s.Wait(context.Background(), 2) }()
	s.Close()
	if err := <-done; err != fcmtest.ErrClosed {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	c.send(hello(s.Token(1)))
	s.Stall()
	s.Delay(time.Hour)
	done := make(chan error)
	go func() {
		_, err := c.trySend(hello(s.Token(1)))
		done <- err
	}()
	if err := s.WaitRequests(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { s.Close() })
	}
	wg.Wait()
	if err := <-done; err == nil {
		t.Error("it was answered")
	}
	if open, ever := s.Connections(); open != 0 || ever < 1 {
		t.Error(open, ever)
	}
	if s.Total() != 1 || s.Count(s.Token(1)) != 1 || s.Requests() != 2 || len(s.Accepted(s.Token(1))) != 1 {
		t.Error("the record is gone")
	}
	s.Kill(s.Token(1))
	s.AnswerNext(1, fcmtest.Answer{Status: 500})
	s.CutNext(1)
	s.Stall()()
	s.Revoke()
	s.Disconnect()
	if _, err := c.trySend(hello(s.Token(1))); err == nil {
		t.Error("a closed server answers")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []fcmtest.Options{
		{Project: "a/b"}, {Project: `a"b`}, {Project: "ä"}, {Project: "a b"}, {Project: "a_b"},
		{Streams: -1}, {AccessTokenLife: time.Millisecond}, {AccessTokenLife: -1},
	} {
		if s, err := fcmtest.NewServer(o); err == nil {
			s.Close()
			t.Errorf("%+v is taken", o)
		}
	}
	if s := newServer(t, fcmtest.Options{Project: "example.com:My-project1"}); s == nil {
		t.Error("no server")
	}
}
