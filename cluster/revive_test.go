package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// revive has the server of a node looked after until the test ends.
func revive(t *testing.T, n *testNode) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	o := n.options
	o.fill()
	go func() {
		defer close(done)
		n.revive(ctx, n.dir, &o)
	}()
	t.Cleanup(func() { cancel(); <-done }) // before the node is stopped
}

// revived does that, and waits until another server has its part of the stream.
func revived(t *testing.T, n *testNode) {
	t.Helper()
	first := n.current.Load()
	revive(t, n)
	anotherServer(t, n, first)
	await(t, "its part of the stream", func() error {
		// It wants no health of the whole server, of which consumers are a part that come and go.
		h := n.current.Load().Healthz(&server.HealthzOptions{Account: "$G", Stream: "S"})
		if h.StatusCode != 200 {
			return fmt.Errorf("%s", h.Error)
		}
		return nil
	})
}

// anotherServer waits until a node has another server.
func anotherServer(t *testing.T, n *testNode, than *server.Server) {
	t.Helper()
	await(t, "another server", func() error {
		if n.current.Load() == than {
			return errors.New("it is the first one")
		}
		return nil
	})
}

// TestRevive has a server give JetStream up, as for want of room. It has its part of the stream again by itself, which it shows when another node is lost.
func TestRevive(t *testing.T) {
	t.Parallel()
	nodes := testNodes(t, 3, nil)
	waitReady(t, nodes...)
	testStream(t, nodes[0], 3)
	publish(t, nodes[0], "1", "with all")
	n := nodes[0]
	if err := n.current.Load().ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	publish(t, nodes[1], "2", "with two")
	revived(t, n)
	nodes[1].stop(t)
	publish(t, n, "3", "without the other")
	wantBodies(t, n, "with all", "with two", "without the other")
}

// TestReviveAfterWriteError has a server fail to write its part of a stream, with an error that is no want of room, so that it goes on without. It is started again, and another time only later.
func TestReviveAfterWriteError(t *testing.T) {
	t.Parallel()
	nodes := testNodes(t, 3, nil)
	waitReady(t, nodes...)
	testStream(t, nodes[0], 3)
	n := nodes[0]
	var bodies []string
	next := func(n *testNode) {
		bodies = append(bodies, fmt.Sprint(len(bodies))+strings.Repeat(" ", 1<<20))
		publish(t, n, fmt.Sprint(len(bodies)), bodies[len(bodies)-1])
	}
	next(nodes[1])
	msgs := filepath.Join(n.dir, "jetstream", "$G", "streams", "S", "msgs")
	await(t, "its file", func() error {
		_, err := os.Stat(filepath.Join(msgs, "1.blk"))
		return err
	})
	if err := errors.Join(os.Rename(msgs, msgs+".away"), os.WriteFile(msgs, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for first := n.current.Load(); whole(first); { // until another file is wanted
		if len(bodies) == 32 {
			t.Fatal("it writes all the same")
		}
		next(nodes[1])
	}
	if err := errors.Join(os.Remove(msgs), os.Rename(msgs+".away", msgs)); err != nil {
		t.Fatal(err)
	}
	revived(t, n)
	nodes[1].stop(t)
	next(n)
	wantBodies(t, n, bodies...)
}

// TestReviveAgainAndAgain: a server that cannot be mended by that is started at growing intervals.
func TestReviveAgainAndAgain(t *testing.T) {
	t.Parallel()
	n := testNodes(t, 1, func(_ int, o *Options) { o.Listen, o.Peers = "", nil })[0]
	began := time.Now() // when the server was not there yet
	revive(t, n)
	for _, least := range []time.Duration{reviveEvery, 2 * reviveEvery} {
		s := n.current.Load()
		s.Errorf("RAFT Critical write error: %v", syscall.EIO)
		next := began
		await(t, "another server", func() error {
			if at := time.Now(); n.current.Load() == s {
				next = at
				return errors.New("it is the first one")
			}
			return nil
		})
		if after := time.Since(began); after < least-reviveEvery/2 {
			t.Errorf("after %v, and not %v", after, least)
		}
		began = next
	}
}

// whileRunning is a context that ends when a server does.
type whileRunning struct {
	context.Context
	server *server.Server
}

func (c whileRunning) Err() error {
	if c.server.Running() {
		return nil
	}
	return context.Canceled
}

func (c whileRunning) Done() <-chan struct{} {
	if c.server.Running() {
		return nil
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}

// TestReviveLeavesNothing: a node that is closed while its server is started again, and does not wait for that, leaves no server behind.
func TestReviveLeavesNothing(t *testing.T) {
	t.Parallel()
	n := testNodes(t, 1, func(_ int, o *Options) { o.Listen, o.Peers = "", nil })[0]
	o := n.options
	o.fill()
	first := n.current.Load()
	first.Errorf("RAFT Critical write error: %v", syscall.EIO)
	n.revive(whileRunning{t.Context(), first}, n.dir, &o)
	if n.current.Load().Running() {
		t.Error("a server runs that nobody stops")
	}
}

// await tries until it is so.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestWritable leaves nothing behind.
func TestWritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := writable(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || !slices.Equal(left, nil) {
		t.Errorf("%q, %v", left, err)
	}
	if err := writable(filepath.Join(dir, "none"), 1); err == nil {
		t.Error("a directory that is not there")
	}
}
