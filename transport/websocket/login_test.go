package websocket

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestRefusal: a client is told what the login chose to say, and nothing else.
func TestRefusal(t *testing.T) {
	t.Parallel()
	secret := "T0P-SECRET"
	for _, of := range []struct {
		err    error
		status int
		text   string
	}{
		{errors.New("no " + secret), 401, "Unauthorized"},
		{&Refusal{Reason: "expired"}, 401, "expired"},
		{fmt.Errorf("token %s: %w", secret, &Refusal{Status: 403, Reason: "not from there"}), 403, "not from there"},
		{&Refusal{Status: 503}, 503, "Service Unavailable"},
		{&Refusal{Status: 200}, 401, "Unauthorized"},
	} {
		h := startWith(t, t.TempDir(), Options{}, func(*http.Request) (string, error) { return "alice", of.err })
		if status, text := h.get("", upgrade()); status != of.status || text != of.text {
			t.Errorf("%v is answered with %d %q", of.err, status, text)
		}
		if !strings.Contains(h.log.String(), of.err.Error()) {
			t.Errorf("the log does not say %v:\n%s", of.err, h.log)
		}
		if _, err := h.p.User(t.Context(), "alice"); err == nil {
			t.Errorf("who was refused is known: %v", of.err)
		}
	}
}

// upgrade is what a browser sends when a page opens a WebSocket.
func upgrade() http.Header {
	return http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
}

// TestNoUpgrade: what opens no connection makes nobody known or online, whoever's cookies it has.
func TestNoUpgrade(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{Origins: []string{"*.example.com", "https://one.test"}})
	for _, of := range []struct {
		name, value string
		status      int
	}{
		{"Upgrade", "", 426},
		{"Sec-Websocket-Key", "", 400},
		{"Origin", "https://elsewhere.test", 403},
		{"Origin", "http://one.test", 403},
		{"Origin", "null", 403},
		{"Origin", "https://example.com", 403},
	} {
		header := upgrade()
		header.Set(of.name, of.value)
		if status, text := h.get("user=alice", header); status != of.status {
			t.Errorf("%s %q is answered with %d %s", of.name, of.value, status, text)
		}
	}
	if _, err := h.p.User(t.Context(), "alice"); err == nil {
		t.Error("alice is known")
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	some := start(t, t.TempDir(), Options{Origins: []string{"*.example.com", "https://one.test"}})
	any := start(t, t.TempDir(), Options{Origins: []string{"*"}})
	for _, of := range []struct {
		h      *host
		origin string
	}{{some, some.http.URL}, {some, "https://app.example.com"}, {some, "https://one.test"}, {some, ""}, {any, "https://elsewhere.test"}, {any, "null"}} {
		header := upgrade()
		if header.Set("Origin", of.origin); of.origin == "" {
			header.Del("Origin")
		}
		if status, text := of.h.get("user=alice", header); status != http.StatusSwitchingProtocols {
			t.Errorf("a page of %q is answered with %d %s", of.origin, status, text)
		}
	}
}

// TestSubprotocol: a token may come in the list of subprotocols, and one that is agreed to.
func TestSubprotocol(t *testing.T) {
	t.Parallel()
	h := startWith(t, t.TempDir(), Options{Subprotocols: []string{"fanfare"}}, func(r *http.Request) (string, error) {
		user, ok := strings.CutPrefix(r.Header.Get("Sec-WebSocket-Protocol"), "fanfare,token-of-")
		if !ok {
			return "", errors.New("no token")
		}
		return user, nil
	})
	ws, _, err := websocket.Dial(t.Context(), h.http.URL, &websocket.DialOptions{Subprotocols: []string{"fanfare", "token-of-alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != "fanfare" {
		t.Errorf("agreed on %q", ws.Subprotocol())
	}
	h.push("one", week)
	(&client{h: h, user: "alice", ws: ws}).expect("one")
}

// TestBadUser: a login that names nobody whom the Pusher takes is told so in the log.
func TestBadUser(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	if status, text := h.get("user="+strings.Repeat("x", 300), upgrade()); status != http.StatusInternalServerError || text != "internal error: try again" {
		t.Errorf("%d %s", status, text)
	}
	if !strings.Contains(h.log.String(), "login failed") {
		t.Errorf("the log:\n%s", h.log)
	}
	h.hub.mu.RLock()
	defer h.hub.mu.RUnlock()
	if len(h.hub.users) != 0 || len(h.hub.open) != 0 {
		t.Errorf("%d users and %d connections are left", len(h.hub.users), len(h.hub.open))
	}
}

func TestHandlerNeeds(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	for what, make := range map[string]func() http.Handler{
		"a Pusher": func() http.Handler { return h.hub.Handler(nil, named) },
		"a login":  func() http.Handler { return h.hub.Handler(h.p, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("without %s there is a handler", what)
				}
			}()
			make()
		}()
	}
}
