package centrifuge

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
	client "github.com/centrifugal/centrifuge-go"
	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// A client may keep a goroutine for each command until its time-out, also when it is closed: that is its own matter.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/centrifugal/centrifuge-go.(*Client).sendAsync.func1"))
}

const patience = 30 * time.Second

// world is a host: a node with its handlers, a Pusher, and a server that clients reach.
type world struct {
	*testing.T
	p    *fanfare.Pusher
	node *centrifuge.Node
	hub  *Hub
	url  string
	join func(*centrifuge.Client) // in OnConnect

	mu    sync.Mutex
	ends  map[string]*ends // by the connection's ID
	gates map[string]*gate // by user
}

// ends are closed when the hub has taken a connection in, and when it has let it go.
type ends struct{ joined, left chan struct{} }

// newWorld starts a host on a directory. It is stopped by the end of the test, or by stop.
func newWorld(t *testing.T, dir string, config centrifuge.Config) *world {
	t.Helper()
	w := &world{T: t, ends: make(map[string]*ends), gates: make(map[string]*gate)}
	var err error
	if w.node, err = centrifuge.New(config); err != nil {
		t.Fatal(err)
	}
	w.hub = New(w.node, Options{})
	if w.p, err = fanfare.Open(dir, fanfare.Options{Online: w.hub}); err != nil {
		t.Fatal(err)
	}
	w.hub.Attach(w.p)
	w.join = func(c *centrifuge.Client) {
		if err := w.hub.Join(c); err != nil && !errors.Is(err, fanfare.ErrClosed) {
			t.Errorf("%q cannot join: %v", c.UserID(), err)
		}
		close(w.of(c.ID()).joined)
	}
	w.node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: e.Token}}, nil
	})
	w.node.OnConnect(func(c *centrifuge.Client) {
		c.OnDisconnect(func(centrifuge.DisconnectEvent) {
			w.hub.Leave(c)
			close(w.of(c.ID()).left)
		})
		c.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			if !w.hub.RPC(c, e, reply) {
				reply(centrifuge.RPCReply{Data: []byte(`"the host's"`)}, nil)
			}
		})
		w.join(c)
	})
	if err := w.node.Run(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(centrifuge.NewWebsocketHandler(w.node, centrifuge.WebsocketConfig{}))
	w.url = "ws" + strings.TrimPrefix(server.URL, "http")
	t.Cleanup(func() {
		w.stop()
		server.Close()
	})
	return w
}

// stop ends connections, and then the files, as a host does.
func (w *world) stop() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	shutdown := w.node.Shutdown(ctx)
	err := w.p.Close(ctx)
	if errors.Is(err, fanfare.ErrClosed) { // the test has done so
		err = nil
	}
	if err != nil || shutdown != nil {
		w.Error(err, shutdown)
	}
}

func (w *world) of(connection string) *ends {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.ends[connection]
	if e == nil {
		e = &ends{make(chan struct{}), make(chan struct{})}
		w.ends[connection] = e
	}
	return e
}

// gate lets the reads of a user's clients through, or not.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func (w *world) gate(user string) *gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[user]
	if g == nil {
		g = &gate{open: make(chan struct{})}
		close(g.open)
		w.gates[user] = g
	}
	return g
}

func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

func (w *world) stall(user string) (resume func()) {
	g := w.gate(user)
	shut := make(chan struct{})
	g.mu.Lock()
	g.open = shut
	g.mu.Unlock()
	return sync.OnceFunc(func() { close(shut) })
}

type gatedConn struct {
	net.Conn
	gate *gate
}

func (c gatedConn) Read(b []byte) (int, error) {
	c.gate.pass()
	return c.Conn.Read(b)
}

// app is a client of a user.
type app struct {
	w    *world
	c    *client.Client
	id   string
	got  chan *transport.Message
	lost chan client.DisconnectedEvent
	away chan struct{} // closed by the first loss of the connection, for good or not
}

// dial connects a user. It returns once the hub has the connection.
func (w *world) dial(user string, protobuf ...bool) (*app, error) {
	g := w.gate(user)
	config := client.Config{
		Token: user, HandshakeTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, MinReconnectDelay: time.Minute, MaxReconnectDelay: time.Minute,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return gatedConn{c, g}, err
		},
	}
	a := &app{w: w, got: make(chan *transport.Message, 1<<15), lost: make(chan client.DisconnectedEvent, 1), away: make(chan struct{})}
	if len(protobuf) > 0 {
		a.c = client.NewProtobufClient(w.url+"?cf_protocol=protobuf", config)
	} else {
		a.c = client.NewJsonClient(w.url, config)
	}
	w.Cleanup(a.c.Close)
	connected := make(chan string, 1)
	a.c.OnConnected(func(e client.ConnectedEvent) { connected <- e.ClientID })
	a.c.OnMessage(a.hear)
	away := sync.OnceFunc(func() { close(a.away) })
	a.c.OnConnecting(func(e client.ConnectingEvent) {
		if e.Code != 0 { // 0: the first time
			away()
		}
	})
	a.c.OnDisconnected(func(e client.DisconnectedEvent) {
		away()
		select {
		case a.lost <- e:
		default:
		}
	})
	if err := a.c.Connect(); err != nil {
		return nil, err
	}
	select {
	case a.id = <-connected:
	case <-time.After(patience):
		return nil, errors.New("it does not connect")
	}
	<-w.of(a.id).joined
	return a, nil
}

// must connects a user.
func (w *world) must(user string) *app {
	w.Helper()
	a, err := w.dial(user)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func (a *app) hear(e client.MessageEvent) {
	var in struct {
		Fanfare *struct {
			ID, From string
			Time     int64
			Body     json.RawMessage
			Raw      *[]byte
		}
	}
	if err := json.Unmarshal(e.Data, &in); err != nil || in.Fanfare == nil {
		a.w.Errorf("what came is no message: %s (%v)", e.Data, err)
		return
	}
	f := in.Fanfare
	m := &transport.Message{ID: f.ID, From: f.From, Body: f.Body, Accepted: time.UnixMilli(f.Time)}
	if f.Raw != nil {
		m.Body = *f.Raw
	}
	m.Sequence, _ = strconv.ParseUint(f.ID[max(0, len(f.ID)-16):], 16, 64) // of the suite's messages
	a.got <- m
}

func (a *app) Next(ctx context.Context) (*transport.Message, error) {
	select {
	case m := <-a.got:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close closes the connection, and waits until the hub has let it go.
func (a *app) Close() error {
	a.c.Close()
	<-a.w.of(a.id).left
	return nil
}

// expect reads the next messages, by their bodies, and returns their IDs.
func (a *app) expect(bodies ...string) (ids []string) {
	a.w.Helper()
	for _, body := range bodies {
		ctx, cancel := context.WithTimeout(a.w.Context(), patience)
		m, err := a.Next(ctx)
		cancel()
		if err != nil {
			a.w.Fatalf("%s did not come: %v", body, err)
		}
		if string(m.Body) != body {
			a.w.Fatalf("%s came, want %s", m.Body, body)
		}
		ids = append(ids, m.ID)
	}
	return ids
}

// ack acknowledges, and returns what the answer was.
func (a *app) ack(ids ...string) error {
	data, err := json.Marshal(map[string][]string{"ids": ids})
	if err != nil {
		return err
	}
	return a.call(AckMethod, data)
}

func (a *app) call(method string, data []byte) error {
	ctx, cancel := context.WithTimeout(a.w.Context(), patience)
	defer cancel()
	_, err := a.c.RPC(ctx, method, data)
	return err
}

func (w *world) push(body string) *fanfare.Task {
	w.Helper()
	task, err := w.p.Push(w.Context(), fanfare.Message{From: "operator", Body: []byte(body), To: fanfare.All(), Lifetime: time.Hour})
	if err != nil {
		w.Fatal(err)
	}
	return task
}

// pending are the bodies that a user still waits for.
func (w *world) pending(user string) (bodies []string) {
	w.Helper()
	for m, err := range w.p.Pending(w.Context(), user) {
		if err != nil {
			w.Fatal(err)
		}
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

func (w *world) online(user string, want bool) {
	w.Helper()
	if is, err := w.p.Connected(w.Context(), user); err != nil || is != want {
		w.Errorf("%s is connected: %v (%v), want %v", user, is, err, want)
	}
}
