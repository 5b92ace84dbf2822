package websocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// host is a program with a hub and a Pusher.
type host struct {
	t    *testing.T
	hub  *Hub
	p    *fanfare.Pusher
	log  *lines
	http *httptest.Server
	stop func(context.Context) error // ends all, in order; the error is the hub's

	mu    sync.Mutex
	left  map[string]chan struct{} // of each connection: closed when the hub has forgotten it
	dials int
}

// named lets in whom the query says.
func named(r *http.Request) (string, error) {
	if user := r.URL.Query().Get("user"); user != "" {
		return user, nil
	}
	return "", errors.New("the token was T0P-SECRET")
}

func start(t *testing.T, dir string, o Options) *host {
	t.Helper()
	return startWith(t, dir, o, named)
}

func startWith(t *testing.T, dir string, o Options, login Login) *host {
	t.Helper()
	h := &host{t: t, log: new(lines), left: make(map[string]chan struct{})}
	o.Logger = slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.hub = New(o)
	var err error
	if h.p, err = fanfare.Open(dir, fanfare.Options{Online: h.hub}); err != nil {
		t.Fatal(err)
	}
	handler := h.hub.Handler(h.p, login)
	h.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		h.mu.Lock()
		defer h.mu.Unlock()
		if ch := h.left[r.URL.Query().Get("n")]; ch != nil {
			close(ch)
		}
	}))
	var once sync.Once
	h.stop = func(ctx context.Context) (err error) {
		once.Do(func() {
			h.hub.Stop()
			err = h.hub.Shutdown(ctx)
			if err := h.p.Close(context.Background()); err != nil && !errors.Is(err, fanfare.ErrClosed) {
				t.Errorf("closing: %v", err)
			}
			h.http.Close()
			http.DefaultClient.CloseIdleConnections()
		})
		return err
	}
	t.Cleanup(func() { _ = h.stop(context.Background()) })
	return h
}

// push pushes a JSON string to all.
func (h *host) push(text string, lifetime time.Duration) *fanfare.Task {
	h.t.Helper()
	body, err := json.Marshal(text)
	if err != nil {
		h.t.Fatal(err)
	}
	task, err := h.p.Push(h.t.Context(), fanfare.Message{From: "operator", Body: body, To: fanfare.All(), Lifetime: lifetime})
	if err != nil {
		h.t.Fatal(err)
	}
	return task
}

const week = 7 * 24 * time.Hour

// get is the status and the text of an answer.
func (h *host) get(query string, header http.Header) (int, string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.http.URL+"/?"+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// client is one WebSocket of a user.
type client struct {
	h    *host
	user string
	ws   *websocket.Conn
	left chan struct{}
}

func (h *host) connect(user string) (*client, error) {
	c := &client{h: h, user: user, left: make(chan struct{})}
	h.mu.Lock()
	h.dials++
	n := fmt.Sprint(h.dials)
	h.left[n] = c.left
	h.mu.Unlock()
	var err error
	c.ws, _, err = websocket.Dial(h.t.Context(), "ws"+strings.TrimPrefix(h.http.URL, "http")+"/?"+url.Values{"user": {user}, "n": {n}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	c.ws.SetReadLimit(1 << 20)
	h.t.Cleanup(func() { c.ws.CloseNow() })
	return c, nil
}

func (h *host) dial(user string) *client {
	h.t.Helper()
	c, err := h.connect(user)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// received is a frame as a client sees it.
type received struct {
	ID, From, Body string
	Time           int64
}

func (c *client) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(c.h.t.Context(), 30*time.Second)
	defer cancel()
	_, text, err := c.ws.Read(ctx)
	return text, err
}

// expect reads these texts, in this order and no others, and returns the ID of the last.
func (c *client) expect(texts ...string) (id string) {
	c.h.t.Helper()
	for _, want := range texts {
		text, err := c.read()
		if err != nil {
			c.h.t.Fatalf("%s waits for %q: %v", c.user, want, err)
		}
		var r received
		if err := json.Unmarshal(text, &r); err != nil || r.Body != want || len(r.ID) != 32 || r.From != "operator" || time.Since(time.UnixMilli(r.Time)).Abs() > time.Hour {
			c.h.t.Fatalf("%s got %s, not %q", c.user, text, want)
		}
		id = r.ID
	}
	return id
}

func (c *client) send(text string) {
	c.h.t.Helper()
	if err := c.ws.Write(c.h.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.h.t.Fatal(err)
	}
}

func (c *client) ack(id string) { c.h.t.Helper(); c.send(`{"ack":"` + id + `"}`) }

// leave closes the connection. The hub has applied every ack, and forgotten it, when it returns.
func (c *client) leave() {
	c.h.t.Helper()
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		c.h.t.Fatal(err)
	}
	<-c.left
}

// closed reads until the server has closed the connection.
func (c *client) closed(code websocket.StatusCode, reason string) {
	c.h.t.Helper()
	for {
		_, err := c.read()
		if err == nil {
			continue
		}
		var got websocket.CloseError
		if !errors.As(err, &got) || got.Code != code || got.Reason != reason {
			c.h.t.Fatalf("the connection of %s ended with %v, not with %d %q", c.user, err, code, reason)
		}
		return
	}
}

// socket is a client that answers neither pings nor a close.
type socket struct {
	t *testing.T
	r *bufio.Reader
	net.Conn
}

func (h *host) socket(user string) *socket {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.http.Listener.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	s := &socket{h.t, bufio.NewReader(conn), conn}
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.http.URL+"/?"+url.Values{"user": {user}}.Encode(), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header = upgrade()
	if err := r.Write(conn); err != nil {
		h.t.Fatal(err)
	}
	if resp, err := http.ReadResponse(s.r, r); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		h.t.Fatal(resp, err)
	}
	return s
}

// next reads a short frame, and returns its first byte, which says what it is.
func (s *socket) next() byte {
	s.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		s.t.Fatal(err)
	}
	size := int64(head[1])
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(s.r, long[:]); err != nil {
			s.t.Fatal(err)
		}
		size = int64(binary.BigEndian.Uint16(long[:]))
	}
	if _, err := io.CopyN(io.Discard, s.r, size); err != nil {
		s.t.Fatal(err)
	}
	return head[0]
}

// send writes a short text, masked with zeros.
func (s *socket) send(text string) {
	s.t.Helper()
	if _, err := s.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)); err != nil {
		s.t.Fatal(err)
	}
}
