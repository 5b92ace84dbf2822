package faulttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// nodes is how many there are.
const nodes = 3

// network is what is between the nodes: for each of them and each other one a proxy, whose address the one has for the other.
//
// Two nodes may be connected by way of either's proxy. So what one sends to the other goes up its own and down the other's.
type network struct {
	tb     testing.TB
	routes [nodes]string // where each node listens; nobody but the proxies is told
	from   [nodes][nodes]*toxiproxy.Proxy
	mu     sync.Mutex
	down   map[way]string // the loss or delay of a way
}

// way is what a node sends to another.
type way struct{ from, to int }

func newNetwork(tb testing.TB) *network {
	tb.Helper()
	n := &network{tb: tb, down: make(map[way]string)}
	for i := range n.routes {
		n.routes[i] = unused(tb)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for i := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			p := toxiproxy.NewProxy(server, fmt.Sprintf("%d to %d", i, j), "127.0.0.1:0", n.routes[j])
			if err := p.Start(); err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(p.Stop)
			n.from[i][j] = p
		}
	}
	return n
}

// lastPort counts on from somewhere, for unused.
var lastPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32())
	return n
}()

// unused returns an address of loopback that nobody listens at. Its port is none of those that a system gives to connections, so that a node finds it free also when it has been away for a while.
func unused(tb testing.TB) string {
	tb.Helper()
	const first, count = 20000, 12000
	for range count {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+lastPort.Add(1)%count))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	tb.Fatal("no port is free")
	return ""
}

// peers are the addresses that a node has for the others.
func (n *network) peers(node int) []string {
	var list []string
	for _, p := range n.from[node] {
		if p != nil {
			list = append(list, p.Listen)
		}
	}
	return list
}

// lose drops what one node sends to another, of open connections and new ones, which stay open.
func (n *network) lose(from, to int) {
	n.affect(way{from, to}, `"timeout", "attributes": {"timeout": 0}`)
}

// delay lets what one node sends to another take so much longer.
func (n *network) delay(from, to int, by time.Duration) {
	n.affect(way{from, to}, fmt.Sprintf(`"latency", "attributes": {"latency": %d}`, by.Milliseconds()))
}

func (n *network) affect(w way, toxic string) {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.restore(w)
	for stream, p := range map[string]*toxiproxy.Proxy{"upstream": n.from[w.from][w.to], "downstream": n.from[w.to][w.from]} {
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name": %q, "stream": %q, "type": %s}`, stream, stream, toxic))); err != nil {
			n.tb.Fatal(err)
		}
	}
	n.down[w] = toxic
}

// cut drops everything between a node and the others, both ways.
func (n *network) cut(node int) {
	for other := range nodes {
		if other != node {
			n.lose(node, other)
			n.lose(other, node)
		}
	}
}

// heal ends all losses and delays. A connection that has lost something is closed, as what comes next would make no sense.
func (n *network) heal() {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.down {
		n.restore(w)
	}
}

func (n *network) restore(w way) {
	if n.down[w] == "" {
		return
	}
	delete(n.down, w)
	for stream, p := range map[string]*toxiproxy.Proxy{"upstream": n.from[w.from][w.to], "downstream": n.from[w.to][w.from]} {
		if err := p.Toxics.RemoveToxic(n.tb.Context(), stream); err != nil {
			n.tb.Fatal(err)
		}
	}
}
