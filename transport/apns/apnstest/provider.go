package apnstest

import (
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

const (
	minUpdate = 20 * time.Minute // between two provider tokens of a client
	maxAhead  = 5 * time.Minute  // how far a client's clock may be ahead
)

// provider is one provider token. What of it does not depend on the time is
// checked once.
type provider struct {
	genuine bool // signature, key and team are right
	issued  time.Time
}

// authorization is what a connection remembers of the Authorization header: it
// is the same from request to request.
type authorization struct {
	header  string
	current *provider
	updates updates
}

// updates are the provider tokens that a connection, or the server, has let in.
type updates struct {
	seen   []*provider // in the order they came
	last   time.Time   // when the last came
	excuse time.Time   // when one last came early, because its predecessor was stale
}

// fresh reports whether a genuine token can be used now.
func (p *provider) fresh(now time.Time, maxAge time.Duration) bool {
	age := now.Sub(p.issued)
	return age <= maxAge && age >= -maxAhead
}

// admit reports whether a client may use p: a token it has used before always, a
// new one when the last is 20 minutes ago. A client that is told
// ExpiredProviderToken has to make a new token at once, so it may; one that only
// ever makes stale tokens may not go on like that.
func (u *updates) admit(p *provider, now time.Time, maxAge time.Duration) bool {
	for i := len(u.seen) - 1; i >= 0; i-- {
		if u.seen[i] == p {
			return true
		}
	}
	if n := len(u.seen); n > 0 && now.Sub(u.last) < minUpdate {
		before := u.seen[n-1]
		if !before.genuine || before.fresh(now, maxAge) {
			return false
		}
		if !u.excuse.IsZero() && now.Sub(u.excuse) < minUpdate {
			return false
		}
		u.excuse = now
	}
	u.seen = append(u.seen, p)
	u.last = now
	return true
}

// authorize returns the reason why a request's provider may not send, or "". On
// a connection with a client certificate provider tokens are ignored. The first
// good token opens the connection's streams.
func (s *Server) authorize(h *h2server.Conn, c *conn, header string) string {
	switch c.certificate {
	case certificateGood:
		return ""
	case certificateBad:
		return "BadCertificate"
	}
	const scheme = "bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "MissingProviderToken"
	}
	now := s.o.Now()
	if header != c.auth.header {
		p, reason := s.provider(c, header[len(scheme):], now)
		if reason != "" {
			return reason
		}
		c.auth.header, c.auth.current = header, p
	}
	switch {
	case !c.auth.current.genuine:
		return "InvalidProviderToken"
	case !c.auth.current.fresh(now, s.o.MaxAge):
		return "ExpiredProviderToken"
	}
	if !c.opened {
		c.opened, c.streams = true, s.o.Streams
		h.SetMaxStreams(uint32(c.streams))
	}
	return ""
}

func (s *Server) provider(c *conn, token string, now time.Time) (*provider, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.providers[token]
	if p == nil {
		p = new(provider)
		p.issued, p.genuine = s.key.verify(token)
		s.providers[strings.Clone(token)] = p
	}
	u := &c.auth.updates
	switch s.o.TokenUpdates {
	case UpdatesPerServer:
		u = &s.updates
	case UpdatesUnlimited:
		return p, ""
	}
	if !u.admit(p, now, s.o.MaxAge) {
		return nil, "TooManyProviderTokenUpdates"
	}
	return p, ""
}

// ProviderTokens returns how many different provider tokens have been seen, good
// or bad. A client should need one for each hour at most.
func (s *Server) ProviderTokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.providers)
}
