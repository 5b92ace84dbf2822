package h2server

import (
	"time"

	"golang.org/x/net/http2"
)

// SetMaxStreams changes how many streams may be open at a time and tells the
// client at once. Streams that are open already go on; a new one above the limit
// is refused, even when the client cannot know of the limit yet.
func (c *Conn) SetMaxStreams(n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max == n {
		return
	}
	c.max = n
	if c.settled {
		_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
		c.flushIfIdle()
	}
}

// GoAway tells the client that the connection ends: streams up to the highest
// that has come are answered, later ones are not processed, and when the open
// ones are answered the connection is closed. Debug is the frame's debug data,
// "" for none. A second call does nothing.
func (c *Conn) GoAway(code http2.ErrCode, debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goingAway || !c.settled {
		return
	}
	c.goingAway = true
	_ = c.fr.WriteGoAway(c.last, code, []byte(debug))
	if len(c.streams) == 0 {
		c.linger()
	}
	c.flushIfIdle()
}

// linger ends our side and leaves it to the client to close; c.mu is held.
func (c *Conn) linger() {
	if c.lingers {
		return
	}
	c.flush()
	c.lingers = true
	_ = c.tls.CloseWrite()
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(lingering))
}

// Cut closes the TCP connection without a word. No request that came before, and
// has not reached the handler, will.
func (c *Conn) Cut() {
	c.dead.Store(true)
	_ = c.raw.Close()
}
