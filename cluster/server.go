package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fanfare-im/fanfare"
)

// A peer that does not answer is found after two pings without an answer, at the third: within 2 to 3 s. Until then what is for it waits.
const (
	pingInterval = time.Second
	maxPings     = 2
)

// maxPayload has room for the largest record, about 1 MiB, and what goes around it. It is as much as NATS recommends at most.
const maxPayload = 8 << 20

// memoryStore bounds the streams that JetStream keeps in memory alone. The log is none of them.
const memoryStore = 64 << 20

// reportEvery is how many attempts in vain to reach a peer, about one a second, are reported as one.
const reportEvery = 60

// connection is a node's to NATS.
type connection struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	current inProcessServer // embedded; nil with a deployment elsewhere
	lock    *bbolt.DB       // of its files; nil likewise
}

// connect starts the embedded server, with its files in dir, and connects to it, or to the deployment of o.URL, until ctx ends. Of other nodes it needs none: see ready.
// The options have been checked and filled.
func connect(ctx context.Context, dir string, o *Options) (*connection, error) {
	c := &connection{}
	options := []nats.Option{
		nats.Name(o.Cluster + " " + o.Name),
		nats.Timeout(2 * time.Second),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout((maxPings + 1) * pingInterval), // who writes holds up all others, the pings and the end of the connection too
	}
	options = append(options, reports(o.Logger)...)
	if o.URL == "" {
		var err error
		if c.lock, err = lock(dir); err != nil {
			return nil, err
		}
		s, err := start(ctx, dir, o)
		if err != nil {
			return nil, errors.Join(err, c.lock.Close())
		}
		c.current.Store(s)
		options = append(options, nats.InProcessServer(&c.current))
	}
	options = append(options, o.NATS...)
	options = append(options,
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		// What is published while there is no connection fails at once, rather than be sent when nobody waits for it any more.
		nats.ReconnectBufSize(-1),
	)
	err := c.dial(ctx, o.URL, o.Logger, options)
	if err == nil {
		c.js, err = jetstream.New(c.nc)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cluster: connecting to NATS: %w", err), c.close(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// dial connects. A deployment that is not there is tried again and again, for it may be starting as well; who is not let in has to change something first.
func (c *connection) dial(ctx context.Context, servers string, logger *slog.Logger, options []nats.Option) error {
	for attempt := 0; ; attempt++ {
		nc, err := nats.Connect(servers, options...)
		if err == nil {
			c.nc = nc
			return nil
		}
		var op *net.OpError
		absent := errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &op) && op.Op == "dial"
		if c.current.Load() != nil || !absent {
			return err
		}
		if attempt == 0 {
			logger.Warn("cluster: NATS cannot be reached yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %w", fanfare.ErrUnavailable, context.Cause(ctx), err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// reports has what happens to the connection of a client logged; without it the client prints.
func reports(logger *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("cluster: the connection to NATS is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { logger.Info("cluster: connected to NATS again") }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			logger.Warn("cluster: NATS", "error", err, "subject", subject)
		}),
	}
}

// ready waits until JetStream can be asked for something. When a cluster is started for the first time, all nodes in Peers have to be there for it: servers without a log elect nobody by majority, lest those with one are just late.
// Afterwards more than half of them have to be there, and have a leader. That enough are there for a new stream's replicas it does not say.
func (c *connection) ready(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.js.AccountInfo(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster: waiting for JetStream: %w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close ends the connection, and the embedded server: it hands over what it leads, closes its files and ends its goroutines. If ctx ends before, that goes on, and
// until it is done nobody else can open the directory.
func (c *connection) close(ctx context.Context) error {
	if c.nc != nil {
		c.nc.Close()
	}
	if s := c.current.Load(); s != nil {
		return stop(ctx, s, c.lock.Close)
	}
	return nil
}

// stop stops a server, and does what comes then, also when ctx has ended meanwhile.
func stop(ctx context.Context, s *server.Server, then func() error) error {
	done := make(chan error, 1)
	go func() {
		s.Shutdown()
		s.WaitForShutdown()
		done <- then()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cluster: the NATS server has not stopped yet: %w", context.Cause(ctx))
	}
}

func nothing() error { return nil }

// lockPatience is how long a directory may still be locked, as by a process that is just being killed.
const lockPatience = 300 * time.Millisecond

// lock keeps a server's directory for this process, as those of the store's files do the rest, which do not know of a server that is about to stop, or of one without a store yet. Two servers on the same files would
// write over what the other has. It is [fanfare.ErrLocked] where another has it.
func lock(dir string) (*bbolt.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	path := filepath.Join(dir, "lock")
	for first := true; ; first = false {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockPatience, NoStatistics: true})
		switch {
		case err == nil:
			return db, nil
		case errors.Is(err, bolterrors.ErrTimeout):
			return nil, fmt.Errorf("%w: %s", fanfare.ErrLocked, dir)
		}
		if !first || os.Remove(path) != nil { // there is nothing in it, and who made it may have lost power
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
}

// start runs the embedded server, and returns when it takes connections.
func start(ctx context.Context, dir string, o *Options) (*server.Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if err := checkShape(dir, o); err != nil {
		return nil, err
	}
	so, err := serverOptions(dir, o)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(so)
	if err != nil {
		return nil, fmt.Errorf("cluster: NATS server: %w", err)
	}
	log := &serverLog{logger: o.Logger, fatal: make(chan string, 1)}
	s.SetLoggerV2(log, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start()
	}()
	for {
		// It only looks now and then, in turns that are kept short for what else may happen.
		if s.ReadyForConnections(50 * time.Millisecond) {
			return s, nil
		}
		select {
		case why := <-log.fatal:
			err = fmt.Errorf("cluster: the NATS server does not start: %s", why)
		case <-ctx.Done():
			err = fmt.Errorf("cluster: the NATS server does not start: %w", context.Cause(ctx))
		default:
			continue
		}
		<-started // or it would go on to start what it has not yet, and nobody would stop that
		return nil, errors.Join(err, stop(context.WithoutCancel(ctx), s, nothing))
	}
}

// checkShape refuses a directory of a cluster of one node for one of several, and the other way round. Where servers elect a leader, those streams are deleted half a minute after the start that the leader does not know; and a server
// that is alone goes on with its copy of a log, whatever the others add to theirs.
func checkShape(dir string, o *Options) error {
	holds := func(path ...string) (bool, error) {
		found, err := os.ReadDir(filepath.Join(append([]string{dir, "jetstream"}, path...)...))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("cluster: %w", err)
		}
		return len(found) > 0, nil
	}
	several, err := holds("$SYS", "_js_", "_meta_")
	if err != nil {
		return err
	}
	streams, err := holds("$G", "streams")
	if err != nil {
		return err
	}
	switch alone := o.nodes() == 1; {
	case alone && several:
		return fmt.Errorf("cluster: %s is of a cluster of several nodes, and there is none but this one in Peers", dir)
	case !alone && !several && streams:
		return fmt.Errorf("cluster: %s is of a cluster of one node, whose log several cannot take over", dir)
	}
	return nil
}

func serverOptions(dir string, o *Options) (*server.Options, error) {
	so := &server.Options{
		ServerName:         o.Name,
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           dir,
		JetStreamMaxMemory: memoryStore,
		JetStreamMaxStore:  1 << 62, // bounded by the disk alone
		SyncAlways:         o.SyncAlways,
		MaxPayload:         maxPayload,

		DisableJetStreamBanner: true,
		ConnectErrorReports:    reportEvery,
		ReconnectErrorReports:  reportEvery,
	}
	others := o.others()
	if len(others) == 0 {
		return so, nil
	}

	// With DontListen a server does not begin to listen for its peers either: it first waits for a listener for clients, which never comes. So it has one, which
	// lets in nobody.
	so.DontListen, so.Host, so.Port = false, "127.0.0.1", server.RANDOM_PORT
	so.CustomClientAuthentication = inProcess{}

	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster: Listen: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("cluster: Listen: %w", err)
	}
	so.Cluster = server.ClusterOpts{
		Name: o.Cluster,
		Host: host,
		Port: port,
		// Servers tell each other of third ones. Under the address that is in Peers they know it already, and do not try another way.
		Advertise:    o.address(),
		PingInterval: pingInterval,
		MaxPingsOut:  maxPings,
		TLSTimeout:   5, // seconds: a handshake of a busy machine
	}
	if so.Cluster.TLSConfig, err = peerTLS(o); err != nil {
		return nil, err
	}
	// A server that starts for the first time takes the number of routes for the number of servers that are to elect a leader. So there is one to itself too: without it three of
	// four would do, while the fourth has another three. The server finds out by itself where it leads, and gives it up.
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	for _, peer := range append(others, net.JoinHostPort(host, portText)) {
		so.Routes = append(so.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	return so, nil
}

// peerTLS is how nodes talk to each other; nil: in the clear.
func peerTLS(o *Options) (*tls.Config, error) {
	switch {
	case o.Secret != "":
		return secretTLS(o.Secret, o.Cluster)
	case o.TLS != nil:
		t := o.TLS.Clone()
		t.ClientAuth = tls.RequireAndVerifyClientCert
		t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
		return t, nil
	}
	return nil, nil
}

// inProcess lets in only the clients of this process. They come through a pipe; whoever has another address came by the port.
type inProcess struct{}

func (inProcess) Check(c server.ClientAuthentication) bool {
	a := c.RemoteAddress()
	return a != nil && a.Network() == "pipe"
}

// serverLog hands what a server has to say to a logger, but for what is of no use to anybody who has not written the server.
type serverLog struct {
	logger *slog.Logger
	fatal  chan string // has room for the first reason for which the server does not start
	broken atomic.Bool // something could not be written, which the server does not try again
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Warn("cluster: NATS server", "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	if strings.Contains(format, "ritical write error") { // of the log, of a stream, of whatever: that is where all of them are told
		l.broken.Store(true)
	}
	l.logger.Error("cluster: NATS server", "message", fmt.Sprintf(format, v...))
}

// Fatalf would end the process, were it the server's own. It is called by Start, which returns.
func (l *serverLog) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.logger.Error("cluster: NATS server", "message", message)
	select {
	case l.fatal <- message:
	default:
	}
}

func (*serverLog) Noticef(string, ...any) {}
func (*serverLog) Debugf(string, ...any)  {}
func (*serverLog) Tracef(string, ...any)  {}
