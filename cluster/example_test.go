package cluster_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/cluster"
	"github.com/fanfare-im/fanfare/transport"
)

// A cluster of one node, which listens nowhere. With Listen, and the Peers of all nodes, it is one of several; what is done with the Pusher is the same.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "fanfare-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	delivered := make(chan string, 1)
	p, err := cluster.Open(ctx, dir, cluster.Options{
		Name: "a",
		Options: fanfare.Options{Online: transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
			delivered <- fmt.Sprintf("%s got %q", user, m.Body)
			return nil
		})},
	})
	if err != nil {
		panic(err)
	}
	defer p.Close(ctx)

	s, err := p.Connect(ctx, "alice")
	if err != nil {
		panic(err)
	}
	defer s.Close()
	if _, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Body: []byte("hello"), Lifetime: time.Hour}); err != nil {
		panic(err)
	}
	fmt.Println(<-delivered)
	// Output: alice got "hello"
}
