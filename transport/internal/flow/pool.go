package flow

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	// maxRepeats is how often a request is repeated whose connection was lost under it: the server may have had it.
	maxRepeats = 5
	// maxUntaken is how often one is sent to another connection that the server has certainly not taken.
	maxUntaken = 20
)

// ConnectError says that there is no connection to the server, or none that had room in time, so that it was certainly not asked.
type ConnectError struct{ Err error }

func (e *ConnectError) Error() string { return "connect: " + e.Err.Error() }

// Unwrap returns why.
func (e *ConnectError) Unwrap() error { return e.Err }

var errNotHTTP2 = errors.New("the server does not speak HTTP/2")

// errClosed is what a Pool returns after Close.
var errClosed error = &ConnectError{errors.New("the transport is closed")}

// Pool is an [http.RoundTripper] on several HTTP/2 connections to one server. It takes the connection with the most room,
// never has more requests on one than the server allows, and opens a further one, up to its most, while those that there are
// have requests under way. A request whose connection ends under it is repeated on another: the server may have had it.
type Pool struct {
	transport *http.Transport
	most      int

	mu      sync.Mutex
	conns   []*conn
	retired map[*conn]struct{} // take no more requests, and are not closed yet
	dialing int
	waiting []chan error // one value for who may look again, or why there is no connection
	awaited atomic.Bool  // somebody waits
	spread  time.Time    // no further connection is tried before
	bad     int          // connections in a row on which nothing was answered
	closed  bool
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
}

// conn is a connection.
type conn struct {
	*http.ClientConn
	// proven is closed when the first answer came. Until then there is one request on it: a server that allows fewer
	// than HTTP/2 does by default has said so by then.
	proven chan struct{}
	once   sync.Once
	first  chan struct{} // has a value for the first request
	load   atomic.Int64  // requests that it was given and whose answer has not begun
}

// NewPool makes a Pool of at most so many connections, which are made by the transport. It speaks HTTP/2 only.
func NewPool(t *http.Transport, most int) *Pool {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP2(true)
	if t.HTTP2 == nil {
		// A connection that was cut without a word is found out by a ping.
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	}
	p := &Pool{transport: t, most: max(most, 1), retired: make(map[*conn]struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// RoundTrip sends a request, whose body must be one that can be had again, as those of http.NewRequest are.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	var lost error // of a connection on which the server may have had it
	for repeats, untaken := 0, 0; ; {
		c, err := p.acquire(req)
		if err != nil {
			return nil, cmp.Or(lost, err)
		}
		resp, err := c.RoundTrip(req)
		c.load.Add(-1)
		if err == nil {
			if resp.ProtoMajor != 2 {
				resp.Body.Close()
				p.failed(c, req, errNotHTTP2)
				return nil, &ConnectError{errNotHTTP2}
			}
			c.once.Do(func() {
				p.mu.Lock()
				p.bad = 0
				p.mu.Unlock()
				close(c.proven)
			})
			p.changed(c)
			return resp, nil
		}
		p.failed(c, req, err)
		if notTaken(err) {
			untaken++
		} else {
			repeats++
			lost = err
		}
		if repeats > maxRepeats || untaken > maxUntaken || req.Context().Err() != nil {
			return nil, err
		}
		if n := repeats + untaken; n > 1 { // not all of them at once, again and again
			pause := time.NewTimer(time.Millisecond<<min(n, 8) + rand.N(time.Millisecond<<min(n, 8)))
			select {
			case <-pause.C:
			case <-req.Context().Done():
				pause.Stop()
				return nil, err
			}
		}
		if req, err = again(req); err != nil {
			return nil, err
		}
	}
}

// notTaken says that a server has not begun with a request: its stream was refused, or the server was leaving. For the
// latter net/http has errors without a name; if their words change, such a request is repeated less often.
func notTaken(err error) bool {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	switch err.Error() {
	case "http2: client conn not usable", "http2: Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}

// again is the same request, to be sent once more.
func again(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("the connection was lost under a request that cannot be repeated")
	}
	var err error
	req = req.Clone(req.Context())
	req.Body, err = req.GetBody()
	return req, err
}

// left says that the server has said goodbye on a connection that lies idle.
func (c *conn) left() bool { return c.load.Load() == 0 && c.InFlight() == 0 && c.Available() == 0 }

// room is how many requests the connection takes beside those that it was given. Those may not have streams yet.
func (c *conn) room() int {
	select {
	case <-c.proven:
		given := int(c.load.Load())
		return c.Available() - max(given-c.InFlight(), 0)
	default:
		return min(c.Available(), len(c.first))
	}
}

// take takes a place on the connection, if it has one. It does not use [http.ClientConn.Reserve]: a server that lowers its limit below the
// places that are reserved has net/http wait for ever, for these count as streams and are behind the one that waits.
func (c *conn) take() bool {
	select {
	case <-c.proven:
	default:
		select {
		case <-c.first:
			c.load.Add(1)
			return true
		default:
			return false
		}
	}
	for {
		given := c.load.Load()
		if c.Available()-max(int(given)-c.InFlight(), 0) < 1 {
			return false
		}
		if c.load.CompareAndSwap(given, given+1) {
			return true
		}
	}
}

// acquire returns a connection on which the request has a place.
func (p *Pool) acquire(req *http.Request) (*conn, error) {
	p.mu.Lock()
	conns, free := p.conns, len(p.waiting) == 0 && len(p.conns) == p.most
	p.mu.Unlock()
	if free {
		if c := pick(conns); c != nil {
			return c, nil
		}
	}
	turn := make(chan error, 1)
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errClosed
		}
		conns := p.conns
		p.awaited.Store(true)
		p.waiting = append(p.waiting, turn) // before it is looked for, so that what becomes free meanwhile is not missed
		p.grow(req)
		p.mu.Unlock()
		if c := pick(conns); c != nil {
			p.leave(turn)
			return c, nil
		}
		select {
		case err := <-turn:
			if err != nil {
				return nil, err
			}
		case <-req.Context().Done():
			p.leave(turn)
			return nil, &ConnectError{req.Context().Err()}
		}
	}
}

// leave takes one out of those who wait. If it was its turn, that is the next one's.
func (p *Pool) leave(turn chan error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, turn); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.awaited.Store(len(p.waiting) > 0)
	} else if err := <-turn; err == nil {
		p.wake(1)
	}
}

// pick takes a place on the connection that has the fewest requests, or, if it has no room, on that with the most room.
func pick(conns []*conn) *conn {
	var best *conn
	for _, c := range conns {
		if best == nil || c.load.Load() < best.load.Load() {
			best = c
		}
	}
	for best != nil && !best.take() {
		best = nil
		most := 0
		for _, c := range conns {
			if room := c.room(); room > most {
				best, most = c, room
			}
		}
	}
	return best
}

// grow begins to make a connection if there may be one more and those there are do not lie idle. The lock is held.
func (p *Pool) grow(req *http.Request) {
	for _, c := range p.conns {
		if c.left() {
			p.retire(c)
			p.work.Go(func() { c.Close() }) // nothing is under way on it, and net/http closes it behind a stream only
		}
	}
	n := len(p.conns) + p.dialing
	if n >= p.most || n > 0 && (p.dialing > 0 || time.Now().Before(p.spread) || p.idle()) {
		return
	}
	p.dialing++
	scheme, host := req.URL.Scheme, req.URL.Host
	if req.URL.Port() == "" {
		host = net.JoinHostPort(req.URL.Hostname(), "443")
	}
	p.work.Go(func() { p.dial(scheme, host) })
}

func (p *Pool) idle() bool {
	return slices.ContainsFunc(p.conns, func(c *conn) bool { return c.InFlight() == 0 && c.load.Load() == 0 })
}

func (p *Pool) dial(scheme, host string) {
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	p.mu.Lock()
	wait := time.Until(p.spread)
	if p.bad == 0 {
		wait = 0 // it is a further one that failed
	}
	p.mu.Unlock()
	if wait > 0 { // a server that takes connections and answers nothing is not stormed
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	cc, err := p.transport.NewClientConn(ctx, scheme, host)
	c := &conn{ClientConn: cc, proven: make(chan struct{}), first: make(chan struct{}, 1)}
	c.first <- struct{}{}
	p.mu.Lock()
	p.dialing--
	switch {
	case err == nil && !p.closed:
		p.conns = append(slices.Clip(p.conns), c)
		p.wake(1)
	case err != nil:
		p.spread = time.Now().Add(time.Second)
		if len(p.conns) == 0 && p.dialing == 0 {
			p.fail(&ConnectError{err})
		}
	}
	closed := p.closed
	p.mu.Unlock()
	if err != nil {
		return
	}
	if closed {
		cc.Close()
		return
	}
	cc.SetStateHook(func(*http.ClientConn) { p.changed(c) })
}

// changed looks what a connection has become: it may have room, or be gone.
func (p *Pool) changed(c *conn) {
	gone := c.Err() != nil
	if !gone && !p.awaited.Load() {
		return // the usual case
	}
	room := c.room()
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone {
		p.retire(c)
		delete(p.retired, c)
		room = 1 // for who makes another
	}
	p.wake(room)
}

// failed looks whether a connection on which a request failed takes any more. One that the server is leaving has no room,
// as one that is full has, but does not refuse streams for that.
func (p *Pool) failed(c *conn, req *http.Request, err error) {
	gone, unproven := c.Err() != nil, false
	select {
	case <-c.proven:
		var refused http2.StreamError
		gone = gone || req.Context().Err() == nil && c.Available() == 0 && !errors.As(err, &refused)
	default:
		unproven = true // this was its one request, so nobody knows how many it takes
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone || unproven {
		p.retire(c)
	}
	if unproven {
		p.bad = min(p.bad+1, 7)
		p.spread = time.Now().Add(50 * time.Millisecond << p.bad)
	}
	if !p.closed && (unproven || gone && c.left()) {
		p.work.Go(func() { c.Close() })
	}
	p.wake(1)
}

// retire forgets a connection that takes no more requests. It is not closed: those under way on it may still be answered, and it
// closes itself behind the last. The lock is held.
func (p *Pool) retire(c *conn) {
	if i := slices.Index(p.conns, c); i >= 0 {
		p.conns = slices.Delete(slices.Clone(p.conns), i, i+1)
		p.retired[c] = struct{}{}
	}
}

// wake lets so many look again, in order. The lock is held.
func (p *Pool) wake(n int) {
	n = min(max(n, 0), len(p.waiting))
	for _, turn := range p.waiting[:n] {
		turn <- nil
	}
	p.waiting = slices.Delete(p.waiting, 0, n)
	p.awaited.Store(len(p.waiting) > 0)
}

func (p *Pool) fail(err error) {
	for _, turn := range p.waiting {
		turn <- err
	}
	p.waiting = nil
	p.awaited.Store(false)
}

// CloseIdleConnections is what an [http.Client] asks for; the connections stay until Close.
func (p *Pool) CloseIdleConnections() {}

// Connections returns how many there are.
func (p *Pool) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Close ends the connections and what is under way on them.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	conns := slices.AppendSeq(slices.Clone(p.conns), maps.Keys(p.retired))
	p.conns, p.retired = nil, nil
	p.fail(errClosed)
	p.mu.Unlock()
	p.cancel()
	for _, c := range conns {
		c.SetStateHook(nil)
		c.Close()
	}
	p.work.Wait()
	return nil
}
