package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const testSecret = "a secret of tests, which everybody can guess"

// testNode is a node that can be started again.
type testNode struct {
	*connection
	dir     string
	options Options
}

func (n *testNode) start(t *testing.T) {
	t.Helper()
	o := n.options
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	o.fill()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, err := connect(ctx, n.dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	n.connection = c
}

func (n *testNode) stop(t *testing.T) {
	t.Helper()
	if n.connection == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.close(ctx); err != nil {
		t.Error(err)
	}
	n.connection = nil
}

// testNodes starts as many nodes, which are stopped at the end of the test.
func testNodes(t *testing.T, count int, adjust func(i int, o *Options)) []*testNode {
	t.Helper()
	addresses := unused(t, count)
	nodes := make([]*testNode, count)
	for i := range nodes {
		o := Options{Name: fmt.Sprint("n", i), Listen: addresses[i], Peers: addresses}
		if adjust != nil {
			adjust(i, &o)
		}
		nodes[i] = &testNode{dir: filepath.Join(t.TempDir(), "nats"), options: o}
		t.Cleanup(func() { nodes[i].stop(t) })
		nodes[i].start(t)
	}
	return nodes
}

func waitReady(t *testing.T, nodes ...*testNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, n := range nodes {
		if err := n.ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// testStream creates a stream, until it is done: a leader may not know yet that the last node is there.
func testStream(t *testing.T, n *testNode, replicas int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := n.js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas})
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// publish tries until it is done.
func publish(t *testing.T, n *testNode, id, body string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := n.js.Publish(ctx, "s", []byte(body), jetstream.WithMsgID(id))
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wantBodies reads a stream from its beginning by an ordered consumer.
func wantBodies(t *testing.T, n *testNode, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var consumer jetstream.Consumer
	for {
		var err error
		try, cancel := context.WithTimeout(ctx, 2*time.Second) // it may fall to a server that is not there
		consumer, err = n.js.OrderedConsumer(try, "S", jetstream.OrderedConsumerConfig{})
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for i, body := range want {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("%s: %d: %v", n.options.Name, i, err)
		}
		if string(m.Data()) != body {
			t.Fatalf("%s: %d is %q, want %q", n.options.Name, i, m.Data(), body)
		}
	}
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	began := time.Now()
	nodes := testNodes(t, 3, func(_ int, o *Options) { o.Secret = testSecret })
	waitReady(t, nodes...)
	t.Logf("ready after %v", time.Since(began))
	testStream(t, nodes[0], 3)
	t.Logf("a stream after %v", time.Since(began))
	var want []string
	for i, n := range nodes {
		want = append(want, fmt.Sprint("body ", i))
		publish(t, n, want[i], want[i])
	}
	for _, n := range nodes {
		wantBodies(t, n, want...)
	}

	leader := slices.IndexFunc(nodes, func(n *testNode) bool { return n.current.Load().JetStreamIsStreamLeader("$G", "S") })
	if leader < 0 {
		t.Fatal("nobody leads")
	}
	other := nodes[(leader+1)%3]
	began = time.Now()
	nodes[leader].stop(t)
	t.Logf("the leader stopped in %v", time.Since(began))
	want = append(want, "without one")
	publish(t, other, "3", "without one")
	t.Logf("another leads %v after it began to stop", time.Since(began))
	nodes[leader].start(t)
	waitReady(t, nodes[leader])
	want = append(want, "with all again")
	publish(t, nodes[leader], "4", "with all again")
	for _, n := range nodes {
		wantBodies(t, n, want...)
	}
}

// TestOneNode: it listens nowhere, and keeps what it has over a restart.
func TestOneNode(t *testing.T) {
	t.Parallel()
	n := &testNode{dir: filepath.Join(t.TempDir(), "nats"), options: Options{Name: "n"}}
	t.Cleanup(func() { n.stop(t) })
	n.start(t)
	if n.current.Load().Addr() != nil || n.current.Load().ClusterAddr() != nil {
		t.Errorf("it listens on %v and %v", n.current.Load().Addr(), n.current.Load().ClusterAddr())
	}
	waitReady(t, n)
	testStream(t, n, 1)
	publish(t, n, "1", "kept")
	n.stop(t)
	n.start(t)
	waitReady(t, n)
	wantBodies(t, n, "kept")
}

// TestShape: a log is not lost because Peers changed.
func TestShape(t *testing.T) {
	t.Parallel()
	n := &testNode{dir: filepath.Join(t.TempDir(), "[nats]"), options: Options{Name: "n"}}
	t.Cleanup(func() { n.stop(t) })
	n.start(t)
	waitReady(t, n)
	testStream(t, n, 1)
	n.stop(t)
	addresses := unused(t, 2)
	several := Options{Name: "n", Listen: addresses[0], Peers: addresses}
	several.fill()
	if c, err := connect(t.Context(), n.dir, &several); err == nil || !strings.Contains(err.Error(), "of one node") {
		t.Errorf("%v, %v", c, err)
	}

	one := testNodes(t, 1, func(_ int, o *Options) { o.Peers = append(o.Peers, unused(t, 1)...) })[0]
	one.stop(t)
	alone := Options{Name: "n0"}
	alone.fill()
	if c, err := connect(t.Context(), one.dir, &alone); err == nil || !strings.Contains(err.Error(), "of several nodes") {
		t.Errorf("%v, %v", c, err)
	}
	one.start(t)
}

// TestNoStrangers: the port for clients, which a server in a cluster has, lets in nobody.
func TestNoStrangers(t *testing.T) {
	t.Parallel()
	n := testNodes(t, 1, func(_ int, o *Options) { o.Peers = append(unused(t, 1), o.Listen) })[0]
	addr := n.current.Load().Addr()
	if ip := addr.(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Errorf("clients can connect from other machines, at %v", addr)
	}
	for _, options := range [][]nats.Option{nil, {nats.Token("x")}, {nats.UserInfo("n", "x")}} {
		nc, err := nats.Connect("nats://"+addr.String(), options...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%v, want %v", err, nats.ErrAuthorization)
		}
		if err == nil {
			nc.Close()
		}
	}
}

// TestReady: all of three nodes have to be there for the first time, and afterwards two.
func TestReady(t *testing.T) {
	t.Parallel()
	addresses := unused(t, 3)
	var nodes []*testNode
	for i, address := range addresses {
		nodes = append(nodes, testNodes(t, 1, func(_ int, o *Options) { o.Name, o.Listen, o.Peers = fmt.Sprint("n", i), address, addresses })...)
		if i == 2 {
			break
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		if err := nodes[0].ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with %d nodes: %v, want %v", i+1, err, context.DeadlineExceeded)
		}
		cancel()
	}
	waitReady(t, nodes...)

	for _, n := range nodes {
		n.stop(t)
	}
	began := time.Now()
	nodes[0].start(t)
	nodes[2].start(t)
	waitReady(t, nodes[0], nodes[2])
	t.Logf("two of three, started again, are ready after %v", time.Since(began))
}

// TestLocked: one process has the files of a server, until that has stopped.
func TestLocked(t *testing.T) {
	t.Parallel()
	n := &testNode{dir: filepath.Join(t.TempDir(), "nats"), options: Options{Name: "n"}}
	t.Cleanup(func() { n.stop(t) })
	n.start(t)
	o := n.options
	o.fill()
	if c, err := connect(t.Context(), n.dir, &o); !errors.Is(err, fanfare.ErrLocked) {
		t.Fatal(c, err)
	}
	waitReady(t, n)
	n.stop(t)
	if err := os.Truncate(filepath.Join(n.dir, "lock"), 100); err != nil { // as after a loss of power
		t.Fatal(err)
	}
	n.start(t)
	waitReady(t, n)
}

// TestPortTaken: what is wrong with a server is what connect returns, and it leaves nothing behind.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := Options{Name: "n", Listen: l.Addr().String(), Peers: unused(t, 1)}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	o.fill()
	if c, err := connect(t.Context(), t.TempDir(), &o); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v, %v", c, err)
	}
}

// TestExternal: a deployment that is there already, which lets in by a password, and one that comes back after it was stopped.
func TestExternal(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), server.RANDOM_PORT
	run := func() *server.Server {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, Username: "u", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the deployment does not start")
		}
		return s
	}
	deployment := run()
	t.Cleanup(func() {
		deployment.Shutdown()
		deployment.WaitForShutdown()
	})
	port = deployment.Addr().(*net.TCPAddr).Port

	refused := Options{Name: "n", URL: deployment.ClientURL()}
	refused.fill()
	if c, err := connect(t.Context(), "", &refused); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("%v, %v, want %v", c, err, nats.ErrAuthorization)
	}

	n := &testNode{options: Options{Name: "n", URL: deployment.ClientURL(), NATS: []nats.Option{nats.UserInfo("u", "p")}}}
	t.Cleanup(func() { n.stop(t) })
	n.start(t)
	if n.current.Load() != nil {
		t.Error("a server is embedded")
	}
	waitReady(t, n)
	testStream(t, n, 1)
	publish(t, n, "1", "one")

	deployment.Shutdown()
	deployment.WaitForShutdown()
	deployment = run()
	publish(t, n, "2", "two")
	wantBodies(t, n, "one", "two")
}

// soon receives what must come.
func soon[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// TestExternalLate: a deployment that starts after the node.
func TestExternalLate(t *testing.T) {
	t.Parallel()
	logged := make(errorWriter, 100)
	address := unused(t, 1)[0]
	o := Options{Name: "n", URL: "nats://" + address, Options: fanfare.Options{Logger: slog.New(slog.NewTextHandler(logged, nil))}}
	o.fill()
	gone, cancel := context.WithCancelCause(t.Context())
	connected := make(chan error, 1)
	connectIn := func(ctx context.Context) {
		c, err := connect(ctx, "", &o)
		if err == nil {
			err = c.close(context.Background())
		}
		connected <- err
	}
	go connectIn(gone)
	soon(t, logged) // it was tried once
	given := errors.New("given up")
	cancel(given)
	if err := soon(t, connected); !errors.Is(err, given) || !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("%v, want %v and %v", err, given, nats.ErrNoServers)
	}

	go connectIn(t.Context())
	soon(t, logged)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: n, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if err := soon(t, connected); err != nil {
		t.Error(err)
	}
}

// pipes connects to a server that takes whoever connects, and reads nothing from then on.
type pipes struct{}

func (pipes) Dial(string, string) (net.Conn, error) {
	c, s := net.Pipe()
	go func() {
		if _, err := io.WriteString(s, `INFO {"server_id":"s","version":"2.12.0","headers":true,"max_payload":8388608}`+"\r\n"); err != nil {
			return
		}
		for lines := bufio.NewReader(s); ; {
			if line, err := lines.ReadString('\n'); err != nil {
				return
			} else if line == "PING\r\n" {
				break
			}
		}
		_, _ = io.WriteString(s, "PONG\r\n")
	}()
	return c, nil
}

// TestConnectionThatTakesNothing: who talks to a server that reads no more is held up no longer than one that answers no more is waited for.
func TestConnectionThatTakesNothing(t *testing.T) {
	t.Parallel()
	o := &Options{Name: "a", URL: "nats://127.0.0.1:4222", NATS: []nats.Option{nats.SetCustomDialer(pipes{})}}
	o.fill()
	c, err := connect(t.Context(), "", o)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = c.nc.Publish("s", make([]byte, 1<<20)) // which does not fit into what is kept
	if err := c.close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second { // left alone, the client waits for a minute
		t.Errorf("it took %v", took)
	}
}
