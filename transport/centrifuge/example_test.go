package centrifuge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
	client "github.com/centrifugal/centrifuge-go"

	"github.com/fanfare-im/fanfare"
	fanfarecentrifuge "github.com/fanfare-im/fanfare/transport/centrifuge"
)

// A host with a node, and a client that was away when a message was pushed.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fanfare")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	hub := fanfarecentrifuge.New(node, fanfarecentrifuge.Options{})
	p, err := fanfare.Open(dir, fanfare.Options{Online: hub})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)
	hub.Attach(p)

	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: e.Token}}, nil // a host looks at the token
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnDisconnect(func(centrifuge.DisconnectEvent) { hub.Leave(c) })
		c.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			if !hub.RPC(c, e, reply) {
				reply(centrifuge.RPCReply{}, centrifuge.ErrorMethodNotFound) // or what the host answers
			}
		})
		if err := hub.Join(c); err != nil {
			log.Print(err)
		}
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	defer node.Shutdown(ctx)
	server := httptest.NewServer(centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	defer server.Close()

	if err := p.Register(ctx, "alice"); err != nil {
		log.Fatal(err)
	}
	if _, err := p.Push(ctx, fanfare.Message{From: "operator", Body: []byte(`{"text":"Welcome"}`), To: fanfare.All(), Lifetime: 24 * time.Hour}); err != nil {
		log.Fatal(err)
	}

	app := client.NewJsonClient("ws"+strings.TrimPrefix(server.URL, "http"), client.Config{Token: "alice"})
	defer app.Close()
	messages := make(chan []byte, 16)
	app.OnMessage(func(e client.MessageEvent) { messages <- e.Data })
	if err := app.Connect(); err != nil {
		log.Fatal(err)
	}
	var in struct {
		Fanfare struct {
			ID, From string
			Body     struct{ Text string }
		}
	}
	if err := json.Unmarshal(<-messages, &in); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", in.Fanfare.From, in.Fanfare.Body.Text)
	ack, _ := json.Marshal(map[string][]string{"ids": {in.Fanfare.ID}})
	if _, err := app.RPC(ctx, fanfarecentrifuge.AckMethod, ack); err != nil {
		log.Fatal(err)
	}
	for range p.Pending(ctx, "alice") {
		fmt.Println("she still waits for something")
	}
	// Output: operator: Welcome
}
