package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// ring keeps the last messages of a connection.
type ring struct {
	mu   sync.Mutex
	n    int
	last [8]*transport.Message
}

// rings is a transport that appends to the user's ring.
type rings map[string]*ring

func (r rings) Deliver(_ context.Context, user string, m *transport.Message) error {
	x := r[user]
	x.mu.Lock()
	x.last[x.n&7] = m
	x.n++
	x.mu.Unlock()
	return nil
}

// online is a push to everyone who is connected, against a loop over the same users that makes the same calls.
func (b *bench) online(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	n := min(b.users, 1_000_000)
	if b.quick {
		n = 100_000
	}
	hub := make(rings, n)
	if err := b.reopen(fanfare.Options{Online: hub}); err != nil {
		return err
	}
	connected := make([]string, 0, n)
	for id, err := range b.p.Members(ctx, fanfare.All()) {
		if err != nil {
			return err
		}
		if connected = append(connected, id); len(connected) == n {
			break
		}
	}
	for _, id := range connected {
		hub[id] = new(ring)
	}
	for _, id := range connected {
		if _, err := b.p.Connect(ctx, id); err != nil {
			return err
		}
	}
	var tasks []string
	push := func(ctx context.Context) (delivered int64, err error) {
		task, err := b.p.Push(ctx, fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: week})
		if err != nil {
			return 0, err
		}
		tasks = append(tasks, task.ID)
		if err := task.Wait(ctx); err != nil {
			return 0, err
		}
		p, err := task.Progress()
		return p.Delivered, err
	}
	// Until all have caught up with nothing: then a push reaches them all.
	for {
		delivered, err := push(ctx)
		if err != nil {
			return err
		}
		if delivered == int64(n) {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m := new(transport.Message)
	costs, err := rounds(ctx, b.rounds, true,
		timed(func(ctx context.Context) error {
			delivered, err := push(ctx)
			if err == nil && delivered != int64(n) && n == b.users {
				err = fmt.Errorf("%d of %d users have it", delivered, n)
			}
			return err
		}),
		timed(func(ctx context.Context) error {
			for _, id := range connected {
				if err := hub.Deliver(ctx, id, m); err != nil {
					return err
				}
			}
			return nil
		}))
	if err != nil {
		return err
	}
	for _, id := range tasks { // who was not connected is not to get them in another figure
		if err := b.p.Withdraw(ctx, id); err != nil {
			return err
		}
	}
	r := compare("online", "a bare loop", "s", costs[0], costs[1], atMost(1.5))
	b.add(r.with("%d connected users", n))
	return b.reopen(fanfare.Options{})
}
