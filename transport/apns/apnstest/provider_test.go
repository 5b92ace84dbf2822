package apnstest

import (
	"sync/atomic"
	"testing"
	"time"
)

// clock is the server's, moved by hand.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.now.Store(1700000000)
	return c
}

func (c *clock) Now() time.Time         { return time.Unix(c.now.Load(), 0) }
func (c *clock) pass(d time.Duration)   { c.now.Add(int64(d / time.Second)) }
func (c *client) sign(at time.Time)     { c.jwt = sign(c.t, c.s.Key(), at) }
func (c *client) reason(at int) string  { return c.push(c.s.Token(at)).reason }
func (c *client) wantReason(why string) { c.t.Helper(); wantReason(c.t, c.reason(1), why) }

func wantReason(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProviderTokenAges(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newServer(t, Options{Now: clock.Now})
	c := newClient(t, s)
	c.sign(clock.Now())
	c.wantReason("")
	clock.pass(time.Hour)
	c.wantReason("")
	clock.pass(time.Second)
	c.wantReason("ExpiredProviderToken")
	c.sign(clock.Now())
	c.wantReason("")
	if n := s.ProviderTokens(); n != 2 {
		t.Errorf("ProviderTokens = %d", n)
	}
	if s.Total() != 3 {
		t.Errorf("Total = %d", s.Total())
	}
}

// A client may answer ExpiredProviderToken with a new token at once, but not
// again and again.
func TestProviderTokenExcuse(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newServer(t, Options{Now: clock.Now})
	c := newClient(t, s)
	c.sign(clock.Now().Add(-2 * time.Hour)) // the client's clock is wrong
	c.wantReason("ExpiredProviderToken")
	c.sign(clock.Now().Add(-2*time.Hour + time.Second))
	c.wantReason("ExpiredProviderToken")
	c.sign(clock.Now().Add(-2*time.Hour + 2*time.Second))
	c.wantReason("TooManyProviderTokenUpdates")
	clock.pass(20 * time.Minute)
	c.sign(clock.Now())
	c.wantReason("")
}

func TestProviderTokenUpdates(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		o                           Options
		sameConnection, otherClient string
	}{
		"connection": {Options{}, "TooManyProviderTokenUpdates", ""},
		"server":     {Options{TokenUpdates: UpdatesPerServer}, "TooManyProviderTokenUpdates", "TooManyProviderTokenUpdates"},
		"unlimited":  {Options{TokenUpdates: UpdatesUnlimited}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			row.o.Now = clock.Now
			s := newServer(t, row.o)
			c := newClient(t, s)
			c.sign(clock.Now())
			first := c.jwt
			c.wantReason("")
			clock.pass(20*time.Minute - time.Second)
			c.sign(clock.Now())
			second := c.jwt
			c.wantReason(row.sameConnection)
			other := newClient(t, s)
			other.jwt = second
			other.wantReason(row.otherClient)
			c.jwt = first
			c.wantReason("")
			clock.pass(time.Second)
			c.jwt = second
			c.wantReason("")
			c.jwt = first // still under way when the second came
			c.wantReason("")
		})
	}
}

// A client that makes a new token because it is told that its token is wrong
// gets nowhere.
func TestProviderTokenWrongKey(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newServer(t, Options{Now: clock.Now})
	k := newServer(t, Options{}).Key()
	c := newClient(t, s)
	c.jwt = sign(t, k, clock.Now())
	c.wantReason("InvalidProviderToken")
	c.jwt = sign(t, k, clock.Now())
	c.wantReason("TooManyProviderTokenUpdates")
}
