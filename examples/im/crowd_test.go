//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare/transport/centrifuge"
)

// crowd is many people with their apps. Announcements are numbered from 0 by their text.
type crowd struct {
	t    *testing.T
	ctx  context.Context
	end  context.CancelFunc
	apps sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	people  []*listener
	there   int            // apps that the server has known
	ids     map[int]string // of each announcement
	had     []int          // by how many people each announcement is had
	acked   int            // announcements, of each of the people, whose acknowledgement the server has answered
	frames  int            // that came
	again   int            // of them, those that the app had already
	twice   int            // of these, those to people with two apps
	deafen  func() bool    // while it is true, connections over which something comes are lost with it; nil: it is not
}

// listener is somebody with one app or two.
type listener struct {
	name  string
	apps  int
	got   []int           // announcements, as they came first
	acked map[string]bool // for each of them, by ID, whether an acknowledgement of it was answered
}

// gather connects so many apps; every fifth is the second one of somebody. It returns when the server knows all of them.
func gather(ctx context.Context, t *testing.T, url string, connections int) *crowd {
	t.Helper()
	c := &crowd{t: t, ids: make(map[int]string)}
	c.ctx, c.end = context.WithCancel(ctx)
	c.changed = sync.NewCond(&c.mu)
	context.AfterFunc(c.ctx, func() { // wakes who waits
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	t.Cleanup(c.leave)
	for i := range connections {
		if i%5 != 4 {
			c.people = append(c.people, &listener{name: fmt.Sprintf("user-%05d", i), acked: make(map[string]bool)})
		}
		c.people[len(c.people)-1].apps++
	}
	for _, someone := range c.people {
		for range someone.apps {
			a := &app{crowd: c, url: url, of: someone, seen: make(map[string]bool)}
			c.apps.Go(a.live)
		}
	}
	if err := c.await("all are there", func() bool { return c.there == connections }); err != nil {
		t.Fatal(err)
	}
	return c
}

// leave ends all connections, for good.
func (c *crowd) leave() {
	c.end()
	c.apps.Wait()
}

// await returns when something is so, which is asked for with the lock.
func (c *crowd) await(what string, is func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !is() {
		if c.ctx.Err() != nil {
			return fmt.Errorf("waiting until %s: %w; %d apps have been there, the announcements are had by %v of %d people, %d acknowledgements are answered", what, c.ctx.Err(), c.there, c.had, len(c.people), c.acked)
		}
		c.changed.Wait()
	}
	return nil
}

// hadBy says whether so many have an announcement. It is called with the lock.
func (c *crowd) hadBy(n, people int) bool { return n < len(c.had) && c.had[n] >= people }

// allHave says whether everybody has so many announcements. It is called with the lock.
func (c *crowd) allHave(n int) bool {
	return len(c.had) == n && !slices.ContainsFunc(c.had, func(people int) bool { return people < len(c.people) })
}

// deafened says whether connections are lost. It is called with the lock.
func (c *crowd) deafened() bool { return c.deafen != nil && c.deafen() }

// app is a client of somebody: it speaks the JSON protocol of centrifuge, connects again when the connection is lost, and knows by their IDs the
// announcements that it had. It is not centrifuge-go, of which version 0.12.1 has a data race, and calls without an end, when connections are lost amid calls.
type app struct {
	crowd *crowd
	url   string
	of    *listener

	// Of the app's goroutine alone.
	seen    map[string]bool
	unacked []string // announcements whose acknowledgement is not answered: all of them are acknowledged again over the next connection
	under   int      // how many of them, the first ones, are acknowledged by the command that is under way
	last    int      // number of the last command
	known   bool     // to the server, since the first connection
}

var errLost = errors.New("the connection is lost")

// Numbers of the first commands on a connection. Those after them are acknowledgements.
const (
	connectCommand = 1
	askCommand     = 2
)

// live keeps the app connected until the crowd leaves.
func (a *app) live() {
	const shortest, longest = 200 * time.Millisecond, 2 * time.Second
	for pause := shortest; ; pause = min(2*pause, longest) {
		if a.connect() {
			pause = shortest
		}
		select {
		case <-time.After(rand.N(pause)): // not all at once
		case <-a.crowd.ctx.Done():
			return
		}
	}
}

// connect returns when the connection has ended, and says whether there was one.
func (a *app) connect() bool {
	ctx := a.crowd.ctx
	ws, _, err := websocket.Dial(ctx, a.url, nil)
	if err != nil {
		return false
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	a.last, a.under = connectCommand, 0
	err = a.write(ws, map[string]any{"id": connectCommand, "connect": map[string]any{"data": map[string]string{"name": a.of.name}}})
	for err == nil {
		var frame []byte
		if _, frame, err = ws.Read(ctx); err == nil {
			err = a.hearAll(ws, frame)
		}
	}
	return true
}

func (a *app) write(ws *websocket.Conn, command map[string]any) error {
	data, err := json.Marshal(command)
	if err != nil {
		return err
	}
	return ws.Write(a.crowd.ctx, websocket.MessageText, data)
}

func (a *app) hearAll(ws *websocket.Conn, frame []byte) error {
	for line := range bytes.Lines(frame) {
		if err := a.hear(ws, line); err != nil {
			return err
		}
	}
	return nil
}

// hear takes a line of what comes: an announcement, the answer to a command, or a ping, which is an empty object and so is its answer.
func (a *app) hear(ws *websocket.Conn, line []byte) error {
	var in struct {
		ID    int
		Error *struct{ Temporary bool }
		Push  *struct {
			Message struct {
				Data struct {
					Fanfare struct {
						ID   string
						Body struct{ Text string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return a.strange(line)
	}
	switch {
	case in.Error != nil && !in.Error.Temporary:
		return a.strange(line)
	case in.Error != nil && a.under == 0:
		return errLost
	case in.Error != nil: // the server was too busy for the acknowledgement
		a.under = 0
	case in.Push != nil:
		f := in.Push.Message.Data.Fanfare
		n, err := strconv.Atoi(f.Body.Text)
		if err != nil {
			return a.strange(line)
		}
		if !a.crowd.heard(a, n, f.ID) {
			return errLost
		}
		a.unacked = append(a.unacked, f.ID)
	case in.ID == connectCommand:
		// A command after it is answered when the server knows the user.
		a.last = askCommand
		return a.write(ws, map[string]any{"id": askCommand, "rpc": map[string]any{"method": "profile"}})
	case in.ID == askCommand:
		if !a.known {
			a.known = true
			a.crowd.arrived()
		}
		a.last++
	case in.ID != 0:
		a.crowd.answered(a.of, a.unacked[:a.under])
		a.unacked = slices.Delete(a.unacked, 0, a.under)
		a.under = 0
	default:
		return ws.Write(a.crowd.ctx, websocket.MessageText, []byte("{}"))
	}
	return a.acknowledge(ws)
}

// strange fails the test for what should not come, and ends the connection.
func (a *app) strange(line []byte) error {
	a.crowd.t.Errorf("%s is told %s", a.of.name, line)
	return errLost
}

// acknowledge acknowledges what has come, if no acknowledgement is under way.
func (a *app) acknowledge(ws *websocket.Conn) error {
	if a.last <= askCommand || a.under > 0 || len(a.unacked) == 0 {
		return nil
	}
	a.under = min(len(a.unacked), 64)
	a.last++
	return a.write(ws, map[string]any{"id": a.last, "rpc": map[string]any{"method": centrifuge.AckMethod, "data": map[string]any{"ids": a.unacked[:a.under]}}})
}

func (c *crowd) arrived() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.there++
	c.changed.Broadcast()
}

// heard takes an announcement that came, or says that it is lost.
func (c *crowd) heard(a *app, n int, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deafened() {
		return false
	}
	c.frames++
	if known := c.ids[n]; known == "" {
		c.ids[n] = id
	} else if known != id {
		c.t.Errorf("announcement %d has the IDs %s and %s", n, known, id)
	}
	if a.seen[id] {
		if c.again++; a.of.apps > 1 {
			c.twice++
		}
		return true
	}
	a.seen[id] = true
	if _, had := a.of.acked[id]; had {
		return true // by the other app
	}
	a.of.acked[id] = false
	a.of.got = append(a.of.got, n)
	for len(c.had) <= n {
		c.had = append(c.had, 0)
	}
	c.had[n]++
	c.changed.Broadcast()
	return true
}

func (c *crowd) answered(of *listener, ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if !of.acked[id] {
			of.acked[id] = true
			c.acked++
		}
	}
	c.changed.Broadcast()
}
