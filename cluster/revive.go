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
	// reviveEvery is how often a node looks whether its server still keeps its part of the log, and how long that has run at least when it is started again. Each time it is twice as
	// long, up to reviveMost, for while the server is started the node has no connection; one that has run well for that long begins anew.
	reviveEvery = time.Second
	reviveMost  = 5 * time.Minute
	// reviveRoom is how much must be writable, in one file, before a server that could not write is started again: more than any of its own files has.
	reviveRoom = 32 << 20
)

// inProcessServer is the embedded server that is there at the moment, for a client that connects again.
type inProcessServer struct{ atomic.Pointer[server.Server] }

// InProcessConn is a connection to it.
func (s *inProcessServer) InProcessConn() (net.Conn, error) { return s.Load().InProcessConn() }

// revive starts the embedded server again when it could not write, and can, until ctx ends. For want of room a server gives JetStream up, for other errors what it could not write to, and for good; the node goes on by way of the others
// then, which keep the log without it, but the next one that is lost leaves no majority. A server that is started again fetches what it has missed.
func (c *connection) revive(ctx context.Context, dir string, o *Options) {
	if c.current.Load() == nil {
		return
	}
	started, least := time.Now(), reviveEvery
	for told := false; ctx.Err() == nil; pause(ctx, reviveEvery) {
		if whole(c.current.Load()) {
			told = false
			continue
		}
		if !told {
			told = true
			o.Logger.Error("cluster: this node keeps no part of the log, or not all of it, until its server can write; the cluster bears the loss of one node less")
			if time.Since(started) > reviveMost {
				least = reviveEvery
			}
		}
		if time.Since(started) < least || writable(dir, reviveRoom) != nil {
			continue
		}
		err := stop(ctx, c.current.Load(), nothing)
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
		started, least = time.Now(), min(2*least, reviveMost)
		c.current.Store(s)
		if ctx.Err() != nil { // close may have come before it, and stopped the one before
			_ = stop(context.WithoutCancel(ctx), s, nothing)
			return
		}
		o.Logger.Info("cluster: what could not be written can be, and this node keeps its part of the log again")
	}
}

// whole says whether a server keeps all that it has to.
func whole(s *server.Server) bool {
	l, _ := s.Logger().(*serverLog)
	return s.JetStreamEnabled() && !(l != nil && l.broken.Load())
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
