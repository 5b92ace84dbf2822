// Package h2server is a small HTTP/2 server over TLS for simulators of push
// services. It does what net/http's server cannot: lower and raise the stream
// limit of a connection while it lives, say in a GOAWAY which stream is the
// last, and fail in the middle of an answer.
//
// A connection costs one goroutine. The handler runs in it, request by request;
// an answer that is to come later is written by another goroutine.
package h2server

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Defaults of [Options].
const (
	DefaultStreams   = 1000
	DefaultMaxBody   = 64 << 10
	DefaultMaxHeader = 16 << 10
)

// Options says how a server behaves. TLS and Handler are required.
type Options struct {
	// Handler answers a request. It runs in the goroutine that reads the
	// connection: the handler of one connection is never called twice at a
	// time, and while it blocks, its connection stands still.
	Handler func(*Request) Response
	// TLS has at least a certificate. NextProtos is set by Serve.
	TLS *tls.Config
	// Opened, if set, is called in the connection's goroutine when TLS is
	// established and nothing has been sent. It may set the connection's Data
	// and, by SetMaxStreams, the limit that the first SETTINGS announces.
	Opened func(*Conn)
	// Streams is the limit of concurrent streams that a connection begins with.
	// Zero means DefaultStreams.
	Streams uint32
	// MaxBody is how many bytes of a request's body are kept; a longer one
	// reaches the handler cut, with Request.TooLarge set. Zero means
	// DefaultMaxBody.
	MaxBody int
	// MaxHeader is how large the header list of a request may be, counted as
	// RFC 9113 does: names, values and 32 bytes for each field. A request with a
	// larger one is answered 431 without the handler. Zero means
	// DefaultMaxHeader.
	MaxHeader int
}

// Server accepts connections until Close. All methods are safe for concurrent
// use.
type Server struct {
	o Options
	l net.Listener

	mu     sync.Mutex
	conns  map[*Conn]struct{}
	ever   int
	closed bool
	wg     sync.WaitGroup
}

// Serve starts to accept connections from l, which Close closes. It does not
// block.
func Serve(l net.Listener, o Options) (*Server, error) {
	if o.Handler == nil || o.TLS == nil {
		return nil, errors.New("h2server: Handler and TLS are required")
	}
	if o.Streams == 0 {
		o.Streams = DefaultStreams
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxHeader <= 0 {
		o.MaxHeader = DefaultMaxHeader
	}
	o.TLS = o.TLS.Clone()
	o.TLS.NextProtos = []string{"h2"}
	s := &Server{o: o, l: l, conns: make(map[*Conn]struct{})}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		raw, err := s.l.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				continue
			}
			return
		}
		s.start(raw)
	}
}

func (s *Server) start(raw net.Conn) {
	c := newConn(s, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = raw.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.ever++
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Conns returns the connections that are open now.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}

// Connections returns how many connections are open now and how many were ever
// accepted.
func (s *Server) Connections() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.ever
}

// Close stops accepting, cuts all connections and waits until every goroutine
// of the server has ended. Further calls do the same and return nil.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for c := range s.conns {
		c.Cut()
	}
	s.mu.Unlock()
	var err error
	if first {
		err = s.l.Close()
	}
	s.wg.Wait()
	return err
}
