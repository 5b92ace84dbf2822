package apnstest

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TokenUpdates says who may not change its provider token more often than every
// 20 minutes. APNs documents the rule but not whom it counts.
type TokenUpdates int

const (
	// UpdatesPerConnection counts each connection for itself.
	UpdatesPerConnection TokenUpdates = iota
	// UpdatesPerServer counts all connections together, as if all clients were
	// one: a client that starts anew with a token of its own is refused.
	UpdatesPerServer
	// UpdatesUnlimited never refuses a new provider token for being too early.
	UpdatesUnlimited
)

// Options says how a [Server] behaves. The zero value is a production server
// that knows every topic and every device.
type Options struct {
	// Topics are the bundle IDs that exist. A request for another topic is
	// refused with TopicDisallowed; what Apple appends for a push type, as in
	// "com.example.app.voip", is left out of the comparison. None: every topic
	// exists.
	Topics []string
	// Devices are the device tokens that exist; another is refused with
	// BadDeviceToken. None: everything that looks like a device token is one.
	Devices []string
	// Sandbox makes it a server of the development environment: answers have an
	// apns-unique-id.
	Sandbox bool
	// Streams is how many requests a connection may have open at a time. Zero
	// means 1000.
	Streams int
	// FirstStreams is the limit before a request with a valid provider token has
	// come; then it is Streams. Zero means 1, as with APNs; negative means
	// Streams from the start. Connections with a client certificate have Streams
	// from the start.
	FirstStreams int
	// MaxAge is how old a provider token may be. Zero means one hour.
	MaxAge time.Duration
	// TokenUpdates says how provider tokens that change too often are counted.
	TokenUpdates TokenUpdates
	// Now is the server's clock, by which it judges provider tokens and stamps
	// notifications. Nil means time.Now. It is called by several goroutines.
	Now func() time.Time
	// CountOnly keeps how many notifications a device was sent, not which:
	// Accepted returns nothing, Count and Total go on.
	CountOnly bool
}

// Server is a running simulator. All methods are safe for concurrent use. After
// Close they still tell what was recorded; what they order has no effect.
type Server struct {
	o         Options
	topics    map[string]bool
	known     map[string]bool // device tokens; nil: every one
	authority *authority
	key       *signingKey
	h2        *h2server.Server
	requests  atomic.Int64
	hook      atomic.Pointer[func(*Request) *Answer]
	conns     atomic.Int64 // numbers connections

	mu        sync.Mutex
	devices   map[string]*device
	total     int
	waiting   []*waiter
	providers map[string]*provider
	updates   updates
	faults    faults
	problems  problems
	closed    chan struct{}
	closeOnce sync.Once
}

// conn is what the server keeps of a connection; only the connection's goroutine
// touches it.
type conn struct {
	number      int
	topics      []string // of the client certificate
	certificate certificateState
	opened      bool // has Options.Streams
	streams     int  // limit announced
	auth        authorization
	push                            // the request in hand
	good        []byte              // the last payload without problems
	goodType    string              // and its push type
	fields      []hpack.HeaderField // of the answer in hand
}

// NewServer starts a simulator on a free port of 127.0.0.1. It has a
// certificate authority and a signing key of its own. Close ends it.
func NewServer(o Options) (*Server, error) {
	if o.Streams <= 0 {
		o.Streams = h2server.DefaultStreams
	}
	if o.FirstStreams == 0 {
		o.FirstStreams = 1
	}
	if o.FirstStreams < 0 || o.FirstStreams > o.Streams {
		o.FirstStreams = o.Streams
	}
	if o.MaxAge <= 0 {
		o.MaxAge = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	devices := make([]string, len(o.Devices))
	for i, token := range o.Devices {
		devices[i] = strings.ToLower(token)
	}
	s := &Server{
		o: o, topics: set(o.Topics), known: set(devices),
		devices: make(map[string]*device), providers: make(map[string]*provider),
		closed: make(chan struct{}),
	}
	var err error
	if s.authority, err = newAuthority(); err != nil {
		return nil, fmt.Errorf("apnstest: certificates: %w", err)
	}
	if s.key, err = newSigningKey(); err != nil {
		return nil, fmt.Errorf("apnstest: key: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("apnstest: %w", err)
	}
	s.h2, err = h2server.Serve(l, h2server.Options{
		Handler: s.handle, Opened: s.opened, TLS: s.authority.serverTLS(),
		Streams:   uint32(o.Streams),
		MaxHeader: 8000, // what APNs announces
	})
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("apnstest: %w", err)
	}
	return s, nil
}

func set(of []string) map[string]bool {
	if len(of) == 0 {
		return nil
	}
	m := make(map[string]bool, len(of))
	for _, v := range of {
		m[v] = true
	}
	return m
}

func (s *Server) opened(h *h2server.Conn) {
	c := &conn{number: int(s.conns.Add(1)), streams: s.o.FirstStreams}
	c.certificate, c.topics = s.authority.judge(h.PeerCertificates(), s.o.Now())
	if c.certificate == certificateGood {
		c.streams, c.opened = s.o.Streams, true
	}
	h.Data = c
	h.SetMaxStreams(uint32(c.streams))
}

// URL is where the server listens: https, the address 127.0.0.1 and a port. It
// has no slash at the end. The certificate is good for localhost and for Apple's
// own host names, too.
func (s *Server) URL() string { return "https://" + s.h2.Addr().String() }

// RootCAs returns what a client has to trust. The pool is the caller's.
func (s *Server) RootCAs() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.authority.ca)
	return p
}

// RootPEM returns the certificate of RootCAs in PEM, for another process.
func (s *Server) RootPEM() []byte { return certificatePEM(s.authority.ca.Raw) }

// Requests returns how many requests have come, whatever became of them; those
// refused for the stream limit are not among them.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Connections returns how many connections are open now and how many there ever
// were.
func (s *Server) Connections() (open, ever int) { return s.h2.Connections() }

// Total returns how many notifications have been accepted, for all devices.
func (s *Server) Total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

type waiter struct {
	total   int
	reached chan struct{}
}

// Wait returns nil when Total has reached total, ctx's error when that ends
// first, and [net.ErrClosed] when Close comes before.
func (s *Server) Wait(ctx context.Context, total int) error {
	w := &waiter{total: total, reached: make(chan struct{})}
	s.mu.Lock()
	if s.total >= total {
		s.mu.Unlock()
		return nil
	}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
	case <-s.closed:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.waiting {
		if s.waiting[i] == w {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			break
		}
	}
	if s.total >= total {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return net.ErrClosed
}

// shutdown is what APNs may put into a GOAWAY frame.
const shutdown = `{"reason":"Shutdown"}`

// GoAway ends every connection that is open now as APNs does when it shuts down
// a host: by a GOAWAY frame. Requests that came before are answered, later ones
// on the connection are not processed; a client opens a new connection.
func (s *Server) GoAway() {
	for _, c := range s.h2.Conns() {
		c.GoAway(http2.ErrCodeNo, shutdown)
	}
}

// Close cuts all connections, ends all goroutines of the server and then
// returns. Further calls return nil.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { close(s.closed) })
	return s.h2.Close()
}
