package fcmtest

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections knows those that are open.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
	ever int
	gone chan struct{} // if somebody waits; closed when none is open
}

func (c *connections) change(conn net.Conn, state http.ConnState) {
	if state == http.StateActive || state == http.StateIdle {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		if c.open == nil {
			c.open = make(map[net.Conn]struct{})
		}
		c.open[conn] = struct{}{}
		c.ever++
		return
	}
	delete(c.open, conn)
	if len(c.open) == 0 && c.gone != nil {
		close(c.gone)
		c.gone = nil
	}
}

func (c *connections) wait() {
	c.mu.Lock()
	if len(c.open) == 0 {
		c.mu.Unlock()
		return
	}
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	gone := c.gone
	c.mu.Unlock()
	<-gone
}

// Connections returns how many connections clients have open now and how many
// they have ever opened.
func (s *Server) Connections() (open, ever int) {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	return len(s.connections.open), s.connections.ever
}

// Disconnect breaks all connections off, as a network does that fails. Requests
// under way are not answered, though their messages may be accepted. New
// connections are welcome.
func (s *Server) Disconnect() {
	s.connections.mu.Lock()
	conns := make([]net.Conn, 0, len(s.connections.open))
	for conn := range s.connections.open {
		conns = append(conns, conn)
	}
	s.connections.mu.Unlock()
	for _, conn := range conns {
		if c, ok := conn.(*tls.Conn); ok {
			conn = c.NetConn() // without TLS's goodbye
		}
		conn.Close()
	}
}
