package fcmtest

import (
	"context"
	"sync"
	"time"
)

// faults is what the server was told to do wrong.
type faults struct {
	mu      sync.Mutex
	tokens  map[string]*reply
	next    []nextReplies
	hook    func(*Request) *Answer
	goAway  int // every so many requests
	cut     int
	cutNext int
	gates   map[int]chan struct{} // closed when the stall is over
	gate    int
	delay   time.Duration
}

type nextReplies struct {
	n     int
	reply *reply
}

// Kill makes the registration token one whose app is gone: 404 UNREGISTERED.
// It is Answer(token, Answer{ErrorCode: "UNREGISTERED"}).
func (s *Server) Kill(token string) { s.faults.set(token, unregistered) }

// unregistered is shared: there may be millions of dead tokens.
var unregistered = (&Answer{ErrorCode: "UNREGISTERED"}).reply()

// Answer makes a the answer to every message to the registration token that is
// otherwise right. The zero Answer takes that back. For a topic the token is
// "/topics/" and its name, for a condition the condition.
func (s *Server) Answer(token string, a Answer) {
	if a.zero() {
		s.faults.set(token, nil)
		return
	}
	s.faults.set(token, a.reply())
}

func (f *faults) set(token string, r *reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r == nil:
		delete(f.tokens, token)
	case f.tokens == nil:
		f.tokens = map[string]*reply{token: r}
	default:
		f.tokens[token] = r
	}
}

// AnswerNext makes a the answer to the next n sends, whatever is in them, after
// the next ones of earlier calls. The zero Answer, or n below one, takes back
// what is left of all of them.
func (s *Server) AnswerNext(n int, a Answer) {
	f := &s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if n < 1 || a.zero() {
		f.next = nil
		return
	}
	f.next = append(f.next, nextReplies{n, a.reply()})
}

// OnRequest makes the server call f with each request that it has read, those
// to the token endpoint and to nowhere among them, before it looks at it. The
// Answer that f returns is sent; nil and the zero Answer mean go on. f may block
// and may call the server's methods except Close; it is called by several
// goroutines at a time. A nil f ends it.
func (s *Server) OnRequest(f func(*Request) *Answer) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.hook = f
}

// GoAwayEvery makes every n-th send of all connections the last of its
// connection: the answer comes with a GOAWAY on HTTP/2, with Connection: close
// on HTTP/1.1. What the client has under way is answered first. Below one, no
// more.
func (s *Server) GoAwayEvery(n int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.goAway = n
}

// CutNext makes the server break off the next n answers to sends in the middle
// of the body: a stream reset on HTTP/2, the connection's end on HTTP/1.1. The
// message may have been accepted, and counted, for all that. Below one, none.
func (s *Server) CutNext(n int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.cutNext = max(n, 0)
}

// CutEvery makes the server break off every n-th answer to a send, as CutNext
// does. Below one, no more.
func (s *Server) CutEvery(n int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.cut = n
}

// Stall makes the server take sends without looking at them, until the function
// it returns is called or the server is closed. A request whose client gives up
// before is forgotten. The function may be called more than once.
func (s *Server) Stall() (resume func()) {
	f := &s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gates == nil {
		f.gates = make(map[int]chan struct{})
	}
	f.gate++
	number, gate := f.gate, make(chan struct{})
	f.gates[number] = gate
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.gates, number)
		close(gate)
	})
}

// Delay makes the server wait that long before it looks at a send, as if Google
// were far away. A request whose client gives up before is forgotten. Zero ends
// it.
func (s *Server) Delay(d time.Duration) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.delay = d
}

// hold returns true when a send may go on, false when nobody waits for it any
// more.
func (s *Server) hold(ctx context.Context) bool {
	f := &s.faults
	f.mu.Lock()
	delay := f.delay
	var gates []chan struct{}
	for _, g := range f.gates {
		gates = append(gates, g)
	}
	f.mu.Unlock()
	for _, g := range gates {
		if !s.await(ctx, g) {
			return false
		}
	}
	if delay > 0 {
		late := make(chan struct{})
		t := time.AfterFunc(delay, func() { close(late) })
		defer t.Stop()
		return s.await(ctx, late)
	}
	return true
}

// await returns whether goOn came before the client's end and the server's.
func (s *Server) await(ctx context.Context, goOn <-chan struct{}) bool {
	select {
	case <-goOn:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	case <-s.closed:
		return false
	}
}

func (f *faults) function() func(*Request) *Answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hook
}

// takeNext returns the next answer in store, nil if there is none.
func (f *faults) takeNext() *reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.next) == 0 {
		return nil
	}
	r := f.next[0].reply
	if f.next[0].n--; f.next[0].n == 0 {
		f.next = f.next[1:]
	}
	return r
}

func (f *faults) of(token string) *reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tokens[token]
}

// ending says how the answer to the n-th send ends.
func (f *faults) ending(n int) (goAway, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cutNext > 0 {
		f.cutNext--
		cut = true
	}
	return f.goAway > 0 && n%f.goAway == 0, cut || f.cut > 0 && n%f.cut == 0
}
