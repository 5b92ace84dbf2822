package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
	"github.com/fanfare-im/fanfare/metrics"
	"github.com/fanfare-im/fanfare/rest"
	"github.com/fanfare-im/fanfare/schedule"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/websocket"
)

// server is the process: the files, the REST API, the gateway, and the listener that all is reached by.
type server struct {
	c        *config
	log      *slog.Logger
	p        *fanfare.Pusher
	hub      *websocket.Hub // the gateway's connections
	http     *http.Server
	listener net.Listener
	ready    atomic.Bool
	audit    *console.FileAudit // of the console; nil: it is in memory, or there is none
	stopping chan struct{}      // closed when the server stops
}

// newServer opens the directory and listens. It answers once serve is called.
func newServer(c *config, log *slog.Logger) (*server, error) {
	s := &server{c: c, log: log, stopping: make(chan struct{})}
	// Pages of any origin: one elsewhere can connect only with a UserSig, which no browser adds by itself, as it would a cookie.
	s.hub = websocket.New(websocket.Options{Logger: log, Origins: []string{"*"}})
	var err error
	if s.listener, err = net.Listen("tcp", c.listen); err != nil {
		return nil, err
	}
	o := fanfare.Options{Online: s.hub, Logger: log, Cron: schedule.Cron, KeepAudiences: true}
	if c.trial {
		o.Mobile = []transport.Mobile{trialPhones{}}
	}
	if s.p, err = fanfare.Open(c.data, o); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.data, err), s.listener.Close())
	}
	if len(c.consolePassword) > 0 && c.consoleAudit != "" {
		if s.audit, err = console.OpenFileAudit(c.consoleAudit); err != nil {
			return nil, errors.Join(fmt.Errorf("the console's audit log: %w", err), s.p.Close(context.Background()), s.listener.Close())
		}
	}
	s.http = &http.Server{
		Handler:        s.handler(),
		ReadTimeout:    15 * time.Second, // of a request, also one that nothing reads; WebSockets have their own
		WriteTimeout:   time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s, nil
}

func (s *server) handler() http.Handler {
	o := rest.Options{SDKAppID: s.c.sdkAppID, Keys: s.c.keys, Admins: s.c.admins, Kick: s.hub.Kick, Logger: s.log}
	if s.c.cloudLimits {
		o.Limits = rest.CloudLimits()
	}
	api := rest.Handler(s.p, o)
	mux := http.NewServeMux()
	mux.Handle("GET /ws", s.hub.Handler(s.p, s.login))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.Handle("GET /metrics", s.metrics())
	if s.c.trial || len(s.c.consolePassword) > 0 {
		mux.Handle("/console/", http.StripPrefix("/console", s.console()))
	}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		switch stats, err := s.p.Stats(r.Context()); {
		case !s.ready.Load() || err != nil:
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		case stats.Refused != nil:
			http.Error(w, "changes are refused until the process is started again; see the log", http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "ready\n")
		}
	})
	// Not through the mux, which answers a path such as //v4/ with a redirect: the API has an answer for any path.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi.json" || strings.HasPrefix(strings.TrimLeft(r.URL.Path, "/"), "v4") {
			api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// metrics shows the Pusher and the process to Prometheus.
func (s *server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.New(s.p, metrics.Options{}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelError), MaxRequestsInFlight: 4,
		ErrorHandling: promhttp.ContinueOnError, // all that is known, when something is not
	})
}

// console is the page for operators. There is one, by name and password.
func (s *server) console() http.Handler {
	name, password := sha256.Sum256([]byte(s.c.consoleUser)), sha256.Sum256([]byte(s.c.consolePassword))
	o := console.Options{Logger: s.log, Done: s.stopping, Encode: restText, From: s.c.admins[0]}
	o.Identify = console.BasicAuth("fanfare", func(n, p string) (console.Identity, bool) {
		gotName, gotPassword := sha256.Sum256([]byte(n)), sha256.Sum256([]byte(p))
		same := subtle.ConstantTimeCompare(gotName[:], name[:]) & subtle.ConstantTimeCompare(gotPassword[:], password[:])
		return console.Identity{Name: n, Role: console.Operator}, same == 1
	})
	if s.c.trial {
		o.Identify = identifyLocal
	}
	if s.audit != nil {
		o.Audit = s.audit
	}
	o.FirstSteps = s.firstSteps()
	return console.Handler(s.p, o)
}

// firstSteps says how there comes to be somebody to push to.
func (s *server) firstSteps() string {
	return fmt.Sprintf(`To try it out, be a user called alice. In another terminal, where this project is:

export FANFARE_KEY=SECRET    # that which this server was started with
go run ./examples/server listen -sdkappid %d -identifier alice -url ws://%s/ws

Alice is known and connected then, and what she gets is shown there.`, s.c.sdkAppID, s.listener.Addr())
}

// restText is the body of a plain text, in the form that the REST API gives to a push of one, so that clients know one form only.
func restText(text string) []byte {
	type element struct {
		MsgType    string
		MsgContent map[string]string
	}
	b, _ := json.Marshal(map[string][]element{"MsgBody": {{"TIMTextElem", map[string]string{"Text": text}}}}) // of strings there is no error
	return b
}

// serve answers until ctx ends, finishes what was accepted, and closes everything.
func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	s.ready.Store(true)
	s.log.Info("serving", "address", s.listener.Addr().String(), "sdkappid", s.c.sdkAppID, "data", s.c.data, "keys", len(s.c.keys), "console", len(s.c.consolePassword) > 0)
	select {
	case <-ctx.Done():
		err := s.shutdown()
		<-failed
		return err
	case err := <-failed:
		return errors.Join(err, s.shutdown())
	}
}

// shutdown ends requests, then what was pushed to those who are connected, then connections, then the files, in this order: each needs the next.
// Each has its own time, so that one that is slow leaves the others theirs.
func (s *server) shutdown() error {
	s.log.Info("stopping")
	s.ready.Store(false)
	close(s.stopping)
	s.hub.Stop()
	var errs []error
	within := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), s.c.patience)
		defer cancel()
		return f(ctx)
	}
	if err := within(s.http.Shutdown); err != nil {
		errs = append(errs, fmt.Errorf("requests were cut off: %w", err), s.http.Close())
	}
	if err := within(s.p.Drain); err != nil {
		s.log.Warn("pushes without a lifetime were cut off")
	}
	if err := within(s.hub.Shutdown); err != nil {
		s.log.Warn("connections were cut off") // what they did not acknowledge comes again
	}
	if err := within(s.p.Close); err != nil {
		errs = append(errs, fmt.Errorf("closing the files: %w", err))
	}
	if s.audit != nil {
		if err := s.audit.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing the console's audit log: %w", err))
		}
	}
	s.log.Info("stopped")
	return errors.Join(errs...)
}
