package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// client is the app of one user. It is on this side of the network: what it has got it still has when its node is dead.
type client struct {
	crowd *crowd
	user  string
	home  int      // the node that it connects to first
	move  chan int // gets a node that it is to go to

	// With crowd.mu:
	got    []int // numbers of announcements, as they came
	struck int   // how many that were when its node died; 0: it did not
}

// crowd is all clients.
type crowd struct {
	nodes   *processes
	clients []*client
	people  [len(nodeNames)]int // how many are of each home
	all     sync.WaitGroup

	mu        sync.Mutex
	byUser    map[string]*client
	connected [len(nodeNames)]int
	moving    int                         // clients that were told to move, and are not there yet
	sent      []time.Time                 // of each announcement, from 1: when it was pushed first
	have      [][len(nodeNames)]int       // how many clients of each home have it
	complete  [][len(nodeNames)]time.Time // when the last of them got it
	ids       []string                    // its ID
	wrong     error                       // the first thing that clients cannot make sense of
	changed   chan struct{}               // closed when any of this changes
	trap      func() bool                 // if set, called with mu when a message has come, until it returns true; the node is not heard further meanwhile
}

func newCrowd(nodes *processes, announcements int) *crowd {
	n := announcements + 1
	return &crowd{
		nodes: nodes, byUser: make(map[string]*client), changed: make(chan struct{}),
		sent: make([]time.Time, n), have: make([][len(nodeNames)]int, n), complete: make([][len(nodeNames)]time.Time, n), ids: make([]string, n),
	}
}

// gather makes clients of some of the users, spread evenly over them, and lets them connect, as many to each node.
func (c *crowd) gather(ctx context.Context, clients, users int) error {
	c.mu.Lock()
	for i := range clients {
		one := &client{crowd: c, user: userID(i * users / clients), home: i % len(nodeNames), move: make(chan int, 1)}
		c.clients = append(c.clients, one)
		c.people[one.home]++
		c.byUser[one.user] = one
	}
	c.mu.Unlock()
	for _, one := range c.clients {
		c.all.Go(func() { one.live(ctx) })
	}
	return c.await(ctx, c.allConnected)
}

// live is connected until ctx ends.
func (c *client) live(ctx context.Context) {
	moves := 0
	for at := c.home; ; {
		p, err := c.connect(ctx, at)
		if err != nil {
			return
		}
		c.crowd.change(func() {
			c.crowd.connected[p.number]++
			c.crowd.moving -= moves
		})
		moves = 0
		select {
		case at = <-c.move:
			moves = 1
			c.crowd.change(func() { c.crowd.connected[p.number]-- })
			_, _ = p.do(ctx, request{Disconnect: c.user}) // if that fails the connection is gone, too
			continue
		case <-p.gone:
			c.crowd.change(func() { c.crowd.connected[p.number]--; c.struck = len(c.got) })
		case <-ctx.Done():
			return
		}
		// All clients of the node have noticed at the same moment, and should not all come to the others at the same moment.
		select {
		case <-time.After(rand.N(time.Second)):
			at = (c.home + 1 + rand.IntN(len(nodeNames)-1)) % len(nodeNames)
		case <-ctx.Done():
			return
		}
	}
}

// connect tries the nodes in turn, with pauses that grow.
func (c *client) connect(ctx context.Context, at int) (*process, error) {
	return backoff.Retry(ctx, func() (*process, error) {
		p, err := c.crowd.nodes.at(at)
		at = (at + 1) % len(nodeNames)
		if err != nil {
			return nil, err
		}
		_, err = p.do(ctx, request{Connect: c.user})
		if errors.Is(err, errGone) {
			c.crowd.change(func() { c.struck = len(c.got) })
		}
		return p, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 2 * time.Second,
	}), backoff.WithMaxElapsedTime(0))
}

// hear is a message that comes for clients.
func (c *crowd) hear(s *said) {
	c.change(func() {
		n, err := strconv.Atoi(s.Body)
		if err != nil || n < 1 || n >= len(c.have) {
			c.wonder("a message of %q", s.Body)
			return
		}
		if c.ids[n] == "" {
			c.ids[n] = s.Message
		} else if c.ids[n] != s.Message {
			c.wonder("announcement %d is two messages, %s and %s", n, c.ids[n], s.Message)
		}
		for _, user := range s.To {
			one := c.byUser[user]
			if one == nil {
				c.wonder("a message for %s, who has no client", user)
				continue
			}
			if !slices.Contains(one.got, n) {
				c.have[n][one.home]++
				if c.have[n][one.home] == c.people[one.home] {
					c.complete[n][one.home] = time.Now()
				}
			}
			one.got = append(one.got, n)
		}
		if c.trap != nil && c.trap() {
			c.trap = nil
		}
	})
}

// wonder notes the first thing that is wrong. It is called with c.mu.
func (c *crowd) wonder(format string, args ...any) {
	if c.wrong == nil {
		c.wrong = fmt.Errorf(format, args...)
	}
}

func (c *crowd) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// patience is how long clients may take for anything.
const patience = 2 * time.Minute

// await waits until something is so, which is asked for with c.mu.
func (c *crowd) await(ctx context.Context, so func() bool) error {
	over := time.After(patience)
	for {
		c.mu.Lock()
		done, changed, err := so(), c.changed, c.wrong
		c.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("after %s so many of the %v clients are connected to each node: %v; those of each have each announcement, from 1: %v", patience, c.people, c.connected, c.have[1:])
		}
	}
}

// allConnected is called with c.mu.
func (c *crowd) allConnected() bool {
	return c.connected[0]+c.connected[1]+c.connected[2] == len(c.clients) && c.moving == 0
}

// arrived is when the clients of some homes had an announcement; zero: not yet. It is called with c.mu.
func (c *crowd) arrived(n int, homes ...int) (at time.Time) {
	for _, home := range homes {
		t := c.complete[n][home]
		if t.IsZero() {
			return t
		}
		if t.After(at) {
			at = t
		}
	}
	return at
}

// of returns the clients of one home.
func (c *crowd) of(home int) (list []*client) {
	for _, one := range c.clients {
		if one.home == home {
			list = append(list, one)
		}
	}
	return list
}

// moveTo tells clients to connect to a node.
func (c *crowd) moveTo(node int, clients []*client) {
	c.change(func() { c.moving += len(clients) })
	for _, one := range clients {
		one.move <- node
	}
}

// row is what came of it for the clients of one home.
type row struct {
	clients    int
	once       int // have each announcement once
	again      int // have each, and one or more again, which by its ID an app drops
	lack       int // lack one or more
	disordered int // got one, for the first time, after a later one
	odd        int // got one again that they did not have from a node that died then, or got it a third time
}

// rows are those of all homes.
func (c *crowd) rows() (all [len(nodeNames)]row, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.clients {
		r := &all[one.home]
		r.clients++
		before, since := one.got[:one.struck], one.got[one.struck:]
		var first []int
		for _, n := range one.got {
			if !slices.Contains(first, n) {
				first = append(first, n)
			}
		}
		switch {
		case len(first) < len(c.have)-1:
			r.lack++
		case len(one.got) > len(first):
			r.again++
		default:
			r.once++
		}
		if !slices.IsSorted(first) {
			r.disordered++
		}
		if twice(before) || twice(since) {
			r.odd++
		}
	}
	return all, c.wrong
}

// twice says whether a number is there more than once.
func twice(list []int) bool {
	list = slices.Sorted(slices.Values(list))
	return len(slices.Compact(list)) < len(list)
}
