package fcmtest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hash/maphash"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// ErrClosed is what Wait and WaitRequests return once the server is closed.
var ErrClosed = errors.New("fcmtest: server is closed")

// Server is FCM and Google's token endpoint, on one port of the loopback
// interface. It is made by [NewServer]. All methods are safe for concurrent
// use, after Close too: what was recorded can still be read.
type Server struct {
	options Options
	url     string
	root    *x509.Certificate
	account *account
	http    http.Server

	faults   faults
	tokens   tokens
	record   record
	requests counter
	total    counter
	ids      atomic.Int64
	problems problems

	connections connections
	handlers    sync.WaitGroup // under way; added to with closing held, while not closed
	closing     sync.RWMutex
	closed      chan struct{}
	served      chan struct{}
}

// NewServer starts a server with a port of its own on 127.0.0.1. It speaks TLS
// with a certificate of its own authority, HTTP/2 and HTTP/1.1. The caller
// closes it. An error is one of the options or of the system.
func NewServer(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	leaf, root, err := certificate()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: o,
		url:     "https://" + listener.Addr().String(),
		root:    root,
		closed:  make(chan struct{}),
		served:  make(chan struct{}),
	}
	if s.account, err = newAccount(o.Project, s.url); err != nil {
		listener.Close()
		return nil, err
	}
	s.tokens.given = make(map[string]accessToken)
	if o.CountOnly {
		s.record.counts, s.record.seed = make(map[uint64]uint32), maphash.MakeSeed()
	} else {
		s.record.messages = make(map[string][]Message)
	}
	s.http = http.Server{
		Handler:   http.HandlerFunc(s.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: o.Streams},
		ConnState: s.connections.change,
		ErrorLog:  log.New(panics{}, "", log.LstdFlags),
	}
	go func() {
		defer close(s.served)
		s.http.ServeTLS(listener, "", "") // ends with Close
	}()
	return s, nil
}

// panics lets through what net/http logs about a panic, such as one of the
// function set by OnRequest. What it says of handshakes and streams that fail is
// nothing new to who breaks connections.
type panics struct{}

func (panics) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic serving")) {
		return os.Stderr.Write(line)
	}
	return len(line), nil
}

// URL returns https://127.0.0.1:port. The endpoint of FCM, as
// option.WithEndpoint wants it, is URL()+"/v1"; the token endpoint is
// URL()+"/token".
func (s *Server) URL() string { return s.url }

// Client returns a new HTTP client that trusts the server, with connections of
// its own. They end with the server's Close at the latest.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: s.RootCAs()},
		ForceAttemptHTTP2: true,
	}}
}

// Close ends all connections and returns when nothing of the server runs any
// more; requests under way are not answered. It waits for a function set by
// OnRequest to return. A second call does nothing. The error is nil.
func (s *Server) Close() error {
	s.closing.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.closing.Unlock()
	s.http.Close() // an error is one of the listener, which is gone then too
	<-s.served
	s.handlers.Wait()
	s.connections.wait()
	return nil
}

// enter returns false once the server is closed.
func (s *Server) enter() bool {
	s.closing.RLock()
	defer s.closing.RUnlock()
	select {
	case <-s.closed:
		return false
	default:
		s.handlers.Add(1)
		return true
	}
}
