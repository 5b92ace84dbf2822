package faulttest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsTrio is three NATS servers that know each other by the proxies of a network alone.
type natsTrio struct {
	*network
	servers [nodes]*server.Server
	streams [nodes]jetstream.JetStream
}

func newNATSTrio(t *testing.T) *natsTrio {
	t.Helper()
	c := &natsTrio{network: newNetwork(t)}
	for i := range nodes {
		host, port := split(t, c.routes[i])
		var routes []*url.URL
		for _, p := range c.peers(i) {
			routes = append(routes, &url.URL{Scheme: "nats", Host: p})
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("node-", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true,
			// Where nobody listens: what the servers tell each other of themselves leads nowhere past the proxies.
			Cluster: server.ClusterOpts{Name: "c", Host: host, Port: port, Advertise: unused(t), PingInterval: time.Second},
			Routes:  routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		c.servers[i] = s
	}
	for i, s := range c.servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("not ready")
		}
		nc, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if c.streams[i], err = jetstream.New(nc); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, "a stream", func(ctx context.Context) error {
		_, err := c.streams[0].CreateStream(ctx, jetstream.StreamConfig{Name: "J", Subjects: []string{"j"}, Replicas: nodes})
		return err
	})
	return c
}

// until tries until it works.
func (c *natsTrio) until(t *testing.T, what string, try func(context.Context) error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func split(t *testing.T, address string) (string, int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.IP.String(), a.Port
}

func (c *natsTrio) publish(node int) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.streams[node].Publish(ctx, "j", nil)
		return err
	}
}

// TestNetwork does to three servers what the faults of the network are, to see that these are what they are meant to be.
func TestNetwork(t *testing.T) {
	t.Parallel()
	c := newNATSTrio(t)
	all := func(t *testing.T) {
		t.Helper()
		for i := range nodes {
			took := c.until(t, fmt.Sprint("write at ", i), c.publish(i))
			t.Logf("write at %d after %v", i, took)
		}
	}
	refuses := func(t *testing.T, node int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := c.publish(node)(ctx); err == nil {
			t.Fatalf("a write at %d, which reaches nobody", node)
		} else {
			t.Logf("%d: %v", node, err)
		}
	}
	all(t)
	for node := range nodes {
		t.Run(fmt.Sprint("cut ", node), func(t *testing.T) {
			c.cut(node)
			refuses(t, node)
			for other := range nodes {
				if other != node {
					t.Logf("the others write after %v", c.until(t, "write of the majority", c.publish(other)))
				}
			}
			refuses(t, node)
			c.heal()
			all(t)
		})
	}
	t.Run("delay", func(t *testing.T) {
		for i := range nodes {
			for j := range nodes {
				if i != j {
					c.delay(i, j, 200*time.Millisecond)
				}
			}
		}
		for i := range nodes {
			took := c.until(t, "write", c.publish(i))
			t.Logf("write at %d after %v", i, took)
			if took < 400*time.Millisecond { // there and back
				t.Errorf("a write took %v", took)
			}
		}
		c.heal()
		all(t)
	})
	t.Run("one way", func(t *testing.T) {
		c.lose(0, 1)
		c.lose(0, 2)
		refuses(t, 0)
		for i := range nodes {
			if i != 0 {
				t.Logf("write at %d after %v", i, c.until(t, "write", c.publish(i)))
			}
		}
		c.heal()
		all(t)
	})
}
