package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// reviveEvery is how often a node looks whether its server still keeps its part of the log.
	reviveEvery = time.Second
	// reviveRoom is how much must be writable before a server that had no room is started again: while it is down the node has no connection.
	reviveRoom = 32 << 20
)

// inProcessServer is the embedded server that is there at the moment, for a client that connects again.
type inProcessServer struct{ atomic.Pointer[server.Server] }

// InProcessConn is a connection to it.
func (s *inProcessServer) InProcessConn() (net.Conn, error) { return s.Load().InProcessConn() }

// revive starts the embedded server again when it has given JetStream up, until ctx ends. It does so for good when the disk is full or cannot be written: the node goes on by way of the others
// then, which keep the log without it, but the next one that is lost leaves no majority. With room again the server fetches what it has missed.
func (c *connection) revive(ctx context.Context, dir string, o *Options) {
	if c.server == nil {
		return
	}
	for told := false; ctx.Err() == nil; pause(ctx, reviveEvery) {
		if c.server.JetStreamEnabled() {
			told = false
			continue
		}
		if !told {
			told = true
			o.Logger.Error("cluster: this node keeps no part of the log until there is room to write it; the cluster bears the loss of one node less")
		}
		if err := writable(dir, reviveRoom); err != nil {
			continue
		}
		err := stop(ctx, c.server)
		var s *server.Server
		if err == nil {
			s, err = start(ctx, dir, o)
		}
		if err != nil {
			if ctx.Err() == nil {
				o.Logger.Error("cluster: the NATS server could not be started again", "error", err)
			}
			continue
		}
		c.server = s
		c.current.Store(s)
		o.Logger.Info("cluster: there is room, and this node keeps its part of the log again")
	}
}

// writable says whether so much can be written to a directory.
func writable(dir string, bytes int) (err error) {
	f, err := os.Create(filepath.Join(dir, "room"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	for block := make([]byte, 1<<20); bytes > 0; bytes -= len(block) {
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("cluster: no room: %w", err)
		}
	}
	return f.Sync()
}
