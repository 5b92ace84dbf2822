package websocket

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

const stoppingReason = "the server is stopping"

var errNotConnected = errors.New("websocket: no connection of the user took it")

// pusher is the part of a *fanfare.Pusher that connections need.
type pusher interface {
	Connect(ctx context.Context, user string) (*fanfare.Session, error)
	Ack(ctx context.Context, user, messageID string, more ...string) error
}

// Hub holds the WebSockets of users. It is the [transport.Online] of one Pusher, whose clients acknowledge ([transport.ClientAcker]). A
// Hub is safe for concurrent use.
type Hub struct {
	o    Options
	kind websocket.MessageType

	mu       sync.RWMutex
	users    map[string]*user         // who are online, or just coming in
	open     map[*connection]struct{} // and connections that are being closed
	stopping bool
	running  sync.WaitGroup // of open
	last     atomic.Pointer[frame]
}

// user is somebody with connections. The hub's lock guards it.
type user struct {
	entering    sync.Mutex // held, before the hub's, while the session is exchanged for another
	held        int        // by how many who wait for entering, or have it
	connections []*connection
	session     *fanfare.Session // nil: none
}

// New makes a Hub, before the Pusher whose Options.Online it is. It starts nothing.
func New(o Options) *Hub {
	o.fill()
	h := &Hub{o: o, kind: websocket.MessageText, users: make(map[string]*user), open: make(map[*connection]struct{})}
	if o.Binary {
		h.kind = websocket.MessageBinary
	}
	return h
}

// Handler lets in the clients that login knows, and serves each until either side ends the connection. The Pusher is the one whose Options.Online the Hub
// is; there may be several handlers of it, with a login each. Without a Pusher or a login it panics.
//
// Beside what a [Login] refuses, it answers 426 and the like to what opens no WebSocket, 403 to a page of another origin ([Options].Origins), 503 once the
// Hub or the Pusher stops, and 500 to a user whom the Pusher does not take; the log says why.
func (h *Hub) Handler(p *fanfare.Pusher, login Login) http.Handler {
	if p == nil || login == nil {
		panic("websocket: Handler needs a Pusher and a Login")
	}
	accept := &websocket.AcceptOptions{OriginPatterns: h.o.Origins, Subprotocols: h.o.Subprotocols}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := login(r)
		if err != nil {
			h.o.Logger.Info("login refused", "reason", err.Error(), "remote", r.RemoteAddr)
			refuse(w, err)
			return
		}
		c := newConnection(h, p, id)
		if !h.admit(c) {
			http.Error(w, stoppingReason, http.StatusServiceUnavailable)
			return
		}
		defer h.gone(c)
		if !acceptable(r, accept) {
			_, _ = websocket.Accept(w, r, accept) // which says why
			return
		}
		// Before the client is told that it is connected, so that it is.
		switch err := h.join(c); {
		case errors.Is(err, fanfare.ErrClosed), err != nil && c.io.Err() != nil:
			http.Error(w, stoppingReason, http.StatusServiceUnavailable)
			return
		case err != nil:
			h.o.Logger.Error("login failed", "user", id, "error", err)
			http.Error(w, "internal error: try again", http.StatusInternalServerError)
			return
		}
		ws, err := websocket.Accept(w, r, accept)
		if err != nil {
			return // and the client was told
		}
		c.serve(ws)
	})
}

// acceptable says whether Accept would take the request. One that it would not take makes nobody online: it may come from a page of another's, with the
// user's cookies.
func acceptable(r *http.Request, o *websocket.AcceptOptions) bool {
	w := &probe{header: make(http.Header)}
	_, _ = websocket.Accept(w, r, o)
	return w.status == http.StatusNotImplemented
}

// probe is a response that nobody gets. It cannot be hijacked, which is the last thing that Accept looks at, and answers with 501.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// admit counts a connection in, unless the hub stops.
func (h *Hub) admit(c *connection) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return false
	}
	h.open[c] = struct{}{}
	h.running.Add(1)
	return true
}

// gone forgets a connection that has ended.
func (h *Hub) gone(c *connection) {
	h.leave(c)
	c.cut()
	h.mu.Lock()
	delete(h.open, c)
	h.mu.Unlock()
	h.running.Done()
}

// hold returns the user, to exchange the session. It is called with the lock.
func (h *Hub) hold(id string) *user {
	u := h.users[id]
	if u == nil {
		u = new(user)
		h.users[id] = u
	}
	u.held++
	return u
}

// release undoes hold.
func (h *Hub) release(id string, u *user) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u.held--
	h.settle(id, u)
}

// settle takes the user offline with the last connection. It is called with the lock.
func (h *Hub) settle(id string, u *user) {
	if len(u.connections) > 0 {
		return
	}
	u.offline()
	if u.held == 0 {
		delete(h.users, id)
	}
}

func (u *user) offline() {
	if u.session != nil {
		_ = u.session.Close() // always nil
		u.session = nil
	}
}

// dismiss ends all connections of a user. It is called with the lock.
func (u *user) dismiss(code websocket.StatusCode, reason string) {
	for _, c := range u.connections {
		c.end(code, reason)
	}
	u.connections = nil
	u.offline()
}

// join puts a connection where Deliver finds it, and makes the user online. The session is a new one for all of the user's connections, so
// that everything that is not acknowledged comes to this one too: what went to another one of the user's, perhaps a dead one, may not have been received.
func (h *Hub) join(c *connection) error {
	h.mu.Lock()
	u := h.hold(c.user)
	h.mu.Unlock()
	defer h.release(c.user, u)
	u.entering.Lock()
	defer u.entering.Unlock()

	h.mu.Lock()
	if len(u.connections) >= h.o.MaxConnections { // each new one is sent again what none has acknowledged
		oldest := u.connections[0]
		u.connections = slices.Delete(u.connections, 0, 1)
		oldest.end(websocket.StatusPolicyViolation, "too many connections")
	}
	u.connections = append(u.connections, c)
	u.offline()
	h.mu.Unlock()

	// Without the hub's lock: who is new, or comes for the first time on a day, is written to the disk, which nobody else should wait for. And
	// not to be broken off with the request: a client that gives up has nothing to do with the user's other ones, which wait for the session too.
	session, err := c.p.Connect(c.io, c.user)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		u.dismiss(websocket.StatusTryAgainLater, "try again")
		return err
	}
	u.session = session // release ends it if all have left meanwhile
	return nil
}

// leave takes a connection out, and the user offline with the last one.
func (h *Hub) leave(c *connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[c.user]
	if u == nil {
		return
	}
	if i := slices.Index(u.connections, c); i >= 0 {
		u.connections = slices.Delete(u.connections, i, i+1)
		h.settle(c.user, u)
	}
}

// Deliver puts a message into the queues of the user's connections. It waits for nothing; a connection whose queue is full is closed.
func (h *Hub) Deliver(_ context.Context, id string, m *transport.Message) error {
	data, err := h.frame(m)
	if err != nil {
		return err
	}
	var slow []*connection
	taken := false
	h.mu.RLock()
	if u := h.users[id]; u != nil {
		for _, c := range u.connections {
			if c.put(m.ID, data) {
				taken = true
			} else {
				slow = append(slow, c)
			}
		}
	}
	h.mu.RUnlock()
	for _, c := range slow {
		h.leave(c)
		c.end(websocket.StatusPolicyViolation, "too slow")
		h.o.Logger.Warn("a connection was too slow", "user", id)
	}
	if !taken {
		return errNotConnected
	}
	return nil
}

// ClientAcks says that a message is delivered when the client says so.
func (h *Hub) ClientAcks() bool { return true }

// frame encodes a message, the same one for all of its receivers only once.
func (h *Hub) frame(m *transport.Message) ([]byte, error) {
	if last := h.last.Load(); last != nil && last.m == m {
		return last.data, nil
	}
	data, err := h.o.Encode(m)
	if err == nil {
		h.last.Store(&frame{m, data})
	}
	return data, err
}

// Kick closes all connections of a user, who is offline when it returns. It does not keep the user from connecting again; that is for the [Login]. It always returns nil.
func (h *Hub) Kick(_ context.Context, id string) error {
	h.mu.Lock()
	if h.users[id] == nil {
		h.mu.Unlock()
		return nil
	}
	u := h.hold(id)
	h.mu.Unlock()
	defer h.release(id, u)
	u.entering.Lock() // so that who is just coming in has a session to lose
	defer u.entering.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	u.dismiss(websocket.StatusPolicyViolation, "kicked")
	return nil
}

// Stop lets nobody in any more. Those who are connected stay.
func (h *Hub) Stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
}

// Shutdown lets nobody in any more and ends all connections, with what is in their queues written and the acks that have come applied. Those that
// take longer than ctx are cut off, and its error is returned then; nothing is lost by it, as what was not acknowledged comes again. It is called before the Pusher
// is closed.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.Stop()
	each := func(f func(*connection)) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		for c := range h.open {
			f(c)
		}
	}
	each(func(c *connection) { c.end(websocket.StatusGoingAway, stoppingReason) })
	done := make(chan struct{})
	go func() {
		h.running.Wait()
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

// closeTimeout is for clients to answer that the connection is closed, when the host has not waited for them.
const closeTimeout = time.Second

// Close is for the Pusher, which calls it when it has closed ([transport.Closer]): connections that a host has not ended by [Hub.Shutdown] end
// then, within about a second. It always returns nil.
func (h *Hub) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = h.Shutdown(ctx) // what was cut off comes again
	return nil
}
