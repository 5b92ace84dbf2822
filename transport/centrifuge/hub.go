package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// maxConnections is how many connections a user has at a time. Each new one is sent again what none has acknowledged, and so are the others.
const maxConnections = 16

// connectTimeout bounds the step that may write to the disk. The end of the connection does not end it: the user's other connections need it, too.
const connectTimeout = 10 * time.Second

var (
	// ErrNotConnected is what Deliver returns when no connection of the user took the message.
	ErrNotConnected = errors.New("centrifuge: no connection of the user took it")
	// ErrUnidirectional is what Join returns for a connection that a client cannot acknowledge over.
	ErrUnidirectional = errors.New("centrifuge: a unidirectional transport cannot acknowledge")
)

// DisconnectTooMany is what the oldest connection of a user is told when the user opens a seventeenth. Clients do not reconnect for it.
var DisconnectTooMany = centrifuge.Disconnect{Code: 4500, Reason: "too many connections"}

// DisconnectUnknownUser is what a client is told that acknowledges for a user who was unregistered meanwhile. Clients do not reconnect for it.
var DisconnectUnknownUser = centrifuge.Disconnect{Code: 4501, Reason: "the account was deleted"}

// Options adjust a [Hub].
type Options struct {
	// Logger is told of acknowledgements that failed inside. Default: nothing is logged.
	Logger *slog.Logger
}

// Hub holds the connections of a node's users. It is a [transport.Online] and a [transport.ClientAcker]. All of it is safe for concurrent use.
type Hub struct {
	node *centrifuge.Node
	p    *fanfare.Pusher
	log  *slog.Logger

	mu     sync.RWMutex // held for no longer than it takes to look
	users  map[string]*user
	frames [16]atomic.Pointer[frame] // of the messages under way, by sequence
}

// user is somebody with connections, or with a call at work on them.
type user struct {
	calls   int                  // at work; under Hub.mu
	clients []*centrifuge.Client // the oldest first; under Hub.mu, and replaced rather than changed, so that Deliver reads it without
	turn    sync.Mutex           // held while the session changes, which may write to the disk: Deliver does not need it
	session *fanfare.Session     // under turn; nil: there is none
}

// New makes a hub for the connections of a node. [Hub.Attach] gives it the Pusher.
func New(node *centrifuge.Node, o Options) *Hub {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hub{node: node, log: o.Logger, users: make(map[string]*user)}
}

// Attach gives the hub the Pusher that was opened with it as Options.Online. It is called once, before the node's first connection.
func (h *Hub) Attach(p *fanfare.Pusher) { h.p = p }

// Join takes in a connection: the host calls it in OnConnect. From then on the connection gets what is for its user, first everything that
// the user has not acknowledged. It becomes known to fanfare who its user is, if that was not so.
//
// The session is a new one for all connections of the user: what went to another one of them, perhaps a dead one, may not have been received.
//
// If the user cannot be connected, the connection, and others of the user, are told to reconnect; not those of a user whose ID the Pusher never takes, such as that of nobody
// in particular, which is empty: a host does not call Join for a visitor who has not signed in. A connection over a unidirectional transport is left alone, and
// gets nothing: it is [ErrUnidirectional].
//
// Join may write to the disk. A host that does not want its client wait for that may call it in a goroutine: a connection that was lost
// before is not taken in.
func (h *Hub) Join(client *centrifuge.Client) error {
	if client.Transport().Unidirectional() {
		return ErrUnidirectional
	}
	id := client.UserID()
	u := h.acquire(id, true)
	defer h.release(id, u)
	u.turn.Lock()
	defer u.turn.Unlock()
	u.end()
	h.add(u, client)
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	session, err := h.p.Connect(ctx, id)
	if err != nil {
		why := centrifuge.DisconnectServerError
		if errors.As(err, new(*fanfare.LimitError)) { // the next try would end the same
			why = centrifuge.DisconnectBadRequest
		}
		h.disconnect(u, why)
		return fmt.Errorf("centrifuge: connecting a user: %w", err)
	}
	u.session = session
	// The node forgets a connection before it tells OnDisconnect: one that it does not know has been left before it joined, or will be.
	if h.node.Hub().UserConnections(id)[client.ID()] != client {
		h.remove(u, client)
		h.settle(u)
	}
	return nil
}

// Leave takes a connection out, and the user offline with the last one: the host calls it in OnDisconnect. For a connection that is not
// there it does nothing.
func (h *Hub) Leave(client *centrifuge.Client) {
	id := client.UserID()
	u := h.acquire(id, false)
	if u == nil {
		return
	}
	defer h.release(id, u)
	h.remove(u, client)
	u.turn.Lock()
	defer u.turn.Unlock()
	h.settle(u)
}

// Kick closes all connections of a user on this node, who is offline when it returns, unless there is a new connection by then. Clients do not reconnect
// for it, but may connect again. It is for who was unregistered, too: such a user's connections get nothing more, also if the same ID is registered again. It always returns nil.
func (h *Hub) Kick(_ context.Context, id string) error {
	u := h.acquire(id, false)
	if u == nil {
		return nil
	}
	defer h.release(id, u)
	h.disconnect(u, centrifuge.DisconnectForceNoReconnect)
	u.turn.Lock()
	defer u.turn.Unlock()
	h.settle(u)
	return nil
}

// Deliver hands a message to all connections of the user. It returns [ErrNotConnected] if there is none or none took it. One that does not
// take it, because too much waits to be written to it, is closed by the node.
func (h *Hub) Deliver(_ context.Context, id string, m *transport.Message) error {
	h.mu.RLock()
	var clients []*centrifuge.Client
	if u := h.users[id]; u != nil {
		clients = u.clients
	}
	h.mu.RUnlock()
	if len(clients) == 0 {
		return ErrNotConnected
	}
	data, err := h.frame(m), ErrNotConnected
	for _, c := range clients {
		if c.Send(data) == nil {
			err = nil
		}
	}
	return err
}

// ClientAcks says that a message is delivered when the client says so.
func (h *Hub) ClientAcks() bool { return true }

// acquire returns a user, who stays in the map until release. One who is not there is created, or nil.
func (h *Hub) acquire(id string, create bool) *user {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[id]
	if u == nil {
		if !create {
			return nil
		}
		u = new(user)
		h.users[id] = u
	}
	u.calls++
	return u
}

func (h *Hub) release(id string, u *user) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u.calls--; u.calls == 0 && len(u.clients) == 0 {
		delete(h.users, id)
	}
}

func (h *Hub) add(u *user, client *centrifuge.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u.clients = append(slices.Clone(u.clients), client)
	if len(u.clients) > maxConnections {
		u.clients[0].Disconnect(DisconnectTooMany)
		u.clients = u.clients[1:]
	}
}

func (h *Hub) remove(u *user, client *centrifuge.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u.clients = slices.DeleteFunc(slices.Clone(u.clients), func(c *centrifuge.Client) bool { return c == client })
}

// disconnect takes out all connections of a user, and ends them.
func (h *Hub) disconnect(u *user, why centrifuge.Disconnect) {
	h.mu.Lock()
	clients := u.clients
	u.clients = nil
	h.mu.Unlock()
	for _, c := range clients {
		c.Disconnect(why)
	}
}

// settle ends the session of a user without connections. The caller has the user's turn.
func (h *Hub) settle(u *user) {
	h.mu.RLock()
	none := len(u.clients) == 0
	h.mu.RUnlock()
	if none {
		u.end()
	}
}

// end ends the session, if there is one. The caller has the user's turn.
func (u *user) end() {
	if u.session != nil {
		u.session.Close()
		u.session = nil
	}
}
