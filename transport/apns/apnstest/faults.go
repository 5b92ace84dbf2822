package apnstest

import (
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// faults are what a test has ordered for coming requests, whatever their token.
type faults struct {
	next        []planned
	goAwayEvery int
	goAwayCount int
	cutEvery    int
	cutCount    int
	cutNext     int
	delay       time.Duration
	stalls      int           // not yet resumed
	stalled     chan struct{} // closed when the last is
	lower       bool
}

type planned struct {
	n int
	a Answer
}

// AnswerNext gives the next n requests that answer, whatever their token. More
// calls queue up; n of zero or less drops all that is in store.
func (s *Server) AnswerNext(n int, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= 0 {
		s.faults.next = nil
		return
	}
	s.faults.next = append(s.faults.next, planned{n, a})
}

// take returns the answer that AnswerNext has in store; s.mu is held.
func (f *faults) take() *Answer {
	if len(f.next) == 0 {
		return nil
	}
	a := f.next[0].a
	if f.next[0].n--; f.next[0].n == 0 {
		f.next = f.next[1:]
	}
	return &a
}

// GoAwayEvery has each n-th request followed by a GOAWAY frame on its
// connection: it and those before it are answered, later ones are not processed.
// Zero or less ends that.
func (s *Server) GoAwayEvery(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.goAwayEvery, s.faults.goAwayCount = n, 0
}

// CutEvery has the connection of each n-th request cut in the middle of its
// answer. The request has been dealt with: if it was good the notification is
// accepted, though the client cannot know. Zero or less ends that.
func (s *Server) CutEvery(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.cutEvery, s.faults.cutCount = n, 0
}

// CutNext does to the next n requests what CutEvery does to each n-th. To have a
// connection cut before a request is accepted, use [Answer.Cut].
func (s *Server) CutNext(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.cutNext = max(n, 0)
}

// Delay holds back every answer to a request that comes from now on by d. Zero
// or less ends that.
func (s *Server) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.delay = d
}

// Stall holds back the answer to every request that comes from now on, until
// resume is called or the server closed. The requests are dealt with all the
// same: good ones are accepted at once. The connection lives, pings are
// answered. After several calls of Stall the last resume lets the answers go; a
// resume called again does nothing.
func (s *Server) Stall() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.stalls == 0 {
		s.faults.stalled = make(chan struct{})
	}
	s.faults.stalls++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.faults.stalls--; s.faults.stalls == 0 {
			close(s.faults.stalled)
		}
	})
}

// LowerStreams has the server answer refusals as APNs does, by lowering the
// stream limit of the connection: each status 4xx other than 429 halves it, down
// to 1, and each accepted notification raises it by one, up to Options.Streams.
func (s *Server) LowerStreams(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.lower = on
}

// spoil does to an answer what the faults want.
func (s *Server) spoil(h *h2server.Conn, c *conn, r *h2server.Response) {
	s.mu.Lock()
	f := &s.faults
	away := every(f.goAwayEvery, &f.goAwayCount)
	cut := every(f.cutEvery, &f.cutCount)
	if f.cutNext > 0 {
		f.cutNext--
		cut = true
	}
	lower := f.lower
	r.Delay = max(f.delay, 0)
	if f.stalls > 0 {
		r.Until = f.stalled
	}
	s.mu.Unlock()
	if cut && r.Fault == h2server.FaultNone {
		r.Fault = h2server.FaultCutBody
	}
	if lower && c.opened && r.Fault == h2server.FaultNone {
		switch {
		case r.Status == 0:
			c.streams = min(c.streams+1, s.o.Streams)
		case r.Status/100 == 4 && r.Status != 429:
			c.streams = max(c.streams/2, 1)
		}
		h.SetMaxStreams(uint32(c.streams))
	}
	if away {
		h.GoAway(http2.ErrCodeNo, shutdown)
	}
}

func every(n int, count *int) bool {
	if n <= 0 {
		return false
	}
	*count++
	return *count%n == 0
}
