package main

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// TestShutdownFinishes: what was pushed without a lifetime to those who are connected gets to them before they are let go.
func TestShutdownFinishes(t *testing.T) {
	p := start(t, t.TempDir())
	const clients, pushes = 400, 100
	var reading sync.WaitGroup
	for i := range clients {
		c := p.dial(fmt.Sprint("u", i))
		reading.Go(func() {
			got := 0
			for {
				if _, err := c.next(); err != nil {
					if websocket.CloseStatus(err) != websocket.StatusGoingAway || got != pushes {
						t.Errorf("u%d got %d of %d messages, and then %v", i, got, pushes, err)
					}
					return
				}
				got++
			}
		})
	}
	for i := range pushes {
		if _, err := p.s.p.Push(t.Context(), fanfare.Message{Body: []byte(`{}`), To: fanfare.All()}); err != nil {
			t.Fatal(i, err)
		}
	}
	p.stop()
	reading.Wait()
}

// TestShutdownOfUnread: a request whose body does not come, and that nothing reads, holds up neither the end nor those who are connected.
func TestShutdownOfUnread(t *testing.T) {
	p := startWith(t, &config{listen: "127.0.0.1:0", data: t.TempDir(), sdkAppID: testAppID, keys: []transport.Secret{transport.Secret(testKey)}, patience: 3 * time.Second})
	for _, path := range []string{"/v4/x", "//v4/x"} {
		conn, err := net.Dial("tcp", p.base)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", path)
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") || !strings.Contains(string(answer), `"ErrorCode":6000`) {
			t.Errorf("%s: %s, %v", path, answer, err)
		}
	}
	c := p.dial("alice")
	go p.stop()
	c.closed(websocket.StatusGoingAway, "the server is stopping")
	p.stop()
}

func TestShutdown(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	if status, text := p.get("/readyz"); status != 200 || text != "ready" {
		t.Errorf("ready: %d %s", status, text)
	}
	p.call("im_open_login_svc/account_import", `{"UserID":"alice"}`)
	c := p.dial("alice")
	p.push(1, "one", week)
	c.ack(c.expect("one"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.stop()
	}()
	c.closed(websocket.StatusGoingAway, "the server is stopping")
	<-done
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200, "/ws?" + query("alice", testKey): 503} {
		w := httptest.NewRecorder()
		p.s.http.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("after the stop %.10s is answered with %d", path, w.Code)
		}
	}
	p = start(t, dir)
	p.push(2, "two", week)
	p.dial("alice").expect("two") // the ack before the stop was applied
}

// TestShutdownOfTheSilent: a client that does not answer holds nothing up for longer than the time-out.
func TestShutdownOfTheSilent(t *testing.T) {
	p := startWith(t, &config{listen: "127.0.0.1:0", data: t.TempDir(), sdkAppID: testAppID, keys: []transport.Secret{transport.Secret(testKey)}, patience: 100 * time.Millisecond})
	p.dial("alice") // which reads nothing, so does not answer the close
	p.stop()
	if !strings.Contains(p.log.String(), "connections were cut off") {
		t.Errorf("the log:\n%s", p.log)
	}
}
