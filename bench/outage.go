package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/cluster"
)

const (
	childNode  = "FANFARE_BENCH_NODE"  // name of the node that a child is
	childPeers = "FANFARE_BENCH_PEERS" // addresses of the nodes, the child's own first

	outageUsers = 1000
	changeEvery = 5 * time.Millisecond // what an outage is measured with
)

// node is a node in a process of its own, in which somebody changes something every few milliseconds. Asked on its standard input, it says how much time there was at most between two changes since it was asked
// for the last time: after the next change.
func (c *child) node(ctx context.Context) error {
	peers := strings.Split(os.Getenv(childPeers), ",")
	p, err := cluster.Open(ctx, c.dir, cluster.Options{Cluster: clusterName, Name: os.Getenv(childNode), Listen: peers[0], Peers: peers})
	if err != nil {
		return err
	}
	c.p = p
	if err := p.SetAttributeNames(ctx, names); err != nil {
		return err
	}
	if err := tell("open", 0); err != nil {
		return err
	}
	var (
		mu      sync.Mutex
		last    = time.Now()
		longest time.Duration
		asked   bool
	)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			mu.Lock()
			asked = true
			mu.Unlock()
		}
	}()
	r := rand.New(rand.NewPCG(seed, uint64(os.Getpid())))
	for tick := time.NewTicker(changeEvery); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("not killed")
		}
		id := c.who.id(r.IntN(c.users))
		err := p.SetAttributes(ctx, id, map[string]string{"city": c.who.towns.Draw(r)})
		if errors.Is(err, fanfare.ErrUnknownUser) {
			err = p.Register(ctx, id)
		}
		switch {
		case err == nil:
		case errors.Is(err, fanfare.ErrUnavailable) || errors.Is(err, fanfare.ErrOutcomeUnknown):
			continue
		default:
			return err
		}
		mu.Lock()
		longest = max(longest, time.Since(last))
		last = time.Now()
		if asked {
			err = tell("longest", longest.Seconds())
			asked, longest = false, 0
		}
		mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// processes are three nodes, each a process of its own with the server embedded, and a server that keeps nothing, by which the bench can ask theirs.
type processes struct {
	b         *bench
	dir       string
	addresses []string
	nodes     [3]*runningChild
	asks      *server.Server
	conn      *nats.Conn
	js        jetstream.JetStream
}

func (c *processes) start(ctx context.Context, i int) error {
	peers := slices.Concat(c.addresses[i:], c.addresses[:i])
	child, err := c.b.child(ctx, "node", filepath.Join(c.dir, nodeNames[i]), outageUsers, childNode+"="+nodeNames[i], childPeers+"="+strings.Join(peers, ","))
	if err != nil {
		return err
	}
	c.nodes[i] = child
	return nil
}

// observe has a server join those of the nodes.
func (c *processes) observe() (err error) {
	o := &server.Options{ServerName: "asks", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Cluster: server.ClusterOpts{Name: clusterName, Host: "127.0.0.1", Port: server.RANDOM_PORT}}
	for _, a := range c.addresses {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: a})
	}
	if c.asks, err = server.NewServer(o); err != nil {
		return err
	}
	go c.asks.Start()
	if !c.asks.ReadyForConnections(10 * time.Second) {
		return errors.New("the server that asks does not start")
	}
	if c.conn, err = nats.Connect("", nats.InProcessServer(c.asks)); err != nil {
		return err
	}
	c.js, err = jetstream.New(c.conn)
	return err
}

// whole waits until each stream has its leader and all replicas, and returns which node leads the log.
func (c *processes) whole(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		leader, streams := "", 0
		whole := true
		// Asked anew from time to time, as servers that know no leader do not answer.
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		list := c.js.ListStreams(once)
		for info := range list.Info() {
			streams++
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != len(c.nodes)-1 {
				whole = false
				continue
			}
			for _, r := range info.Cluster.Replicas {
				whole = whole && r.Current && !r.Offline
			}
			if info.Config.Name == logStream {
				leader = info.Cluster.Leader
			}
		}
		cancel()
		if i := slices.Index(nodeNames[:len(c.nodes)], leader); i >= 0 && whole && list.Err() == nil {
			return i, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("the cluster is not whole: %d streams, the log's leader %q: %w", streams, leader, errors.Join(list.Err(), ctx.Err()))
		}
	}
}

func (c *processes) close() error {
	var errs []error
	for _, n := range c.nodes {
		if n != nil {
			errs = append(errs, n.kill())
		}
	}
	if c.conn != nil {
		c.conn.Close()
	}
	if c.asks != nil {
		c.asks.Shutdown()
		c.asks.WaitForShutdown()
	}
	return errors.Join(errs...)
}

// outage is how long nobody can change anything when the process is lost whose server leads the log.
func (b *bench) outage(ctx context.Context) (err error) {
	c := &processes{b: b, dir: filepath.Join(b.dir, "outage")}
	defer func() { err = errors.Join(err, c.close()) }()
	if c.addresses, err = freePorts(len(c.nodes)); err != nil {
		return err
	}
	for i := range c.nodes {
		if err := c.start(ctx, i); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if _, err := n.next("open"); err != nil {
			return err
		}
	}
	if err := c.observe(); err != nil {
		return err
	}
	kills, stops := 10, 5
	if b.quick {
		kills, stops = 1, 1
	}
	for _, o := range []struct {
		name   string
		signal syscall.Signal
		times  int
		target string
		note   string
	}{
		{"cluster.outage", syscall.SIGKILL, kills, "≤ 5 s", "its process was killed"},
		{"cluster.outage.silent", syscall.SIGSTOP, stops, "", "its process was stopped, so that no connection was closed, as when a machine is lost"},
	} {
		var longest []float64
		for range o.times {
			leader, err := c.whole(ctx)
			if err != nil {
				return err
			}
			took, err := c.lose(ctx, leader, o.signal)
			if err != nil {
				return err
			}
			longest = append(longest, took)
		}
		r := limit(o.name, "s", longest, 5, o.target)
		if o.target == "" {
			r.Target, r.OK = "", true
		}
		r.Users = outageUsers
		b.add(r.with("median of %d, the worst %s; %s", o.times, figure(slices.Max(longest)), o.note))
	}
	return nil
}

// lose takes a node away and returns how long the others were without service at most. Then the node is started again.
func (c *processes) lose(ctx context.Context, i int, signal syscall.Signal) (longest float64, err error) {
	others := slices.Concat(c.nodes[i+1:], c.nodes[:i])
	ask := func() error {
		for _, n := range others {
			if _, err := fmt.Fprintln(n.in); err != nil {
				return err
			}
		}
		longest = 0
		for _, n := range others {
			took, err := n.next("longest")
			if err != nil {
				return err
			}
			longest = max(longest, took)
		}
		return nil
	}
	if err := ask(); err != nil {
		return 0, err
	}
	if err := c.nodes[i].cmd.Process.Signal(signal); err != nil {
		return 0, err
	}
	select {
	case <-time.After(5 * time.Second): // in which it begins, and there may be more than one
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := ask(); err != nil {
		return 0, err
	}
	took := longest
	if err := c.nodes[i].kill(); err != nil {
		return 0, err
	}
	if err := c.start(ctx, i); err != nil {
		return 0, err
	}
	_, err = c.nodes[i].next("open")
	return took, err
}
