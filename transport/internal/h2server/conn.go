package h2server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	maxFrame   = 16 << 10 // what every peer must accept
	recvWindow = 1 << 20  // of the connection
	// lingering is how long a connection that has said its last word waits for
	// the client to close. Closed at once, with requests unread, it would be
	// reset, and the client might lose the GOAWAY and the last answers.
	lingering = time.Second
)

// Conn is one connection. All methods are safe for concurrent use, also from the
// handler.
type Conn struct {
	// Data is the user's own. It is set in Options.Opened and read in the
	// handler, which both run in the connection's goroutine.
	Data any

	srv  *Server
	raw  net.Conn
	tls  *tls.Conn
	done chan struct{} // closed when the connection's goroutine ends
	dead atomic.Bool   // cut: what came is not processed any more

	// What only the connection's goroutine touches.
	br   *bufio.Reader
	dec  *hpack.Decoder
	blk  block
	req  Request
	owed int64
	seen uint32 // highest stream the client has opened

	mu        sync.Mutex
	bw        *bufio.Writer
	fr        *http2.Framer // read without mu, written with it
	block     bytes.Buffer
	enc       *hpack.Encoder
	idle      bool // the goroutine waits for the client; nobody else will flush
	streams   map[uint32]*stream
	free      []*stream
	last      uint32 // highest that is or was processed
	max       uint32 // limit of concurrent streams
	settled   bool   // the first SETTINGS has been sent
	goingAway bool
	lingers   bool
	window    int64 // what the client lets us send on the connection
	initial   int64 // and on a new stream
}

func newConn(s *Server, raw net.Conn) *Conn {
	c := &Conn{
		srv: s, raw: raw, done: make(chan struct{}), max: s.o.Streams,
		streams: make(map[uint32]*stream), window: 65535, initial: 65535,
	}
	c.tls = tls.Server(&wire{Conn: raw, br: bufio.NewReaderSize(&source{c}, 64<<10)}, s.o.TLS)
	c.br = bufio.NewReaderSize(c.tls, 17<<10)
	c.bw = bufio.NewWriterSize(c.tls, 32<<10)
	c.fr = http2.NewFramer(c.bw, c.br)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(maxFrame)
	c.dec = hpack.NewDecoder(4096, c.field)
	c.enc = hpack.NewEncoder(&c.block)
	// Most fields of a push service's answers differ from one to the next: a
	// table would be work without gain.
	c.enc.SetMaxDynamicTableSize(0)
	return c
}

// wire is the connection that TLS sees: reads go through a large buffer, so that
// source knows when the client has sent nothing more.
type wire struct {
	net.Conn
	br *bufio.Reader
}

func (w *wire) Read(p []byte) (int, error) { return w.br.Read(p) }

// source reads from the network. Whoever calls it has handled all that came, so
// that is the time to send the answers: all of them with few writes.
type source struct{ c *Conn }

func (s *source) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	c.flush()
	c.idle = true
	c.mu.Unlock()
	n, err := c.raw.Read(p)
	c.mu.Lock()
	c.idle = false
	c.mu.Unlock()
	return n, err
}

// flush sends what is written. When that fails the reader must not wait on.
func (c *Conn) flush() {
	if !c.lingers && c.bw.Buffered() > 0 && c.bw.Flush() != nil {
		c.Cut()
	}
}

func (c *Conn) flushIfIdle() {
	if c.idle {
		c.flush()
	}
}

func (c *Conn) serve() {
	defer c.leave()
	if err := c.hello(); err != nil {
		return
	}
	for !c.dead.Load() {
		f, err := c.fr.ReadFrame()
		if err == nil {
			err = c.frame(f)
		}
		if err != nil && !c.survives(err) {
			return
		}
	}
}

// leave leaves nothing behind: held answers find neither streams nor a reader.
func (c *Conn) leave() {
	c.mu.Lock()
	c.flush()
	clear(c.streams)
	c.goingAway = true
	c.mu.Unlock()
	c.Cut()
	close(c.done)
}

func (c *Conn) hello() error {
	if err := c.tls.Handshake(); err != nil {
		return err
	}
	if c.tls.ConnectionState().NegotiatedProtocol != "h2" {
		return errors.New("h2server: not HTTP/2")
	}
	if c.srv.o.Opened != nil {
		c.srv.o.Opened(c)
	}
	c.mu.Lock()
	_ = c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.max},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(max(65535, c.srv.o.MaxBody+1))},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.srv.o.MaxHeader)},
	)
	_ = c.fr.WriteWindowUpdate(0, recvWindow-65535)
	c.settled = true
	c.flush()
	c.mu.Unlock()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.br, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return errors.New("h2server: no preface")
	}
	return nil
}

// PeerCertificates are what the client showed in the handshake, leaf first; they
// are not verified unless Options.TLS says so.
func (c *Conn) PeerCertificates() []*x509.Certificate {
	return c.tls.ConnectionState().PeerCertificates
}
