package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/centrifugal/centrifuge"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
	"github.com/fanfare-im/fanfare/schedule"
	fanfarecentrifuge "github.com/fanfare-im/fanfare/transport/centrifuge"
)

const (
	maxName  = 32 // bytes
	patience = 10 * time.Second
)

// server is the process: a centrifuge node with the chat on it, the Pusher with its hub, and the listener that all is reached by.
type server struct {
	log      *slog.Logger
	id       string // of the data: the page keeps what it had apart by it
	node     *centrifuge.Node
	hub      *fanfarecentrifuge.Hub
	p        *fanfare.Pusher
	chats    chats
	http     *http.Server
	listener net.Listener
	stopping chan struct{} // closed when the server stops
}

// newServer opens the directory and listens. It answers once serve is called.
func newServer(listen, data string, log io.Writer) (_ *server, err error) {
	s := &server{log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), stopping: make(chan struct{})}
	s.node, err = centrifuge.New(centrifuge.Config{
		LogLevel: centrifuge.LogLevelError, LogHandler: func(e centrifuge.LogEntry) { s.log.Error(e.Message, "fields", e.Fields) },
	})
	if err != nil {
		return nil, err
	}
	s.hub = fanfarecentrifuge.New(s.node, fanfarecentrifuge.Options{Logger: s.log})
	s.p, err = fanfare.Open(data, fanfare.Options{Online: s.hub, Logger: s.log, Cron: schedule.Cron, KeepAudiences: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", data, err)
	}
	s.hub.Attach(s.p)
	closing := func(err error) (*server, error) {
		return nil, errors.Join(err, s.p.Close(context.Background()))
	}
	if s.id, err = identity(filepath.Join(data, "im.id")); err != nil {
		return closing(err)
	}
	if err := s.p.SetAttributeNames(context.Background(), map[int]string{0: attribute}); err != nil {
		return closing(err)
	}
	s.connections()
	if err := s.node.Run(); err != nil {
		return closing(err)
	}
	if s.listener, err = net.Listen("tcp", listen); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	return s, nil
}

// identity is what is in a file, or a new one that is in it from then on. A file that is empty is one that a full disk had no room for.
func identity(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		b = []byte(rand.Text())
		err = os.WriteFile(file, b, 0o600)
	}
	return string(b), err
}

// connections says what a connection may do: all that a host's node does, with a line for the hub in each place.
func (s *server) connections() {
	s.node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		var in struct {
			Name string `json:"name"`
		}
		if json.Unmarshal(e.Data, &in) != nil || !isName(in.Name) {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken // a host would look at a token here
		}
		data, _ := json.Marshal(map[string]string{"server": s.id}) // of strings there is no error
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: in.Name},
			Data:          data,
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel(in.Name): {}},
		}, nil
	})
	s.node.OnConnect(func(client *centrifuge.Client) {
		client.OnDisconnect(func(centrifuge.DisconnectEvent) { s.hub.Leave(client) })
		client.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			if !s.hub.RPC(client, e, reply) {
				reply(s.call(client, e))
			}
		})
		if err := s.hub.Join(client); err != nil {
			s.log.Error("a user cannot be connected", "user", client.UserID(), "error", err)
		}
	})
}

// channel is where a user's chats go, on all connections.
func channel(user string) string { return "user:" + user }

// isName says whether somebody may be called so.
func isName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && name == strings.TrimSpace(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// handler answers requests that name this machine. Those by another's name, which may lead here, are refused: by it a page from elsewhere could be let in.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /connection/websocket", centrifuge.NewWebsocketHandler(s.node, centrifuge.WebsocketConfig{
		MessageSizeLimit: 32 << 10, WriteTimeout: 10 * time.Second,
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: 10 * time.Second, PongTimeout: 5 * time.Second}, // who is cut off is away after this
	}))
	mux.Handle("/console/", http.StripPrefix("/console", console.Handler(s.p, console.Options{
		Logger: s.log, Done: s.stopping, From: "operator", FirstSteps: "Log in as somebody on the page of the chat, http://" + s.listener.Addr().String() + "/.",
		Identify: func(*http.Request) (console.Identity, error) {
			return console.Identity{Name: "you", Role: console.Operator}, nil
		},
	})))
	mux.HandleFunc("POST /push", s.push)
	mux.Handle("/", page())
	own := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLocal(host) {
			http.Error(w, "this server is for this machine alone", http.StatusForbidden)
			return
		}
		own.ServeHTTP(w, r)
	})
}

func isLocal(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// serve answers until ctx ends, finishes what was accepted, and closes everything.
func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case <-ctx.Done():
		err := s.close()
		<-failed
		return err
	case err := <-failed:
		return errors.Join(err, s.close())
	}
}

// close ends requests, then what was pushed to those who are connected, then connections, then the files, in this order: each needs the next.
func (s *server) close() error {
	close(s.stopping)
	var errs []error
	within := func(what string, f func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if s.http != nil {
		within("ending requests", s.http.Shutdown)
		_ = s.listener.Close() // if nothing was served
	}
	within("ending pushes", s.p.Drain)
	within("ending connections", s.node.Shutdown)
	within("closing the files", s.p.Close)
	return errors.Join(errs...)
}
