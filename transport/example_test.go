package transport_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fanfare-im/fanfare/transport"
)

// hub is a host's own list of connections: of each user there may be several.
type hub struct {
	mu    sync.Mutex
	conns map[string][]chan []byte // each with the buffer of a socket, say
}

// Deliver hands over and returns: it waits for no client.
func (h *hub) Deliver(_ context.Context, user string, m *transport.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := errors.New("no connection took it")
	for _, conn := range h.conns[user] {
		select {
		case conn <- m.Body:
			err = nil // one of them is enough
		default: // its buffer is full
		}
	}
	return err
}

// How a host reaches those who are connected to it. What Deliver fails for stays pending, and comes again.
func ExampleOnline() {
	phone, desk := make(chan []byte, 1), make(chan []byte, 1)
	var online transport.Online = &hub{conns: map[string][]chan []byte{"alice": {phone, desk}}}

	m := &transport.Message{ID: "1", Body: []byte("Hello")}
	for range 2 {
		fmt.Println(online.Deliver(context.Background(), "alice", m))
	}
	fmt.Printf("%s, %s\n", <-phone, <-desk)
	// Output:
	// <nil>
	// no connection took it
	// Hello, Hello
}

// A key that gets into a log by mistake does not show there.
func ExampleSecret() {
	options := struct {
		Account string
		Key     transport.Secret
	}{"shop", transport.Secret("hunter2")}
	fmt.Printf("%+v\n", options)
	// Output:
	// {Account:shop Key:[secret]}
}
