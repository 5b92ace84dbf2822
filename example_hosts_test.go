package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// gateways is a host whose users are connected to other machines: it hands one message over for many users at once. That
// makes it a transport.Batcher.
type gateways struct{ calls chan string }

func (g *gateways) Deliver(context.Context, string, *transport.Message) error {
	return errors.New("not called: there is DeliverBatch")
}

func (g *gateways) MaxBatch() int { return 1000 }

func (g *gateways) DeliverBatch(_ context.Context, users []string, m *transport.Message) []error {
	g.calls <- fmt.Sprintf("%s, %s!", m.Body, strings.Join(users, " and "))
	return nil // all have it; else an error or nil for each
}

// A transport may take a message for many users in one call. A user who comes back is a batch of one.
func Example_batches() {
	g := &gateways{calls: make(chan string, 1)}
	p, done := temporary(fanfare.Options{Online: g})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	_, err := p.Push(ctx, fanfare.Message{Body: []byte("Welcome back"), To: fanfare.All(), Lifetime: week})
	check(err)
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	fmt.Println(<-g.calls)
	// Output:
	// Welcome back, alice!
}

// The same user may be connected several times: on a phone and a desk, say. The host's transport reaches all of a
// user's connections, and a message is done once one of them has it.
func ExampleSession() {
	online := new(transporttest.Recorder)
	p, done := temporary(fanfare.Options{Online: online})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	phone, err := p.Connect(ctx, "alice")
	check(err)
	desk, err := p.Connect(ctx, "alice")
	check(err)
	fmt.Println(p.Online(), "user online")

	check(phone.Close())
	_, err = p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(online.Wait(ctx, "alice", 1))
	check(desk.Close())
	fmt.Println(p.Online(), "users online,", len(online.Received("alice")), "message received")
	// Output:
	// 1 user online
	// 0 users online, 1 message received
}
