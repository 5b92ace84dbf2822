package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/cluster"
	"github.com/fanfare-im/fanfare/transport"
)

// This file is what a host writes to be a node. But for cluster.Open it is that of a host with one process: a node is pushed through, and connected
// to, as if it were the only one.

// lifetime is how long announcements wait for users who are away.
const lifetime = time.Hour

// runNode is a node, until its standard input ends: so it ends with the process that started it, however that does.
func runNode(ctx context.Context, args []string, in io.Reader, out, log io.Writer) (err error) {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	flags.SetOutput(log)
	name := flags.String("name", "", "this node's `name`")
	listen := flags.String("listen", "", "the `address` at which the other nodes reach this one")
	peers := flags.String("peers", "", "the `addresses` of all nodes, with commas between")
	dir := flags.String("dir", "", "this node's `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &node{out: json.NewEncoder(out), sessions: make(map[string]*fanfare.Session), opened: make(chan struct{})}
	go func() {
		defer cancel()
		n.serve(ctx, in)
	}()
	n.p, err = cluster.Open(ctx, *dir, cluster.Options{
		Name:   *name,
		Listen: *listen,
		Peers:  strings.Split(*peers, ","),
		// Between machines it also takes a Secret, or TLS.
		Options: fanfare.Options{Online: n, Logger: slog.New(slog.NewTextHandler(log, nil))},
	})
	if ctx.Err() != nil && err != nil {
		return nil // it was to end before it was up
	}
	if err != nil {
		return err
	}
	close(n.opened)
	<-ctx.Done()
	closing, end := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer end()
	return n.p.Close(closing)
}

// node is the host: it holds the connections of its clients, which here all come over one pipe.
type node struct {
	opened chan struct{} // closed when p is there
	p      *fanfare.Pusher

	mu       sync.Mutex
	out      *json.Encoder               // writes each line at once, so that it is on its way when Encode returns, whatever becomes of this process
	sessions map[string]*fanfare.Session // by user; nil: connecting
}

var errNotConnected = errors.New("not connected")

// DeliverBatch is what fanfare calls with a message for users who are connected to this node.
func (n *node) DeliverBatch(_ context.Context, users []string, m *transport.Message) []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := make([]error, len(users))
	here := make([]string, 0, len(users))
	for i, user := range users {
		if _, ok := n.sessions[user]; ok {
			here = append(here, user)
		} else {
			errs[i] = errNotConnected
		}
	}
	if len(here) == 0 {
		return errs
	}
	if err := n.out.Encode(said{Message: m.ID, Body: string(m.Body), To: here}); err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// MaxBatch is how many users may be in one line.
func (n *node) MaxBatch() int { return 64 }

// Deliver is for one user.
func (n *node) Deliver(ctx context.Context, user string, m *transport.Message) error {
	return n.DeliverBatch(ctx, []string{user}, m)[0]
}

// serve does what is asked for, all at the same time, until there is nothing more to read.
func (n *node) serve(ctx context.Context, in io.Reader) {
	for lines := json.NewDecoder(in); ; {
		var r request
		if lines.Decode(&r) != nil {
			return
		}
		go func() {
			select {
			case <-n.opened:
			case <-ctx.Done():
				return
			}
			var a said
			if err := n.do(ctx, &r, &a); err != nil {
				a = said{Error: err.Error()}
			}
			a.Call = r.Call
			n.mu.Lock()
			defer n.mu.Unlock()
			_ = n.out.Encode(a) // who does not hear it is not there any more
		}()
	}
}

func (n *node) do(ctx context.Context, r *request, a *said) (err error) {
	switch {
	case r.Connect != "":
		return n.connect(ctx, r.Connect)
	case r.Disconnect != "":
		n.disconnect(r.Disconnect)
		return nil
	case r.Import != nil:
		_, err = n.p.Import(ctx, people(*r.Import), nil)
		return err
	case r.Push > 0:
		a.Task, err = n.push(ctx, r.Push)
		return err
	case r.Tag != "":
		return n.p.AddTags(ctx, r.Tag, "reads")
	case r.Look:
		return n.look(ctx, a)
	case r.Check:
		return n.p.Check(ctx)
	}
	return fmt.Errorf("request %d asks for nothing", r.Call)
}

// connect is a client that connects. The node knows it first, for what waits for the user comes at once.
func (n *node) connect(ctx context.Context, user string) error {
	n.mu.Lock()
	_, twice := n.sessions[user]
	if !twice {
		n.sessions[user] = nil
	}
	n.mu.Unlock()
	if twice {
		return errors.New("already connected")
	}
	session, err := n.p.Connect(ctx, user)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		delete(n.sessions, user)
		return err
	}
	n.sessions[user] = session
	return nil
}

// disconnect is a client that goes. What is in the pipe by then it gets, and what comes later waits for it.
func (n *node) disconnect(user string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if session := n.sessions[user]; session != nil {
		session.Close()
		delete(n.sessions, user)
	}
}

// push pushes an announcement. By its key it is one, also if it is pushed through another node again because this one was lost before it answered.
func (n *node) push(ctx context.Context, number int) (task string, err error) {
	t, err := n.p.Push(ctx, fanfare.Message{
		From: "operations", Body: fmt.Append(nil, number), To: fanfare.All(), Lifetime: lifetime, Key: fmt.Sprint("announcement ", number),
	})
	if err != nil {
		return "", err
	}
	return t.ID, nil
}

// look says how many users this node knows of, and of each announcement how many have it.
func (n *node) look(ctx context.Context, a *said) (err error) {
	if a.Users, err = n.p.Count(ctx, fanfare.All()); err != nil {
		return err
	}
	a.Tasks = make(map[string]on)
	for task, err := range n.p.Tasks(ctx) {
		if err != nil {
			return err
		}
		progress, err := task.Progress()
		if err != nil {
			return err
		}
		a.Tasks[task.ID] = on{progress.Delivered, progress.Pending}
	}
	return nil
}

// people makes up users.
func people(s span) iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		for i := s.From; i < s.Before; i++ {
			if !yield(fanfare.User{ID: userID(i)}, nil) {
				return
			}
		}
	}
}

func userID(number int) string { return fmt.Sprintf("user %07d", number) }
