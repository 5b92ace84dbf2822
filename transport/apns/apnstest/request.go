package apnstest

import (
	"bytes"
	"net/http"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// Request is what the function set by OnRequest sees: Method, Path and Header as they came, and the body, which is the Payload. It is the function's own.
type Request struct {
	Method string
	Path   string
	// Token is the device token in the path, in lower case, however wrong it is;
	// "" if the path is not that of a device.
	Token   string
	Header  http.Header
	Payload []byte
	// Connection numbers the connections from 1 in the order they came.
	Connection int
}

// OnRequest sets a function that is called for each request before anything else
// is decided: nil means go on, another answer is given at once. It is called in
// the goroutine that reads the connection, so the requests of one connection
// come one after the other, and none while it blocks; it must not call Close.
// Nil removes the function.
func (s *Server) OnRequest(f func(*Request) *Answer) {
	if f == nil {
		s.hook.Store(nil)
		return
	}
	s.hook.Store(&f)
}

func (s *Server) ask(r *h2server.Request, c *conn) *Answer {
	f := s.hook.Load()
	if f == nil {
		return nil
	}
	return (*f)(&Request{
		Method: r.Method, Path: r.Path, Token: c.token, Header: r.Header(),
		Payload: bytes.Clone(r.Body), Connection: c.number,
	})
}

// handle is the whole of the service.
func (s *Server) handle(r *h2server.Request) h2server.Response {
	s.requests.Add(1)
	c := r.Conn.Data.(*conn)
	c.push.parse(r)
	// A good provider token opens the connection's streams even if the request
	// gets an answer that a test has ordered.
	unauthorized := s.authorize(r.Conn, c, c.push.authorization)
	a := s.ask(r, c)
	if a == nil {
		a = s.ordered(c.token)
	}
	if a == nil {
		if reason := s.refusal(r, c, unauthorized); reason != "" {
			a = &Answer{Reason: reason}
		}
	}
	resp := s.response(c, a)
	if a == nil {
		if a = s.deliver(c, r.Body); a != nil {
			resp = s.response(c, a)
		}
	}
	s.spoil(r.Conn, c, &resp)
	return resp
}

// ordered returns what AnswerNext or Answer want for a request.
func (s *Server) ordered(token string) *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.faults.take(); a != nil {
		return a
	}
	if d := s.devices[token]; d != nil && d.plan != nil && d.plan.answer != (Answer{}) {
		a := d.plan.answer
		return &a
	}
	return nil
}

// refusal returns the first thing that is wrong with a request, whatever the
// device, or "".
func (s *Server) refusal(r *h2server.Request, c *conn, unauthorized string) string {
	if reason := s.target(r, &c.push); reason != "" {
		return reason
	}
	if unauthorized != "" {
		return unauthorized
	}
	if reason := s.header(c, &c.push); reason != "" {
		return reason
	}
	return s.payload(c, r)
}
