package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/cluster"
	"github.com/fanfare-im/fanfare/transport"
)

const (
	clusterName = "bench"
	logStream   = "fanfare-" + clusterName
	seedNode    = "a"
)

// nodeNames are those of the three nodes, and of one that joins them.
var nodeNames = [...]string{seedNode, "b", "c", "d"}

// trio is three nodes in this process. Each has a NATS server as a node embeds it, and is connected to it in the same way; but it is the bench's,
// so that the bench can ask the servers itself, and publish to them beside the nodes.
type trio struct {
	dir     string
	servers [3]*server.Server
	conns   [3]*nats.Conn // the bench's own
	js      [3]jetstream.JetStream
	nodes   [3]*fanfare.Pusher
	online  transport.Online
}

// freePorts finds addresses of loopback on which nobody listens, with ports that no connection and no listener without a port of its own is given.
func freePorts(n int) (list []string, err error) {
	for try := 0; len(list) < n; try++ {
		address := fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(10_000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			if try >= 100 {
				return nil, err
			}
			continue
		}
		defer l.Close() // when all have been found, so that they differ
		list = append(list, address)
	}
	return list, nil
}

type trioOptions struct {
	syncAlways bool
	online     transport.Online
}

// withThreeNodes has f called with three nodes that are open.
func (b *bench) withThreeNodes(ctx context.Context, o trioOptions, f func(*trio) error) error {
	t, err := b.threeNodes(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(f(t), t.close())
}

// threeNodes opens three nodes that have the users. Those of the first time begin with a copy of the directory that most figures stand on,
// and nodes are where they were the next time. The Pusher of that directory is closed.
func (b *bench) threeNodes(ctx context.Context, o trioOptions) (_ *trio, err error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	if err := b.close(); err != nil {
		return nil, err
	}
	t := &trio{dir: filepath.Join(b.dir, "trio"), online: o.online}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	seed := filepath.Join(t.dir, seedNode)
	if _, err := os.Stat(seed); errors.Is(err, os.ErrNotExist) {
		if err := os.CopyFS(seed, os.DirFS(b.home())); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(len(t.servers))
	if err != nil {
		return nil, err
	}
	for i := range t.servers {
		if err := t.serve(i, ports, o.syncAlways); err != nil {
			return nil, err
		}
	}
	for i, s := range t.servers {
		if !s.ReadyForConnections(10 * time.Second) {
			return nil, fmt.Errorf("NATS server %d does not start", i)
		}
		if t.conns[i], err = nats.Connect("", nats.InProcessServer(s)); err != nil {
			return nil, err
		}
		if t.js[i], err = jetstream.New(t.conns[i]); err != nil {
			return nil, err
		}
	}
	errs := make([]error, len(t.nodes))
	var all sync.WaitGroup
	for i := range t.nodes {
		all.Go(func() {
			t.nodes[i], errs[i] = cluster.Open(ctx, t.path(i), t.options(i))
		})
	}
	all.Wait()
	return t, errors.Join(errs...)
}

func (t *trio) path(i int) string { return filepath.Join(t.dir, nodeNames[i]) }

// options are those of node i, of which the fourth is connected to the first server.
func (t *trio) options(i int) cluster.Options {
	return cluster.Options{
		Cluster: clusterName, Name: nodeNames[i], Seed: seedNode, Options: fanfare.Options{Online: t.online},
		URL: "nats://127.0.0.1", NATS: []nats.Option{nats.InProcessServer(t.servers[i%len(t.servers)])},
	}
}

// serve starts a server with the options that a node gives to its own.
func (t *trio) serve(i int, addresses []string, syncAlways bool) (err error) {
	host, portText, err := net.SplitHostPort(addresses[i])
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return err
	}
	o := &server.Options{
		ServerName: nodeNames[i], Host: host, Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(t.path(i), "nats"), JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 62, SyncAlways: syncAlways,
		MaxPayload: 8 << 20, DisableJetStreamBanner: true,
		Cluster: server.ClusterOpts{Name: clusterName, Host: host, Port: port, PingInterval: time.Second, MaxPingsOut: 2},
	}
	for _, a := range addresses {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: a})
	}
	if t.servers[i], err = server.NewServer(o); err != nil {
		return err
	}
	go t.servers[i].Start()
	return nil
}

func (t *trio) close() error {
	errs := make([]error, len(t.nodes))
	var all sync.WaitGroup
	for i, p := range t.nodes {
		if p != nil {
			all.Go(func() { errs[i] = p.Close(context.Background()) })
		}
	}
	all.Wait()
	for i, s := range t.servers {
		if t.conns[i] != nil {
			t.conns[i].Close()
		}
		if s != nil {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	return errors.Join(errs...)
}

// log asks for the state of the log.
func (t *trio) log(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := t.js[0].Stream(ctx, logStream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// settle waits until all nodes have applied what the log has now, and nothing is being folded.
func (t *trio) settle(ctx context.Context) error {
	info, err := t.log(ctx)
	if err != nil {
		return err
	}
	for _, p := range t.nodes {
		for {
			s, err := p.Stats(ctx)
			if err != nil {
				return err
			}
			if s.Position >= info.State.LastSeq && !s.Folding {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
