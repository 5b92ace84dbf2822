package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

var (
	errNotConnected = errors.New("no connection took it")
	errStopping     = errors.New("the server is stopping")
)

// gateway holds the WebSockets of the users. It is the Pusher's transport.Online, whose clients acknowledge.
type gateway struct {
	p        *fanfare.Pusher // set before the first request
	sdkAppID int64
	keys     [][]byte
	log      *slog.Logger
	queue    int // frames that may wait on a connection

	mu       sync.RWMutex
	users    map[string]*user         // who are online
	open     map[*connection]struct{} // and connections that are being closed
	stopping bool
	running  sync.WaitGroup // of open
	last     atomic.Pointer[frame]
}

// maxConnections is how many connections a user may have at a time.
const maxConnections = 16

// user is somebody with connections.
type user struct {
	connections []*connection
	session     *fanfare.Session
}

func newGateway(c *config, log *slog.Logger) *gateway {
	g := &gateway{sdkAppID: c.sdkAppID, log: log, queue: 256, users: make(map[string]*user), open: make(map[*connection]struct{})}
	for _, key := range c.keys {
		g.keys = append(g.keys, key)
	}
	return g
}

// ServeHTTP lets a client in and serves it until either side ends the connection.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := g.login(r.URL.Query())
	if err != nil {
		g.log.Info("login refused", "reason", err.Error(), "remote", r.RemoteAddr)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	c := newConnection(g, id)
	switch err := g.join(r.Context(), c); {
	case errors.Is(err, errStopping) || errors.Is(err, fanfare.ErrClosed):
		http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
		return
	case err != nil:
		g.log.Error("login failed", "user", id, "error", err)
		http.Error(w, "internal error: try again", http.StatusInternalServerError)
		return
	}
	defer g.gone(c)
	// Any origin: a page elsewhere can open a connection only with a UserSig, which no browser adds by itself, as it would a cookie.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // and the client was told
	}
	c.serve(ws)
}

// join puts a connection where Deliver finds it, and makes the user online. The session is a new one for all of the user's connections, so
// that everything that is not acknowledged comes to this one too: what went to another one of the user's, perhaps a dead one, may not have been received.
func (g *gateway) join(ctx context.Context, c *connection) error {
	// Who is new is written to the disk, which nobody else should wait for.
	if _, err := g.p.User(ctx, c.user); errors.Is(err, fanfare.ErrUnknownUser) {
		if err := g.p.Register(ctx, c.user); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return errStopping
	}
	u := g.users[c.user]
	if u == nil {
		u = new(user)
		g.users[c.user] = u
	} else {
		u.session.Close()
	}
	if len(u.connections) >= maxConnections { // each new one is sent again what none has acknowledged
		oldest := u.connections[0]
		u.connections = slices.Delete(u.connections, 0, 1)
		oldest.end(websocket.StatusPolicyViolation, "too many connections")
	}
	u.connections = append(u.connections, c)
	var err error
	if u.session, err = g.p.Connect(ctx, c.user); err != nil {
		delete(g.users, c.user)
		for _, c := range u.connections {
			c.end(websocket.StatusTryAgainLater, "try again")
		}
		return err
	}
	g.open[c] = struct{}{}
	g.running.Add(1)
	return nil
}

// gone forgets a connection that has ended.
func (g *gateway) gone(c *connection) {
	g.leave(c)
	c.cut()
	g.mu.Lock()
	delete(g.open, c)
	g.mu.Unlock()
	g.running.Done()
}

// leave takes a connection out, and the user offline with the last one.
func (g *gateway) leave(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.users[c.user]
	if u == nil {
		return
	}
	i := slices.Index(u.connections, c)
	if i < 0 {
		return
	}
	if u.connections = slices.Delete(u.connections, i, i+1); len(u.connections) == 0 {
		u.session.Close()
		delete(g.users, c.user)
	}
}

// Deliver puts a message into the queues of the user's connections. One whose queue is full is closed.
func (g *gateway) Deliver(_ context.Context, id string, m *transport.Message) error {
	text := g.frame(m)
	var slow []*connection
	taken := false
	g.mu.RLock()
	if u := g.users[id]; u != nil {
		for _, c := range u.connections {
			if c.put(m.ID, text) {
				taken = true
			} else {
				slow = append(slow, c)
			}
		}
	}
	g.mu.RUnlock()
	for _, c := range slow {
		g.leave(c)
		c.end(websocket.StatusPolicyViolation, "too slow")
		g.log.Warn("a connection was too slow", "user", id)
	}
	if !taken {
		return errNotConnected
	}
	return nil
}

// ClientAcks says that a message is delivered when the client says so.
func (g *gateway) ClientAcks() bool { return true }

// frame is a message as clients get it.
type frame struct {
	m    *transport.Message
	text []byte
}

// frame encodes a message, the same one for all of its receivers only once.
func (g *gateway) frame(m *transport.Message) []byte {
	if last := g.last.Load(); last != nil && last.m == m {
		return last.text
	}
	body := json.RawMessage(m.Body)
	if !json.Valid(body) { // of another program on the same directory
		body, _ = json.Marshal(string(m.Body)) // a string
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(struct { // to memory, and valid
		ID   string          `json:"id"`
		From string          `json:"from"`
		Time int64           `json:"time"`
		Body json.RawMessage `json:"body"`
	}{m.ID, m.From, m.Accepted.UnixMilli(), body})
	f := &frame{m, bytes.TrimSpace(b.Bytes())}
	g.last.Store(f)
	return f.text
}

// kick closes all connections of a user, who is offline when it returns.
func (g *gateway) kick(_ context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.users[id]
	if u == nil {
		return nil
	}
	delete(g.users, id)
	u.session.Close()
	for _, c := range u.connections {
		c.end(websocket.StatusPolicyViolation, "kicked")
	}
	return nil
}

// stop lets nobody in any more.
func (g *gateway) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
}

// close ends all connections, with what is in their queues written and the acks that have come applied. Those that take longer than ctx are cut off.
func (g *gateway) close(ctx context.Context) error {
	g.stop()
	each := func(f func(*connection)) {
		g.mu.RLock()
		defer g.mu.RUnlock()
		for c := range g.open {
			f(c)
		}
	}
	each(func(c *connection) { c.end(websocket.StatusGoingAway, "the server is stopping") })
	done := make(chan struct{})
	go func() {
		g.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	each(func(c *connection) { c.cut() })
	<-done // soon, as nothing waits for a client any more
	return ctx.Err()
}
