package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

func TestLogin(t *testing.T) {
	p := start(t, t.TempDir())
	good, err := url.ParseQuery(query("alice", testKey))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 33)
	for _, of := range []struct{ name, value, reason string }{
		{"sdkappid", "1400000001", "sdkappid is not known here"},
		{"sdkappid", "", "sdkappid is not known here"},
		{"identifier", "", "identifier must be 1 to 32 bytes of UTF-8"},
		{"identifier", long, "identifier must be 1 to 32 bytes of UTF-8"},
		{"identifier", "bob", "usersig: made for another user"},
		{"usersig", "", "usersig: malformed"},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: testAppID, Expire: time.Hour}, []byte("other")), usersig.ErrSignature.Error()},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: testAppID, Time: time.Now().Add(-time.Hour), Expire: time.Minute}, []byte(testKey)), "usersig: expired"},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: 1, Expire: time.Hour}, []byte(testKey)), "usersig: made for another application"},
	} {
		q := url.Values{}
		for name := range good {
			q.Set(name, good.Get(name))
		}
		q.Set(of.name, of.value)
		if status, text := p.get("/ws?" + q.Encode()); status != http.StatusUnauthorized || text != of.reason {
			t.Errorf("%s=%q is answered with %d %q", of.name, of.value, status, text)
		}
	}
	if status, _ := p.get("/ws?" + good.Encode()); status != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade the answer is %d", status)
	}
	p.dial("alice").leave()
	if known := p.call("im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"alice"},{"UserID":"bob"}]}`)["ResultItem"].([]any); known[0].(map[string]any)["AccountStatus"] != "Imported" || known[1].(map[string]any)["AccountStatus"] != "NotImported" {
		t.Errorf("known: %v", known)
	}
}

func TestAckIsCumulative(t *testing.T) {
	p := start(t, t.TempDir())
	p.call("im_open_login_svc/account_import", `{"UserID":"alice"}`)
	p.push(1, "pending", week)
	c := p.dial("alice")
	c.expect("pending")
	p.push(2, "two", week)
	p.push(3, "three", week)
	c.expect("two", "three")
	c.leave() // and nothing was acknowledged
	c = p.dial("alice")
	c.ack(c.expect("pending", "two", "three"))
	p.push(4, "four", week)
	c.expect("four")
	c.leave()
	c = p.dial("alice")
	c.ack(c.expect("four"))
	c.leave()
	p.push(5, "five", week)
	c = p.dial("alice")
	c.expect("five")
}

// TestSecondConnection: what one connection did not acknowledge comes on the next, so that an ack there loses nothing.
func TestSecondConnection(t *testing.T) {
	p := start(t, t.TempDir())
	dead := p.dial("alice")
	p.push(1, "one", week)
	dead.expect("one")
	second := p.dial("alice")
	p.push(2, "two", week)
	second.ack(second.expect("one", "two"))
	second.leave()
	dead.ws.CloseNow()
	p.push(3, "three", week)
	p.dial("alice").expect("three")
}

// TestAckOfWhatCameEarly: a message that was under way when the connection before was lost can come ahead of older ones. Its ack must
// not count for those, as they may be lost too.
func TestAckOfWhatCameEarly(t *testing.T) {
	c := newConnection(&gateway{queue: 2 * maxUnacked}, "alice")
	for _, id := range []string{"5", "3", "4", "5", "6"} {
		if !c.put(id, nil) {
			t.Fatal("full")
		}
	}
	for _, of := range []struct {
		ack    string
		before []string
	}{{"5", nil}, {"of another connection", nil}, {"4", []string{"3"}}, {"4", nil}, {"6", []string{"5"}}} {
		if before := c.acked(of.ack); !slices.Equal(before, of.before) {
			t.Errorf("an ack of %s is one of %v too, want %v", of.ack, before, of.before)
		}
	}
	for i := range maxUnacked + 1 { // who acknowledges nothing costs no more than this
		c.put(strconv.Itoa(i), nil)
	}
	if n := len(c.acked(strconv.Itoa(maxUnacked))); n != maxUnacked-1 {
		t.Errorf("%d messages are remembered", n+1)
	}
}

func TestBadFrames(t *testing.T) {
	p := start(t, t.TempDir())
	for _, of := range []struct{ send, reason string }{
		{`{"ack":"nothing"}`, "ack: no such message"},
		{`{"ack":""}`, `a frame must be text, {"ack":"<id>"}`},
		{`no JSON`, `a frame must be text, {"ack":"<id>"}`},
	} {
		c := p.dial("alice")
		c.send(of.send)
		c.closed(websocket.StatusPolicyViolation, of.reason)
	}
	c := p.dial("alice")
	c.send(strings.Repeat("x", maxRead+1))
	if _, err := c.next(); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a large frame ended the connection with %v", err)
	}
}

// TestTooManyConnections: a user has so many, and the oldest goes for a new one; others are not concerned.
func TestTooManyConnections(t *testing.T) {
	p := start(t, t.TempDir())
	bob := p.dial("bob")
	var list []*client
	for range maxConnections {
		list = append(list, p.dial("alice"))
	}
	list = append(list, p.dial("alice"))
	list[0].closed(websocket.StatusPolicyViolation, "too many connections")
	p.push(1, "one", week)
	for _, c := range append(list[1:], bob) {
		c.expect("one")
	}
}

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

func TestKick(t *testing.T) {
	p := start(t, t.TempDir())
	phone, desk, bob := p.dial("alice"), p.dial("alice"), p.dial("bob")
	p.call("im_open_login_svc/kick", `{"UserID":"alice"}`)
	status := p.call("openim/query_online_status", `{"To_Account":["alice","bob"]}`)["QueryResult"].([]any)
	if status[0].(map[string]any)["Status"] != "Offline" || status[1].(map[string]any)["Status"] != "Online" {
		t.Errorf("after a kick: %v", status)
	}
	phone.closed(websocket.StatusPolicyViolation, "kicked")
	desk.closed(websocket.StatusPolicyViolation, "kicked")
	p.push(1, "still here", "")
	bob.expect("still here")
}

func TestSlowClient(t *testing.T) {
	p := start(t, t.TempDir())
	p.s.gateway.queue = 4
	c := p.dial("alice") // which reads nothing for now
	body := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 256<<10)...), '"')
	sent := 0
	for m := (&transport.Message{ID: "m", Body: body}); p.s.gateway.Deliver(t.Context(), "alice", m) == nil; sent++ {
		if sent == 1000 {
			t.Fatal("the queue is never full")
		}
	}
	if n := p.s.p.Online(); n != 0 {
		t.Errorf("%d users are online", n)
	}
	// Who reads on gets all that was taken, and the reason.
	got := 0
	for {
		_, _, err := c.ws.Read(t.Context())
		if err == nil {
			got++
			continue
		}
		if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("the connection ended with %v", err)
		}
		break
	}
	if got != sent {
		t.Errorf("%d frames of %d came", got, sent)
	}
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
