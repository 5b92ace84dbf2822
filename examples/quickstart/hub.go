package main

import (
	"context"
	"errors"
	"sync"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// hub stands for the application's own server, the one that holds its users'
// connections: it implements transport.Online. Here a connection is a list of
// what came over it.
type hub struct {
	mu      sync.Mutex
	clients map[string]*client
	before  func(user string, m *transport.Message) error // if set, called before each delivery
}

type client struct {
	session  *fanfare.Session
	received []*transport.Message
}

func newHub() *hub { return &hub{clients: make(map[string]*client)} }

// Deliver is what fanfare calls with a message for a connected user. A real hub
// would write it to the user's sockets here.
func (h *hub) Deliver(_ context.Context, user string, m *transport.Message) error {
	h.mu.Lock()
	before := h.before
	h.mu.Unlock()
	if before != nil {
		if err := before(user, m); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.clients[user]
	if c == nil {
		return errors.New("not connected")
	}
	c.received = append(c.received, m)
	return nil
}

// connect is the users coming online, many at a time, as then one write to the
// disk is for many of them. It and disconnect are called from one goroutine.
func (h *hub) connect(ctx context.Context, p *fanfare.Pusher, users ...string) error {
	errs := make([]error, min(len(users), 64))
	var connecting sync.WaitGroup
	for n := range errs {
		connecting.Go(func() {
			for i := n; i < len(users) && errs[n] == nil; i += len(errs) {
				errs[n] = h.connectOne(ctx, p, users[i])
			}
		})
	}
	connecting.Wait()
	return errors.Join(errs...)
}

// connectOne is one of them. The hub knows them first, for what waits for them
// comes at once.
func (h *hub) connectOne(ctx context.Context, p *fanfare.Pusher, user string) (err error) {
	h.mu.Lock()
	c := h.clients[user]
	if c == nil {
		c = new(client)
		h.clients[user] = c
	}
	h.mu.Unlock()
	if c.session == nil {
		c.session, err = p.Connect(ctx, user)
	}
	return err
}

// disconnect is the users going away.
func (h *hub) disconnect(users ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, user := range users {
		if c := h.clients[user]; c != nil {
			c.session.Close()
			delete(h.clients, user)
		}
	}
}

// precede calls f before each delivery from now on.
func (h *hub) precede(f func(user string, m *transport.Message) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = f
}

func (h *hub) connected(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients[user] != nil
}

// received returns what has come over the user's connection.
func (h *hub) received(user string) []*transport.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.clients[user]; c != nil {
		return c.received[:len(c.received):len(c.received)]
	}
	return nil
}

// times returns how often the message has come over the user's connection.
func (h *hub) times(user, messageID string) int {
	n := 0
	for _, m := range h.received(user) {
		if m.ID == messageID {
			n++
		}
	}
	return n
}
