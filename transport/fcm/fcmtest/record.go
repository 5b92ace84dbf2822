package fcmtest

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// Message is one message that the server has accepted.
type Message struct {
	Name string          // projects/P/messages/ID, as the answer had it
	JSON json.RawMessage // the message object, as it was sent; not to be changed
	At   time.Time       // by Options.Now
}

// record is what was accepted, by target.
type record struct {
	mu       sync.Mutex
	messages map[string][]Message // or else:
	counts   map[uint64]uint32    // by the hash of the target, for there may be millions
	seed     maphash.Seed
}

func (r *record) add(to string, m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts != nil {
		r.counts[maphash.String(r.seed, to)]++
		return
	}
	r.messages[to] = append(r.messages[to], m)
}

// Accepted returns the messages that the registration token got, in the order
// in which they were accepted. For a topic the token is "/topics/" and its name,
// for a condition the condition. The slice is the caller's. With
// Options.CountOnly it is nil.
func (s *Server) Accepted(token string) []Message {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return slices.Clone(s.record.messages[token])
}

// Count returns how many messages that are.
func (s *Server) Count(token string) int {
	r := &s.record
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts != nil {
		return int(r.counts[maphash.String(r.seed, token)])
	}
	return len(r.messages[token])
}

// Total returns how many messages have been accepted, for all targets together.
func (s *Server) Total() int { return s.total.value() }

// Requests returns how many sends have been read, whatever became of them.
func (s *Server) Requests() int { return s.requests.value() }

// Wait returns when total messages have been accepted since the server was
// made, with the cause of ctx's end if that is first, or with [ErrClosed].
func (s *Server) Wait(ctx context.Context, total int) error {
	return s.total.wait(ctx, total, s.closed)
}

// WaitRequests returns when n sends have been read, or as Wait does. With Stall
// it tells that they are held back now.
func (s *Server) WaitRequests(ctx context.Context, n int) error {
	return s.requests.wait(ctx, n, s.closed)
}
