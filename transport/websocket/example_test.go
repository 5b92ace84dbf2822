package websocket_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	client "github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/websocket"
)

// A host with a session cookie, a client of it, and the end of both.
func Example() {
	dir, err := os.MkdirTemp("", "fanfare-")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	hub := websocket.New(websocket.Options{})
	p, err := fanfare.Open(dir, fanfare.Options{Online: hub})
	check(err)
	server := httptest.NewServer(hub.Handler(p, func(r *http.Request) (string, error) {
		c, err := r.Cookie("session")
		if err != nil || c.Value != "of alice" {
			return "", &websocket.Refusal{Reason: "sign in first"}
		}
		return "alice", nil
	}))
	defer server.Close()

	ws, _, err := client.Dial(ctx, server.URL, &client.DialOptions{HTTPHeader: http.Header{"Cookie": {"session=of alice"}}})
	check(err)
	task, err := p.Push(ctx, fanfare.Message{From: "news", Body: []byte(`{"text":"Merry Christmas"}`), To: fanfare.All(), Lifetime: time.Hour})
	check(err)
	_, frame, err := ws.Read(ctx)
	check(err)
	var m struct {
		ID, From string
		Body     json.RawMessage
	}
	check(json.Unmarshal(frame, &m))
	fmt.Printf("%s: %s\n", m.From, m.Body)
	check(ws.Write(ctx, client.MessageText, fmt.Appendf(nil, `{"ack":%q}`, m.ID)))

	gone := ws.CloseRead(ctx) // as an app reads on
	check(hub.Shutdown(ctx))
	<-gone.Done()
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Delivered, "delivered")
	check(p.Close(ctx))
	// Output:
	// news: {"text":"Merry Christmas"}
	// 1 delivered
}

// Clients that know another form get that.
func ExampleOptions() {
	hub := websocket.New(websocket.Options{
		Origins: []string{"https://app.example.com"},
		Encode: func(m *transport.Message) ([]byte, error) {
			return json.Marshal(map[string]any{"type": "announcement", "id": m.ID, "text": string(m.Body)})
		},
	})
	fmt.Println(hub.ClientAcks())
	// Output: true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
