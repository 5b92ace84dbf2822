package apnstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Notification is one that the server has accepted.
type Notification struct {
	ID       string // apns-id: the client's, or else the server's
	Topic    string // the app's bundle ID
	PushType string // "alert" if the request had none
	Priority int    // 1, 5 or 10; 10 if the request had none
	// Expiration is zero if the request had none; for "0", which asks for one
	// attempt only, it is time.Unix(0, 0).
	Expiration time.Time
	CollapseID string          // empty if the request had none
	Payload    json.RawMessage // as it was sent
	At         time.Time       // by the server's clock
}

// device is what the server knows of a device token.
type device struct {
	count    int
	accepted []Notification
	plan     *devicePlan
}

// devicePlan is what few devices have.
type devicePlan struct {
	answer  Answer
	killed  time.Time
	expired time.Time
	topic   string
}

// Token returns the i-th of the simulator's device tokens: 64 hex digits, the
// same for the same i, different for different ones.
func (s *Server) Token(i int) string {
	// An odd multiplier makes tokens look as random as Apple's and keeps them
	// apart: it is a bijection.
	x := uint64(i)*0x9e3779b97f4a7c15 + 0x5bd1e995
	return fmt.Sprintf("%016x%016x%016x%016x", x, x*0xbf58476d1ce4e5b9, x*0x94d049bb133111eb, uint64(i))
}

// planOf calls f with the plan of a device; s.mu is not held.
func (s *Server) planOf(token string, f func(*devicePlan)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(strings.ToLower(token))
	if d.plan == nil {
		d.plan = new(devicePlan)
	}
	f(d.plan)
}

func (s *Server) device(token string) *device {
	d := s.devices[token]
	if d == nil {
		d = new(device)
		s.devices[token] = d
	}
	return d
}

// Kill makes a device's token one that is no longer active, since at: the app
// was removed. Requests are refused with status 410, Unregistered and the
// timestamp at. A zero at brings the device back.
func (s *Server) Kill(token string, at time.Time) {
	s.planOf(token, func(p *devicePlan) { p.killed = at })
}

// Expire makes a device's token one that has expired at that time: status 410,
// ExpiredToken and the timestamp at. A zero at brings the device back.
func (s *Server) Expire(token string, at time.Time) {
	s.planOf(token, func(p *devicePlan) { p.expired = at })
}

// Bind says that a token belongs to a topic's app: requests for another topic
// are refused with DeviceTokenNotForTopic. What Apple appends to the topic for a
// push type is left out of the comparison. An empty topic undoes it.
func (s *Server) Bind(token, topic string) {
	s.planOf(token, func(p *devicePlan) { p.topic = topic })
}

// Answer gives every request for the token that answer, before anything is
// checked. The zero Answer removes it.
func (s *Server) Answer(token string, a Answer) {
	s.planOf(token, func(p *devicePlan) { p.answer = a })
}

// deliver records a good request, or returns what its device has against it.
func (s *Server) deliver(c *conn, payload []byte) *Answer {
	p := &c.push
	now := s.o.Now()
	var n Notification
	if !s.o.CountOnly {
		n = Notification{
			ID: p.id, Topic: p.topic, PushType: p.pushType, Priority: p.urgency,
			Expiration: p.expires, CollapseID: p.collapseID,
			Payload: slices.Clone(json.RawMessage(payload)), At: now,
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(p.token)
	if plan := d.plan; plan != nil {
		switch {
		case plan.topic != "" && plan.topic != p.topic && plan.topic != bundle(p.topic):
			return &Answer{Reason: "DeviceTokenNotForTopic"}
		case !plan.killed.IsZero():
			return &Answer{Reason: "Unregistered", Timestamp: plan.killed}
		case !plan.expired.IsZero():
			return &Answer{Reason: "ExpiredToken", Timestamp: plan.expired}
		}
	}
	d.count++
	s.total++
	if !s.o.CountOnly {
		d.accepted = append(d.accepted, n)
	}
	s.wake()
	return nil
}

// wake ends the Waits that have what they want; s.mu is held.
func (s *Server) wake() {
	if len(s.waiting) == 0 {
		return
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w *waiter) bool {
		if s.total < w.total {
			return false
		}
		close(w.reached)
		return true
	})
}

// Accepted returns what a device was sent, in the order it was accepted. The
// slice is the caller's, the payloads in it are not to be changed. With
// Options.CountOnly there is nothing.
func (s *Server) Accepted(token string) []Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[strings.ToLower(token)]
	if d == nil {
		return nil
	}
	return slices.Clone(d.accepted)
}

// Count returns how many notifications for a device were accepted.
func (s *Server) Count(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[strings.ToLower(token)]
	if d == nil {
		return 0
	}
	return d.count
}
