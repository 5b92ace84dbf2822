package flow

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// serve starts a server with a certificate that the pool's transport trusts.
func serve(t *testing.T, o h2server.Options) (*h2server.Server, *http.Transport) {
	t.Helper()
	of := httptest.NewUnstartedServer(nil)
	of.StartTLS()
	defer of.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.TLS = &tls.Config{Certificates: of.TLS.Certificates}
	s, err := h2server.Serve(l, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(of.Certificate())
	return s, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
}

func testPool(t *testing.T, tr *http.Transport, most int) *Pool {
	t.Helper()
	p := NewPool(tr, most)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// post sends a request and returns the status of its answer.
func post(ctx context.Context, p *Pool, addr string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/x", bytes.NewReader([]byte("body")))
	if err != nil {
		return 0, err
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// TestPoolUnderFaults: connections that are left, cut and limited while hundreds of requests go through them stop none of these. At the end
// the pool has no more connections than it may.
func TestPoolUnderFaults(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	s, tr := serve(t, h2server.Options{Streams: 20, Handler: func(r *h2server.Request) h2server.Response {
		switch chance(300) {
		case 0:
			r.Conn.GoAway(http2.ErrCodeNo, "")
		case 1:
			return h2server.Response{Fault: h2server.FaultCut}
		case 2, 3:
			r.Conn.SetMaxStreams(uint32(1 + chance(3)))
		case 4, 5, 6:
			r.Conn.SetMaxStreams(20)
		case 7:
			return h2server.Response{Fault: h2server.FaultReset, Code: http2.ErrCodeRefusedStream}
		case 8, 9:
			return h2server.Response{Delay: time.Duration(chance(20)) * time.Millisecond}
		}
		return h2server.Response{}
	}})
	p := testPool(t, tr, 5)
	var lost atomic.Int64
	var all sync.WaitGroup
	for range 150 {
		all.Go(func() {
			for range 40 {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				status, err := post(ctx, p, s.Addr().String())
				if ctx.Err() != nil {
					t.Error("stuck:", err)
				} else if err != nil || status != 200 {
					lost.Add(1) // cut five times
				}
				cancel()
			}
		})
	}
	all.Wait()
	if n := lost.Load(); n > 60 {
		t.Error(n, "of 6000 were lost")
	}
	if n := p.Connections(); n > 5 {
		t.Error(n, "connections")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 || p.awaited.Load() {
		t.Error(len(p.waiting), "wait")
	}
	for _, c := range p.conns {
		if n := c.load.Load(); n != 0 {
			t.Error("a connection has", n)
		}
	}
}

// TestPoolOfOneStream: with one request a connection, each waits for the one before it, and for no longer.
func TestPoolOfOneStream(t *testing.T) {
	t.Parallel()
	var inside, most atomic.Int64
	s, tr := serve(t, h2server.Options{Streams: 1, Handler: func(*h2server.Request) h2server.Response {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer inside.Add(-1)
		return h2server.Response{}
	}})
	p := testPool(t, tr, 3)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 20 {
				if status, err := post(t.Context(), p, s.Addr().String()); err != nil || status != 200 {
					t.Error(status, err)
				}
			}
		})
	}
	all.Wait()
	if n := most.Load(); n > 3 {
		t.Error(n, "at a time")
	}
}

// TestPoolCloses: Close ends those that wait for a connection, for room and for an answer.
func TestPoolCloses(t *testing.T) {
	t.Parallel()
	got := make(chan struct{}, 10)
	never := make(chan struct{})
	defer close(never)
	s, tr := serve(t, h2server.Options{Streams: 1, Handler: func(*h2server.Request) h2server.Response {
		got <- struct{}{}
		return h2server.Response{Until: never}
	}})
	p := testPool(t, tr, 1)
	errs := make(chan error)
	for range 5 {
		go func() {
			_, err := post(context.Background(), p, s.Addr().String())
			errs <- err
		}()
	}
	<-got
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := <-errs; err == nil {
			t.Error("an answer")
		}
	}
	if _, err := post(context.Background(), p, s.Addr().String()); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// TestPoolGivesUpWaiting: who gives up takes nobody's place.
func TestPoolGivesUpWaiting(t *testing.T) {
	t.Parallel()
	first, release := make(chan struct{}, 1), make(chan struct{})
	var asked atomic.Int64
	s, tr := serve(t, h2server.Options{Streams: 1, Handler: func(*h2server.Request) h2server.Response {
		if asked.Add(1) > 1 {
			return h2server.Response{}
		}
		first <- struct{}{}
		return h2server.Response{Until: release}
	}})
	p := testPool(t, tr, 1)
	errs := make(chan error, 1)
	go func() {
		_, err := post(context.Background(), p, s.Addr().String())
		errs <- err
	}()
	<-first
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
			defer cancel()
			_, err := post(ctx, p, s.Addr().String())
			if none := new(ConnectError); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &none) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(release)
	if err := <-errs; err != nil {
		t.Error(err)
	}
	if status, err := post(context.Background(), p, s.Addr().String()); err != nil || status != 200 {
		t.Error(status, err)
	}
}

// TestPoolWithoutAServer: where nobody listens, where the certificate is a stranger's, and where HTTP/2 is not spoken, each
// request learns so, and a connection is tried for no request but one.
func TestPoolWithoutAServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	stranger, _ := serve(t, h2server.Options{Handler: func(*h2server.Request) h2server.Response { return h2server.Response{} }})
	old := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	trusting := x509.NewCertPool()
	trusting.AddCert(old.Certificate())
	for addr, roots := range map[string]*x509.CertPool{nobody: nil, stranger.Addr().String(): x509.NewCertPool(), old.Listener.Addr().String(): trusting} {
		p := testPool(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, 4)
		for range 3 {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					defer cancel()
					if status, err := post(ctx, p, addr); err == nil || ctx.Err() != nil {
						t.Error(addr, status, err)
					}
				})
			}
			all.Wait()
		}
		if p.Connections() != 0 || p.dialing != 0 {
			t.Error(p.Connections(), p.dialing)
		}
	}
}

// TestPoolWithAMuteServer: a server that takes the connection and says nothing keeps a request no longer than its context.
func TestPoolWithAMuteServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := testPool(t, &http.Transport{}, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = post(ctx, p, l.Addr().String())
	if none := new(ConnectError); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &none) {
		t.Error(err)
	}
}

// TestPoolLosesItsServer: that there is no further connection does not say of a request that was lost with the first that nobody was asked.
func TestPoolLosesItsServer(t *testing.T) {
	t.Parallel()
	s, tr := serve(t, h2server.Options{Handler: func(*h2server.Request) h2server.Response { return h2server.Response{Fault: h2server.FaultCut} }})
	var dialled atomic.Int64
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialled.Add(1) > 1 {
			return nil, errors.New("no route")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	p := testPool(t, tr, 1)
	_, err := post(t.Context(), p, s.Addr().String())
	if none := new(ConnectError); err == nil || errors.As(err, &none) || dialled.Load() < 2 {
		t.Error(err, dialled.Load())
	}
}

func TestNotTaken(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		errors.New("http2: client conn not usable"): true, errors.New("http2: Transport received Server's graceful shutdown GOAWAY"): true,
		http2.StreamError{Code: http2.ErrCodeRefusedStream}: true, fmt.Errorf("x: %w", http2.StreamError{Code: http2.ErrCodeRefusedStream}): true,
		http2.StreamError{Code: http2.ErrCodeInternal}: false, io.ErrUnexpectedEOF: false, errors.New("http2: client connection lost"): false,
	} {
		if notTaken(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
