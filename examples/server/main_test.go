package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey   = "a-key-of-the-tests"
	testAppID = 1400000000
)

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) noSecrets(t *testing.T) {
	t.Helper()
	if out := l.String(); strings.Contains(out, testKey) || strings.Contains(out, "usersig=") || strings.Contains(out, "eJ") {
		t.Errorf("there is a secret in the log:\n%s", out)
	}
}

// process is a server as it runs, in this process or, from startChild, in one of its own, of which s is nil.
type process struct {
	t    *testing.T
	s    *server
	log  *lines
	base string
	stop func() // waits until it has stopped
}

func start(t *testing.T, dir string) *process {
	t.Helper()
	return startWith(t, &config{listen: "127.0.0.1:0", data: dir, sdkAppID: testAppID, keys: []transport.Secret{transport.Secret(testKey)},
		admins: []string{"administrator"}, patience: 15 * time.Second, level: slog.LevelDebug})
}

func startWith(t *testing.T, c *config) *process {
	t.Helper()
	log := new(lines)
	s, err := newServer(c, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: c.level})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	p := &process{t: t, s: s, log: log, base: s.listener.Addr().String()}
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
		log.noSecrets(t)
	})
	t.Cleanup(p.stop)
	return p
}

func query(user, key string) string {
	sig := usersig.Sign(usersig.Sig{Identifier: user, SDKAppID: testAppID, Expire: time.Hour}, []byte(key))
	return url.Values{"sdkappid": {fmt.Sprint(testAppID)}, "identifier": {user}, "usersig": {sig}}.Encode()
}

// call calls a command, which must answer OK.
func (p *process) call(command, body string) map[string]any {
	p.t.Helper()
	resp, err := http.Post("http://"+p.base+"/v4/"+command+"?"+query("administrator", testKey)+"&random=1&contenttype=json", "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		p.t.Fatal(err)
	}
	if out["ActionStatus"] != "OK" {
		p.t.Fatalf("%s answered %v", command, out)
	}
	return out
}

// push pushes a text and returns the task.
func (p *process) push(random int, text, rest string) string {
	p.t.Helper()
	id, _ := p.call("all_member_push/im_push", fmt.Sprintf(
		`{"From_Account":"operator","MsgRandom":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":%q}}]%s}`, random, text, rest))["TaskId"].(string)
	return id
}

const week = `,"MsgLifeTime":604800`

// received is a frame as a client sees it.
type received struct {
	ID, From string
	Time     int64
	Body     struct {
		MsgBody      []struct{ MsgContent struct{ Text string } }
		From_Account string
	}
}

func (r *received) text() string {
	if len(r.Body.MsgBody) != 1 {
		return ""
	}
	return r.Body.MsgBody[0].MsgContent.Text
}

// client is one WebSocket of a user.
type client struct {
	p    *process
	user string
	ws   *websocket.Conn
}

func (p *process) dial(user string) *client {
	p.t.Helper()
	ws, _, err := websocket.Dial(p.t.Context(), "ws://"+p.base+"/ws?"+query(user, testKey), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	p.t.Cleanup(func() { ws.CloseNow() })
	return &client{p, user, ws}
}

func (c *client) next() (*received, error) {
	ctx, cancel := context.WithTimeout(c.p.t.Context(), 30*time.Second)
	defer cancel()
	_, text, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	r := new(received)
	return r, json.Unmarshal(text, r)
}

// expect reads these texts, in this order and no others, and returns the ID of the last.
func (c *client) expect(texts ...string) (id string) {
	c.p.t.Helper()
	for _, want := range texts {
		r, err := c.next()
		if err != nil {
			c.p.t.Fatalf("%s waits for %q: %v", c.user, want, err)
		}
		if r.text() != want || len(r.ID) != 32 || r.From != "operator" || r.Body.From_Account != "operator" || time.Since(time.UnixMilli(r.Time)).Abs() > time.Hour {
			c.p.t.Fatalf("%s got %+v, not %q", c.user, *r, want)
		}
		id = r.ID
	}
	return id
}

func (c *client) send(text string) {
	c.p.t.Helper()
	if err := c.ws.Write(c.p.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.p.t.Fatal(err)
	}
}

func (c *client) ack(id string) { c.p.t.Helper(); c.send(`{"ack":"` + id + `"}`) }

// leave closes the connection. The server has applied every ack before it answers that.
func (c *client) leave() {
	c.p.t.Helper()
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		c.p.t.Fatal(err)
	}
}

// closed reads until the server has closed the connection.
func (c *client) closed(code websocket.StatusCode, reason string) {
	c.p.t.Helper()
	for {
		_, err := c.next()
		if err == nil {
			continue
		}
		var got websocket.CloseError
		if !errors.As(err, &got) || got.Code != code || got.Reason != reason {
			c.p.t.Fatalf("the connection of %s ended with %v, not with %d %q", c.user, err, code, reason)
		}
		return
	}
}

// get is the status and the text of an answer.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.base + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}
