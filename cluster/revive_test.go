package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// TestRevive has a server give JetStream up, as for want of room. It has its part of the stream again by itself, which it shows when another node is lost.
func TestRevive(t *testing.T) {
	t.Parallel()
	nodes := testNodes(t, 3, nil)
	waitReady(t, nodes...)
	testStream(t, nodes[0], 3)
	publish(t, nodes[0], "1", "with all")
	n := nodes[0]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	o := n.options
	o.fill()
	go func() {
		defer close(done)
		n.revive(ctx, n.dir, &o)
	}()
	defer func() { cancel(); <-done }()

	first := n.current.Load()
	if err := first.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	publish(t, nodes[1], "2", "with two")
	await(t, "another server", func() error {
		if n.current.Load() == first {
			return fmt.Errorf("it is the first one")
		}
		return nil
	})
	await(t, "its part of the stream", func() error {
		// It wants no health of the whole server, of which consumers are a part that come and go.
		h := n.current.Load().Healthz(&server.HealthzOptions{Account: "$G", Stream: "S"})
		if h.StatusCode != 200 {
			return fmt.Errorf("%s", h.Error)
		}
		return nil
	})
	nodes[1].stop(t)
	publish(t, n, "3", "without the other")
	wantBodies(t, n, "with all", "with two", "without the other")
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
